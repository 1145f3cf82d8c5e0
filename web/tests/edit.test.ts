// Edits, values and watchers, without any store or relay.

import { afterEach, beforeEach, expect, test } from 'vitest'

import { type Client, counter, type DeltaOperation, type Doc, list, map, open, text } from '../src/index.js'

let client: Client
let doc: Doc
let errors: unknown[]

beforeEach(async () => {
  errors = []
  client = await open({ storage: 'memory', onError: error => errors.push(error) })
  doc = await client.doc('test/doc')
})

afterEach(() => client.close())

test('an edit that throws leaves nothing behind, and neither what the turn did before nor after is lost', () => {
  doc.text('notes').insert(0, 'before')
  const thrown = new Error('no')
  expect(() =>
    doc.edit(d => {
      d.text('notes').delete(0, 6)
      d.map('m').set('k', map({ title: text('x') }))
      throw thrown
    }),
  ).toThrow(thrown)
  doc.text('notes').insert(6, ' after')
  expect(doc.value).toEqual({ m: {}, notes: 'before after' })
})

test('inside an edit the handles read what it has edited, and doc.value what was before', async () => {
  doc.list('l').push(1)
  await null
  const answer = doc.edit(d => {
    d.list('l').push(map({ title: text('milk'), n: counter(2) }))
    d.list('l').map(1).text('title').insert(4, '!')
    d.list('l').map(1).counter('n').add(3)
    d.list('l').insert(0, 0)
    d.list('l').map(2).set('done', true)
    expect(d.list('l').value).toEqual([0, 1, { title: 'milk!', n: 5, done: true }])
    expect(d.list('l').length).toBe(3)
    expect(d.list('l').map(2).text('title').toString()).toBe('milk!')
    expect(d.list('l').map(2).has('nothing')).toBe(false)
    expect(doc.value).toEqual({ l: [1] })
    return 'answer'
  })
  expect(answer).toBe('answer')
  expect(doc.value).toEqual({ l: [0, 1, { title: 'milk!', n: 5, done: true }] })
})

test('an edit inside another is a part of it, and both count as one', async () => {
  doc.edit(d => {
    d.text('t').insert(0, 'a')
    doc.edit(inner => inner.text('t').insert(1, 'b'))
    d.text('t').insert(2, 'c')
  })
  await null
  expect(doc.text('t').toString()).toBe('abc')
  expect(doc.status.unsent.edits).toBe(1)
})

test('what did not change stays the same object', () => {
  doc.list('l').push({ plain: [1] }, map({ a: { b: 1 } }), map({ c: 1 }))
  doc.map('other').set('k', { deep: { x: 1 } })
  const before = doc.value as { l: Record<string, unknown>[]; other: object }
  expect(doc.value).toBe(before)
  doc.list('l').map(2).set('c', 2)
  const after = doc.value as typeof before
  expect(after).not.toBe(before)
  expect(after.other).toBe(before.other)
  expect(after.l[0]).toBe(before.l[0])
  expect(after.l[1]).toBe(before.l[1])
  expect(after.l[2]).toEqual({ c: 2 })
  doc.list('l').map(1).set('z', 1)
  expect((doc.value as typeof before).l[1]?.a).toBe(before.l[1]?.a)
  doc.list('l').insert(0, 'first')
  expect((doc.value as typeof before).l[1]).toBe(before.l[0])
})

test('watch calls back when what is selected has changed, after the call, and not when it has not', async () => {
  const calls: unknown[] = []
  const stop = doc.watch(
    value => (value.l as readonly number[] | undefined)?.filter(number => number > 1),
    selected => calls.push(selected),
  )
  doc.list('l').push(2)
  expect(calls).toEqual([])
  await null
  doc.list('l').push(1)
  await null
  doc.list('l').push(3)
  await null
  expect(calls).toEqual([[2], [2, 3]])
  stop()
  doc.list('l').push(4)
  await null
  expect(calls.length).toBe(2)
})

test('a callback may edit and throw: its exception goes to onError and to nobody else', async () => {
  const thrown = new Error('in a callback')
  doc.watch(
    value => value.t,
    () => {
      doc.counter('seen').add(1)
      throw thrown
    },
  )
  const told: unknown[] = []
  doc.watch(
    value => value.t,
    value => told.push(value),
  )
  doc.text('t').insert(0, 'x')
  await null
  await null
  expect(errors).toEqual([thrown])
  expect(told).toEqual(['x'])
  expect(doc.value.seen).toBe(1)
})

test('deltas tell every change of a text, with formats, and who made it', async () => {
  const deltas: [readonly DeltaOperation[], boolean][] = []
  const notes = doc.text('notes')
  const stop = notes.onDelta((delta, { local }) => deltas.push([delta, local]))
  notes.insert(0, 'hello 🌊')
  await null
  doc.edit(() => {
    notes.format(0, 5, { bold: true })
    notes.delete(5)
  })
  await null
  notes.applyDelta([{ retain: 5 }, { insert: { image: 'x' } }, { insert: '!', attributes: { bold: true } }])
  await null
  expect(deltas).toEqual([
    [[{ insert: 'hello 🌊' }], true],
    [[{ retain: 5, attributes: { bold: true } }, { delete: 1 }], true],
    [[{ retain: 5 }, { insert: { image: 'x' } }, { insert: '!', attributes: { bold: true } }], true],
  ])
  expect(notes.length).toBe(9)
  expect(notes.toString()).toBe('hello!🌊')
  stop()
  notes.insert(0, 'x')
  await null
  expect(deltas.length).toBe(3)
})

test('typing of many turns and edits at any place is what a string would be', async () => {
  let expected = ''
  let state = 7
  const random = (below: number) => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff
    return state % below
  }
  const notes = doc.text('notes')
  for (let step = 0; step < 2000; step += 1) {
    const at = random(expected.length + 1)
    if (random(4) === 0 && expected.length > at) {
      const count = 1 + random(Math.min(5, expected.length - at))
      notes.delete(at, count)
      expected = expected.slice(0, at) + expected.slice(at + count)
    } else {
      notes.insert(at, `w${step}`)
      expected = `${expected.slice(0, at)}w${step}${expected.slice(at)}`
    }
    if (random(10) === 0) await null
    if (random(50) === 0) expect(notes.toString()).toBe(expected)
  }
  expect(notes.toString()).toBe(expected)
  expect(notes.length).toBe(expected.length)
})

test('the same document of one client is one object, and two clients share nothing in memory', async () => {
  expect(await client.doc('test/doc')).toBe(doc)
  const other = await open({ storage: 'memory' })
  const theirs = await other.doc('test/doc')
  doc.list('l').push(list(1))
  expect(theirs.value).toEqual({})
  await other.close()
})
