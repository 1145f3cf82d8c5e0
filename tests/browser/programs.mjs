// The programs of the workspace that the tests start: what `cargo build --bins` has left in `target/debug`.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

import { atEnd } from './cleanup.mjs'

const BINS = process.env.TIDEWELL_BINS ?? fileURLToPath(new URL('../../target/debug', import.meta.url))

/** The path of a program. */
export const programPath = program => join(BINS, program)

/**
 * Starts a program that says where it listens, and waits until it does; it is killed when the test `t` ends.
 * `TIDEWELL_BINS` names another folder of programs.
 */
export async function startListening(t, program, options) {
  const child = spawn(programPath(program), options, { stdio: ['pipe', 'pipe', 'pipe'] })
  const ended = once(child, 'exit')
  const end = async signal => {
    child.kill(signal)
    await ended
  }
  atEnd(t, () => end('SIGKILL'))
  let said = ''
  child.stderr.setEncoding('utf8').on('data', text => {
    said += text
  })

  const lines = createInterface({ input: child.stdout })
  const port = await new Promise((resolve, reject) => {
    ended.then(() => reject(new Error(`${program} ended before it listened: ${said}`)), reject)
    lines.on('line', line => {
      const address = line.match(/^listening on .*:(\d+)$/)
      if (address !== null) resolve(Number(address[1]))
    })
  })
  return { child, lines, port, end }
}

/** Waits until a native client has exactly `text` at `root` of a document. */
export async function nativeClientHas(syncUrl, document, root, text) {
  const child = spawn(programPath('await-text'), [syncUrl, document, root], {
    stdio: ['pipe', 'inherit', 'inherit'],
  })
  const ended = once(child, 'exit')
  const expired = setTimeout(() => child.kill('SIGKILL'), 60_000)
  child.stdin.end(text)
  const [code] = await ended
  clearTimeout(expired)
  if (code !== 0) throw new Error('the native client did not come to have the text')
}
