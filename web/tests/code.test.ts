import { readFileSync } from 'node:fs'

import { expect, test } from 'vitest'

import { type Code, help, isTransient } from '../src/code.js'

test('the codes are those of the core, with the same words', () => {
  const source = readFileSync(new URL('../../crates/sync-core/src/code.rs', import.meta.url), 'utf8')
  const ofCore = [...source.matchAll(/^ {4}\w+ = (\d+) "(\w+)": "(.+)",$/gm)]
  expect(ofCore).toHaveLength([...source.matchAll(/^ {4}[A-Z]\w+ = \d/gm)].length)
  expect(help).toEqual(Object.fromEntries(ofCore.map(([, , name, words]) => [name, words])))
  for (const [, number, name] of ofCore) {
    expect([name, isTransient(name as Code)]).toEqual([name, Number(number) >= 500])
  }
})
