// A stock Yjs client, which knows nothing of us: what it reads is what the relay has.

import { WebSocket } from 'ws'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'

/** The text of this name in a document, as the relay at `url` has it now. */
export async function readText(url, document, name) {
  const doc = new Y.Doc()
  const provider = new WebsocketProvider(`${url.replace(/^http/, 'ws')}yjs`, document, doc, {
    WebSocketPolyfill: WebSocket,
    disableBc: true,
  })
  await new Promise(resolve => provider.once('sync', resolve))
  const text = doc.getText(name).toString()
  provider.destroy()
  doc.destroy()
  return text
}
