// Tabs of one store, in one real browser, without any relay.

import assert from 'node:assert/strict'
import { test } from 'node:test'

import {
  crash,
  failingReads,
  failingWrites,
  hasKeeper,
  on,
  openDevice,
  startPages,
  stopClock,
  storeContent,
  until,
  untilAnswered,
} from './client_page.mjs'
import { openLink } from './link.mjs'
import { startRelay, temporaryFolder } from './relay.mjs'
import { randomNumbers } from './traces.mjs'

test('what one tab types the other shows at once, and both have it, without a relay', async t => {
  const pages = await startPages(t)
  const [one, two] = [await pages.page(), await pages.page()]
  await openDevice(one)
  await openDevice(two)
  await on(one, ({ doc }) => doc.text('notes').insert(0, 'from one'))
  await until(two, ({ doc }) => doc.text('notes').toString() === 'from one')
  await on(two, ({ doc }) => doc.text('notes').insert(0, 'from two, '))
  await until(one, ({ doc }) => doc.text('notes').toString() === 'from two, from one')
})

test('a tab that opens while another has edits in memory gets them', async t => {
  const pages = await startPages(t)
  const [one, two] = [await pages.page(), await pages.page()]
  await openDevice(one)
  await on(one, ({ doc }) => doc.text('notes').insert(0, 'just typed'))
  await openDevice(two)
  await until(two, ({ doc }) => doc.text('notes').toString() === 'just typed')
})

test('a tab that answers what another one asks does not read the document for it', async t => {
  const pages = await startPages(t)
  const [one, asking] = [await pages.page(), await pages.page()]
  await openDevice(one)
  await on(one, ({ doc }) => {
    doc.text('notes').insert(0, 'known')
    globalThis.reads = 0
    const transaction = IDBDatabase.prototype.transaction
    IDBDatabase.prototype.transaction = function (stores, mode, options) {
      if (stores.includes('received') && mode === 'readonly') globalThis.reads += 1
      return transaction.call(this, stores, mode, options)
    }
  })
  await asking.evaluate(async () => {
    const [document, opening] = ['test/doc', 'asking']
    await new Promise(held => {
      navigator.locks.request(`tidewell/default/open/${document}/${opening}`, () => {
        held()
        return new Promise(() => {})
      })
    })
    const tabs = new BroadcastChannel('tidewell/default/tabs')
    await new Promise(answered => {
      tabs.onmessage = ({ data }) => data.lineage !== undefined && answered()
      tabs.postMessage({ kind: 'ask', opening, document, known: Uint8Array.of(0) })
    })
  })
  assert.equal(await one.evaluate(() => globalThis.reads), 0)
})

test('stores of different names in one page share nothing', async t => {
  const page = await (await startPages(t)).page()
  await openDevice(page, { name: 'a', store: 'a' })
  await openDevice(page, { name: 'b', store: 'b' })
  await on(page, async ({ doc }) => {
    doc.text('notes').insert(0, 'of a')
    await doc.saved('device')
  })
  await on(page, ({ client }) => client.close(), undefined, 'b')
  await openDevice(page, { name: 'b', store: 'b' })
  assert.equal(await on(page, ({ doc }) => doc.text('notes').toString(), undefined, 'b'), '')
})

