// A stock Yjs client, which knows nothing of us: what it reads is what the relay has.

import { WebSocket } from 'ws'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'

/** The text of this name in a document, as the relay at `url` has it in its store when it has just been started. */
export function readText(url, document, name) {
  return withText(url, document, name, text => text.toString())
}

/** Puts something in at the beginning of a text. */
export function writeFirst(url, document, name, inserted) {
  return withText(url, document, name, text => text.insert(0, inserted))
}

async function withText(url, document, name, act) {
  const doc = new Y.Doc()
  const provider = new WebsocketProvider(`${url.replace(/^http/, 'ws')}yjs`, document, doc, {
    WebSocketPolyfill: WebSocket,
    disableBc: true,
  })
  await new Promise(resolve => provider.once('sync', resolve))
  const answer = act(doc.getText(name))
  provider.destroy()
  doc.destroy()
  return answer
}
