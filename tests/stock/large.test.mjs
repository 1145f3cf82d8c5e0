// Documents larger than any one message, with unchanged Yjs clients.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'

import { startRelay, temporaryFolder } from '../browser/relay.mjs'
import { openStock } from './clients.mjs'

const EDIT = 'some text, é and 🙂; '.repeat(40_000)
const EDITS = 48

const textOf = client => client.doc.getText('t').toString()

async function synced(client) {
  if (!client.provider.synced) await once(client.provider, 'sync')
}

/** Waits until a client has exactly this text; it is not shown, for it is large. */
function comesToHave(client, text) {
  return new Promise(resolve => {
    const look = () => {
      if (client.doc.getText('t').length !== text.length || textOf(client) !== text) return
      client.doc.off('update', look)
      resolve()
    }
    client.doc.on('update', look)
    look()
  })
}

test('a document of 40 MB typed by a stock client comes whole to others, also after a restart', async t => {
  const data = await temporaryFolder(t)
  const relay = await startRelay(t, { data })
  const writer = openStock(t, relay, 'acme/large')
  await synced(writer)
  for (let index = 0; index < EDITS; index += 1) {
    writer.doc.getText('t').insert(writer.doc.getText('t').length, `${index}: ${EDIT}`)
  }
  const text = textOf(writer)
  assert(Buffer.byteLength(text) > 40_000_000)
  const reader = openStock(t, relay, 'acme/large')
  await comesToHave(reader, text)
  await relay.stop()
  await writer.close()
  await reader.close()

  const again = await startRelay(t, { data })
  const fresh = openStock(t, again, 'acme/large')
  await synced(fresh)
  assert(textOf(fresh) === text, 'once it is synced it has everything')
})

test('a stock client that alone has more than one message holds is told so and keeps it', async t => {
  const relay = await startRelay(t, { data: await temporaryFolder(t) })
  const client = openStock(t, relay, 'acme/alone', doc => doc.getText('t').insert(0, EDIT.repeat(20)))
  const [closed] = await once(client.provider, 'connection-close')
  assert.equal(closed.code, 4405)
  assert.equal(textOf(client), EDIT.repeat(20))
})
