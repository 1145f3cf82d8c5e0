// A client: one store on this device, one connection to a relay, many documents.

import { type Branches, makeBranches } from './branches.js'
import { branchOff, tellBranches } from './branching.js'
import { type Connection, keepConnection, type SocketConstructor } from './connection.js'
import { openDevice, type StorageChoice } from './device/device.js'
import type { Change } from './device/store.js'
import { type Doc, makeDoc } from './doc.js'
import {
  act,
  type Engine,
  endAdoptions,
  flush,
  hasHeardOfAll,
  isAboutToken,
  isStartingAnew,
  readStatus,
  refresh,
  report,
  storeWhole,
} from './engine.js'
import { errorFrom, TidewellError } from './error.js'
import { leftBehind } from './left_behind.js'
import {
  askSiblings,
  hearEdit,
  inBackground,
  loadReplica,
  notLoaded,
  openDuty,
  recover,
  watch,
} from './loading.js'
import { endReplica, leaveReplica, lossAtEnd, newReplica, type Replica } from './replica.js'
import { joinTabs, singleTab, type TabMessage } from './tabs.js'
import { type Wasm, wasmGeneration } from './wasm.js'

/** How a client is opened. */
export interface OpenOptions {
  /** The relay, as `wss://`, `ws://`, `https://` or `http://`. Default: none; everything stays on this device. */
  readonly url?: string
  /**
   * Yields the token that the relay is shown: called before each connection, and before the token expires. When it fails
   * or does not answer within 30 s, it is called again as connections are, with growing waits, and `onError` hears of it: it
   * asks a server, which may not be there. When it yields no token, the documents' link is refused with `invalid_token`.
   * Default: no token.
   */
  readonly auth?: () => string | Promise<string>
  /** Keeps stores of one page's origin apart. Default: `default`. */
  readonly store?: string
  /** `indexeddb` fails without it, `auto` then takes memory. Default: `auto`. */
  readonly storage?: StorageChoice
  /** Whether tabs tell each other of edits at once. Default: true. */
  readonly broadcast?: boolean
  /** Hears of errors that no call of its own threw: in callbacks, on the disk, of the module. Default: `console.error`. */
  readonly onError?: (error: unknown) => void
  /** What opens sockets. Default: the platform's `WebSocket`; Node.js has one from version 22 on. */
  readonly webSocket?: SocketConstructor
}

/** A client. */
export interface Client {
  /**
   * Opens a document from this device alone: no network is needed. One that is open already is the same object.
   * Fails with `invalid_name`, `closed`, or `device_failed` when the store cannot be read, or the module fails with what is
   * in it.
   */
  doc(name: string): Promise<Doc>
  /** Edits that the relay refused. They are kept on this device until they are merged or dropped. */
  readonly branches: Branches
  /** Ends the connection until `resume`: the documents are offline. */
  pause(): void
  /** Connects again, also when the relay has refused who this is: `auth` is asked at once. */
  resume(): void
  /**
   * Ends: no more edits are taken, and what is not on disk is written. Fails when it cannot be, or when edits were lost
   * that nobody has heard of yet, and has ended all the same.
   */
  close(): Promise<void>
}

/** Where relays take sockets; a URL may name it or not. */
const syncPath = '/v1/sync'

/** How long `auth` may take, in milliseconds: what it asks a server for may have got lost on the way. */
const authMsMax = 30_000

/** How often the core hears of the time, in milliseconds. */
const tickMs = 1000

/** Seconds of a good connection after which the next wait is the shortest again. */
const goodAfterTicks = 5

/** Seconds between two looks at what tabs have left behind. */
const lookTicks = 5

/** Half of a surrogate pair: it has no UTF-8. */
const halfPair = /\p{Surrogate}/u