test('two tabs offline, killed and opened again at random, lose no edit that was saved and converge', async t => {
  const seed = Number(process.env.TIDEWELL_SEED ?? Date.now() % 1_000_000)
  t.diagnostic(`seed ${seed}`)
  const random = randomNumbers(seed)
  const pages = await startPages(t)
  const tabs = [await pages.page(), await pages.page()]
  for (const tab of tabs) await openDevice(tab)
  const saved = []
  for (let step = 0; step < 30; step += 1) {
    const which = random() < 0.5 ? 0 : 1
    if (random() < 0.2) {
      // As a crash: nothing of the page runs any more, and nothing is waited for.
      await crash(pages, tabs[which])
      tabs[which] = await pages.page()
      await openDevice(tabs[which])
      continue
    }
    const word = `w${step};`
    const waits = random() < 0.5
    await on(
      tabs[which],
      async ({ doc }, { word, at, waits }) => {
        const text = doc.text('notes')
        text.insert(Math.floor(at * (text.length + 1)), word)
        doc.list('words').push(word)
        doc.counter('count').add(1)
        if (waits) await doc.saved('device')
      },
      { word, at: random(), waits },
    )
    if (waits) saved.push(word)
  }
  for (const tab of tabs) await on(tab, ({ doc }) => doc.saved('device'))
  const words = tab => on(tab, ({ doc }) => doc.value)
  await tabs[0].waitForFunction(() => globalThis.devices.a.doc.status.device === 'saved')
  const last = await words(tabs[0])
  await until(tabs[1], ({ doc }, last) => JSON.stringify(doc.value) === JSON.stringify(last), last)
  for (const word of saved) assert.ok(last.words.includes(word), `${word} is lost`)
  assert.equal(last.count, last.words.length, 'the counter has every edit that is there, once')
  assert.equal([...last.notes].filter(letter => letter === 'w').length, last.words.length)

  await tabs[0].close()
  await tabs[1].close()
  const again = await pages.page()
  await openDevice(again)
  assert.deepEqual(await words(again), last, 'the disk has what the tabs showed')
})

/** What a tab without relay has typed is on the disk, and the other one has it. */
async function leaveLastWords(dying, other, relay) {
  await openDevice(dying)
  await openDevice(other, { url: relay.url })
  await on(dying, async ({ doc }) => {
    doc.text('notes').insert(0, 'the last words')
    await doc.saved('device')
  })
  await until(other, ({ doc }) => doc.text('notes').toString() === 'the last words')
}

test('the rows of a tab that died are pushed by another one', async t => {
  const relay = await startRelay(t, { data: await temporaryFolder(t) })
  const pages = await startPages(t)
  const [dying, other] = [await pages.page(), await pages.page()]
  await leaveLastWords(dying, other, relay)
  assert.equal(await on(other, ({ doc }) => doc.status.unsent.edits), 0, 'a living tab pushes its own')
  await dying.close()
  await other.waitForFunction(() => globalThis.devices.a.doc.status.link === 'live')
  const elsewhere = await pages.page()
  await openDevice(elsewhere, { store: 'elsewhere', url: relay.url })
  await until(elsewhere, ({ doc }) => doc.text('notes').toString() === 'the last words')
  await until(other, ({ doc }) => doc.status.unsent.edits === 0)
  await on(other, ({ client }) => client.close())
  const { outbox } = await storeContent(other)
  assert.deepEqual(outbox.keys, [], 'acknowledged rows have left the outbox')
})

test('the rows of a tab that died are pushed also when they could not be read at once', async t => {
  const relay = await startRelay(t, { data: await temporaryFolder(t) })
  const pages = await startPages(t)
  const [dying, other] = [await pages.page(), await pages.page(failingReads)]
  await leaveLastWords(dying, other, relay)
  await other.evaluate(() => {
    // The tab also begins to store what comes from the relay, and reads the document for that.
    globalThis.failingReads = 2
  })
  await dying.close()
  await until(other, ({ errors }) => errors.some(error => error.code === 'device_failed'))
  const elsewhere = await pages.page()
  await openDevice(elsewhere, { store: 'elsewhere', url: relay.url })
  await until(elsewhere, ({ doc }) => doc.text('notes').toString() === 'the last words')
})

test('a document in which tabs have left rows is read as often when there were many of them', async t => {
  const page = await (await startPages(t)).page()
  const reads = await page.evaluate(async () => {
    const { open } = await import('/dist/index.js')
    let reads = 0
    const transaction = IDBDatabase.prototype.transaction
    IDBDatabase.prototype.transaction = function (stores, mode, options) {
      if (stores.includes('received') && mode === 'readonly') reads += 1
      return transaction.call(this, stores, mode, options)
    }
    const counts = []
    for (let opening = 0; opening < 8; opening += 1) {
      const client = await open()
      reads = 0
      const doc = await client.doc('test/doc')
      counts.push(reads)
      if (doc.list('l').length !== opening || doc.status.unsent.edits !== opening)
        throw new Error('edits are lacking')
      doc.list('l').push(opening)
      await client.close()
    }
    return counts
  })
  assert.deepEqual(reads.slice(1), Array(7).fill(reads[1]))
})

