import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'

import { wasmVersion } from '../src/index.js'

test('the module that is inlined is of the version of the package', async () => {
  const manifest: { version: string } = JSON.parse(await readFile('package.json', 'utf8'))
  expect(await wasmVersion()).toBe(manifest.version)
})
