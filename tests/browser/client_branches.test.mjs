// What the relay refuses becomes a branch on the device.

import assert from 'node:assert/strict'
import test from 'node:test'
import * as Y from 'yjs'

import {
  crash,
  failingReads,
  failingWrites,
  hasKeeper,
  on,
  openDevice,
  startPages,
  storeContent,
  until,
  untilAnswered,
} from './client_page.mjs'
import { openRefuser } from './refuser.mjs'
import { startRelay, temporaryFolder } from './relay.mjs'

const saved = ({ doc }) => doc.saved('relay')
const types = ({ doc }, text) => doc.text('notes').insert(doc.text('notes').length, text)
const listed = async ({ client }) => {
  const shown = ({ document, code, edits, bytes }) => ({ document, code, edits, hasBytes: bytes > 0 })
  return (await client.branches.list()).map(shown)
}
/** What waiting for the relay fails with. */
const refusal = ({ doc }) =>
  doc.saved('relay').then(
    () => 'saved',
    error => error.code,
  )

/** Keeps what other tabs tell this one of branches, from when `globalThis.isDeaf` until `globalThis.hearAgain()`. */
function lateNews() {
  const { set } = Object.getOwnPropertyDescriptor(BroadcastChannel.prototype, 'onmessage')
  const kept = []
  Object.defineProperty(BroadcastChannel.prototype, 'onmessage', {
    set(hear) {
      const isLate = ({ kind }) => globalThis.isDeaf && kind !== 'edit' && kind !== 'ask'
      set.call(this, event => {
        if (!isLate(event.data)) return hear(event)
        kept.push(() => hear(event))
        globalThis.kept.push(event.data.kind)
      })
    },
  })
  globalThis.kept = []
  globalThis.hearAgain = () => {
    globalThis.isDeaf = false
    for (const tell of kept.splice(0)) tell()
  }
}

/** Two tabs without relay: what the second one typed builds on what the first one did, and is on the disk. */
async function startTabs(t) {
  const { relay, refuser, pages } = await start(t)
  const [first, second] = [await pages.page(), await pages.page(lateNews)]
  for (const page of [first, second]) {
    await openDevice(page, { url: refuser.syncUrl })
    await until(page, ({ doc }) => doc.status.link === 'live')
    await on(page, ({ client }) => client.pause())
  }
  await on(first, types, 'one ')
  await until(second, ({ doc }) => doc.text('notes').toString() === 'one ')
  await on(second, types, 'two')
  await on(second, ({ doc }) => doc.saved('device'))
  return { relay, refuser, pages, first, second }
}

/** The first tab's edit is refused, and the second one does not hear of it yet. */
async function refuseFirst({ refuser, first, second }) {
  await second.evaluate(() => {
    globalThis.isDeaf = true
  })
  refuser.refuse()
  await on(first, ({ client }) => client.resume())
  assert.equal(await on(first, refusal), 'update_too_large')
  refuser.accept()
}

const editCounts = async page => (await on(page, listed)).map(branch => branch.edits)

async function start(t) {
  const relay = await startRelay(t, { data: await temporaryFolder(t) })
  const refuser = await openRefuser(t, relay.syncUrl)
  return { relay, refuser, pages: await startPages(t) }
}

