// The way between one device and a relay that keeps what the relay says until it is let through, in its order.

import { EventEmitter, once } from 'node:events'
import { WebSocket, WebSocketServer } from 'ws'

import { atEnd } from './cleanup.mjs'

/** First bytes of the frames of `tidewell.v1` about edits: one made, those of others, and that one is saved. */
const PUSH = 4
const UPDATES = 35
const ACK = 36

/** Opens a way to the relay's `syncUrl`; it is closed when the test `t` ends. */
export async function openGate(t, syncUrl) {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', handleProtocols: ([first]) => first })
  await once(server, 'listening')
  const news = new EventEmitter()
  let ended
  news.on('error', error => {
    ended = error
  })
  const kept = []
  let [arrived, released, awaited] = [0, 0, 0]
  let pass
  let firstUpdate

  server.on('connection', (device, request) => {
    const relay = new WebSocket(syncUrl, request.headers['sec-websocket-protocol'])
    const early = []
    pass = frame => device.send(frame)
    relay.on('message', frame => {
      if (frame[0] !== UPDATES && frame[0] !== ACK) return pass(frame)
      kept.push(frame)
      arrived += 1
      news.emit('arrived')
    })
    relay.on('open', () => {
      for (const frame of early) relay.send(frame)
    })
    // It is closed as well.
    relay.on('error', () => {})
    device.on('message', frame => {
      // Before the update come the tag, the channel, the number and the length, each in a byte when it is small.
      if (frame[0] === PUSH) firstUpdate ??= frame.subarray(4)
      if (relay.readyState === WebSocket.CONNECTING) early.push(frame)
      else relay.send(frame)
    })
    device.on('close', () => relay.close())
    relay.on('close', () => {
      // What the gate keeps belongs to this connection.
      news.emit('error', new Error('the connection through the gate has ended'))
      device.close()
    })
  })
  atEnd(t, () => {
    for (const device of server.clients) device.terminate()
    server.close()
  })
  return {
    syncUrl: `ws://127.0.0.1:${server.address().port}/v1/sync`,
    /** The first update that the device sent; it must be short. */
    firstUpdate: () => firstUpdate,
    /** How many frames have come from the relay. */
    arrived: () => arrived,
    /** Waits for one frame more than was waited for before. */
    async nextArrived() {
      awaited += 1
      while (arrived < awaited) {
        if (ended !== undefined) throw ended
        await once(news, 'arrived')
      }
    },
    /** Lets the frames through, from the first that came to the one of this number. */
    releaseThrough(number) {
      for (; released < number; released += 1) pass(kept.shift())
    },
  }
}
