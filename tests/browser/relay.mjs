// The relay as a process of its own, with its data in a folder that outlives it.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const BUILT = fileURLToPath(new URL('../../target/release/tidewell', import.meta.url))

/** A temporary folder that is gone when the test `t` has ended. */
export async function temporaryFolder(t) {
  const folder = await mkdtemp(join(tmpdir(), 'tidewell-test-'))
  t.after(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }))
  return folder
}

/**
 * Starts a relay on `data`, and on a free port unless one is given; it is killed when the test `t` ends.
 * `TIDEWELL_RELAY` names another executable.
 */
export async function startRelay(t, { data, assets, port = 0 }) {
  const options = ['serve', '--listen', `127.0.0.1:${port}`, '--data', data]
  if (assets !== undefined) options.push('--assets', assets)
  const child = spawn(process.env.TIDEWELL_RELAY ?? BUILT, options, { stdio: ['ignore', 'pipe', 'pipe'] })
  const exited = once(child, 'exit')
  let said = ''
  child.stderr.setEncoding('utf8').on('data', text => {
    said += text
  })
  const end = async signal => {
    child.kill(signal)
    await exited
  }
  t.after(() => end('SIGKILL'))

  for await (const line of createInterface({ input: child.stdout })) {
    const address = line.match(/^listening on http:\/\/(.+:(\d+))$/)
    if (address === null) continue
    return {
      url: `http://${address[1]}/`,
      syncUrl: `ws://${address[1]}/v1/sync`,
      port: Number(address[2]),
      /** As a crash ends it. */
      kill: () => end('SIGKILL'),
      /** As an operator ends it. */
      stop: () => end('SIGTERM'),
    }
  }
  throw new Error(`the relay ended before it listened: ${said}`)
}