test('a tab that inherits the rows of many openings does not read the document for each', async t => {
  const pages = await startPages(t)
  const [one, two] = [await pages.page(), await pages.page()]
  const count = 20
  await one.evaluate(async count => {
    const { open } = await import('/dist/index.js')
    for (let opening = 0; opening < count; opening += 1) {
      const client = await open()
      const doc = await client.doc('test/doc')
      doc.list('l').push(opening)
      await client.close()
    }
  }, count)
  await openDevice(one)
  await openDevice(two)
  await two.evaluate(() => {
    // What the disk answers comes when the test says so.
    globalThis.reads = 0
    const kept = []
    const { set } = Object.getOwnPropertyDescriptor(IDBTransaction.prototype, 'oncomplete')
    Object.defineProperty(IDBTransaction.prototype, 'oncomplete', {
      set(complete) {
        if (this.objectStoreNames.contains('received') && this.mode === 'readonly') globalThis.reads += 1
        set.call(this, event => (globalThis.goesOn ? complete(event) : kept.push(() => complete(event))))
      },
    })
    globalThis.goOn = () => {
      globalThis.goesOn = true
      for (const complete of kept.splice(0)) complete()
    }
  })
  await on(one, ({ client }) => client.close())
  const inherited = () =>
    two.evaluate(async () => {
      const { held } = await navigator.locks.query()
      return held.filter(({ name }) => name.startsWith('tidewell/default/rows/')).length
    })
  while ((await inherited()) < count);
  await two.evaluate(() => globalThis.goOn())
  await until(two, ({ doc }, count) => doc.status.unsent.edits === count, count)
  assert.ok((await two.evaluate(() => globalThis.reads)) < count)
})

test('a counter that 30 tabs in turn add to has as many entries as tabs were open at once', async t => {
  const page = await (await startPages(t)).page()
  const value = await page.evaluate(async () => {
    const { open } = await import('/dist/index.js')
    for (let opening = 0; opening < 30; opening += 1) {
      const client = await open()
      const doc = await client.doc('test/doc')
      doc.counter('likes').add(1)
      await client.close()
    }
    const [one, two] = [await open(), await open()]
    const [first, second] = [await one.doc('test/doc'), await two.doc('test/doc')]
    first.counter('likes').add(1)
    second.counter('likes').add(1)
    await first.saved('device')
    await second.saved('device')
    await one.close()
    await two.close()
    const client = await open()
    const doc = await client.doc('test/doc')
    return { sum: doc.counter('likes').value, size: doc.map('likes').size }
  })
  assert.deepEqual(value, { sum: 32, size: 2 })
})

test('with broadcast off tabs meet at the next start', async t => {
  const pages = await startPages(t)
  const [one, two] = [await pages.page(), await pages.page()]
  await openDevice(one, { broadcast: false })
  await openDevice(two, { broadcast: false })
  await on(one, async ({ doc }) => {
    doc.text('notes').insert(0, 'quiet')
    await doc.saved('device')
  })
  assert.equal(await on(two, ({ doc }) => doc.text('notes').toString()), '')
  await two.reload()
  await openDevice(two, { broadcast: false })
  assert.equal(await on(two, ({ doc }) => doc.text('notes').toString()), 'quiet')
})

