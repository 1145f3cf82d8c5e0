// Browsers that are ahead of the backup that their relay was restored from.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'

import { on, openDevice, startPages, until } from './client_page.mjs'
import { openLink } from './link.mjs'
import { startRelay, temporaryFolder, tidewell } from './relay.mjs'

/** Makes an edit, and waits until the relay has it. */
function push(page, edit, name) {
  const action = ({ doc }, edit) => {
    doc.list('edits').push(edit)
    return doc.saved('relay')
  }
  return on(page, action, edit, name)
}

/** Makes, as a device of its own, an edit that builds on no other one. */
async function add(page, root, device) {
  const name = `of ${root}`
  await openDevice(page, { ...device, name, storage: 'memory' })
  const action = async ({ client, doc }, root) => {
    doc.counter(root).add(1)
    await doc.saved('relay')
    await client.close()
  }
  await on(page, action, root, name)
}

const valueIn = (page, name) => on(page, ({ doc }) => doc.value, undefined, name)

test('a relay that was restored with its tools gets back what a browser has on its disk or in memory, though it has gone on since', async t => {
  const folder = await temporaryFolder(t)
  const [data, backup, restored] = ['data', 'backup.db', 'restored'].map(name => join(folder, name))
  let relay = await startRelay(t, { data })
  // Each device has its own way to whichever relay there is.
  const [diskLink, memoryLink] = [await openLink(t), await openLink(t)]
  for (const link of [diskLink, memoryLink]) await link.lead(relay.port)
  const pages = await startPages(t)
  const [disk, memory] = [await pages.page(), await pages.page()]
  const diskDevice = { store: 'disk', url: diskLink.syncUrl }
  const memoryDevice = { store: 'memory', url: memoryLink.syncUrl }
  await openDevice(disk, diskDevice)
  await openDevice(memory, memoryDevice)
  await openDevice(memory, { ...memoryDevice, name: 'other', document: 'test/other' })

  await push(disk, 'backed up')
  await push(memory, 'backed up', 'other')
  const writing = on(memory, async ({ doc }) => {
    for (let count = 0; !globalThis.isBackedUp; count += 1) {
      doc.list('edits').push(`while it is backed up ${count}`)
      await doc.saved('relay')
    }
  })
  await until(disk, ({ doc }) => doc.value.edits.length > 1)
  await tidewell('backup', '--data', data, '--to', backup)
  await memory.evaluate(() => {
    globalThis.isBackedUp = true
  })
  await writing
  await push(memory, 'lost, and in the memory of one device', 'other')
  await memoryLink.cut()
  await push(disk, 'lost, and on the disk of one device')
  await diskLink.cut()
  await relay.kill()
  await on(disk, ({ doc }) => {
    doc.text('typed').insert(0, 'while the relay was gone')
    return doc.saved('device')
  })

  const [ahead, otherAhead] = [await valueIn(disk), await valueIn(memory, 'other')]
  await disk.reload()
  await openDevice(disk, diskDevice)
  assert.deepEqual(await valueIn(disk), ahead)
  await tidewell('verify', '--backup', backup)
  await tidewell('restore', '--from', backup, '--data', restored)
  relay = await startRelay(t, { data: restored })

  // New commits take the numbers of all that are lost, and none of them shows a device that it has missed another: only the
  // history's name tells.
  const others = await pages.page()
  const documents = [
    { document: 'test/doc', expected: ahead, holders: [[disk], [memory]] },
    { document: 'test/other', expected: otherAhead, holders: [[memory, 'other']] },
  ]
  for (const { document, expected, holders } of documents) {
    const fresh = { document, name: document, storage: 'memory', url: relay.url }
    await openDevice(others, fresh)
    await until(others, ({ doc }) => doc.value.edits?.[0] === 'backed up', undefined, document)
    const lost = expected.edits.length - (await valueIn(others, document)).edits.length
    assert.ok(lost > 0, 'the backup has not all')
    for (let count = 0; count <= lost; count += 1) {
      expected[`new ${count}`] = 1
      await add(others, `new ${count}`, fresh)
    }
    holders.push([others, document])
  }
  for (const link of [diskLink, memoryLink]) await link.lead(relay.port)

  for (const { document, expected, holders } of documents) {
    const fresh = { document, name: `${document}, last`, storage: 'memory', url: relay.url }
    const hasAll = ({ doc }, expected) => {
      const { edits } = doc.value
      return edits?.length === expected.edits.length && Object.keys(expected).every(root => root in doc.value)
    }
    for (const [page, name] of holders) {
      await until(page, hasAll, expected, name)
      await on(page, ({ doc }) => doc.saved('relay'), undefined, name)
    }
    await openDevice(others, fresh)
    await until(others, hasAll, expected, fresh.name)
    for (const [page, name] of [...holders, [others, fresh.name]]) {
      assert.deepEqual(await valueIn(page, name), expected)
      assert.deepEqual(await on(page, ({ errors }) => errors.map(String), undefined, name), [])
    }
  }
  await relay.stop()
  await tidewell('verify', '--data', restored)
})
