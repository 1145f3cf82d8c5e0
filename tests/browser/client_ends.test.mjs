// Clients and documents that end, wait or begin while something else goes on.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { WebSocket, WebSocketServer } from 'ws'

import { atEnd } from './cleanup.mjs'
import { on, openDevice, startPages, storeContent, until } from './client_page.mjs'
import { startRelay, temporaryFolder } from './relay.mjs'

test('a client that is closed while it opens a document ends that with closed, and reports nothing', async t => {
  const page = await (await startPages(t)).page()
  for (let turns = 0; turns < 6; turns += 1) {
    await openDevice(page)
    const seen = await on(
      page,
      async ({ client, errors }, turns) => {
        const opening = client.doc('test/other').then(
          () => 'opened',
          error => error.code ?? String(error),
        )
        for (let turn = 0; turn < turns; turn += 1) await new Promise(resolve => setTimeout(resolve))
        await client.close()
        return { opened: await opening, errors: errors.map(String) }
      },
      turns,
    )
    assert.match(seen.opened, /^(opened|closed)$/)
    assert.deepEqual(seen.errors, [])
  }
})

test('what is edited while a client is being closed is on the disk or was refused with closed', async t => {
  const page = await (await startPages(t)).page()
  await openDevice(page)
  const made = await on(page, async ({ client, doc }) => {
    doc.text('notes').insert(0, 'a')
    let isClosed = false
    const closing = client.close().then(() => {
      isClosed = true
    })
    let made = 'a'
    while (!isClosed) {
      try {
        doc.text('notes').insert(made.length, 'b')
        made += 'b'
      } catch (error) {
        if (error.code !== 'closed') throw error
      }
      await new Promise(resolve => setTimeout(resolve))
    }
    await closing
    return made
  })
  await openDevice(page)
  assert.equal(await on(page, ({ doc }) => doc.text('notes').toString()), made)
})

test('saved(device) resolves while somebody types on', async t => {
  const page = await (await startPages(t)).page()
  await openDevice(page)
  await on(page, async ({ doc }) => {
    let isSaved = false
    const { port1, port2 } = new MessageChannel()
    port1.onmessage = () => {
      if (isSaved) return
      doc.list('keys').push(1)
      port2.postMessage(0)
    }
    doc.list('keys').push(0)
    port2.postMessage(0)
    await doc.saved('device')
    isSaved = true
    port1.close()
  })
})

test('two clients of one store in one page have each other’s edits, and the one goes on when the other is closed', async t => {
  const relay = await startRelay(t, { data: await temporaryFolder(t) })
  const page = await (await startPages(t)).page()
  const options = { store: 'both', url: relay.url }
  await Promise.all([
    openDevice(page, { name: 'a', ...options }),
    openDevice(page, { name: 'b', ...options }),
  ])
  await on(page, ({ doc }) => doc.counter('likes').add(1), undefined, 'a')
  await on(page, ({ doc }) => doc.counter('likes').add(2), undefined, 'b')
  for (const name of ['a', 'b']) await until(page, ({ doc }) => doc.value.likes === 3, undefined, name)
  await on(page, ({ client }) => client.close(), undefined, 'a')
  await on(
    page,
    async ({ doc, errors }) => {
      doc.counter('likes').add(4)
      await doc.saved('relay')
      if (doc.value.likes !== 7 || errors.length > 0) throw new Error(`${doc.value.likes} ${errors}`)
    },
    undefined,
    'b',
  )
})

/** First bytes of messages of `tidewell.v1`. */
const [PUSH, REFUSED, ERROR] = [4, 38, 40]

/** A number as the protocol writes it, below 2^14. */
const uint = number => (number < 128 ? [number] : [(number & 127) | 128, number >> 7])

/** A way to the relay that answers the first edit itself, with what `answer` makes of its channel and number. */
async function answerOnce(t, syncUrl, answer) {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', handleProtocols: ([first]) => first })
  await once(server, 'listening')
  let isAnswered = false
  server.on('connection', (device, request) => {
    const relay = new WebSocket(syncUrl, request.headers['sec-websocket-protocol'])
    const early = []
    relay.on('open', () => {
      for (const frame of early) relay.send(frame)
    })
    relay.on('message', frame => device.send(frame))
    device.on('message', frame => {
      if (frame[0] === PUSH && !isAnswered) {
        isAnswered = true
        device.send(Uint8Array.from(answer(frame[1], frame[2])))
      } else if (relay.readyState === WebSocket.CONNECTING) early.push(frame)
      else relay.send(frame)
    })
    for (const [end, other] of [
      [relay, device],
      [device, relay],
    ]) {
      // It is closed as well.
      end.on('error', () => {})
      end.on('close', () => other.close())
    }
  })
  atEnd(t, () => {
    for (const device of server.clients) device.terminate()
    server.close()
  })
  return `ws://127.0.0.1:${server.address().port}`
}

/** Opens a device on such a way and edits; `globalThis.links` is what its status says of the link. */
async function editOnce(t, answer) {
  const relay = await startRelay(t, { data: await temporaryFolder(t) })
  const page = await (await startPages(t)).page()
  await openDevice(page, { url: await answerOnce(t, relay.syncUrl, answer) })
  await on(page, ({ doc }) => {
    globalThis.links = []
    doc.onStatus(({ link }) => globalThis.links.push(link.refused ?? link))
    doc.text('notes').insert(0, 'x')
  })
  return page
}

test('whoever waits for a relay that refuses for a while waits on, until it has the edit', async t => {
  const loadFailed = 504
  const page = await editOnce(t, (channel, number) => [REFUSED, channel, number, ...uint(loadFailed)])
  await on(page, ({ doc }) => doc.saved('relay'))
  const links = await page.evaluate(() => globalThis.links)
  assert.ok(links.includes('load_failed'), links.join(', '))
  assert.equal(await on(page, ({ doc }) => doc.status.unsent.edits), 0)
})