test('a document that is closed and opened again in one tab keeps every unsent edit, and sends it', async t => {
  const relay = await startRelay(t, { data: await temporaryFolder(t) })
  const pages = await startPages(t)
  const page = await pages.page()
  await openDevice(page, { url: relay.url })
  const unsent = await on(page, async device => {
    device.client.pause()
    device.doc.text('notes').insert(0, 'first, ')
    // Not waited for: it is not on the disk yet when the document is opened again.
    device.doc.close()
    device.doc = await device.client.doc('test/doc')
    device.doc.text('notes').insert(7, 'second')
    await device.doc.saved('device')
    return device.doc.status.unsent.edits
  })
  assert.equal(unsent, 2)
  assert.equal((await storeContent(page)).outbox.keys.length, 2)
  await on(page, ({ client, doc }) => {
    client.resume()
    return doc.saved('relay')
  })
  const elsewhere = await pages.page()
  await openDevice(elsewhere, { store: 'elsewhere', url: relay.url })
  await until(elsewhere, ({ doc }) => doc.text('notes').toString() === 'first, second')
})

test('edits that dead tabs left in documents that nobody has open reach the relay, and so do those of closed documents', async t => {
  const relay = await startRelay(t, { data: await temporaryFolder(t) })
  const pages = await startPages(t)
  const [dying, other] = [await pages.page(), await pages.page()]
  await openDevice(dying, { document: 'test/left' })
  await on(dying, async ({ doc, client }) => {
    doc.text('notes').insert(0, 'the last words')
    await doc.saved('device')
    const closed = await client.doc('test/also')
    closed.text('notes').insert(0, 'of another document')
    await closed.close()
  })
  await openDevice(other, { url: relay.url })
  await crash(pages, dying)
  await on(other, async ({ client }) => {
    const doc = await client.doc('test/mine')
    doc.text('notes').insert(0, 'closed before it was sent')
    await doc.close()
  })
  for (const [document, text] of [
    ['test/left', 'the last words'],
    ['test/also', 'of another document'],
    ['test/mine', 'closed before it was sent'],
  ]) {
    const elsewhere = await pages.page()
    await openDevice(elsewhere, { document, store: 'elsewhere', url: relay.url })
    await until(elsewhere, ({ doc }, text) => doc.text('notes').toString() === text, text)
    await elsewhere.close()
  }
  await on(other, ({ client }) => client.close())
  assert.deepEqual((await storeContent(other)).outbox.keys, [])
  assert.deepEqual(await on(other, ({ errors }) => errors.map(String)), [])
})

test('documents that the relay does not take for a while keep no others from being sent', async t => {
  const limits = ['--tenant-bytes-max', '100']
  const relay = await startRelay(t, { data: await temporaryFolder(t), limits })
  const pages = await startPages(t)
  const [page, elsewhere] = [await pages.page(), await pages.page()]
  await openDevice(elsewhere, { store: 'elsewhere', document: 'full/0', url: relay.url })
  await on(elsewhere, ({ doc }) => {
    doc.text('notes').insert(0, 'x'.repeat(200))
    return doc.saved('relay')
  })
  await stopClock(page)
  await openDevice(page, { document: 'full/1' })
  await on(page, async ({ client }) => {
    for (const name of ['full/1', 'full/2', 'full/3', 'full/4', 'other/1']) {
      const doc = await client.doc(name)
      doc.text('notes').insert(0, 'mine')
    }
    await client.close()
  })
  await openDevice(page, { document: 'other/2', url: relay.url })
  await openDevice(elsewhere, { name: 'b', store: 'elsewhere', document: 'other/1', url: relay.url })
  const isThere = () => on(elsewhere, ({ doc }) => doc.text('notes').toString() === 'mine', undefined, 'b')
  // A minute is enough, as far as the machine keeps up with it.
  for (let seconds = 0; !(await isThere()); seconds += 5) {
    assert.ok(seconds < 3600, 'the full tenant has every place')
    await page.clock.runFor(5000)
  }
})

