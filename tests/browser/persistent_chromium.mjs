// A browser with a profile on disk, which can be killed and started again with what it had stored.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { chromium } from 'playwright-core'

import { atEnd } from './cleanup.mjs'

/** Of a profile whose browser was killed, these say that it is still in use. */
const LOCKS = ['SingletonLock', 'SingletonCookie', 'SingletonSocket']

/** Longer than anything takes on a busy machine, shorter than anybody wants to wait to see a test fail. */
const PATIENCE_MS = 15_000

/** Starts Chromium on a profile folder; it is killed when the test `t` ends. */
export async function startPersistentChromium(t, profile) {
  await Promise.all(LOCKS.map(name => rm(join(profile, name), { force: true })))
  // Not by Playwright: it does not say which process it has started.
  const child = spawn(
    process.env.TIDEWELL_CHROMIUM ?? '/usr/bin/chromium',
    [
      '--headless=new',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-dev-shm-usage',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--disable-extensions',
      '--remote-debugging-port=0',
      `--user-data-dir=${profile}`,
      'about:blank',
    ],
    // A group of its own, so that its helpers end with it.
    { stdio: ['ignore', 'ignore', 'pipe'], detached: true },
  )
  const exited = once(child, 'exit')
  const kill = async () => {
    if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid, 'SIGKILL')
    await exited
  }
  atEnd(t, kill)

  const lines = createInterface({ input: child.stderr })
  const address = await new Promise((resolve, reject) => {
    lines.on('line', line => {
      const found = line.match(/^DevTools listening on (ws:.+)$/)
      if (found !== null) resolve(found[1])
    })
    exited.then(() => reject(new Error('the browser ended before it could be used')))
  })
  const browser = await chromium.connectOverCDP(address)
  const [context] = browser.contexts()
  context.setDefaultTimeout(PATIENCE_MS)
  return {
    context,
    /** As the system ends it when memory runs out. */
    kill,
    /** As a person ends it. */
    async close() {
      const session = await browser.newBrowserCDPSession()
      await Promise.all([exited, session.send('Browser.close').catch(() => {})])
    },
  }
}