test('a refused edit becomes a branch, the document goes on without it, and merging sends it', async t => {
  const { relay, refuser, pages } = await start(t)
  const page = await pages.page()
  await openDevice(page, { name: 'a', store: 'a', url: refuser.syncUrl })
  await openDevice(page, { name: 'b', store: 'b', url: relay.url })
  await on(page, types, 'kept ')
  await on(page, saved)
  await on(page, ({ doc, client }) => {
    globalThis.shown = 'kept '
    doc.text('notes').onDelta(delta => {
      let at = 0
      for (const { insert, retain, delete: gone } of delta) {
        const text = globalThis.shown
        if (insert !== undefined) globalThis.shown = text.slice(0, at) + insert + text.slice(at)
        if (gone !== undefined) globalThis.shown = text.slice(0, at) + text.slice(at + gone)
        at += insert?.length ?? retain ?? 0
      }
    })
    globalThis.values = []
    doc.watch(
      value => value.notes,
      notes => globalThis.values.push(notes),
    )
    globalThis.branchNews = 0
    client.branches.onChange(() => {
      globalThis.branchNews += 1
    })
  })
  refuser.refuse()
  await on(page, types, 'refused ')
  assert.equal(await on(page, refusal), 'update_too_large')
  const branch = { document: 'test/doc', code: 'update_too_large', edits: 1, hasBytes: true }
  assert.deepEqual(await on(page, listed), [branch])
  assert.equal(await on(page, ({ doc }) => doc.text('notes').toString()), 'kept ')
  assert.deepEqual(await page.evaluate(() => [globalThis.shown, globalThis.values.at(-1)]), [
    'kept ',
    'kept ',
  ])
  assert.ok((await page.evaluate(() => globalThis.branchNews)) > 0)
  assert.equal(await on(page, ({ doc }) => doc.status.unsent.edits), 0)

  refuser.accept()
  await on(page, types, 'more')
  await on(page, saved)
  await until(page, ({ doc }) => doc.text('notes').toString() === 'kept more', undefined, 'b')
  assert.equal(await page.evaluate(() => globalThis.shown), 'kept more')

  await page.reload()
  await openDevice(page, { name: 'a', store: 'a', url: refuser.syncUrl })
  await openDevice(page, { name: 'b', store: 'b', url: relay.url })
  assert.deepEqual(await on(page, listed), [branch], 'it survives a reload')
  assert.deepEqual(await on(page, async ({ client }) => (await client.branches.list())[0].open()), {
    notes: await on(page, async ({ client }) => (await (await client.branches.list())[0].open()).notes),
  })
  const view = await on(page, async ({ client }) => (await (await client.branches.list())[0].open()).notes)
  assert.ok(['kept refused more', 'kept morerefused '].includes(view), view)
  assert.equal(
    await on(page, ({ doc }) => doc.text('notes').toString()),
    'kept more',
    'looking changes nothing',
  )

  const exported = await on(page, async ({ client }) => [
    ...(await (await client.branches.list())[0].export()),
  ])
  const yjs = new Y.Doc()
  for (const updates of (await storeContent(page, 'a')).received.values) {
    for (const update of updates) Y.applyUpdate(yjs, Uint8Array.from(update))
  }
  assert.equal(yjs.getText('notes').toString(), 'kept more')
  Y.applyUpdate(yjs, Uint8Array.from(exported))
  assert.equal(yjs.getText('notes').toString(), view)

  await on(page, async ({ client }) => (await client.branches.list())[0].merge())
  await on(page, saved)
  assert.deepEqual(await on(page, listed), [])
  const merged = await on(page, ({ doc }) => doc.text('notes').toString())
  assert.ok(['kept refused more', 'kept morerefused '].includes(merged), merged)
  await until(page, ({ doc }, merged) => doc.text('notes').toString() === merged, merged, 'b')
  assert.deepEqual((await storeContent(page, 'a')).branches.keys, [])
  assert.deepEqual(await on(page, ({ errors }) => errors.map(String)), [])
})

test('a refused edit becomes a branch in memory, too, on a page without https', async t => {
  const { refuser, pages } = await start(t)
  const page = await pages.page(() => {
    // Browsers give it to pages with https alone.
    delete Crypto.prototype.randomUUID
  })
  await openDevice(page, { storage: 'memory', url: refuser.syncUrl })
  refuser.refuse()
  await on(page, types, 'refused ')
  await until(page, ({ doc }) => doc.text('notes').toString() === '')
  assert.equal(await on(page, refusal), 'update_too_large')
  const branch = { document: 'test/doc', code: 'update_too_large', edits: 1, hasBytes: true }
  assert.deepEqual(await on(page, listed), [branch])
  assert.deepEqual(await on(page, ({ errors }) => errors.map(String)), [])
})