for (const broadcast of [true, false]) {
  test(`what a tab leaves unsent in a document that it closes another one sends that has it open, broadcast ${broadcast}`, async t => {
    const relay = await startRelay(t, { data: await temporaryFolder(t) })
    const pages = await startPages(t)
    const [other, closing, elsewhere] = [await pages.page(), await pages.page(), await pages.page()]
    await openDevice(other, { url: relay.url, broadcast })
    await openDevice(closing, { broadcast })
    await openDevice(elsewhere, { store: 'elsewhere', url: relay.url })
    for (const text of ['one, ', 'one, two']) {
      await on(
        closing,
        async (device, text) => {
          const notes = device.doc.text('notes')
          notes.insert(notes.length, text.slice(notes.length))
          await device.doc.close()
        },
        text,
      )
      await until(elsewhere, ({ doc }, text) => doc.text('notes').toString() === text, text)
      await on(closing, async device => {
        device.doc = await device.client.doc('test/doc')
      })
    }
    await until(other, ({ doc }) => doc.status.unsent.edits === 0)
    await on(other, ({ client }) => client.close())
    assert.deepEqual((await storeContent(other)).outbox.keys, [])
  })
}

test('a tab without relay does not keep the duty for rows that an opening has not left', async t => {
  const pages = await startPages(t)
  const [other, closing] = [await pages.page(), await pages.page()]
  await openDevice(other)
  await openDevice(closing)
  const duties = () =>
    other.evaluate(async () => {
      const { held } = await navigator.locks.query()
      return held.filter(({ name }) => name.startsWith('tidewell/default/rows/')).length
    })
  await on(closing, ({ doc }) => doc.close())
  while ((await duties()) === 0);
  while ((await duties()) > 0);
})

test('what the disk took of a document only after it was closed is sent by another tab', async t => {
  const relay = await startRelay(t, { data: await temporaryFolder(t) })
  const pages = await startPages(t)
  const [other, closing] = [await pages.page(), await pages.page(failingWrites)]
  await openDevice(other, { url: relay.url })
  await openDevice(closing)
  const code = await on(closing, ({ doc }) => {
    globalThis.isBroken = true
    doc.text('notes').insert(0, 'late')
    return doc.close().catch(error => error.code)
  })
  assert.equal(code, 'device_failed')
  // The other tab looks for what was left, and finds nothing.
  await untilAnswered(other, async () => {
    const { held } = await navigator.locks.query()
    return held.some(({ name }) => name.startsWith('tidewell/default/rows/'))
  })
  await closing.evaluate(() => {
    globalThis.isBroken = false
  })
  const elsewhere = await pages.page()
  await openDevice(elsewhere, { store: 'elsewhere', url: relay.url })
  await until(elsewhere, ({ doc }) => doc.text('notes').toString() === 'late')
})

test('what a tab counted while the disk failed is counted once, when the tab dies and the next one counts offline', async t => {
  const relay = await startRelay(t, { data: await temporaryFolder(t) })
  const pages = await startPages(t)
  const dying = await pages.page(failingWrites)
  await openDevice(dying, { url: relay.url })
  const count = (page, by) => on(page, ({ doc }, by) => doc.counter('likes').add(by), by)
  await count(dying, 1)
  await on(dying, ({ doc }) => doc.saved('relay'))
  await dying.evaluate(() => {
    globalThis.isBroken = true
  })
  await count(dying, 2)
  await on(dying, ({ doc }) => doc.saved('relay'))
  await crash(pages, dying)

  const next = await pages.page()
  await openDevice(next)
  await count(next, 4)
  await on(next, ({ doc, client }) => doc.saved('device').then(() => client.close()))
  await openDevice(next, { url: relay.url })
  await on(next, ({ doc }) => doc.saved('relay'))
  await until(next, ({ doc }) => doc.status.link === 'live')
  assert.equal(await on(next, ({ doc }) => doc.counter('likes').value), 7)
})

