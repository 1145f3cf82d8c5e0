// Bad input at every door: a code, and nothing of it in the document.

import { afterEach, beforeEach, expect, test } from 'vitest'

import { type Client, counter, type Doc, list, map, open, type PlainValue, text } from '../src/index.js'
import { open as openSlim } from '../src/slim.js'

let client: Client
let doc: Doc

beforeEach(async () => {
  client = await open({ storage: 'memory', onError: error => expect.unreachable(String(error)) })
  doc = await client.doc('test/doc')
})

afterEach(() => client.close())

/** The code with which something fails. */
function codeOf(run: () => unknown): unknown {
  try {
    run()
  } catch (error) {
    expect(error).toMatchObject({ name: 'TidewellError', message: expect.any(String) })
    return (error as { code: unknown }).code
  }
  return 'nothing failed'
}

const cycle: unknown[] = []
cycle.push(cycle)
const deep = (depth: number): PlainValue => (depth === 0 ? null : [deep(depth - 1)])

const badValues: readonly [string, unknown][] = [
  ['undefined', undefined],
  ['a function', () => 1],
  ['a symbol', Symbol('s')],
  ['a cycle', cycle],
  ['65 arrays inside each other', deep(65)],
  ['undefined in an object', { a: [undefined] }],
  ['a hole', Object.assign([1], { length: 3 })],
  ['a date', new Date()],
  ['a map', new Map()],
  ['a bigint of more than 64 bits', 2n ** 70n],
  ['a shared type inside a plain value', { a: text('x') }],
  ['a counter that starts at a half', counter(0.5)],
]

for (const [name, value] of badValues) {
  test(`${name} is refused with invalid_value, and nothing of the edit is there`, () => {
    const bad = value as PlainValue
    expect(codeOf(() => doc.map('m').set('k', bad))).toBe('invalid_value')
    expect(codeOf(() => doc.list('l').push(1, bad))).toBe('invalid_value')
    expect(codeOf(() => doc.edit(d => [d.list('l').push(1), d.map('m').set('k', bad)]))).toBe('invalid_value')
    expect(doc.value).toEqual({ m: {}, l: [] })
    expect(doc.status.unsent.edits).toBe(0)
  })
}

test('64 arrays inside each other, the largest bigint and all other plain values come back as they were', () => {
  const value = {
    deep: deep(63),
    big: 2n ** 63n - 1n,
    small: -(2n ** 63n),
    numbers: [0, -0, -1, 1.5, 2 ** 53 - 1, -(2 ** 53) + 1, 1e300],
    bytes: new Uint8Array([0, 255]),
    text: 'ü 🌊 \0',
    nothing: null,
    '': true,
    __proto__x: 1,
  }
  doc.map('m').set('k', value)
  expect(doc.value.m).toEqual({ k: value })
  expect(doc.map('m').get('k')).toEqual(value)
})

test('a key named __proto__ is an entry like any other', () => {
  doc.map('m').set('__proto__', { polluted: true })
  doc.map('m').set('k', JSON.parse('{"__proto__": 1}'))
  const { m } = doc.value as { m: object }
  expect(Object.getPrototypeOf(m)).toBe(Object.prototype)
  expect(Object.keys(m).sort()).toEqual(['__proto__', 'k'])
  expect({}).not.toHaveProperty('polluted')
})

test('positions outside, halves and negative ones are refused with invalid_range', () => {
  doc.text('t').insert(0, 'ab')
  doc.list('l').push(1)
  for (const index of [3, -1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 40]) {
    expect(codeOf(() => doc.text('t').insert(index, 'x'))).toBe('invalid_range')
    expect(codeOf(() => doc.text('t').delete(0, index))).toBe('invalid_range')
    expect(codeOf(() => doc.text('t').format(0, index, { bold: true }))).toBe('invalid_range')
    expect(codeOf(() => doc.list('l').insert(index, 2))).toBe('invalid_range')
    expect(codeOf(() => doc.list('l').delete(0, index))).toBe('invalid_range')
  }
  expect(codeOf(() => doc.text('t').applyDelta([{ insert: 'x' }, { retain: 3 }]))).toBe('invalid_range')
  expect(doc.value).toEqual({ t: 'ab', l: [1] })
})

test('paths that lead nowhere or to something else are refused with invalid_path', () => {
  doc.text('t').insert(0, 'ab')
  doc.map('m').set('plain', 1)
  expect(codeOf(() => doc.map('t'))).toBe('invalid_path')
  expect(codeOf(() => doc.list('m'))).toBe('invalid_path')
  expect(codeOf(() => doc.text(['m', 'plain']).insert(0, 'x'))).toBe('invalid_path')
  expect(codeOf(() => doc.text(['m', 'missing']).insert(0, 'x'))).toBe('invalid_path')
  expect(codeOf(() => doc.map('m').list('plain').push(1))).toBe('invalid_path')
  expect(codeOf(() => doc.text(['m', -1] as never).insert(0, 'x'))).toBe('invalid_path')
  expect(codeOf(() => doc.text(7 as never))).toBe('invalid_path')
  expect(codeOf(() => doc.text(''))).toBe('invalid_path')
})