test('a document that is open for long keeps nothing of the branches that have ended in it', async t => {
  const { refuser, pages } = await start(t)
  const page = await pages.page(() => {
    const listeners = new Map()
    const { addEventListener, removeEventListener } = EventTarget.prototype
    AbortSignal.prototype.addEventListener = function (type, listener, options) {
      listeners.set(this, (listeners.get(this) ?? new Set()).add(listener))
      return addEventListener.call(this, type, listener, options)
    }
    AbortSignal.prototype.removeEventListener = function (type, listener, options) {
      listeners.get(this)?.delete(listener)
      return removeEventListener.call(this, type, listener, options)
    }
    globalThis.waitingListeners = () =>
      [...listeners].reduce((sum, [signal, { size }]) => sum + (signal.aborted ? 0 : size), 0)
  })
  await openDevice(page, { url: refuser.syncUrl })
  await untilAnswered(page, hasKeeper)
  refuser.refuse()
  await on(page, types, 'refused')
  assert.equal(await on(page, refusal), 'update_too_large')
  const [before, after] = await on(page, async ({ client }) => {
    const [branch] = await client.branches.list()
    const before = globalThis.waitingListeners()
    await branch.drop()
    return [before, globalThis.waitingListeners()]
  })
  assert.ok(before > 0)
  assert.equal(after, before)
})

test('of a branch whose first edits the relay has stored, merging sends the others only', async t => {
  const { relay, refuser, pages } = await start(t)
  const page = await pages.page()
  await openDevice(page, { name: 'a', store: 'a', url: refuser.syncUrl })
  await openDevice(page, { name: 'b', store: 'b', url: relay.url })
  await until(page, ({ doc }) => doc.status.link === 'live')
  refuser.refuse(1)
  await on(page, types, 'stored ')
  await until(page, ({ doc }) => doc.text('notes').toString() === 'stored ', undefined, 'b')
  await on(page, types, 'refused ')
  assert.equal(await on(page, refusal), 'update_too_large')
  refuser.accept()
  assert.equal((await on(page, listed))[0].edits, 2)
  await until(page, ({ doc }) => doc.text('notes').toString() === 'stored ')
  await on(page, async ({ client }) => (await client.branches.list())[0].merge())
  await on(page, saved)
  for (const name of ['a', 'b']) {
    await until(page, ({ doc }) => doc.text('notes').toString() === 'stored refused ', undefined, name)
  }
})

test('what the relay has of a branch comes back though the device knew that it was committed', async t => {
  const { relay, refuser, pages } = await start(t)
  const page = await pages.page()
  await openDevice(page, { url: refuser.syncUrl })
  await until(page, ({ doc }) => doc.status.link === 'live')
  refuser.refuseAndCut()
  await on(page, types, 'stored ')
  const cursors = async () => (await storeContent(page)).documents.values.map(({ cursor }) => cursor.sequence)
  while (!(await cursors()).includes(1)) await page.waitForTimeout(10)
  await on(page, types, 'refused')
  assert.equal(await on(page, refusal), 'update_too_large')
  await on(page, ({ client }) => client.close())
  const { documents, branches } = await storeContent(page)
  assert.deepEqual([documents.keys, branches.keys.length], [[], 2])
  await openDevice(page, { url: relay.url })
  await until(page, ({ doc }) => doc.text('notes').toString() === 'stored ')
})

test('what another tab has built on a refused edit joins the branch, and what it has not goes on', async t => {
  const { relay, refuser, pages } = await start(t)
  const [first, second] = [await pages.page(), await pages.page()]
  await openDevice(first, { url: refuser.syncUrl })
  await openDevice(second, { url: relay.url })
  await until(first, ({ doc }) => doc.status.link === 'live')
  await on(first, ({ client }) => client.pause())
  await on(second, ({ client }) => client.pause())
  await on(first, types, 'one ')
  await until(second, ({ doc }) => doc.text('notes').toString() === 'one ')
  await on(second, types, 'two')
  await on(second, ({ doc }) => doc.saved('device'))
  refuser.refuse()
  await on(first, ({ client }) => client.resume())
  await until(second, ({ doc }) => doc.text('notes').toString() === '')
  while (JSON.stringify(await editCounts(first)) !== '[2]') await on(second, ({ doc }) => doc.saved('device'))
  refuser.accept()
  await on(second, ({ client }) => client.resume())
  await on(second, ({ doc }) => doc.list('l').push('here'))
  await until(second, ({ doc }) => doc.status.unsent.edits === 0)
  await until(first, ({ doc }) => doc.list('l').length === 1)
  assert.equal(await on(first, ({ doc }) => doc.text('notes').toString()), '')

  // Both at once: it is merged once.
  for (const page of [first, second]) assert.equal(await on(page, refusal), 'update_too_large', 'told once')
  const merge = page => on(page, async ({ client }) => (await client.branches.list())[0]?.merge())
  await Promise.all([merge(first), merge(second)])
  for (const page of [first, second]) {
    await on(page, saved)
    await until(page, ({ doc }) => doc.text('notes').toString() === 'one two')
    assert.deepEqual(await on(page, listed), [])
  }
})

