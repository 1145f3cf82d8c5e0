import { expect, test } from 'vitest'

import { type Code, help, isTransient } from '../src/code.js'
import { inlinedWasm } from '../src/inlined_wasm.js'
import { loadWasm } from '../src/wasm.js'

test('the codes are those of the core, with the same words', async () => {
  const wasm = await loadWasm(inlinedWasm)
  const lines = wasm.codes().split('\n')
  const ofCore = Object.fromEntries(
    lines.map(line => line.split('\t')).map(([name, , words]) => [name, words]),
  )
  expect(help).toEqual(ofCore)
  for (const line of lines) {
    const [name = '', number = ''] = line.split('\t')
    expect([name, isTransient(name as Code)]).toEqual([name, Number(number) >= 500])
  }
})
