// The way between devices and a relay on which edits can be refused, as the relay refuses them: with the push's number, and
// whatever else comes on that channel is lost.

import { once } from 'node:events'
import { WebSocket, WebSocketServer } from 'ws'

import { atEnd } from './cleanup.mjs'

/** First bytes of the messages of `tidewell.v1` that count here; channels and numbers have a byte when they are small. */
const PUSH = 4
const HAVE = 5
const REFUSED = 38
const UPDATES = 35
const ACK = 36

/** An update without edits and deletions. */
const NOTHING = Buffer.of(0, 0)

/** Of `Updates` without any, which an `Ack` follows: small numbers have a byte. */
const COMMITTED_BYTES = 4

/** `update_too_large`, as a uint. */
const CODE = [0x96, 0x03]

/** Opens a way to the relay's `syncUrl`; it is closed when the test `t` ends. */
export async function openRefuser(t, syncUrl) {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', handleProtocols: ([first]) => first })
  await once(server, 'listening')
  let [isRefusing, passes, isSilent, isCut] = [false, 0, false, false]

  server.on('connection', (device, request) => {
    const relay = new WebSocket(syncUrl, request.headers['sec-websocket-protocol'])
    const early = []
    const refused = new Set()
    relay.on('message', frame => {
      const isUnheard = isSilent && (frame[0] === UPDATES || frame[0] === ACK)
      if (!isUnheard) device.send(frame)
      else if (isCut && frame[0] === UPDATES) device.send(frame.subarray(0, COMMITTED_BYTES))
    })
    relay.on('open', () => {
      for (const frame of early) relay.send(frame)
    })
    // It is closed as well.
    relay.on('error', () => {})
    device.on('message', frame => {
      if (frame[0] === PUSH || frame[0] === HAVE) {
        const [, channel, number] = frame
        if (refused.has(channel)) return
        // An answer that there is nothing to say is no edit.
        const isEdit = frame[0] === PUSH || !frame.subarray(-2).equals(NOTHING)
        if (isRefusing && isEdit && passes === 0) {
          refused.add(channel)
          device.send(Uint8Array.of(REFUSED, channel, number, ...CODE))
          if (isCut) for (const client of server.clients) client.close()
          return
        }
        if (isRefusing && isEdit) passes -= 1
      }
      if (relay.readyState === WebSocket.CONNECTING) early.push(frame)
      else relay.send(frame)
    })
    device.on('close', () => relay.close())
    relay.on('close', () => device.close())
  })
  atEnd(t, () => {
    for (const device of server.clients) device.terminate()
    server.close()
  })
  return {
    syncUrl: `ws://127.0.0.1:${server.address().port}/v1/sync`,
    /** Refuses pushes from now on, once `after` more have passed; of those that pass the device hears nothing. */
    refuse(after = 0) {
      ;[isRefusing, passes, isSilent, isCut] = [true, after, after > 0, false]
    },
    /** Refuses the second push from now on, and ends the connection; of the first the device hears only that it is committed. */
    refuseAndCut() {
      ;[isRefusing, passes, isSilent, isCut] = [true, 1, true, true]
    },
    /** Takes everything again. */
    accept() {
      ;[isRefusing, isSilent] = [false, false]
    },
  }
}