test('deltas that are none are refused with invalid_value and change nothing', () => {
  doc.text('t').insert(0, 'ab')
  const bad: unknown[] = [
    null,
    'x',
    [{}],
    [{ insert: 'x', delete: 1 }],
    [{ insert: () => 1 }],
    [7],
    [{ retain: 1, attributes: 3 }],
  ]
  for (const delta of bad)
    expect(codeOf(() => doc.text('t').applyDelta(delta as never))).toMatch(/^invalid_(value|range)$/)
  expect(doc.text('t').toString()).toBe('ab')
})

test('a counter adds whole numbers only', () => {
  for (const by of [0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, '1' as never]) {
    expect(codeOf(() => doc.counter('c').add(by))).toBe('invalid_value')
  }
  doc.counter('c').add(2 ** 53 - 1)
  expect(codeOf(() => doc.counter('c').add(1))).toBe('invalid_value')
  expect(doc.value.c).toBe(2 ** 53 - 1)
})

test('an edit that is larger than the relay takes is refused with update_too_large, and the next one is made', () => {
  expect(codeOf(() => doc.text('t').insert(0, 'x'.repeat((8 << 20) + 1)))).toBe('update_too_large')
  doc.text('t').insert(0, 'x')
  expect(doc.text('t').toString()).toBe('x')
})

test('names and options that cannot be used are refused with their codes', async () => {
  for (const name of ['', 'a\u0000b', 'x'.repeat(513), 'half of a pair: \ud83c', 7 as never]) {
    await expect(client.doc(name)).rejects.toMatchObject({ code: 'invalid_name' })
  }
  await expect(open({ url: 'no url' })).rejects.toMatchObject({ code: 'invalid_options' })
  await expect(open({ url: 'ftp://relay' })).rejects.toMatchObject({ code: 'invalid_options' })
  await expect(open({ store: '' })).rejects.toMatchObject({ code: 'invalid_options' })
  await expect(open({ storage: 'disk' as never })).rejects.toMatchObject({ code: 'invalid_options' })
  await expect(open({ storage: 'indexeddb' })).rejects.toMatchObject({ code: 'device_unavailable' })
  for (const options of [undefined, {}] as never[]) {
    await expect(openSlim(options)).rejects.toMatchObject({ code: 'invalid_options' })
  }
  await expect(doc.saved('disk' as never)).rejects.toMatchObject({ code: 'invalid_options' })
})

test('everything that is used after its end fails with closed', async () => {
  const other = await client.doc('test/other')
  await other.close()
  expect(codeOf(() => other.text('t').insert(0, 'x'))).toBe('closed')
  await client.close()
  expect(codeOf(() => doc.value)).toBe('closed')
  expect(codeOf(() => doc.text('t').insert(0, 'x'))).toBe('closed')
  expect(codeOf(() => doc.edit(() => 1))).toBe('closed')
  await expect(doc.saved('relay')).rejects.toMatchObject({ code: 'closed' })
  await expect(client.doc('test/doc')).rejects.toMatchObject({ code: 'closed' })
})

test('what is in memory only is never called saved', async () => {
  doc.text('t').insert(0, 'x')
  expect(doc.status.device).toEqual({ failed: 'device_unavailable' })
  await expect(doc.saved('device')).rejects.toMatchObject({ code: 'device_unavailable' })
})

test('waiting for the relay ends with the signal', async () => {
  doc.text('t').insert(0, 'x')
  const ending = new AbortController()
  const saved = doc.saved('relay', { signal: ending.signal })
  ending.abort()
  await expect(saved).rejects.toMatchObject({ code: 'aborted' })
  await expect(doc.saved('relay', { signal: ending.signal })).rejects.toMatchObject({ code: 'aborted' })
})

test('keys that are no strings are refused with invalid_value, and texts, lists and counters of other things too', () => {
  const m = doc.map('m')
  for (const key of [undefined, null, 5, {}, Symbol('s')] as never[]) {
    expect(codeOf(() => m.set(key, 1))).toBe('invalid_value')
    expect(codeOf(() => m.delete(key))).toBe('invalid_value')
  }
  for (const value of [text(5 as never), map(null as never), map('x' as never), counter('1' as never)]) {
    expect(codeOf(() => m.set('k', value))).toBe('invalid_value')
  }
  for (const step of [undefined, null, {}, -1, 0.5] as never[]) {
    expect(codeOf(() => doc.map(['m', step]).set('k', 1))).toBe('invalid_path')
  }
  expect(doc.value).toEqual({ m: {} })
})

test('an edit that would go on later is refused with invalid_options, and nothing of it is there', async () => {
  let later: Promise<void> | undefined
  const change = (d: { text(path: string): { insert(index: number, text: string): void } }) => {
    later = (async () => d.text('t').insert(0, 'x'))()
    return later
  }
  expect(codeOf(() => doc.edit(change))).toBe('invalid_options')
  expect(codeOf(() => doc.edit(() => doc.edit(change)))).toBe('invalid_options')
  await later
  expect(doc.value).toEqual({ t: '' })
  expect(doc.edit(d => [d.map('m').set('then', 1), d.map('m').value][1])).toHaveProperty('then', 1)
})

test('what lists and maps hold are those values and nothing of the caller’s', () => {
  const mine = { tags: ['a'] }
  doc.list('l').push(mine, list(map({ title: text('t') })))
  mine.tags.push('b')
  expect(doc.value.l).toEqual([{ tags: ['a'] }, [{ title: 't' }]])
  expect(() => (doc.value.l as unknown[]).push(1)).toThrow(TypeError)
  expect(() => Object.assign((doc.value.l as object[])[0] ?? {}, { x: 1 })).toThrow(TypeError)
})