/** Opens a client with a module that is loaded. Fails with `invalid_options` or `device_unavailable`. */
export async function openClient(wasm: Wasm, options: OpenOptions): Promise<Client> {
  const { store = 'default', storage = 'auto', broadcast = true } = options
  const url = options.url === undefined ? undefined : socketUrl(options.url)
  if (typeof store !== 'string' || store === '') throw new TidewellError('invalid_options', 'store')
  if (!['auto', 'indexeddb', 'memory'].includes(storage))
    throw new TidewellError('invalid_options', 'storage')
  const Socket = options.webSocket ?? globalThis.WebSocket
  if (url !== undefined && Socket === undefined)
    throw new TidewellError('invalid_options', 'webSocket: there is none here, and url needs one')

  let engine: Engine | undefined
  const device = await openDevice(store, storage, {
    written: changes => engine !== undefined && tellWritten(engine, changes),
    changed: () => engine !== undefined && refreshAll(engine),
  })
  const tabs =
    device.storage === 'memory'
      ? singleTab()
      : await joinTabs(store, broadcast, message => engine !== undefined && hear(engine, message))
  const opened: Engine = {
    wasm,
    device,
    tabs,
    replicas: new Map(),
    connection: undefined,
    onError: options.onError,
    isClosed: false,
    recovery: undefined,
    core: new wasm.Core(),
    generation: wasmGeneration(),
    recover,
    auth: options.auth === undefined ? undefined : askFor(options.auth),
    refreshing: undefined,
    branchOff,
    branchListeners: new Set(),
    questions: new Map(),
    tasks: [],
    nextNumber: 0,
    isTelling: false,
  }
  engine = opened
  if (url !== undefined) opened.connection = connect(opened, url, Socket)
  return makeClient(opened)
}

function socketUrl(url: string): string {
  let parsed: URL
  try {
    parsed = new URL(url)
  } catch (error) {
    throw new TidewellError('invalid_options', 'url', error)
  }
  if (parsed.protocol === 'https:') parsed.protocol = 'wss:'
  if (parsed.protocol === 'http:') parsed.protocol = 'ws:'
  if (parsed.protocol !== 'wss:' && parsed.protocol !== 'ws:')
    throw new TidewellError('invalid_options', 'url')
  const path = parsed.pathname.replace(/\/+$/, '')
  parsed.pathname = path.endsWith(syncPath) ? path : `${path}${syncPath}`
  parsed.hash = ''
  return parsed.href
}

function connect(engine: Engine, url: string, Socket: SocketConstructor): Connection {
  return keepConnection(url, Socket, {
    token: engine.auth,
    noToken(error) {
      report(engine, error)
      if (error instanceof TidewellError && isAboutToken(error.code)) engine.connection?.refuse(error.code)
    },
    opened(token) {
      engine.refreshing = undefined
      act(engine, core => core.connected(token, Date.now()))
    },
    frame(bytes) {
      act(engine, core => {
        core.frame(bytes, Date.now())
        if (core.is_live()) engine.connection?.welcomed()
      })
    },
    lost() {
      act(engine, core => core.disconnected())
      // Without the relay the tabs have only each other.
      for (const replica of engine.replicas.values()) if (replica.id >= 0) askSiblings(engine, replica)
    },
    changed: () => refreshAll(engine),
    impossible: error => report(engine, new TidewellError('disconnected', 'no socket can be made', error)),
    wait: attempt => Math.max(engine.wasm.backoff_ms(attempt, Math.random()), returnMs(engine) - Date.now()),
  })
}

/** What `auth` throws is a rejection, and what it yields a token or an error. One that does not answer has failed. */
function askFor(auth: () => string | Promise<string>): () => Promise<string> {
  return async () => {
    let timer: ReturnType<typeof setTimeout> | undefined
    const tooLate = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new TidewellError('timeout', 'auth')), authMsMax)
      letEnd(timer)
    })
    try {
      const token: unknown = await Promise.race([auth(), tooLate])
      if (typeof token === 'string' && token !== '') return token
      throw new TidewellError('invalid_token', 'auth yielded no token')
    } finally {
      clearTimeout(timer)
    }
  }
}

/** A page that only reads must be able to end; Node would wait for the timer. */
function letEnd(timer: ReturnType<typeof setTimeout>): void {
  if (typeof timer === 'object') (timer as { unref?: () => void }).unref?.()
}

function returnMs(engine: Engine): number {
  return engine.recovery === undefined && engine.generation === wasmGeneration() ? engine.core.return_ms() : 0
}

function refreshAll(engine: Engine): void {
  for (const replica of engine.replicas.values()) refresh(engine, replica)
}

