// The package's store on this device, in real IndexedDB.

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { failingWrites, on, openDevice, startPages, storeContent, until } from './client_page.mjs'
import { startRelay, temporaryFolder } from './relay.mjs'

test('200 read-only opens leave the store as it is, byte for byte', async t => {
  const page = await (await startPages(t)).page()
  await openDevice(page)
  await on(page, ({ doc, client }) => {
    doc.edit(d => {
      d.text('notes').insert(0, 'hello')
      d.counter('likes').add(1)
    })
    return client.close()
  })
  const before = await storeContent(page)
  assert.equal(before.outbox.keys.length, 1)
  await page.evaluate(async () => {
    const { open } = await import('/dist/index.js')
    for (let opening = 0; opening < 200; opening += 1) {
      const client = await open()
      const doc = await client.doc('test/doc')
      if (doc.text('notes').toString() !== 'hello' || doc.value.likes !== 1)
        throw new Error('it is not there')
      await client.close()
    }
  })
  assert.deepEqual(await storeContent(page), before)
})

test('a store that nobody has edited in holds no rows at all', async t => {
  const page = await (await startPages(t)).page()
  await openDevice(page)
  await on(page, ({ client, doc }) => {
    doc.text('notes').toString()
    return client.close()
  })
  for (const [name, { keys }] of Object.entries(await storeContent(page))) assert.deepEqual(keys, [], name)
})

/** Writes down, in `globalThis.log`, what IndexedDB does with transactions that write. */
const logTransactions = () => {
  globalThis.log = []
  const transaction = IDBDatabase.prototype.transaction
  IDBDatabase.prototype.transaction = function (stores, mode, options) {
    const tx = transaction.call(this, stores, mode, options)
    if (mode === 'readwrite') {
      globalThis.log.push(`begin ${options?.durability}`)
      tx.addEventListener('complete', () => globalThis.log.push('complete'))
    }
    return tx
  }
}

test('saved(device) does not resolve before a strict transaction has completed', async t => {
  const page = await (await startPages(t)).page(logTransactions)
  await openDevice(page)
  const log = await on(page, async ({ doc }) => {
    doc.text('notes').insert(0, 'x')
    const state = () => doc.status.device
    globalThis.log.push(state())
    await doc.saved('device')
    globalThis.log.push('resolved', state())
    return globalThis.log
  })
  // The insertion is written at the end of its turn: until then there is nothing to save.
  assert.deepEqual(log.slice(-5), ['saved', 'begin strict', 'complete', 'resolved', 'saved'])
})

test('all edits of a moment share one transaction', async t => {
  const page = await (await startPages(t)).page(logTransactions)
  await openDevice(page)
  const log = await on(page, async ({ doc }) => {
    globalThis.log.length = 0
    const done = new Promise(resolve => {
      doc.onStatus(status => status.device === 'saved' && resolve())
    })
    for (let turn = 0; turn < 20; turn += 1) {
      doc.text('notes').insert(0, 'x')
      await null
    }
    await done
    return globalThis.log
  })
  assert.deepEqual(log, ['begin strict', 'complete'])
})

/** Aborts write transactions, as browsers do, while `globalThis.broken` names an error. */
const breakableTransactions = () => {
  const transaction = IDBDatabase.prototype.transaction
  IDBDatabase.prototype.transaction = function (stores, mode, options) {
    const tx = transaction.call(this, stores, mode, options)
    if (mode === 'readwrite' && globalThis.broken) {
      Object.defineProperty(tx, 'error', { value: new DOMException('injected', globalThis.broken) })
      tx.commit = () => tx.abort()
    }
    return tx
  }
}

for (const [error, code] of [
  ['QuotaExceededError', 'device_full'],
  ['UnknownError', 'device_failed'],
]) {
  test(`an aborted write (${error}) shows in the status as ${code}, fails saved(device), and the edit is there after recovery`, async t => {
    const page = await (await startPages(t)).page(breakableTransactions)
    await openDevice(page)
    const seen = await on(
      page,
      async ({ doc }, error) => {
        globalThis.broken = error
        doc.text('notes').insert(0, 'kept')
        const rejected = await doc.saved('device').catch(error => error.code)
        const status = doc.status.device
        globalThis.broken = undefined
        await new Promise(resolve => doc.onStatus(status => status.device === 'saved' && resolve()))
        return { rejected, status, text: doc.text('notes').toString() }
      },
      error,
    )
    assert.deepEqual(seen, { rejected: code, status: { failed: code }, text: 'kept' })
    await page.reload()
    await openDevice(page)
    assert.equal(await on(page, ({ doc }) => doc.text('notes').toString()), 'kept')
  })
}

test('a connection that the browser closes is opened again, and the unsaved tail is written', async t => {
  const page = await (await startPages(t)).page(() => {
    const open = IDBFactory.prototype.open
    IDBFactory.prototype.open = function (...options) {
      const request = open.apply(this, options)
      request.addEventListener('success', () => {
        globalThis.database = request.result
      })
      return request
    }
  })
  await openDevice(page)
  await on(page, async ({ doc }) => {
    doc.text('notes').insert(0, 'a')
    await doc.saved('device')
    doc.text('notes').insert(1, 'b')
    await null
    globalThis.database.close()
    await doc.saved('device').catch(() => doc.saved('device'))
  })
  await on(page, async ({ client }) => {
    globalThis.database.close()
    await (await client.doc('test/other')).close()
  })
  await page.reload()
  await openDevice(page)
  assert.equal(await on(page, ({ doc }) => doc.text('notes').toString()), 'ab')
})