test('a tab that dies while refused edits are being put aside has them in its outbox, and they become a branch then', async t => {
  const { refuser, pages } = await start(t)
  const page = await pages.page(() => {
    // The disk takes no branches before the next page.
    const { put } = IDBObjectStore.prototype
    IDBObjectStore.prototype.put = function (...options) {
      if (this.name === 'branches' && location.hash !== '#well') this.transaction.abort()
      return put.apply(this, options)
    }
  })
  await openDevice(page, { url: refuser.syncUrl })
  refuser.refuse()
  await on(page, types, 'refused')
  assert.equal(await on(page, refusal), 'update_too_large')
  assert.equal(
    await on(page, ({ client }) =>
      client.branches.list().then(
        () => 'listed',
        error => error.code,
      ),
    ),
    'device_failed',
  )
  const before = await storeContent(page)
  assert.deepEqual([before.branches.keys.length, before.outbox.keys.length], [0, 1])
  await page.goto(`${pages.address}#well`)
  await page.reload()
  await openDevice(page, { url: refuser.syncUrl })
  await until(page, ({ doc }) => doc.text('notes').toString() === '' && doc.status.unsent.edits === 0)
  assert.deepEqual(await editCounts(page), [1])
  const after = await storeContent(page)
  assert.deepEqual([after.branches.keys.length, after.outbox.keys.length], [1, 0])
  await on(page, async ({ client }) => (await client.branches.list())[0].drop())
  assert.deepEqual(await on(page, listed), [])
  assert.deepEqual((await storeContent(page)).branches.keys, [])
})

test('a branch is merged of a document that nobody has open, though another one of it is dropped meanwhile', async t => {
  const { refuser, pages } = await start(t)
  const page = await pages.page()
  await openDevice(page, { url: refuser.syncUrl })
  for (const word of ['merged', 'dropped']) {
    refuser.refuse()
    await on(page, types, word)
    assert.equal(await on(page, refusal), 'update_too_large')
    refuser.accept()
  }
  await on(page, async ({ client, doc }) => {
    await doc.close()
    client.pause()
    const [first, second] = await client.branches.list()
    const merged = first.merge()
    await second.drop()
    client.resume()
    await merged
  })
  assert.deepEqual(await on(page, listed), [])
  await openDevice(page, { url: refuser.syncUrl })
  assert.equal(await on(page, ({ doc }) => doc.text('notes').toString()), 'merged')
})

test('what joins a branch after it was listed is not dropped with it', async t => {
  const tabs = await startTabs(t)
  const { first, second } = tabs
  await refuseFirst(tabs)
  assert.deepEqual(await editCounts(first), [1])
  await on(first, async device => {
    device.branch = (await device.client.branches.list())[0]
  })
  const [[, joined]] = (await storeContent(first)).outbox.keys
  await second.evaluate(() => globalThis.hearAgain())
  while (JSON.stringify(await editCounts(first)) !== '[2]') await on(second, ({ doc }) => doc.saved('device'))
  await on(first, ({ branch }) => branch.drop())
  assert.deepEqual(await editCounts(first), [1])
  const { branches, outbox } = await storeContent(first)
  assert.deepEqual([branches.keys.map(([, , tab]) => tab), outbox.keys], [[joined], []])
})