for (const [number, code] of [
  [401, 'invalid_update'],
  [404, 'unsupported_content'],
  [406, 'update_too_large'],
  [409, 'channels_exceeded'],
  [410, 'document_reset'],
  [411, 'update_incomplete'],
]) {
  test(`an edit that the relay refuses with ${code} fails saved(relay) with it, and is kept as a branch`, async t => {
    const page = await editOnce(t, (channel, edit) => [REFUSED, channel, edit, ...uint(number)])
    const seen = await on(page, async ({ doc, client }) => {
      const failed = await doc.saved('relay').catch(error => error.code)
      const branches = (await client.branches.list()).map(branch => [branch.code, branch.edits])
      const { unsent } = doc.status
      await client.close()
      return { failed, branches, edits: unsent.edits }
    })
    assert.deepEqual(seen, { failed: code, branches: [[code, 1]], edits: 0 })
    const { branches, outbox } = await storeContent(page)
    assert.deepEqual([branches.keys.length, outbox.keys.length], [1, 0])
  })
}

for (const [code, frame] of [
  ['invalid_frame', [255]],
  ['unsupported_version', [ERROR, ...uint(403), 0]],
  ['frame_too_large', [ERROR, ...uint(405), 0]],
  ['origin_forbidden', [ERROR, ...uint(407), 0]],
  ['protocol_violation', [ERROR, ...uint(408), 0]],
  ['overloaded', [ERROR, ...uint(502), 0]],
]) {
  test(`a connection that ends with ${code} is told to onError, and the edit goes out on the next one`, async t => {
    const page = await editOnce(t, () => frame)
    await on(page, ({ doc }) => doc.saved('relay'))
    assert.deepEqual(await on(page, ({ errors }) => errors.map(error => error.code)), [code])
  })
}

test('a page without https, which browsers do not trust with locks, works in memory and says so', async t => {
  const { context } = await startPages(t)
  const page = await context.newPage()
  await page.route('http://device.test/**', async route => {
    const { pathname } = new URL(route.request().url())
    if (pathname === '/') return route.fulfill({ contentType: 'text/html', body: '<!doctype html>' })
    const body = await readFile(fileURLToPath(new URL(`../../web${pathname}`, import.meta.url)))
    await route.fulfill({ contentType: 'text/javascript', body })
  })
  await page.goto('http://device.test')
  assert.equal(await page.evaluate(() => isSecureContext), false)
  await openDevice(page)
  const seen = await on(page, ({ doc }) => {
    doc.text('notes').insert(0, 'x')
    return { storage: doc.status.storage, text: doc.text('notes').toString() }
  })
  assert.deepEqual(seen, { storage: 'memory', text: 'x' })
  await assert.rejects(openDevice(page, { storage: 'indexeddb' }), /https/)
})

/** What a tab does at random: it edits, closes, opens, pauses and waits. Answers its edits, and errors that may not be. */
async function actAtRandom({ url, seed, steps }) {
  const { open } = await import('/dist/index.js')
  let state = seed
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
  const errors = []
  const unless = (promise, ...codes) =>
    promise.catch(error => {
      if (!codes.includes(error?.code)) errors.push(String(error))
    })
  const waits = []
  let [edits, client, doc] = [0]
  const reopen = async () => {
    client = await open({ url, store: 'random', onError: error => errors.push(String(error)) })
    doc = await client.doc('test/doc')
  }
  const actions = [
    [50, () => doc.edit(d => [d.counter('count').add(1), d.list('edits').push(`${seed}.${edits++}`)])],
    [8, () => doc.saved('device')],
    [12, () => waits.push(unless(doc.saved('relay'), 'closed'))],
    [8, () => new Promise(resolve => setTimeout(resolve, 10 * random()))],
    [4, () => client.pause()],
    [6, () => client.resume()],
    [6, () => doc.close().then(async () => (doc = await client.doc('test/doc')))],
    [3, () => [waits.push(doc.close()), client.doc('test/doc').then(next => (doc = next))][1]],
    [2, () => client.close().then(reopen)],
    [1, () => [waits.push(client.close()), reopen()][1]],
  ]
  const bag = actions.flatMap(([weight, action]) => Array(weight).fill(action))
  await reopen()
  for (let step = 0; step < steps; step += 1) {
    await bag[Math.floor(bag.length * random())]()
  }
  client.resume()
  await doc.saved('relay')
  await Promise.all(waits)
  globalThis.devices = { a: { client, doc, errors } }
  return { edits, errors }
}

test('tabs that edit, close, open, pause and wait at random lose nothing, count right, and hear of no error', async t => {
  const seed = Number(process.env.TIDEWELL_SEED ?? Date.now() % 1_000_000)
  t.diagnostic(`seed ${seed}`)
  const relay = await startRelay(t, { data: await temporaryFolder(t) })
  const pages = await startPages(t)
  const tabs = await Promise.all([pages.page(), pages.page(), pages.page()])
  const done = await Promise.all(
    tabs.map((tab, index) => tab.evaluate(actAtRandom, { url: relay.url, seed: seed + index, steps: 400 })),
  )
  assert.deepEqual(
    done.flatMap(({ errors }) => errors),
    [],
  )
  const made = done.reduce((sum, { edits }) => sum + edits, 0)
  for (const tab of tabs) {
    await until(tab, ({ doc }, made) => doc.value.count === made && doc.value.edits.length === made, made)
    assert.equal(await on(tab, ({ doc }) => new Set(doc.value.edits).size), made)
  }
})