/** What is on disk the other tabs may know: whatever they build on it is then on disk before theirs. */
function tellWritten(engine: Engine, changes: readonly Change[]): void {
  for (const change of changes) {
    if (change.kind === 'branched' || change.kind === 'branch_ended') {
      const { document } = change.branch
      engine.tabs.tell({ kind: 'branches', document })
      tellBranches(engine)
      const replica = engine.replicas.get(document)
      if (change.kind === 'branch_ended' && replica !== undefined) branchOff(engine, replica, undefined)
    }
    if (change.kind !== 'edit') continue
    const { document, row } = change
    engine.tabs.tell({ kind: 'edit', opening: row.opening, document, update: row.update })
  }
}

function hear(engine: Engine, message: TabMessage): void {
  const replica = engine.replicas.get(message.document)
  if (engine.isClosed) return
  if (message.kind === 'branches') tellBranches(engine)
  if (message.kind === 'heard') engine.questions.get(message.question)?.(message.opening)
  if (replica === undefined || message.kind === 'heard') return
  if (message.kind === 'branches' || message.kind === 'who_heard') {
    if (message.kind === 'who_heard') replica.questions.push(message.question)
    branchOff(engine, replica, undefined)
    return
  }
  if (replica.early === undefined) watch(engine, replica, message.opening)
  if (message.kind === 'edit') {
    if (replica.early !== undefined) replica.early.push(message)
    else hearEdit(engine, replica, message)
    return
  }
  if (replica.early !== undefined) return
  inBackground(engine, replica, answer(engine, replica, message.known))
}

async function answer(engine: Engine, replica: Replica, known: Uint8Array): Promise<void> {
  flush(engine, replica)
  await engine.device.flush()
  // Out of a document with refused edits nothing is told: what they have displaced here no row of theirs names.
  if (!hasHeardOfAll(replica, await engine.device.branches(replica.name))) return
  act(engine, core => {
    const update = core.diff(replica.id, known)
    const lineage = core.lineage(replica.id)
    if (update !== undefined) {
      engine.tabs.tell({ kind: 'edit', opening: replica.opening, document: replica.name, update, lineage })
    }
  })
}

/** Lets others have the rows of an opening that is over, and waits until they can. */
function leave(engine: Engine, replica: Replica): Promise<void> {
  leaveReplica(replica)
  const duty = openDuty(replica.name, replica.opening)
  return new Promise(left => engine.tabs.whenFree(duty, left, new AbortController().signal))
}