test('what a tab stores of others when the one that did is gone is without edits that the relay may refuse', async t => {
  const { relay, refuser, pages } = await start(t)
  const [keeper, next, elsewhere] = [await pages.page(), await pages.page(), await pages.page()]
  await openDevice(elsewhere, { store: 'elsewhere', url: relay.url })
  await openDevice(keeper)
  await openDevice(next, { url: refuser.syncUrl })
  await until(next, ({ doc }) => doc.status.link === 'live')
  await on(elsewhere, types, 'not stored ')
  await until(next, ({ doc }) => doc.text('notes').toString() === 'not stored ')
  assert.deepEqual((await storeContent(next)).received.keys, [])
  await on(next, ({ client }) => client.pause())
  await on(next, types, 'refused')
  await on(next, ({ client }) => client.branches.list())
  await keeper.close()
  await untilAnswered(next, hasKeeper)
  // The store is read once more, and written.
  await on(next, ({ doc }) => doc.saved('device'))
  await on(next, ({ client }) => client.branches.list())
  refuser.refuse()
  await on(next, ({ client }) => client.resume())
  assert.equal(await on(next, refusal), 'update_too_large')
  refuser.accept()
  await until(next, ({ doc }) => doc.text('notes').toString() === 'not stored ')
  await on(next, types, 'more')
  await on(next, saved)
  await untilAnswered(next, async () => {
    const request = indexedDB.open('tidewell/default')
    await new Promise(resolve => (request.onsuccess = resolve))
    const cursors = request.result.transaction('documents').objectStore('documents').getAllKeys()
    await new Promise(resolve => (cursors.onsuccess = resolve))
    request.result.close()
    return cursors.result.length > 0
  })
  await next.reload()
  await openDevice(next)
  assert.equal(await on(next, ({ doc }) => doc.text('notes').toString()), 'not stored more')
})

test('a tab that has put edits aside does not take them from one that has not heard of it', async t => {
  const tabs = await startTabs(t)
  const { first, second } = tabs
  await refuseFirst(tabs)
  await first.evaluate(() => {
    globalThis.edits = 0
    new BroadcastChannel('tidewell/default/tabs').onmessage = ({ data }) => {
      // No answer: whether there is one depends on which comes first, the branch to the disk or the question.
      if (data.kind === 'edit' && data.lineage === undefined) globalThis.edits += 1
    }
  })
  // Without the relay it asks the others.
  await on(first, ({ client }) => client.pause())
  await on(second, types, ' three')
  await first.waitForFunction(() => globalThis.edits > 0)
  assert.equal(await on(first, ({ doc }) => doc.text('notes').toString()), '')

  await second.evaluate(() => globalThis.hearAgain())
  await until(second, ({ doc }) => doc.text('notes').toString() === '')
  await on(second, types, 'taken')
  await until(first, ({ doc }) => doc.text('notes').toString() === 'taken')
  while (JSON.stringify(await editCounts(first)) !== '[3]') await on(second, ({ doc }) => doc.saved('device'))
})

test('what a tab that is gone has built on a refused edit joins the branch, and is merged with it', async t => {
  const tabs = await startTabs(t)
  const { first, second } = tabs
  await refuseFirst(tabs)
  await second.close()
  await untilAnswered(first, async () => {
    const [branch] = await globalThis.devices.a.client.branches.list()
    return branch.edits === 2
  })
  assert.equal(await on(first, ({ doc }) => doc.status.unsent.edits), 0)
  await on(first, async ({ client }) => (await client.branches.list())[0].merge())
  await on(first, saved)
  assert.equal(await on(first, ({ doc }) => doc.text('notes').toString()), 'one two')
})

test('a document is opened without what a tab that is gone has built on a refused edit', async t => {
  const tabs = await startTabs(t)
  const { first, second, pages } = tabs
  await refuseFirst(tabs)
  await first.close()
  await second.close()
  const page = await pages.page()
  await openDevice(page)
  const seen = await on(page, ({ doc }) => [doc.text('notes').toString(), doc.status.unsent.edits])
  assert.deepEqual([seen, await editCounts(page)], [['', 0], [2]])
  const { branches, outbox } = await storeContent(page)
  assert.deepEqual([branches.keys.length, outbox.keys], [2, []])
})

test('a branch is merged when every tab has put aside what it has built on it', async t => {
  const tabs = await startTabs(t)
  const { first, second } = tabs
  await refuseFirst(tabs)
  await first.evaluate(() => {
    const { client } = globalThis.devices.a
    globalThis.merged = client.branches.list().then(([branch]) => branch.merge())
  })
  await Promise.race([
    second.waitForFunction(() => globalThis.kept.includes('who_heard')),
    first.evaluate(() => globalThis.merged),
  ])
  assert.equal(await on(first, ({ doc }) => doc.text('notes').toString()), '')
  await second.evaluate(() => globalThis.hearAgain())
  await first.evaluate(() => globalThis.merged)
  await on(first, saved)
  for (const page of [first, second]) {
    await until(page, ({ doc }) => doc.text('notes').toString() === 'one two')
    assert.equal(await on(page, ({ doc }) => doc.status.unsent.edits), 0)
  }
  await on(second, ({ client }) => client.close())
  await on(first, ({ client }) => client.close())
  const { branches, outbox } = await storeContent(first)
  assert.deepEqual([branches.keys, outbox.keys], [[], []])
})

