// What is asked of documents and clients that end, or have ended: an answer or a code, never silence, and nothing lost.

import { afterEach, beforeEach, expect, test } from 'vitest'

import { type Client, type Doc, open, type SocketConstructor } from '../src/index.js'

let client: Client
let doc: Doc
let errors: unknown[]

/** A socket that opens nothing. */
class SilentSocket {
  close(): void {}
}
const webSocket = SilentSocket as unknown as SocketConstructor

beforeEach(async () => {
  errors = []
  client = await open({ storage: 'memory', onError: error => errors.push(error) })
  doc = await client.doc('test/doc')
})

afterEach(() => client.close())

test('a closed document still tells its last status, and everything else of it fails with closed', async () => {
  doc.text('t').insert(0, 'x')
  await doc.close()
  expect(doc.status.unsent.edits).toBe(1)
  const uses = [
    () => doc.value,
    () => doc.text('t').toString(),
    () => doc.text('t').insert(0, 'y'),
    () => doc.edit(() => 1),
    () => doc.watch(value => value, String),
    () => doc.text('t').onDelta(String),
    () => doc.onStatus(String),
  ]
  for (const use of uses) expect(use, String(use)).toThrow(expect.objectContaining({ code: 'closed' }))
  for (const where of ['device', 'relay'] as const) {
    await expect(doc.saved(where)).rejects.toMatchObject({ code: 'closed' })
  }
  await doc.close()
})

test('a client that is closed while it opens a document ends that with closed', async () => {
  const opening = client.doc('test/other')
  await Promise.all([expect(opening).rejects.toMatchObject({ code: 'closed' }), client.close()])
  expect(errors).toEqual([])
})

test('a client that is being closed takes no more edits, and closes once', async () => {
  doc.text('t').insert(0, 'x')
  const closing = client.close()
  expect(() => doc.text('t').insert(0, 'y')).toThrow(expect.objectContaining({ code: 'closed' }))
  await Promise.all([closing, client.close()])
  expect(errors).toEqual([])
})

for (const what of ['document', 'client'] as const) {
  const end = () => (what === 'client' ? client : doc).close()
  const unsent = () => doc.status.unsent.edits

  test(`what a watcher edits when it is told of the last edits before the ${what} is closed is written`, async () => {
    doc.watch(
      value => value.t,
      () => doc.counter('changes').add(1),
    )
    doc.text('t').insert(0, 'x')
    await end()
    expect([unsent(), errors]).toEqual([2, []])
  })

  test(`an edit in which the ${what} is closed is written whole, and is the last one`, async () => {
    let closing: Promise<void> | undefined
    doc.edit(d => {
      d.text('t').insert(0, 'a')
      closing = end()
      d.text('t').insert(1, 'b')
    })
    await closing
    expect(() => doc.text('t').insert(0, 'y')).toThrow(expect.objectContaining({ code: 'closed' }))
    expect([unsent(), errors]).toEqual([1, []])
  })
}

test('whoever waits for the relay hears that the document or the client was closed', async () => {
  const other = await client.doc('test/other')
  for (const open of [doc, other]) open.text('t').insert(0, 'x')
  const waits = [doc, other].map(open =>
    expect(open.saved('relay')).rejects.toMatchObject({ code: 'closed' }),
  )
  await other.close()
  await client.close()
  await Promise.all(waits)
})

test('a watcher that closes the document is not told of an error, and nor are the others called', async () => {
  let calls = 0
  for (const key of ['a', 'b']) {
    doc.watch(
      value => (value.m as Record<string, unknown> | undefined)?.[key],
      () => {
        calls += 1
        void doc.close()
      },
    )
  }
  doc.edit(d => {
    d.map('m').set('a', 1)
    d.map('m').set('b', 1)
  })
  await null
  await null
  expect([calls, errors]).toEqual([1, []])
})

test('what ended leaves no listener: not on the document, not on the signal of the caller, not on the page', async () => {
  let added = 0
  const count = (target: object, method: string, by: number) => {
    const plain = Reflect.get(target, method) as (...options: unknown[]) => unknown
    Reflect.set(target, method, function (this: unknown, ...options: unknown[]) {
      added += by
      return plain.apply(this, options)
    })
    return () => Reflect.set(target, method, plain)
  }
  const restore = [
    count(EventTarget.prototype, 'addEventListener', 1),
    count(EventTarget.prototype, 'removeEventListener', -1),
  ]
  try {
    doc.text('t').insert(0, 'x')
    for (let wait = 0; wait < 3; wait += 1) {
      const ending = new AbortController()
      const saved = doc.saved('relay', { signal: ending.signal })
      await null
      ending.abort()
      await expect(saved).rejects.toMatchObject({ code: 'aborted' })
    }
    expect(added).toBe(0)
  } finally {
    for (const undo of restore) undo()
  }
})

test('an address without a WebSocket to reach it is refused with invalid_options: nothing would ever arrive', async () => {
  const before = globalThis.WebSocket
  Reflect.deleteProperty(globalThis, 'WebSocket')
  try {
    await expect(open({ url: 'ws://127.0.0.1:1' })).rejects.toMatchObject({ code: 'invalid_options' })
    await (await open({ url: 'ws://127.0.0.1:1', webSocket })).close()
  } finally {
    if (before !== undefined) globalThis.WebSocket = before
  }
})

test('a socket that cannot be made at all is told once, and the document is offline', async () => {
  let attempts = 0
  class Refusing {
    constructor() {
      attempts += 1
      throw new DOMException('mixed content', 'SecurityError')
    }
  }
  const told = new Promise<unknown>(resolve => {
    void open({
      url: 'ws://127.0.0.1:1',
      webSocket: Refusing as unknown as SocketConstructor,
      onError: resolve,
    }).then(async opened => {
      expect((await opened.doc('test/doc')).status.link).toBe('offline')
      await told
      await opened.close()
    })
  })
  await expect(told).resolves.toMatchObject({ code: 'disconnected', cause: { name: 'SecurityError' } })
  expect(attempts).toBe(1)
})
