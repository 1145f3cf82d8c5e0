// Unchanged Yjs clients at the relay's y-websocket door, beside native Tidewell clients at our own.
// `TIDEWELL_ROUNDS` sets the number of random rounds, `TIDEWELL_SEED` their seed.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import * as Y from 'yjs'

import { startRelay, temporaryFolder } from '../browser/relay.mjs'
import { randomNumbers } from '../browser/traces.mjs'
import { allEqual, openNative, openStock, startNative } from './clients.mjs'
import { randomOperation } from './operation.mjs'

const start = async t => startRelay(t, { data: await temporaryFolder(t) })

test('text with formats, maps, arrays and XML are the same in stock and native clients', async t => {
  const relay = await start(t)
  const stock = openStock(t, relay, 'acme/all')
  const native = await openNative(startNative(t), relay, 'acme/all')
  await stock.edit([
    { op: 'insert', at: 0, text: 'Wind and sand' },
    { op: 'format', at: 0, length: 4, attributes: { bold: true } },
    { op: 'set', key: 'n', value: { deep: [1, null, 'x'] } },
    { op: 'set_text', key: 'inner', text: 'a text in a map' },
    { op: 'element', at: 0, tag: 'p', text: 'a paragraph' },
    { op: 'attribute', at: 0, key: 'id', value: 'first' },
  ])
  await allEqual([stock, native])
  await native.edit([
    { op: 'insert', at: 0.999, text: ' and stars', attributes: { color: 'blue' } },
    { op: 'embed', at: 0, value: { image: 'tide.png' } },
    { op: 'add', at: 0, value: 2 ** 40 },
    { op: 'add', at: 0.999, value: 'last' },
    { op: 'unset', key: 'n' },
    { op: 'element', at: 0.999, tag: 'h1', text: 'a title' },
  ])
  const content = await allEqual([stock, native])
  assert.deepEqual(content, {
    text: [
      { insert: { image: 'tide.png' } },
      { insert: 'Wind', attributes: { bold: true } },
      { insert: ' and sand' },
      { insert: ' and stars', attributes: { color: 'blue' } },
    ],
    map: { inner: 'a text in a map' },
    array: [2 ** 40, 'last'],
    xml: '<p id="first">a paragraph</p><h1>a title</h1>',
  })
})

test('what stock and native clients write offline meets when they are back', async t => {
  const relay = await start(t)
  const native = startNative(t)
  const clients = [
    openStock(t, relay, 'acme/offline'),
    await openNative(native, relay, 'acme/offline'),
    openStock(t, relay, 'acme/offline'),
    await openNative(native, relay, 'acme/offline'),
  ]
  await clients[0].edit([{ op: 'insert', at: 0, text: 'together' }])
  await allEqual(clients)
  for (const client of clients) await client.offline()
  for (const [index, client] of clients.entries()) {
    await client.edit([{ op: 'insert', at: 0.999, text: ` [${index}]` }])
    await client.edit([{ op: 'set', key: `k${index}`, value: index }])
    await client.edit([{ op: 'set', key: 'same', value: index }])
  }
  for (const client of clients) await client.online()
  const { text, map } = await allEqual(clients)
  for (const index of clients.keys()) {
    assert.ok(text[0].insert.includes(` [${index}]`))
    assert.equal(map[`k${index}`], index)
  }
})

test('a stock client that holds edits with a hole before them gets and gives everything in the end', async t => {
  const relay = await start(t)
  const source = new Y.Doc()
  const updates = []
  source.on('update', update => updates.push(update))
  for (const word of ['one ', 'two ', 'three ']) source.getText('t').insert(source.getText('t').length, word)

  const holed = openStock(t, relay, 'acme/hole', doc => {
    Y.applyUpdate(doc, updates[0])
    Y.applyUpdate(doc, updates[2])
    assert.ok(doc.store.pendingStructs)
  })
  const native = await openNative(startNative(t), relay, 'acme/hole')
  await holed.edit([{ op: 'set', key: 'own', value: 'goes on' }])
  await native.edit([{ op: 'add', at: 0, value: 'from the native client' }])
  // Everybody has everything but what follows the hole.
  const bringer = openStock(t, relay, 'acme/hole', doc => Y.applyUpdate(doc, updates[0]))
  await allEqual([native, bringer])
  bringer.doc.transact(() => Y.applyUpdate(bringer.doc, updates[1]))
  const content = await allEqual([holed, native, bringer])
  assert.deepEqual(content.text, [{ insert: 'one two three ' }])
  assert.deepEqual(content.map, { own: 'goes on' })
  assert.deepEqual(content.array, ['from the native client'])
})

test('presence passes between stock clients, comes back to its sender, and ends with its connection', async t => {
  const relay = await start(t)
  const [ada, bob] = [openStock(t, relay, 'acme/presence'), openStock(t, relay, 'acme/presence')]
  const seen = (client, id, holds) =>
    new Promise(resolve => {
      const awareness = client.provider.awareness
      const look = () => {
        if (!holds(awareness.getStates().get(id))) return
        awareness.off('update', look)
        resolve()
      }
      awareness.on('update', look)
      look()
    })
  await Promise.all([ada, bob].map(({ provider }) => provider.synced || once(provider, 'sync')))
  const back = new Promise(resolve => {
    ada.provider.ws.addEventListener('message', ({ data }) => {
      const bytes = Buffer.from(data)
      if (bytes[0] === 1 && bytes.includes('Ada')) resolve()
    })
  })
  ada.provider.awareness.setLocalState({ user: 'Ada' })
  await back
  await seen(bob, ada.doc.clientID, state => state?.user === 'Ada')
  bob.provider.awareness.setLocalState({ user: 'Bob' })
  await seen(ada, bob.doc.clientID, state => state?.user === 'Bob')
  ada.provider.ws.terminate()
  ada.provider.shouldConnect = false
  await seen(bob, ada.doc.clientID, state => state === undefined)
})

const seed = Number(process.env.TIDEWELL_SEED ?? Math.floor(Math.random() * 2 ** 32))
const rounds = Number(process.env.TIDEWELL_ROUNDS ?? 60)

test(`${rounds} rounds of random edits, online and offline, end equal (TIDEWELL_SEED=${seed})`, async t => {
  const relay = await start(t)
  const native = startNative(t)
  for (let round = 0; round < rounds; round += 1) {
    await t.test(`round ${round}`, async t => {
      const random = randomNumbers(seed + round)
      const document = `acme/round/${round}`
      const clients = [
        openStock(t, relay, document),
        openStock(t, relay, document),
        await openNative(native, relay, document),
        await openNative(native, relay, document),
      ]
      for (let phase = 0; phase < 3; phase += 1) {
        for (const client of clients) {
          if (random() < 0.5) await client.offline()
        }
        for (let edits = 4 + Math.floor(random() * 12); edits > 0; edits -= 1) {
          const client = clients[Math.floor(random() * clients.length)]
          const operations = Array.from({ length: 1 + Math.floor(random() * 4) }, () =>
            randomOperation(random),
          )
          await client.edit(operations)
        }
        for (const client of clients) await client.online()
        await allEqual(clients)
      }
      const fresh = [openStock(t, relay, document), await openNative(native, relay, document)]
      await allEqual([...clients, ...fresh])
      for (const client of [...clients, ...fresh]) await client.close()
    })
  }
})