test('a tab that cannot read the disk when others make or merge a branch does so later, and the merge goes on', async t => {
  const tabs = await startTabs(t)
  const { first, second } = tabs
  await second.evaluate(failingReads)
  const failRead = () =>
    second.evaluate(() => {
      globalThis.devices.a.errors.length = 0
      globalThis.failingReads = 1
    })
  const hasFailed = () => until(second, ({ errors }) => errors.some(error => error.code === 'device_failed'))
  await failRead()
  await refuseFirst(tabs)
  await second.evaluate(() => globalThis.hearAgain())
  await hasFailed()
  await failRead()
  await first.evaluate(() => {
    const { client } = globalThis.devices.a
    globalThis.merged = client.branches.list().then(([branch]) => branch.merge())
  })
  await hasFailed()
  await first.evaluate(() => globalThis.merged)
  for (const page of [first, second])
    await until(page, ({ doc }) => doc.text('notes').toString() === 'one two')
})

test('edits that were refused while the disk could not be read become a branch later', async t => {
  const { refuser, pages } = await start(t)
  const page = await pages.page(failingReads)
  await openDevice(page, { url: refuser.syncUrl })
  await until(page, ({ doc }) => doc.status.link === 'live')
  await page.evaluate(() => {
    globalThis.failingReads = 1
  })
  refuser.refuse()
  await on(page, types, 'refused')
  await until(page, ({ doc }) => doc.text('notes').toString() === '')
  assert.deepEqual(await editCounts(page), [1])
  assert.deepEqual(await on(page, ({ errors }) => errors.map(error => error.code)), ['device_failed'])
})

test('a merge does not wait for tabs that have open a document whose name goes on', async t => {
  const tabs = await startTabs(t)
  const { first, second, pages } = tabs
  await openDevice(await pages.page(), { document: 'test/doc/more' })
  await refuseFirst(tabs)
  await second.close()
  await on(first, async ({ client }) => (await client.branches.list())[0].merge())
  await on(first, saved)
  assert.equal(await on(first, ({ doc }) => doc.text('notes').toString()), 'one two')
})

test('a merge that waits for another tab or for the relay, and a drop, end with closed when the client is closed', async t => {
  const { refuser, pages } = await start(t)
  const page = await pages.page()
  for (const wait of ['tab', 'relay']) {
    await openDevice(page, { store: wait, url: refuser.syncUrl })
    refuser.refuse()
    await on(page, types, 'refused')
    assert.equal(await on(page, refusal), 'update_too_large')
    refuser.accept()
    const codes = await on(
      page,
      async ({ client }, wait) => {
        const [branch] = await client.branches.list()
        if (wait === 'tab') {
          await new Promise(held => {
            const name = `tidewell/tab/branch/${branch.id}`
            navigator.locks.request(name, () => new Promise(() => held()))
          })
        } else client.pause()
        const ends = [branch.merge(), ...(wait === 'tab' ? [branch.drop()] : [])]
        const codes = ends.map(end => end.catch(error => error.code))
        // They have come as far as they do without the other.
        await client.branches.list()
        await client.close()
        return Promise.all(codes)
      },
      wait,
    )
    assert.deepEqual([...new Set(codes)], ['closed'], wait)
  }
})

test('what a tab has built on a refused edit in a document that it has closed since is merged with it', async t => {
  const tabs = await startTabs(t)
  const { first, second } = tabs
  await refuseFirst(tabs)
  await on(second, ({ doc }) => doc.close())
  await on(first, async ({ client }) => (await client.branches.list())[0].merge())
  await on(first, saved)
  assert.equal(await on(first, ({ doc }) => doc.text('notes').toString()), 'one two')
  await on(first, ({ client }) => client.close())
  assert.deepEqual((await storeContent(first)).outbox.keys, [])
})

