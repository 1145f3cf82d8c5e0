// The way between devices and a relay, which a test can cut: the fault proxy, whose port stays when the relay moves.

import { once } from 'node:events'

import { startListening } from './programs.mjs'

/** Opens a way that leads nowhere yet; it is closed when the test `t` ends. */
export async function openLink(t) {
  const { child, lines, port } = await startListening(t, 'fault-proxy', [])
  const command = async fault => {
    const answer = once(lines, 'line')
    child.stdin.write(`${JSON.stringify(fault)}\n`)
    const [said] = await answer
    if (said !== 'ok') throw new Error(`the fault proxy says: ${said}`)
  }
  return {
    port,
    syncUrl: `ws://127.0.0.1:${port}/v1/sync`,
    /** Breaks all connections and takes no new ones. */
    async cut() {
      await command({ do: 'target', address: null })
      await command({ do: 'reset' })
    },
    /** Leads to the relay on this port from now on. */
    lead: port => command({ do: 'target', address: `127.0.0.1:${port}` }),
    /** Carries so many bytes a second; `null` is no limit. */
    narrow: bytesPerSecond => command({ do: 'bandwidth', bytes_per_second: bytesPerSecond }),
  }
}
