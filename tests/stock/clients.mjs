// Stock Yjs clients and native Tidewell clients on one relay, seen alike.

import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { createInterface } from 'node:readline'
import { isDeepStrictEqual } from 'node:util'
import { WebSocket } from 'ws'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'

import { atEnd } from '../browser/cleanup.mjs'
import { programPath } from '../browser/programs.mjs'
import { contentOf, edit } from './operation.mjs'

/** Far longer than anything here takes. */
const PATIENCE_MS = 60_000

/** A stock client: a Y.Doc and the provider of y-websocket. `before` may write into the document first. */
export function openStock(t, relay, document, before = () => {}) {
  const doc = new Y.Doc()
  before(doc)
  const provider = new WebsocketProvider(`ws://127.0.0.1:${relay.port}/yjs`, document, doc, {
    WebSocketPolyfill: WebSocket,
    disableBc: true,
    maxBackoffTime: 500,
  })
  const close = () => {
    provider.destroy()
    doc.destroy()
  }
  atEnd(t, close)
  return {
    doc,
    provider,
    async edit(operations) {
      edit(doc, operations)
    },
    async offline() {
      provider.disconnect()
    },
    async online() {
      provider.connect()
    },
    async state() {
      const pending = doc.store.pendingStructs !== null || doc.store.pendingDs !== null
      return { content: contentOf(doc), clocks: clocksOf(doc), pending }
    },
    /** Calls back whenever it changes; answers how to end that. */
    watch(changed) {
      doc.on('update', changed)
      provider.on('status', changed)
      return () => {
        doc.off('update', changed)
        provider.off('status', changed)
      }
    },
    async close() {
      close()
    },
  }
}

const clocksOf = doc => Object.fromEntries([...Y.decodeStateVector(Y.encodeStateVector(doc))].sort())

/** The process in which native clients live. */
export function startNative(t) {
  const child = spawn(programPath('native-peer'), { stdio: ['pipe', 'pipe', 'inherit'] })
  atEnd(t, () => child.kill('SIGKILL'))
  const waiting = new Map()
  const failed = error => {
    for (const { reject } of waiting.values()) reject(error)
  }
  child.on('error', failed)
  child.on('exit', code => failed(new Error(`native-peer ended with ${code}`)))
  createInterface({ input: child.stdout }).on('line', line => {
    const { id, value, error } = JSON.parse(line)
    const { resolve, reject } = waiting.get(id)
    waiting.delete(id)
    if (error === undefined) resolve(value)
    else reject(new Error(error))
  })
  let id = 0
  return (peer, request) =>
    new Promise((resolve, reject) => {
      id += 1
      waiting.set(id, { resolve, reject })
      child.stdin.write(`${JSON.stringify({ id, peer, ...request })}\n`)
    })
}

/** A native client in that process. */
export async function openNative(native, relay, document) {
  const peer = randomUUID()
  const ask = request => native(peer, request)
  await ask({ do: 'open', url: relay.syncUrl, document })
  return {
    edit: operations => ask({ do: 'edit', operations }),
    offline: () => ask({ do: 'pause' }),
    online: () => ask({ do: 'resume' }),
    savedRelay: () => ask({ do: 'saved_relay' }),
    async state() {
      const { update, state_vector: vector, ...content } = await ask({ do: 'dump' })
      const read = new Y.Doc()
      Y.applyUpdate(read, Buffer.from(update, 'hex'))
      const asYjs = contentOf(read)
      if (!isDeepStrictEqual(normalized(content), normalized(asYjs))) {
        const both = JSON.stringify([normalized(content), normalized(asYjs)], null, 1)
        throw new Error(`yrs and Yjs read the same update differently: ${both}`)
      }
      const clocks = Object.fromEntries([...Y.decodeStateVector(Buffer.from(vector, 'hex'))].sort())
      return { content: asYjs, clocks, pending: false }
    },
    watch(changed) {
      let stopped = false
      const next = async since => {
        const count = await ask({ do: 'changed', since })
        if (stopped) return
        changed()
        await next(count)
      }
      // It ends with the client.
      next(0).catch(() => {})
      return () => {
        stopped = true
      }
    },
    close: () => ask({ do: 'close' }),
  }
}

/** Neighbouring parts of a text with the same attributes are one part; an XML attribute has no order. */
function normalized({ text, map, array, xml }) {
  const parts = []
  for (const { insert, attributes = {} } of text) {
    const last = parts.at(-1)
    if (
      typeof insert === 'string' &&
      typeof last?.insert === 'string' &&
      isDeepStrictEqual(last.attributes, attributes)
    ) {
      last.insert += insert
    } else {
      parts.push({ insert, attributes })
    }
  }
  const tags = xml.replace(
    /<(\w+)((?: [^<>]*)?)>/g,
    (_, tag, rest) => `<${tag} ${[...rest.matchAll(/\w+="[^"]*"/g)].sort().join(' ')}>`,
  )
  return { text: parts, map, array, xml: tags }
}

/** Waits until all clients hold the same, to the last clock; answers what. Says what differs if they never do. */
export async function allEqual(clients) {
  const changes = { count: 0, wake: () => {} }
  const changed = () => {
    changes.count += 1
    changes.wake()
  }
  const stops = clients.map(client => client.watch(changed))
  let expired = false
  const timer = setTimeout(() => {
    expired = true
    changes.wake()
  }, PATIENCE_MS)
  try {
    for (;;) {
      const before = changes.count
      const states = await Promise.all(clients.map(client => client.state()))
      const [first, ...others] = states
      if (!first.pending && others.every(other => isDeepStrictEqual(other, first))) return first.content
      if (expired) throw new Error(`the clients do not come to be equal: ${JSON.stringify(states, null, 1)}`)
      if (changes.count === before) await new Promise(resolve => (changes.wake = resolve))
    }
  } finally {
    clearTimeout(timer)
    for (const stop of stops) stop()
  }
}
