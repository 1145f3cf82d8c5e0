// The package against the real relay.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { test } from 'node:test'

import {
  failingReads,
  on,
  openDevice,
  startPages,
  stopClock,
  storeContent,
  until,
  untilAnswered,
} from './client_page.mjs'
import { startRelay, temporaryFolder } from './relay.mjs'

test('what one device types another one has, and saved(relay) resolves when the relay has it', async t => {
  const relay = await startRelay(t, { data: await temporaryFolder(t) })
  const page = await (await startPages(t)).page()
  await openDevice(page, { name: 'a', store: 'a', url: relay.url })
  await openDevice(page, { name: 'b', store: 'b', url: relay.url })
  await on(page, ({ doc }) => {
    doc.edit(d => {
      d.text('notes').insert(0, 'hello')
      d.list('todos').push({ title: 'milk' })
      d.counter('likes').add(2)
    })
    return doc.saved('relay')
  })
  assert.equal(await on(page, ({ doc }) => doc.status.unsent.edits), 0)
  await until(page, ({ doc }) => doc.text('notes').toString() === 'hello', undefined, 'b')
  await on(page, ({ doc }) => doc.counter('likes').add(-5), undefined, 'b')
  await until(page, ({ doc }) => doc.value.likes === -3)
  assert.deepEqual(await on(page, ({ doc }) => doc.value), {
    likes: -3,
    notes: 'hello',
    todos: [{ title: 'milk' }],
  })
})

test('edits made offline count as unsent, survive a reload with the same count, and go out when the network is back', async t => {
  const data = await temporaryFolder(t)
  const relay = await startRelay(t, { data })
  const page = await (await startPages(t)).page()
  await openDevice(page, { url: relay.url })
  await on(page, ({ doc, client }) => {
    client.pause()
    for (let edit = 0; edit < 3; edit += 1) doc.text('notes').insert(0, 'x')
    doc.edit(d => d.text('notes').insert(0, 'yz'))
    return doc.saved('device')
  })
  const before = await on(page, ({ doc }) => doc.status.unsent)
  assert.equal(before.edits, 4)
  await page.reload()
  await openDevice(page)
  assert.deepEqual(await on(page, ({ doc }) => doc.status.unsent), before)
  assert.equal(await on(page, ({ doc }) => doc.status.link), 'offline')
  await page.reload()
  await openDevice(page, { url: relay.url })
  await until(page, ({ doc }) => doc.status.unsent.edits === 0 && doc.status.link === 'live')
  await page.reload()
  await openDevice(page)
  assert.equal(
    await on(page, ({ doc }) => doc.text('notes').toString()),
    'yzxxx',
    'it is there without network',
  )
  assert.equal(await on(page, ({ doc }) => doc.status.unsent.edits), 0)
})

test('a relay that is killed and comes back is found again, and nothing is lost on the way', async t => {
  const data = await temporaryFolder(t)
  let relay = await startRelay(t, { data })
  const page = await (await startPages(t)).page()
  await openDevice(page, { name: 'a', store: 'a', url: relay.url })
  await openDevice(page, { name: 'b', store: 'b', url: relay.url })
  await until(page, ({ doc }) => doc.status.link === 'live')
  const { port } = relay
  await relay.kill()
  await until(page, ({ doc }) => doc.status.link !== 'live')
  await on(page, ({ doc }) => doc.text('notes').insert(0, 'while it was gone'))
  relay = await startRelay(t, { data, port })
  await on(page, ({ doc }) => doc.saved('relay'))
  await until(page, ({ doc }) => doc.text('notes').toString() === 'while it was gone', undefined, 'b')
})

test('what is acknowledged is folded into few rows, and a start without network has all of it', async t => {
  const relay = await startRelay(t, { data: await temporaryFolder(t) })
  const page = await (await startPages(t)).page()
  await openDevice(page, { url: relay.url })
  await on(page, async ({ doc }) => {
    for (let edit = 0; edit < 130; edit += 1) {
      doc.list('l').push(edit)
      await doc.saved('relay')
    }
  })
  await untilAnswered(page, async () => {
    const request = indexedDB.open('tidewell/default')
    await new Promise(resolve => request.addEventListener('success', resolve))
    const tx = request.result.transaction('received')
    const count = tx.objectStore('received').count()
    await new Promise(resolve => tx.addEventListener('complete', resolve))
    request.result.close()
    return count.result < 60
  })
  await on(page, ({ client }) => client.close())
  assert.deepEqual((await storeContent(page)).outbox.keys, [])
  await page.reload()
  await openDevice(page)
  assert.deepEqual(
    await on(page, ({ doc }) => doc.value.l),
    Array.from({ length: 130 }, (_, edit) => edit),
  )
})

