// The way between one device and a relay that keeps what the relay says until it is let through, in its order.

import { EventEmitter, once } from 'node:events'
import { WebSocket, WebSocketServer } from 'ws'

/** First bytes of the frames of `tidewell.v1` about edits: one made, those of others, and that one is saved. */
const PUSH = 4
const UPDATES = 35
const ACK = 36

/** Opens a way to the relay's `syncUrl`; it is closed when the test `t` ends. */
export async function openGate(t, syncUrl) {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', handleProtocols: ([first]) => first })
  await once(server, 'listening')
  const news = new EventEmitter()
  const kept = []
  let arrived = 0
  let pass = () => {}
  let firstPush

  server.on('connection', (device, request) => {
    const relay = new WebSocket(syncUrl, request.headers['sec-websocket-protocol'])
    const opened = once(relay, 'open')
    pass = frame => device.send(frame)
    relay.on('message', frame => {
      if (frame[0] !== UPDATES && frame[0] !== ACK) return device.send(frame)
      kept.push(frame)
      arrived += 1
      news.emit('arrived')
    })
    device.on('message', async frame => {
      firstPush ??= frame[0] === PUSH ? frame : undefined
      await opened
      relay.send(frame)
    })
    device.on('close', () => relay.close())
    relay.on('close', () => device.close())
  })
  t.after(() => {
    for (const device of server.clients) device.terminate()
    server.close()
  })
  return {
    syncUrl: `ws://127.0.0.1:${server.address().port}/v1/sync`,
    /** The first push of the device. */
    firstPush: () => firstPush,
    /** How many frames have come from the relay. */
    arrived: () => arrived,
    async waitFor(count) {
      while (arrived < count) await once(news, 'arrived')
    },
    /** Lets the oldest frames through, until this many remain. */
    release(remaining) {
      while (kept.length > remaining) pass(kept.shift())
    },
  }
}
