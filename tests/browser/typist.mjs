// A page of its own that uses the package directly, without an application around it.

import { fileURLToPath } from 'node:url'
import { serveFolder } from './folder_server.mjs'
import { startPersistentChromium } from './persistent_chromium.mjs'
import { temporaryFolder } from './relay.mjs'

const WEB = fileURLToPath(new URL('../../web', import.meta.url))

/** An empty page that can import the package from `/dist`, in a browser of its own. */
export async function openBarePage(t) {
  const address = await serveFolder(t, WEB)
  const browser = await startPersistentChromium(t, await temporaryFolder(t))
  const page = await browser.context.newPage()
  await page.goto(address)
  return page
}

/** Opens a document with a text named `text` in the page, as `globalThis.devices[name]`. */
export async function openDocument(page, { name, syncUrl, document }) {
  await page.evaluate(
    async ({ name, syncUrl, document }) => {
      const { open, schema, text } = await import('/dist/index.js')
      const client = await open({ url: syncUrl, store: name })
      const doc = await client.doc(document, schema({ version: 1, doc: { text: text(), other: text() } }))
      globalThis.devices ??= {}
      globalThis.devices[name] = { client, doc }
    },
    { name, syncUrl, document },
  )
}

/** The text as a device of the page has it. */
export function textOf(page, name) {
  return page.evaluate(name => globalThis.devices[name].doc.value.text, name)
}

/** Waits until a device of the page has this text. */
export async function waitForText(page, name, expected) {
  await page.waitForFunction(
    ({ name, expected }) => globalThis.devices[name].doc.value.text === expected,
    { name, expected },
    { polling: 50, timeout: 120_000 },
  )
}