test('a tab that begins to store what comes from a relay of another history stores what others did not', async t => {
  const before = await startRelay(t, { data: await temporaryFolder(t) })
  const pages = await startPages(t)
  const [keeper, next, elsewhere] = [await pages.page(), await pages.page(), await pages.page()]
  const types = (page, text) => on(page, ({ doc }, text) => doc.text('notes').insert(0, text), text)
  await openDevice(keeper, { url: before.url })
  for (const letter of ['c', 'b', 'a']) {
    await types(keeper, letter)
    await on(keeper, ({ doc }) => doc.saved('relay'))
  }
  await on(keeper, ({ client }) => client.close())
  await openDevice(keeper)

  const relay = await startRelay(t, { data: await temporaryFolder(t) })
  await openDevice(next, { url: relay.url })
  await openDevice(elsewhere, { store: 'elsewhere', url: relay.url })
  await until(elsewhere, ({ doc }) => doc.text('notes').toString() === 'abc')
  await types(elsewhere, 'z')
  await until(next, ({ doc }) => doc.text('notes').toString() === 'zabc')
  await on(keeper, ({ client }) => client.close())
  await untilAnswered(next, hasKeeper)
  await types(elsewhere, 'y')
  await until(next, ({ doc }) => doc.text('notes').toString() === 'yzabc')
  await on(next, ({ client }) => client.close())
  await openDevice(next)
  assert.equal(await on(next, ({ doc }) => doc.text('notes').toString()), 'yzabc')
})

/** The page dies before it tells other tabs of its edits. */
function silent() {
  const { postMessage } = BroadcastChannel.prototype
  BroadcastChannel.prototype.postMessage = function (message) {
    if (message.kind !== 'edit') postMessage.call(this, message)
  }
}

test('what a tab that died had stored as received is offered to a relay of another history', async t => {
  const [before, relay] = [
    await startRelay(t, { data: await temporaryFolder(t) }),
    await startRelay(t, { data: await temporaryFolder(t) }),
  ]
  const pages = await startPages(t)
  const [other, dying, elsewhere] = [await pages.page(), await pages.page(silent), await pages.page()]
  await openDevice(other, { url: relay.url })
  await openDevice(elsewhere, { store: 'elsewhere', url: relay.url })
  await until(other, ({ doc }) => doc.status.link === 'live')
  await openDevice(dying, { url: before.url })
  await on(dying, ({ doc }) => {
    doc.text('notes').insert(0, 'acknowledged')
    return doc.saved('relay')
  })
  const isReceived = ({ received, outbox }) => received.keys.length > 0 && outbox.keys.length === 0
  while (!isReceived(await storeContent(dying))) await on(dying, ({ doc }) => doc.saved('device'))
  assert.equal(await on(other, ({ doc }) => doc.text('notes').toString()), '')
  await crash(pages, dying)
  await until(elsewhere, ({ doc }) => doc.text('notes').toString() === 'acknowledged')
})

test('a tab that begins to store what comes in the midst of what was lacking stores all of it', async t => {
  const relay = await startRelay(t, { data: await temporaryFolder(t) })
  const link = await openLink(t)
  await link.lead(relay.port)
  const pages = await startPages(t)
  const [one, two, others] = [await pages.page(), await pages.page(), await pages.page()]
  const set = async key => {
    await openDevice(others, { name: key, store: key, url: relay.syncUrl })
    await on(
      others,
      async ({ client, doc }, key) => {
        doc.map('large').set(key, 'x'.repeat(1_500_000))
        await doc.saved('relay')
        await client.close()
      },
      key,
      key,
    )
  }
  // The device knows a commit: of what comes after it, no part but the last one moves the cursor.
  await openDevice(one, { url: relay.syncUrl })
  await on(one, async ({ doc, client }) => {
    doc.map('large').set('small', 1)
    await doc.saved('relay')
    await client.close()
  })
  await set('first')
  await set('second')
  // The tab that stores does not hear the relay.
  await openDevice(one)
  await link.narrow(400_000)
  await openDevice(two, { url: link.syncUrl })
  await until(two, ({ doc }) => doc.map('large').get('first') !== undefined)
  await on(one, ({ client }) => client.close())
  await untilAnswered(two, hasKeeper)
  assert.equal(
    await on(two, ({ doc }) => doc.map('large').get('second')),
    undefined,
    'the rest is on its way',
  )
  await link.narrow(null)
  await until(two, ({ doc }) => doc.map('large').get('second') !== undefined)
  await on(two, ({ client }) => client.close())
  await openDevice(two)
  const keys = await on(two, ({ doc }) => [...doc.map('large').keys()].sort())
  assert.deepEqual(keys, ['first', 'second', 'small'])
})
