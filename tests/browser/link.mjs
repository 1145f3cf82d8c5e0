// The way between devices and a relay, which a test can cut: a TCP proxy on a port that stays when the relay moves.

import { once } from 'node:events'
import { connect, createServer } from 'node:net'

/** Opens a way that leads nowhere yet; it is closed when the test `t` ends. */
export async function openLink(t) {
  let port
  const sockets = new Set()
  const server = createServer(device => {
    if (port === undefined) return device.destroy()
    const relay = connect(port, '127.0.0.1')
    for (const [socket, other] of [
      [device, relay],
      [relay, device],
    ]) {
      sockets.add(socket)
      socket.setNoDelay(true)
      // A connection that breaks on one side breaks on the other.
      socket.on('error', () => {})
      socket.on('close', () => {
        sockets.delete(socket)
        other.destroy()
      })
      socket.pipe(other)
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const cut = () => {
    port = undefined
    for (const socket of sockets) socket.destroy()
  }
  t.after(() => {
    cut()
    server.close()
  })
  return {
    syncUrl: `ws://127.0.0.1:${server.address().port}/v1/sync`,
    /** Breaks all connections and takes no new ones. */
    cut,
    /** Leads to the relay on this port from now on. */
    lead(to) {
      port = to
    },
  }
}
