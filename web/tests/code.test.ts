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

test('docs/package.md says of every code when it comes, and names no other', () => {
  const guide = readFileSync(new URL('../../docs/package.md', import.meta.url), 'utf8')
  const [, errors = ''] = guide.split('\n## Errors\n')
  // The first cells of the tables, and the last line.
  const told = errors.split('\n').filter(line => /^\| `|^The list/.test(line))
  const named = told.flatMap(line => [...(line.split(' | ')[0] ?? '').matchAll(/`(\w+)`/g)])
  expect([...new Set(named.map(([, name]) => name))].sort()).toEqual(Object.keys(help).sort())
})