test('where there is no IndexedDB the status says memory, and a client that requires it fails with device_unavailable', async t => {
  const page = await (await startPages(t)).page(() => {
    Object.defineProperty(globalThis, 'indexedDB', { value: undefined })
  })
  await openDevice(page)
  assert.equal(await on(page, ({ doc }) => doc.status.storage), 'memory')
  await assert.rejects(openDevice(page, { storage: 'indexeddb' }), /IndexedDB/)
})

test('a row that is damaged on the disk is set aside and reported, and everything else is there', async t => {
  const page = await (await startPages(t)).page()
  await openDevice(page)
  await on(page, async ({ doc, client }) => {
    doc.text('notes').insert(0, 'one')
    await client.close()
  })
  await openDevice(page)
  await on(page, async ({ doc, client }) => {
    doc.text('other').insert(0, 'two')
    await client.close()
  })
  await page.evaluate(async () => {
    const db = await new Promise(resolve => {
      const request = indexedDB.open('tidewell/default')
      request.onsuccess = () => resolve(request.result)
    })
    const tx = db.transaction('outbox', 'readwrite')
    const store = tx.objectStore('outbox')
    store.openCursor().onsuccess = event => {
      const cursor = event.target.result
      if (cursor === null) return
      // "one", of the three letters in the middle of the row.
      if (String.fromCharCode(...cursor.value.update).includes('one')) {
        cursor.update({ ...cursor.value, update: new Uint8Array([1, 2, 3]) })
      }
      cursor.continue()
    }
    await new Promise(resolve => {
      tx.oncomplete = resolve
    })
    db.close()
  })
  await page.reload()
  await openDevice(page)
  await until(page, ({ errors }) => errors.some(error => error.code === 'device_corrupt'))
  assert.deepEqual(await on(page, ({ doc }) => ({ ...doc.value })), { other: 'two' })
  await on(page, async ({ doc, client }) => {
    doc.text('notes').insert(0, 'again')
    await client.close()
  })
  const { set_aside, outbox } = await storeContent(page)
  assert.equal(set_aside.keys.length, 1)
  assert.equal(outbox.keys.length, 2)
})

/** Replaces every row of a store that holds `word` by bytes that no update begins with. */
function damageReceived(page, word) {
  return page.evaluate(async word => {
    const db = await new Promise(resolve => {
      const request = indexedDB.open('tidewell/default')
      request.onsuccess = () => resolve(request.result)
    })
    const tx = db.transaction('received', 'readwrite')
    let damaged = 0
    tx.objectStore('received').openCursor().onsuccess = event => {
      const cursor = event.target.result
      if (cursor === null) return
      if (cursor.value.some(update => String.fromCharCode(...update).includes(word))) {
        cursor.update([new Uint8Array([1, 2, 3])])
        damaged += 1
      }
      cursor.continue()
    }
    await new Promise(resolve => {
      tx.oncomplete = resolve
    })
    db.close()
    return damaged
  }, word)
}

for (const [what, roots, offline] of [
  ['a row that nothing builds on', ['one', 'two'], { two: 'two' }],
  ['a row that others build on', ['one', 'two', 'one'], { two: 'two' }],
]) {
  test(`${what}, found damaged while offline, comes from the relay later, and until then everything else is there`, async t => {
    const relay = await startRelay(t, { data: await temporaryFolder(t) })
    const pages = await startPages(t)
    const [page, writers] = [await pages.page(), await pages.page()]
    await openDevice(page, { url: relay.url })
    for (const root of new Set(roots)) await openDevice(writers, { name: root, store: root, url: relay.url })
    for (const root of roots) {
      const had = await on(page, ({ doc }, root) => doc.text(root).length, root)
      await on(
        writers,
        ({ doc }, root) => {
          doc.text(root).insert(doc.text(root).length, doc.text(root).length === 0 ? root : ' more')
          return doc.saved('relay')
        },
        root,
        root,
      )
      await until(page, ({ doc }, [root, had]) => doc.text(root).length > had, [root, had])
    }
    const whole = await on(page, ({ doc }) => ({ ...doc.value }))
    await on(page, ({ client }) => client.close())
    assert.equal(await damageReceived(page, 'one'), 1)

    await openDevice(page)
    await until(page, ({ errors }) => errors.some(error => error.code === 'device_corrupt'))
    const { one, ...others } = await on(page, ({ doc }) => ({ ...doc.value }))
    assert.deepEqual([one ?? '', others], ['', offline])
    await on(page, ({ client }) => client.close())

    await openDevice(page, { url: relay.url })
    await until(page, ({ doc }, whole) => doc.value.one === whole.one && doc.value.two === whole.two, whole)
    await on(page, ({ client }) => client.close())
    await openDevice(page)
    assert.deepEqual(await on(page, ({ doc }) => ({ ...doc.value })), whole, 'it is on the disk again')
  })
}

for (const [where, prepare] of [
  ['in memory', undefined],
  ['on a disk that fails', failingWrites],
]) {
  test(`what a closed document leaves unsent ${where} is pushed`, async t => {
    const relay = await startRelay(t, { data: await temporaryFolder(t) })
    const pages = await startPages(t)
    const page = await pages.page(prepare)
    const storage = prepare === undefined ? 'memory' : 'indexeddb'
    await openDevice(page, { name: 'a', url: relay.url, storage })
    await openDevice(page, { name: 'b', url: relay.url, storage: 'memory' })
    await on(page, async ({ client, doc }) => {
      client.pause()
      globalThis.isBroken = true
      doc.text('notes').insert(0, 'left behind')
      await doc.close().catch(() => undefined)
      client.resume()
    })
    await until(page, ({ doc }) => doc.text('notes').toString() === 'left behind', undefined, 'b')
  })
}