test('tabs that do not tell each other of edits hear of branches all the same', async t => {
  const { refuser, pages } = await start(t)
  const [first, second] = [await pages.page(), await pages.page()]
  await openDevice(first, { url: refuser.syncUrl, broadcast: false })
  await until(first, ({ doc }) => doc.status.link === 'live')
  await on(first, ({ client }) => client.pause())
  await on(first, types, 'one ')
  await on(first, ({ doc }) => doc.saved('device'))
  await openDevice(second, { broadcast: false })
  await on(second, types, 'two')
  await on(second, ({ doc }) => doc.saved('device'))
  refuser.refuse()
  await on(first, ({ client }) => client.resume())
  assert.equal(await on(first, refusal), 'update_too_large')
  refuser.accept()
  await until(second, ({ doc }) => doc.text('notes').toString() === '')
  await on(first, async ({ client }) => (await client.branches.list())[0].merge())
  await on(first, saved)
  assert.equal(await on(first, ({ doc }) => doc.text('notes').toString()), 'one two')
})

test('a branch whose merge the relay has, though the disk failed, is not made a second time when it is merged again', async t => {
  const { relay, refuser, pages } = await start(t)
  const [page, elsewhere] = [await pages.page(failingWrites), await pages.page()]
  await openDevice(page, { url: refuser.syncUrl })
  await openDevice(elsewhere, { store: 'elsewhere', url: relay.url })
  await until(page, ({ doc }) => doc.status.link === 'live')
  refuser.refuse()
  await on(page, types, 'refused')
  assert.equal(await on(page, refusal), 'update_too_large')
  refuser.accept()
  assert.deepEqual(await editCounts(page), [1])
  await page.evaluate(() => {
    globalThis.isBroken = true
  })
  const failure = await on(page, async ({ client }) => {
    const [branch] = await client.branches.list()
    return branch.merge().catch(error => error.code)
  })
  assert.equal(failure, 'device_failed')
  await on(page, saved)
  await until(elsewhere, ({ doc }) => doc.text('notes').toString() === 'refused')
  await crash(pages, page)

  const next = await pages.page()
  await openDevice(next, { url: relay.url })
  assert.deepEqual(await editCounts(next), [1])
  await on(next, async ({ client }) => (await client.branches.list())[0].merge())
  assert.deepEqual(await editCounts(next), [])
  await on(next, types, '.')
  await on(next, saved)
  for (const page of [next, elsewhere])
    await until(page, ({ doc }) => doc.text('notes').toString() === 'refused.')
})

test('refused rows that were adopted are one branch, also when the document is closed before it is on the disk', async t => {
  const { refuser, pages } = await start(t)
  const [dying, closing, other] = [await pages.page(), await pages.page(), await pages.page()]
  await closing.evaluate(() => {
    // What the disk answers to the next read or write comes late.
    globalThis.late = {}
    const { set } = Object.getOwnPropertyDescriptor(IDBTransaction.prototype, 'oncomplete')
    Object.defineProperty(IDBTransaction.prototype, 'oncomplete', {
      set(complete) {
        set.call(this, event => {
          if (globalThis.late[this.mode] !== 'next') return complete(event)
          globalThis.late[this.mode] = () => complete(event)
        })
      },
    })
  })
  await openDevice(closing, { url: refuser.syncUrl })
  await openDevice(other, { url: refuser.syncUrl })
  for (const page of [closing, other]) {
    await until(page, ({ doc }) => doc.status.link === 'live')
    await on(page, ({ client }) => client.pause())
  }
  await openDevice(dying)
  await on(dying, types, 'refused')
  await on(dying, ({ doc }) => doc.saved('device'))
  await dying.close()
  const hasRow = page => on(page, ({ doc }) => doc.status.unsent.edits === 1)
  while (!(await hasRow(closing)) && !(await hasRow(other)));
  if (await hasRow(other)) {
    await on(other, ({ doc }) => doc.close())
    await until(closing, ({ doc }) => doc.status.unsent.edits === 1)
    await on(other, async device => {
      device.doc = await device.client.doc('test/doc')
    })
  }

  refuser.refuse()
  await on(closing, async device => {
    const { client, doc } = device
    const isLate = async mode => {
      while (typeof globalThis.late[mode] !== 'function')
        await new Promise(resolve => setTimeout(resolve, 10))
    }
    const second = await client.doc('test/second')
    globalThis.late = { readonly: 'next' }
    const refused = doc.saved('relay').catch(() => undefined)
    client.resume()
    await isLate('readonly')
    globalThis.late.readwrite = 'next'
    second.text('notes').insert(0, 'on its way to the disk')
    await isLate('readwrite')
    globalThis.late.readonly()
    await refused
    device.closed = doc.close()
  })
  // So that the other tab would have the rows if it could.
  await other.waitForTimeout(500)
  await on(other, ({ client }) => client.resume())
  await until(other, ({ doc }) => doc.status.link === 'live' || doc.status.link.refused !== undefined)
  await on(other, ({ doc }) => doc.saved('relay').catch(() => undefined))
  await on(closing, ({ closed }) => {
    globalThis.late.readwrite()
    return closed
  })
  const branches = await on(other, listed)
  assert.equal(branches.filter(branch => branch.document === 'test/doc').length, 1)
})

