import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

import { startChromium } from './chromium.mjs'
import { startFirefox } from './firefox.mjs'
import { serveFolder } from './folder_server.mjs'
import { startRelay, temporaryFolder } from './relay.mjs'

const web = fileURLToPath(new URL('../../web', import.meta.url))
const { version } = JSON.parse(await readFile(`${web}/package.json`, 'utf8'))

test('the package runs in a page without any bundler, with its own module and with one that is hosted', async t => {
  const address = await serveFolder(t, web)
  const page = await (await startChromium(t)).newPage()
  await page.goto(address)

  const inlined = await page.evaluate(async () => (await import('/dist/index.js')).wasmVersion())
  assert.equal(inlined, version)

  await page.reload()
  const hosted = await page.evaluate(async () =>
    (await import('/dist/slim.js')).wasmVersion('/dist/tidewell.wasm'),
  )
  assert.equal(hosted, version)
})

/** Writes once more and waits until this device and the relay have it; answers what it found here. */
async function write({ url, name }) {
  const { open } = await import('/dist/index.js')
  const errors = []
  const client = await open({ url, store: name, onError: error => errors.push(String(error)) })
  const doc = await client.doc(`acme/${name}`)
  const found = { ...doc.value }
  doc.edit(d => {
    d.text('text').insert(0, `${name} `)
    d.counter('opened').add(1)
  })
  await doc.saved('device')
  await doc.saved('relay')
  const { storage } = doc.status
  await client.close()
  return { found, storage, errors }
}

/** Waits until a document has come from the relay. */
async function read({ url, name }) {
  const { open } = await import('/dist/index.js')
  const client = await open({ url, store: 'reader' })
  const doc = await client.doc(`acme/${name}`)
  return new Promise(resolve => {
    const look = value => value.opened === 2 && resolve(value)
    doc.watch(value => value, look)
    look(doc.value)
  })
}

/** Two clients of one store: what the one writes the other has, without a relay. */
async function tellBetweenTabs() {
  const { open } = await import('/dist/index.js')
  const [one, two] = [await open({ store: 'tabs' }), await open({ store: 'tabs' })]
  const [here, there] = [await one.doc('tabs'), await two.doc('tabs')]
  const told = new Promise(resolve => {
    there.watch(
      value => value.opened,
      opened => opened === 1 && resolve(opened),
    )
  })
  here.counter('opened').add(1)
  await told
  await one.close()
  await two.close()
  return told
}

test('the package keeps, sends and tells other tabs in Firefox as in Chromium', async t => {
  const relay = await startRelay(t, { data: await temporaryFolder(t) })
  const address = await serveFolder(t, web)
  const [firefox, chromium] = [await startFirefox(t), await (await startChromium(t)).newPage()]
  const browsers = [
    ['Firefox', firefox, chromium],
    ['Chromium', chromium, firefox],
  ]
  for (const [name, browser] of browsers) {
    for (const found of [{}, { opened: 1, text: `${name} ` }]) {
      await browser.goto(address)
      const seen = await browser.evaluate(write, { url: relay.url, name })
      assert.deepEqual(seen, { found, storage: 'indexeddb', errors: [] })
    }
    assert.equal(await browser.evaluate(tellBetweenTabs), 1)
  }
  for (const [name, , other] of browsers) {
    const value = await other.evaluate(read, { url: relay.url, name })
    assert.deepEqual(value, { opened: 2, text: `${name} ${name} ` })
  }
})
