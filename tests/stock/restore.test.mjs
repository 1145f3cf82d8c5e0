// An unchanged Yjs client that is ahead of the backup that its relay was restored from.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { join } from 'node:path'
import { test } from 'node:test'

import { openLink } from '../browser/link.mjs'
import { startRelay, temporaryFolder, tidewell } from '../browser/relay.mjs'
import { allEqual, openNative, openStock, startNative } from './clients.mjs'

const DOCUMENT = 'acme/restored'

test('a stock client that stays open while its relay is restored with its tools hands over what the backup has not', async t => {
  const folder = await temporaryFolder(t)
  const [data, backup, restored] = ['data', 'backup.db', 'restored'].map(name => join(folder, name))
  let relay = await startRelay(t, { data })
  const link = await openLink(t)
  await link.lead(relay.port)
  const ahead = openStock(t, link, DOCUMENT)
  const witness = openStock(t, relay, DOCUMENT)
  await ahead.edit([{ op: 'insert', at: 0, text: 'backed up' }])
  await allEqual([ahead, witness])
  let isBackedUp = false
  const copying = tidewell('backup', '--data', data, '--to', backup).finally(() => {
    isBackedUp = true
  })
  for (let count = 0; !isBackedUp; count += 1) {
    await witness.edit([{ op: 'add', at: 0.999, value: count }])
    await allEqual([ahead, witness])
  }
  await copying
  await ahead.edit([{ op: 'set', key: 'lost', value: 'at the relay' }])
  // Nobody is told what is not on the relay's disk.
  await allEqual([ahead, witness])
  await witness.close()
  await link.cut()
  await relay.kill()
  await ahead.edit([{ op: 'insert', at: 0.999, text: ', typed while the relay was gone' }])
  const { content } = await ahead.state()

  await tidewell('verify', '--backup', backup)
  await tidewell('restore', '--from', backup, '--data', restored)
  relay = await startRelay(t, { data: restored })
  const fresh = openStock(t, relay, DOCUMENT)
  if (!fresh.provider.synced) await once(fresh.provider, 'sync')
  const native = await openNative(startNative(t), relay, DOCUMENT)
  await native.edit([{ op: 'set', key: 'new', value: true }])
  const { text, map } = await allEqual([fresh, native])
  assert.deepEqual([text, map], [[{ insert: 'backed up' }], { new: true }], 'the backup has not all')

  await link.lead(relay.port)
  const all = await allEqual([ahead, fresh, native, openStock(t, relay, DOCUMENT)])
  assert.deepEqual(all, { ...content, map: { ...content.map, new: true } })
  await relay.stop()
  await tidewell('verify', '--data', restored)
})
