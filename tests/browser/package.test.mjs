import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

import { startChromium } from './chromium.mjs'
import { serveFolder } from './folder_server.mjs'

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
