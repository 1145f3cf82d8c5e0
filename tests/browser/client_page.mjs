// Pages that hold clients of the package: `globalThis.devices[name]` is `{ client, doc, errors }`.

import assert from 'node:assert/strict'
import { fileURLToPath } from 'node:url'

import { startChromium } from './chromium.mjs'
import { serveFolder } from './folder_server.mjs'

const WEB = fileURLToPath(new URL('../../web', import.meta.url))

/**
 * A browser with one profile, and a way to open empty pages of one origin in it. The test fails when something in a page
 * throws that nobody catches.
 */
export async function startPages(t) {
  const address = await serveFolder(t, WEB)
  const context = await (await startChromium(t)).newContext()
  context.setDefaultTimeout(60_000)
  const uncaught = new Set()
  context.on('weberror', thrown => uncaught.add(thrown.error().stack))
  t.after(() => assert.deepEqual([...uncaught], [], 'nobody caught it'))
  return {
    address,
    context,
    async page(prepare) {
      const page = await context.newPage()
      if (prepare !== undefined) await page.addInitScript(prepare)
      await page.goto(address)
      return page
    },
  }
}

/** Opens a client and a document in a page. */
export function openDevice(page, { name = 'a', document = 'test/doc', ...options } = {}) {
  return page.evaluate(
    async ({ name, document, options }) => {
      const { open } = await import('/dist/index.js')
      const errors = []
      const client = await open({ onError: error => errors.push(error), ...options })
      const doc = await client.doc(document)
      globalThis.devices ??= {}
      globalThis.devices[name] = { client, doc, errors }
    },
    { name, document, options },
  )
}

/** Waits until `check`, which gets a device and `argument`, is true in the page. */
export function until(page, check, argument, name = 'a') {
  return page.waitForFunction(
    ({ check, argument, name }) => {
      return new Function(`return (${check})`)()(globalThis.devices[name], argument)
    },
    { check: check.toString(), argument, name },
    { polling: 20 },
  )
}

/** Waits until `check`, which is asynchronous, answers true in the page: to `until` a promise is true. */
export async function untilAnswered(page, check) {
  const deadline = performance.now() + 60_000
  while (!(await page.evaluate(check))) assert.ok(performance.now() < deadline, `never true: ${check}`)
}

/** Runs `action`, which gets a device and `argument`, in the page. */
export function on(page, action, argument, name = 'a') {
  return page.evaluate(
    ({ action, argument, name }) => new Function(`return (${action})`)()(globalThis.devices[name], argument),
    { action: action.toString(), argument, name },
  )
}

/** From now on the time of all pages passes only as far as `page.clock.runFor` says. */
export async function stopClock(page) {
  const now = Date.now()
  await page.clock.install({ time: now })
  await page.clock.pauseAt(now + 60_000)
}

/** Everything in the page's stores, as text: what changes when anything is written. */
export function storeContent(page, store = 'default') {
  return page.evaluate(async store => {
    const db = await new Promise((resolve, reject) => {
      const request = indexedDB.open(`tidewell/${store}`)
      request.onsuccess = () => resolve(request.result)
      request.onerror = () => reject(request.error)
    })
    const content = {}
    for (const name of db.objectStoreNames) {
      const tx = db.transaction(name)
      const [keys, values] = [tx.objectStore(name).getAllKeys(), tx.objectStore(name).getAll()]
      await new Promise(resolve => {
        tx.oncomplete = resolve
      })
      const bytes = (_, value) => (value instanceof Uint8Array ? [...value] : value)
      content[name] = JSON.parse(JSON.stringify({ keys: keys.result, values: values.result }, bytes))
    }
    db.close()
    return content
  }, store)
}

/** Ends a tab's process where it stands. */
export async function crash(pages, page) {
  const client = await pages.context.newCDPSession(page)
  const crashed = page.waitForEvent('crash')
  // Never answered: there is nobody left to answer.
  client.send('Page.crash').catch(() => undefined)
  await crashed
  await page.close()
}

/** For pages: aborts transactions that write while `globalThis.isBroken`. */
export function failingWrites() {
  const transaction = IDBDatabase.prototype.transaction
  IDBDatabase.prototype.transaction = function (stores, mode, options) {
    const tx = transaction.call(this, stores, mode, options)
    if (mode === 'readwrite' && globalThis.isBroken) tx.commit = () => tx.abort()
    return tx
  }
}

/** For pages: aborts as many reads of documents as `globalThis.failingReads` says. */
export function failingReads() {
  globalThis.failingReads = 0
  const transaction = IDBDatabase.prototype.transaction
  IDBDatabase.prototype.transaction = function (stores, mode, options) {
    const tx = transaction.call(this, stores, mode, options)
    const isOfDocument = mode === 'readonly' && stores.includes('received')
    if (isOfDocument && globalThis.failingReads > 0) {
      globalThis.failingReads -= 1
      queueMicrotask(() => tx.abort())
    }
    return tx
  }
}

/** For `untilAnswered`: a tab stores what comes from the relay, once the one that did is gone. */
export async function hasKeeper() {
  const { held } = await navigator.locks.query()
  return held.some(({ name }) => name.startsWith('tidewell/default/keeper/'))
}
