// An unchanged y-websocket client at a relay with keys, as docs/security.md says to connect it.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { WebSocket } from 'ws'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'

import { atEnd } from '../browser/cleanup.mjs'
import { startRelay, temporaryFolder, tidewell } from '../browser/relay.mjs'

const DOCUMENT = 'acme/list/42'

/** A relay with keys, and what makes its tokens. */
async function start(t) {
  const folder = await temporaryFolder(t)
  const keys = join(folder, 'keys.json')
  const token = (command, ...options) => tidewell('token', command, '--keys', keys, ...options)
  await token('key')
  const relay = await startRelay(t, { data: join(folder, 'data'), keys })
  return { relay, mint: (...grants) => token('mint', '--subject', 'ada', ...grants) }
}

/** A request with a token, answered with JSON. */
async function post(relay, path, token, body) {
  const answer = await fetch(`${relay.url}v1/${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}` },
    body: body && JSON.stringify(body),
  })
  assert.equal(answer.status, 200)
  return answer.json()
}

/** Connects as the documentation says. */
async function connect(t, relay, token) {
  const ticket = async () => (await post(relay, `ticket/${DOCUMENT}`, token)).ticket
  const params = { ticket: await ticket() }
  const doc = new Y.Doc()
  const provider = new WebsocketProvider(`ws://127.0.0.1:${relay.port}/yjs`, DOCUMENT, doc, {
    params,
    WebSocketPolyfill: WebSocket,
    disableBc: true,
    maxBackoffTime: 500,
  })
  provider.on('connection-close', async () => {
    params.ticket = await ticket().catch(() => params.ticket)
  })
  atEnd(t, () => {
    provider.destroy()
    doc.destroy()
  })
  return { doc, provider, text: doc.getText('text') }
}

/** Waits until `reached`, which is asked again whenever the document changes. */
async function until(doc, reached) {
  while (!reached()) await new Promise(resolve => doc.once('update', resolve))
}

test('a stock client with a ticket comes back with a new one after its connection has ended', async t => {
  const { relay, mint } = await start(t)
  const token = await mint('--document', 'write:acme/**')
  const admin = await mint('--document', 'admin:**')
  const [one, two] = [await connect(t, relay, token), await connect(t, relay, token)]
  one.text.insert(0, 'before')
  await until(two.doc, () => two.text.toString() === 'before')
  const { connections } = await post(relay, 'kick', admin, { document: DOCUMENT })
  assert.equal(connections, 2)
  one.text.insert(6, ' and after')
  await until(two.doc, () => two.text.toString() === 'before and after')
})

test('a stock client that may only read is sent away for good when it edits', async t => {
  const { relay, mint } = await start(t)
  const writer = await connect(t, relay, await mint('--document', 'write:acme/**'))
  const reader = await connect(t, relay, await mint('--document', 'read:acme/**'))
  writer.text.insert(0, 'read me')
  await until(reader.doc, () => reader.text.toString() === 'read me')
  const closed = new Promise(resolve => reader.provider.on('closed', resolve))
  reader.text.insert(0, 'not mine: ')
  assert.deepEqual(await closed, { code: 4415, reason: 'forbidden' })
  assert.equal(writer.text.toString(), 'read me')
})