test('what another tab tells while branches are looked for in a document that is being opened is not missed', async t => {
  const pages = await startPages(t)
  const [opening, other] = [await pages.page(), await pages.page()]
  await openDevice(other)
  await on(other, async ({ client, doc }) => {
    doc.text('notes').insert(0, 'refused')
    await client.close()
  })
  await openDevice(opening, { document: 'test/second' })
  await opening.evaluate(() => {
    // What the disk answers comes when the test says so.
    const kept = []
    const { set } = Object.getOwnPropertyDescriptor(IDBTransaction.prototype, 'oncomplete')
    Object.defineProperty(IDBTransaction.prototype, 'oncomplete', {
      set(complete) {
        const isRead = this.mode === 'readonly' && this.objectStoreNames.contains('received')
        set.call(this, event => (isRead ? kept.push(() => complete(event)) : complete(event)))
      },
    })
    globalThis.isReading = count => kept.length === count
    globalThis.goOn = () => kept.shift()()
    globalThis.opened = globalThis.devices.a.client.doc('test/doc')
    globalThis.heard = 0
    new BroadcastChannel('tidewell/default/tabs').onmessage = () => {
      globalThis.heard += 1
    }
  })
  const isReading = count => opening.waitForFunction(count => globalThis.isReading(count), count)
  const goOn = () => opening.evaluate(() => globalThis.goOn())
  const tellOfBranches = async count => {
    await other.evaluate(() => {
      new BroadcastChannel('tidewell/default/tabs').postMessage({ kind: 'branches', document: 'test/doc' })
    })
    await opening.waitForFunction(count => globalThis.heard === count, count)
  }
  // It reads the document, and the rows that it adopts; then it looks for branches, and will once more.
  await isReading(1)
  await goOn()
  await isReading(1)
  await tellOfBranches(1)
  await isReading(2)
  await tellOfBranches(2)
  await goOn()
  // As another tab that had the row would have put it aside.
  await other.evaluate(async () => {
    const request = indexedDB.open('tidewell/default')
    await new Promise(resolve => (request.onsuccess = resolve))
    const tx = request.result.transaction(['outbox', 'branches'], 'readwrite')
    const [keys, rows] = [tx.objectStore('outbox').getAllKeys(), tx.objectStore('outbox').getAll()]
    rows.onsuccess = () => {
      const [[document, opening, number]] = keys.result
      const branch = { code: 'update_too_large', row: rows.result[0] }
      tx.objectStore('branches').put(branch, [document, 'branch', opening, number])
      tx.objectStore('outbox').delete(keys.result[0])
    }
    await new Promise(resolve => (tx.oncomplete = resolve))
    request.result.close()
  })
  await goOn()
  await isReading(1)
  await openDevice(other)
  await on(other, async ({ doc }) => {
    doc.list('l').push('told')
    await doc.saved('device')
  })
  await opening.waitForFunction(() => globalThis.heard >= 4)
  await goOn()
  const value = await opening.evaluate(async () => {
    const doc = await globalThis.opened
    while (doc.text('notes').length > 0) await new Promise(resolve => setTimeout(resolve, 10))
    return doc.value
  })
  assert.deepEqual(value, { l: ['told'], notes: '' })
})
