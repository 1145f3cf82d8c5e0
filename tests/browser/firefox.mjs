// Firefox, spoken to as it understands without a driver: WebDriver BiDi over its own socket.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { createInterface } from 'node:readline'
import { WebSocket } from 'ws'

import { atEnd } from './cleanup.mjs'
import { temporaryFolder } from './relay.mjs'

/** Firefox on this machine; `TIDEWELL_FIREFOX` names another executable. */
function findFirefox() {
  const folders = (process.env.PATH ?? '').split(delimiter)
  const found = [
    process.env.TIDEWELL_FIREFOX ?? [],
    folders.flatMap(folder => ['firefox', 'firefox-esr'].map(name => join(folder, name))),
    '/Applications/Firefox.app/Contents/MacOS/firefox',
  ]
  for (const path of found.flat()) {
    try {
      accessSync(path, constants.X_OK)
      return path
    } catch {
      // It is not there.
    }
  }
  throw new Error('Firefox is missing: run `cargo xtask setup`')
}

/** Starts Firefox with a new profile and one page; it is killed when the test `t` ends. */
export async function startFirefox(t) {
  const profile = await temporaryFolder(t)
  const child = spawn(
    findFirefox(),
    ['--headless', '--no-remote', '--profile', profile, '--remote-debugging-port', '0', 'about:blank'],
    // A group of its own, so that its helpers end with it.
    { stdio: ['ignore', 'ignore', 'pipe'], detached: true },
  )
  const exited = once(child, 'exit')
  atEnd(t, async () => {
    if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid, 'SIGKILL')
    await exited
  })
  const address = await new Promise((resolve, reject) => {
    createInterface({ input: child.stderr }).on('line', line => {
      const found = line.match(/WebDriver BiDi listening on (ws:\S+)/)
      if (found !== null) resolve(found[1])
    })
    exited.then(() => reject(new Error('Firefox ended before it could be used')), reject)
  })

  const socket = new WebSocket(`${address}/session`)
  await once(socket, 'open')
  const waiting = new Map()
  socket.on('message', text => {
    const { id, ...answer } = JSON.parse(text)
    waiting.get(id)?.(answer)
    waiting.delete(id)
  })
  let calls = 0
  async function call(method, params) {
    calls += 1
    const answered = new Promise(resolve => waiting.set(calls, resolve))
    socket.send(JSON.stringify({ id: calls, method, params }))
    const { type, result, error, message } = await answered
    if (type !== 'success') throw new Error(`${method}: ${error}: ${message}`)
    return result
  }
  await call('session.new', { capabilities: {} })
  const { contexts } = await call('browsingContext.getTree', {})
  const { context } = contexts[0]
  return {
    goto: url => call('browsingContext.navigate', { context, url, wait: 'complete' }),
    /** Runs `action`, which gets `argument`, in the page; answers what can be written as JSON. */
    async evaluate(action, argument) {
      const expression = `(async () => JSON.stringify(await (${action})(${JSON.stringify(argument)})) ?? 'null')()`
      const { result, exceptionDetails } = await call('script.evaluate', {
        expression,
        target: { context },
        awaitPromise: true,
      })
      if (exceptionDetails !== undefined) throw new Error(exceptionDetails.text)
      return JSON.parse(result.value)
    },
  }
}