function makeClient(engine: Engine): Client {
  const docs = new Map<string, Promise<Doc>>()
  /** What the application has open; the other documents are open to push what was left behind. */
  const wanted = new Set<string>()
  /** Documents that were closed, until their rows may be adopted. */
  const leaving = new Map<string, Promise<void>>()
  /** How many have a document open without the application. */
  const borrowers = new WeakMap<Doc, number>()
  const ending = new AbortController()
  const background = {
    isOpen: (name: string) => docs.has(name),
    async open(name: string): Promise<Doc> {
      const doc = await openOnce(name)
      borrowers.set(doc, (borrowers.get(doc) ?? 0) + 1)
      return doc
    },
    async close(name: string, doc: Doc): Promise<void> {
      const others = (borrowers.get(doc) ?? 1) - 1
      borrowers.set(doc, others)
      if (others === 0 && !wanted.has(name)) await doc.close()
    },
  }
  const pushLeftBehind = leftBehind(engine, background, ending.signal)
  let [ticks, goodTicks] = [0, 0]
  const ticking = setInterval(() => {
    act(engine, core => core.tick(Date.now()))
    goodTicks = engine.connection?.state() === 'open' ? goodTicks + 1 : 0
    if (goodTicks % lookTicks === 1) {
      pushLeftBehind()
      // Other tabs' edits may have been all that it waited for.
      for (const replica of engine.replicas.values()) storeWhole(engine, replica)
    }
    ticks += 1
    if (ticks % lookTicks === 0) {
      for (const replica of engine.replicas.values()) {
        endAdoptions(engine, replica)
        if (replica.hasMissedBranch) branchOff(engine, replica, undefined)
      }
    }
    if (goodTicks === goodAfterTicks) engine.connection?.succeeded()
  }, tickMs)
  letEnd(ticking)

  const hide = () => {
    for (const replica of engine.replicas.values()) flush(engine, replica)
    // Told in the status.
    engine.device.flush().catch(() => undefined)
  }
  globalThis.addEventListener?.('pagehide', hide)
  const page = globalThis.document
  const onVisibility = () => {
    if (page?.visibilityState === 'hidden') hide()
  }
  page?.addEventListener('visibilitychange', onVisibility)

  async function closeDoc(replica: Replica): Promise<void> {
    // The edit that is running has ended then.
    if (replica.depth > 0) await null
    // The next module makes the last edits again: without it they would be gone.
    while (isStartingAnew(engine, [replica])) await engine.recovery
    if (replica.ending.signal.aborted) return
    // What it told last stays readable.
    readStatus(engine, replica)
    const loss = lossAtEnd(replica)
    const { name } = replica
    const saved = engine.device.flush()
    docs.delete(name)
    wanted.delete(name)
    engine.replicas.delete(name)
    endReplica(replica)
    act(engine, core => core.remove(replica.id))
    // Another document gets its number when the module starts anew.
    replica.id = notLoaded
    // Whoever adopts its rows before they are on the disk would leave some.
    const left = saved.catch(() => undefined).then(() => leave(engine, replica))
    leaving.set(name, left)
    await left
    if (leaving.get(name) === left) leaving.delete(name)
    await saved
    if (loss !== undefined) throw loss
  }

  async function openDoc(name: string): Promise<Doc> {
    const replica = newReplica(name, {
      device: 'saved',
      link: 'offline',
      unsent: { edits: 0, bytes: 0, since: undefined },
      storage: engine.device.storage,
      persistent: engine.device.persistent(),
    })
    engine.replicas.set(name, replica)
    try {
      await leaving.get(name)
      await loadReplica(engine, replica)
    } catch (error) {
      engine.replicas.delete(name)
      docs.delete(name)
      wanted.delete(name)
      endReplica(replica)
      if (replica.id >= 0) act(engine, core => core.remove(replica.id))
      leaveReplica(replica)
      if (engine.isClosed) throw new TidewellError('closed')
      throw errorFrom(error, `document "${name}"`)
    }
    let closing: Promise<void> | undefined
    return makeDoc(engine, replica, () => {
      closing ??= closeDoc(replica)
      return closing
    })
  }

  function openOnce(name: string): Promise<Doc> {
    const known = docs.get(name)
    if (known !== undefined) return known
    const opening = openDoc(name)
    docs.set(name, opening)
    return opening
  }

  async function end(): Promise<void> {
    ending.abort()
    clearInterval(ticking)
    globalThis.removeEventListener?.('pagehide', hide)
    page?.removeEventListener('visibilitychange', onVisibility)
    // Edits that are running have ended then.
    if ([...engine.replicas.values()].some(({ depth }) => depth > 0)) await null
    for (const { storingWhole } of engine.replicas.values()) if (storingWhole) await storingWhole
    while (isStartingAnew(engine, [...engine.replicas.values()])) await engine.recovery
    for (const replica of engine.replicas.values()) readStatus(engine, replica)
    const losses = [...engine.replicas.values()].flatMap(replica => lossAtEnd(replica) ?? [])
    // From here on edits are refused: what came later would not be written.
    engine.isClosed = true
    try {
      await engine.device.close()
    } finally {
      engine.connection?.close()
      for (const replica of engine.replicas.values()) {
        endReplica(replica)
        leaveReplica(replica)
      }
      engine.tabs.close()
      if (engine.generation === wasmGeneration()) engine.core.free()
    }
    if (losses.length > 0) throw losses[0]
  }
  let closing: Promise<void> | undefined

  return {
    async doc(name) {
      if (engine.isClosed) throw new TidewellError('closed')
      if (typeof name !== 'string' || halfPair.test(name)) throw new TidewellError('invalid_name')
      wanted.add(name)
      return openOnce(name)
    },
    branches: makeBranches(engine, background, ending.signal),
    pause: () => engine.connection?.pause(),
    resume: () => engine.connection?.resume(),
    close() {
      closing ??= end()
      return closing
    },
  }
}