test('how far a device has come is on its disk, and its next start asks the relay only for what is newer', async t => {
  const relay = await startRelay(t, { data: await temporaryFolder(t) })
  const page = await (await startPages(t)).page(() => {
    const UPDATES = 35
    globalThis.updateBytes = 0
    const Socket = WebSocket
    globalThis.WebSocket = class extends Socket {
      constructor(...options) {
        super(...options)
        this.addEventListener('message', ({ data }) => {
          if (new Uint8Array(data)[0] === UPDATES) globalThis.updateBytes += data.byteLength
        })
      }
    }
  })
  await openDevice(page, { url: relay.url })
  const push = ({ doc }) => {
    doc.text('notes').insert(0, 'x'.repeat(1000))
    return doc.saved('relay')
  }
  const sequences = async () =>
    (await storeContent(page)).documents.values.map(({ cursor }) => cursor.sequence)
  await on(page, push)
  // The first is stored with the whole document, in its own time.
  while ((await sequences()).length === 0) await page.waitForTimeout(10)
  for (let edit = 2; edit <= 5; edit += 1) await on(page, push)
  await on(page, ({ client }) => client.close())
  assert.equal(Math.max(...(await sequences())), 5)
  await openDevice(page, { name: 'b', storage: 'memory', url: relay.url })
  await until(page, ({ doc }) => doc.text('notes').length === 5000, undefined, 'b')
  await on(
    page,
    ({ client, doc }) => {
      doc.text('notes').insert(0, 'new ')
      return doc.saved('relay').then(client.close)
    },
    undefined,
    'b',
  )
  await page.evaluate(() => {
    globalThis.updateBytes = 0
  })
  await openDevice(page, { url: relay.url })
  await until(page, ({ doc }) => doc.text('notes').length === 5004)
  const bytes = await page.evaluate(() => globalThis.updateBytes)
  assert.ok(bytes < 1000, `${bytes} bytes`)
})

test('whoever waits for the relay tries at once when the page is shown or the network is back, and never in a hurry', async t => {
  const data = await temporaryFolder(t)
  const relay = await startRelay(t, { data })
  const page = await (await startPages(t)).page(() => {
    // The longest waits that there are.
    Math.random = () => 0.999
    globalThis.attempts = 0
    const Socket = WebSocket
    globalThis.WebSocket = class extends Socket {
      constructor(...options) {
        super(...options)
        globalThis.attempts += 1
      }
    }
  })
  await stopClock(page)
  await openDevice(page, { url: relay.url })
  await page.clock.runFor(10)
  await until(page, ({ doc }) => doc.status.link === 'live')
  await relay.kill()
  await until(page, ({ doc }) => doc.status.link === 'offline')
  const attempts = () => page.evaluate(() => globalThis.attempts)
  while ((await attempts()) < 9) {
    await page.clock.runFor(1000)
    await until(page, ({ doc }) => doc.status.link === 'offline')
  }
  // The next wait is longer than this.
  const before = await attempts()
  await page.clock.runFor(3000)
  await until(page, ({ doc }) => doc.status.link === 'offline')
  assert.equal(await attempts(), before)

  for (const name of ['visibilitychange', 'online']) {
    const before = await attempts()
    await page.evaluate(name => {
      for (let time = 0; time < 100; time += 1) {
        ;(name === 'online' ? globalThis : document).dispatchEvent(new Event(name))
      }
    }, name)
    await page.clock.runFor(3000)
    await until(page, ({ doc }) => doc.status.link === 'offline')
    const made = (await attempts()) - before
    assert.ok(made > 0 && made <= 4, `${made} attempts after ${name}`)
    while ((await attempts()) < before + 9) {
      await page.clock.runFor(1000)
      await until(page, ({ doc }) => doc.status.link === 'offline')
    }
  }

  await startRelay(t, { data, port: relay.port })
  await page.evaluate(() => document.dispatchEvent(new Event('visibilitychange')))
  await page.clock.runFor(3000)
  await until(page, ({ doc }) => doc.status.link === 'live')
})

test('an address that takes connections and never answers is given up after a while, and tried again', async t => {
  let [connections, ends] = [0, 0]
  const silent = createServer(socket => {
    connections += 1
    socket.on('error', () => {})
    socket.resume().on('close', () => {
      ends += 1
    })
  })
  await once(silent.listen(0, '127.0.0.1'), 'listening')
  t.after(() => silent.close())
  const page = await (await startPages(t)).page()
  await stopClock(page)
  await openDevice(page, { url: `ws://127.0.0.1:${silent.address().port}` })
  for (let attempt = 1; attempt <= 2; attempt += 1) {
    // The page's clock stands still while a connection is on its way: that takes time of the machine.
    while (connections < attempt) {
      if ((await on(page, ({ doc }) => doc.status.link)) === 'offline') await page.clock.runFor(100)
    }
    assert.equal(await on(page, ({ doc }) => doc.status.link), 'connecting')
    await page.clock.runFor(10_000)
    // Until the socket is closed: the next attempt may have begun.
    while (ends < attempt) await on(page, ({ doc }) => doc.status.link)
  }
})

test('a document that could not be opened is not open at the relay either', async t => {
  const relay = await startRelay(t, { data: await temporaryFolder(t) })
  const page = await (await startPages(t)).page(failingReads)
  await openDevice(page)
  await on(page, async ({ client, doc }) => {
    doc.text('notes').insert(0, 'kept')
    await client.close()
  })
  await openDevice(page, { url: relay.url, document: 'test/other' })
  await until(page, ({ doc }) => doc.status.link === 'live')
  const result = await on(page, async ({ client }) => {
    const [OPEN, CLOSE] = [2, 3]
    const open = new Set()
    const { send } = WebSocket.prototype
    WebSocket.prototype.send = function (frame) {
      if (frame[0] === OPEN) open.add(frame[1])
      if (frame[0] === CLOSE) open.delete(frame[1])
      return send.call(this, frame)
    }
    // It is read once more when the rows of an opening before are adopted.
    const { request } = LockManager.prototype
    LockManager.prototype.request = function (name, ...options) {
      if (name.startsWith('tidewell/default/rows/')) globalThis.failingReads = 1
      return request.call(this, name, ...options)
    }
    const code = await client.doc('test/doc').catch(error => error.code)
    LockManager.prototype.request = request
    const after = open.size
    const doc = await client.doc('test/doc')
    await doc.saved('relay')
    return [code, after, open.size, doc.text('notes').toString()]
  })
  assert.deepEqual(result, ['device_failed', 0, 1, 'kept'])
})
