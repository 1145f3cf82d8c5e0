// One client at work: it calls the module, carries out what follows, and starts the module anew when it fails.
//
// Rules: every call of the module is followed by one drain; callbacks of the application run when no call does;
// what an edit was called with stays here until its bytes are out.

import { type Code, isTransient } from './code.js'
import type { Connection } from './connection.js'
import type { Device } from './device/device.js'
import {
  type Change,
  type Cursor,
  type OutboxRow,
  type ReceivedKey,
  rowName,
  type StoredBranch,
} from './device/store.js'
import type { CoreStatus, Effect } from './effect.js'
import { errorFrom, TidewellError } from './error.js'
import { declareRoots, failWaiting, type Input, makeEdits, type Replica } from './replica.js'
import { isSameStatus, type Status } from './status.js'
import type { Tabs } from './tabs.js'
import { type Core, isTrap, replaceWasm, type Wasm, wasmGeneration } from './wasm.js'

/** One client at work. */
export interface Engine {
  readonly wasm: Wasm
  readonly device: Device
  readonly tabs: Tabs
  readonly replicas: Map<string, Replica>
  connection: Connection | undefined
  /** What the application gets to hear of errors that no call of its own threw. */
  onError: ((error: unknown) => void) | undefined
  isClosed: boolean
  /** Set while the module starts anew. */
  recovery: Promise<void> | undefined
  core: Core
  generation: number
  /** What to run when the module fails. */
  recover: (engine: Engine, failure: unknown) => Promise<void>
  /** The application's source of tokens. */
  readonly auth: (() => Promise<string>) | undefined
  /** Another token, which this connection is to have. */
  refreshing: Promise<string> | undefined
  /** What to run when the relay refuses edits: this tab's with a code, another tab's without. */
  branchOff: (engine: Engine, replica: Replica, code: Code | undefined) => void
  /** Who hears that there are other branches than before. */
  readonly branchListeners: Set<() => void>
  /** Who waits for answers of other tabs, by question. */
  readonly questions: Map<string, (tab: string) => void>
  /** Callbacks of the application that wait until no call runs. */
  tasks: (() => void)[]
  /** The number of this tab's next row. Not the document's: one that is opened again must not write over its rows. */
  nextNumber: number
  isTelling: boolean
}

/** The module, for a call that only reads or changes nothing of the application's. Fails with `recovered` while it starts anew. */
export function call<T>(engine: Engine, run: (core: Core) => T): T {
  if (engine.isClosed) throw new TidewellError('closed')
  if (isRecovering(engine)) throw new TidewellError('recovered', 'the document is being loaded again')
  try {
    return run(engine.core)
  } catch (thrown) {
    if (!isTrap(thrown)) throw errorFrom(thrown)
    startRecovery(engine, thrown)
    throw new TidewellError('recovered', 'the document is being loaded again', thrown)
  }
}

/** True while the module starts anew, which begins here if another client of the page has thrown it away. */
export function isRecovering(engine: Engine): boolean {
  if (engine.generation !== wasmGeneration()) startRecovery(engine, undefined)
  return engine.recovery !== undefined
}

/** Calls the module where nobody could catch an error, and carries out what follows. */
export function act(engine: Engine, run: (core: Core) => void): void {
  if (engine.isClosed || engine.recovery !== undefined) return
  try {
    call(engine, run)
    settle(engine)
  } catch (error) {
    if (!isRecovery(error)) report(engine, error)
  }
}

/** True for what a call fails with that has begun a new module: everything is there again when it has been made. */
export function isRecovery(error: unknown): boolean {
  return error instanceof TidewellError && error.code === 'recovered'
}

/** Waits until the module can be used. Another client of the page may have thrown it away. Fails with `closed`. */
export async function moduleReady(engine: Engine): Promise<void> {
  if (engine.generation !== wasmGeneration()) startRecovery(engine, undefined)
  while (engine.recovery !== undefined) await engine.recovery
  if (engine.isClosed) throw new TidewellError('closed')
}

/** Begins a new module, unless one is being made. */
export function startRecovery(engine: Engine, failure: unknown): void {
  if (engine.recovery !== undefined || engine.isClosed) return
  replaceWasm(engine.generation)
  const recovered = () => {
    engine.recovery = undefined
    // All drafts, before anybody is told anything: whoever is may edit any document.
    for (const replica of engine.replicas.values()) restoreDraft(engine, replica)
    for (const replica of engine.replicas.values()) flush(engine, replica)
    act(engine, () => undefined)
    for (const replica of engine.replicas.values()) {
      if (replica.hasMissedBranch) engine.branchOff(engine, replica, undefined)
      refresh(engine, replica)
    }
    tell(engine)
  }
  // The next call tries again.
  const failed = (error: unknown) => {
    engine.recovery = undefined
    for (const replica of engine.replicas.values()) if (replica.id < 0) failWaiting(replica, 'device_failed')
    report(engine, error)
  }
  engine.recovery = engine.recover(engine, failure).then(recovered, failed)
}

/** Makes the edits in the new module that the last one had not written, and those since, with the roots that were named since. */
function restoreDraft(engine: Engine, replica: Replica): void {
  if (engine.isClosed || isRecovering(engine) || replica.id < 0) return
  try {
    call(engine, core => declareRoots(core, replica))
    for (const refusal of call(engine, core => makeEdits(core, replica))) report(engine, refusal)
  } catch (error) {
    if (isRecovery(error)) replica.failures += 1
    else report(engine, error)
  }
}

/** Tells the application of an error. */
export function report(engine: Engine, error: unknown): void {
  engine.tasks.push(() => tellError(engine, error))
  queueMicrotask(() => tell(engine))
}

function tellError(engine: Engine, error: unknown): void {
  try {
    if (engine.onError === undefined) console.error(error)
    else engine.onError(error)
  } catch (second) {
    console.error(second)
  }
}

/** One call that edits: into the draft, to be written with the turn. Fails when it cannot be made. */
export function edit(engine: Engine, replica: Replica, input: Input, isCounting = false): void {
  if (engine.isClosed || replica.ending.signal.aborted) throw new TidewellError('closed')
  const running = replica.depth > 0 ? replica.edits.at(-1) : undefined
  replica.isCounting ||= isCounting
  if (!isRecovering(engine)) {
    try {
      call(engine, core => input(core, replica.id))
    } catch (error) {
      // After a trap the input is kept and made again; an edit that was refused is not.
      if (!isRecovery(error)) throw error
      replica.failures += 1
    }
  }
  if (running !== undefined) {
    running.push(input)
    return
  }
  replica.edits.push([input])
  queueFlush(engine, replica)
}

/** Writes the turn's edits at its end. */
export function queueFlush(engine: Engine, replica: Replica): void {
  if (replica.isFlushQueued) return
  replica.isFlushQueued = true
  queueMicrotask(() => {
    replica.isFlushQueued = false
    flush(engine, replica)
  })
}

/** Writes the edits so far into the document, unless an `edit` is still running. */
export function flush(engine: Engine, replica: Replica): void {
  if (replica.edits.length === 0 || replica.depth > 0 || replica.id < 0) return
  if (engine.isClosed || isRecovering(engine)) return
  try {
    call(engine, core => core.commit(replica.id, Date.now(), replica.edits.length))
    settle(engine, replica)
  } catch (error) {
    if (isRecovery(error)) replica.failures += 1
    else report(engine, error)
  }
}

/**
 * Writes the edits so far, and those that whoever is told of them makes. True when the module starts anew: then that is to be
 * waited for.
 */
export function isStartingAnew(engine: Engine, replicas: readonly Replica[]): boolean {
  // Of what could not be loaded nothing is to be had from the next module.
  const isLoaded = replicas.some(({ id }) => id >= 0)
  let isWritten = engine.recovery === undefined && !(isLoaded && isRecovering(engine))
  while (isWritten) {
    const before = replicas.map(replica => replica.edits)
    for (const replica of replicas) flush(engine, replica)
    isWritten = replicas.some(({ edits }, at) => edits !== before[at])
  }
  return engine.recovery !== undefined
}

/** Carries out what followed from calls: the disk and the socket, neither waiting for the other; then the callbacks. */
export function settle(engine: Engine, committed?: Replica): void {
  const effects: readonly Effect[] = call(engine, core => core.drain())
  if (committed !== undefined) {
    // The bytes are out.
    if (committed.isCounting) {
      committed.isCounting = false
      holdBack(engine, effects)
    }
    committed.edits = []
    committed.failures = 0
  }
  const byId = new Map([...engine.replicas.values()].map(replica => [replica.id, replica]))
  for (const effect of effects) carryOut(engine, byId, effect, committed)
  tell(engine)
}

/**
 * A counter's entry is this tab's place on this device, and lives on when the tab dies: what the relay has seen of it
 * must be on the disk, or the next tab in this place would count from an older value. When the disk fails, the edits go
 * out all the same, because the relay may then be the only one that has them; the next tab takes another name.
 */
function holdBack(engine: Engine, effects: readonly Effect[]): void {
  if (effects.some(([kind]) => kind === 'edit')) holdUntilOnDisk(engine)
}

/** Keeps frames back until the disk has what this turn writes, or has failed. */
export function holdUntilOnDisk(engine: Engine): void {
  // After this turn's rows have been added.
  const onDisk = Promise.resolve().then(() => engine.device.flush())
  engine.connection?.holdUntil(onDisk.catch(() => engine.device.spendId()))
}

function carryOut(
  engine: Engine,
  byId: ReadonlyMap<number, Replica>,
  effect: Effect,
  committed: Replica | undefined,
): void {
  if (effect[0] === 'send') {
    engine.connection?.send(effect[1])
    return
  }
  if (effect[0] === 'token') {
    refreshToken(engine)
    return
  }
  if (effect[0] === 'close') {
    closeConnection(engine, effect[1])
    return
  }
  const replica = byId.get(effect[1])
  if (replica === undefined) return
  switch (effect[0]) {
    case 'edit': {
      const [, , row, update, edits, made] = effect
      const stored: OutboxRow = { opening: replica.opening, number: engine.nextNumber, update, edits, made }
      engine.nextNumber += 1
      replica.rows.set(row, stored)
      engine.device.push([{ kind: 'edit', document: replica.name, row: stored }])
      refresh(engine, replica)
      return
    }
    case 'received': {
      const [, , updates, cursor] = effect
      // The first cursor behind an offer comes with the whole document.
      const isWhole = replica.isOffering && cursor !== undefined
      replica.isOffering = cursor === undefined
      replica.hasUnstored ||= !replica.isKeeper && updates.length > 0
      if (!replica.isKeeper) return
      replica.owesWhole ||= isWhole
      if (isWhole) storeWhole(engine, replica)
      else keep(engine, replica, updates, cursor)
      return
    }
    case 'acknowledged': {
      const rows = effect[2].flatMap(row => replica.rows.get(row) ?? [])
      for (const row of effect[2]) replica.rows.delete(row)
      const epoch = call(engine, core => core.cursor(replica.id))?.epoch ?? ''
      engine.device.push([{ kind: 'acknowledged', document: replica.name, epoch, sequence: effect[3], rows }])
      replica.foldable.rows += rows.length
      compactSoon(engine, replica)
      storeWhole(engine, replica)
      return
    }
    case 'branch':
      engine.branchOff(engine, replica, effect[2])
      return
    case 'changed':
      for (const listener of replica.valueListeners) engine.tasks.push(listener)
      return
    case 'status':
      refresh(engine, replica)
      engine.tasks.push(...replica.retries)
      return
    case 'delta': {
      const [, , watch, operations] = effect
      const isLocal = committed === replica
      for (const watcher of replica.deltaWatches) {
        if (watcher.watch === watch) engine.tasks.push(() => watcher.tell(operations, isLocal))
      }
    }
  }
}

function closeConnection(engine: Engine, code: Code | undefined): void {
  if (code !== undefined) report(engine, new TidewellError(code, 'the connection ended'))
  if (code !== undefined && isAboutToken(code)) engine.connection?.refuse(code)
  else engine.connection?.drop()
}

/** True for refusals of who this is, which no other attempt with the same token can change. */
export function isAboutToken(code: Code): boolean {
  return code === 'invalid_token' || code === 'token_revoked' || code === 'forbidden'
}

/** Shows the relay another token before the one that it has seen expires. When there is none, the core asks again. */
function refreshToken(engine: Engine): void {
  if (engine.auth === undefined || engine.refreshing !== undefined) return
  const asked = engine.auth()
  engine.refreshing = asked
  asked
    .then(token => {
      // Another connection was made meanwhile, with a token that is newer.
      if (engine.refreshing === asked) act(engine, core => core.refresh(token, Date.now()))
    })
    .catch((error: unknown) => report(engine, error))
    .finally(() => {
      if (engine.refreshing === asked) engine.refreshing = undefined
    })
}

/** Stores what came from the relay, and with it how far this device's knowledge goes. */
function keep(
  engine: Engine,
  replica: Replica,
  updates: readonly Uint8Array[],
  cursor: Replica['storedCursor'],
  isWhole = false,
): void {
  const changes: Change[] = []
  if (updates.length > 0) {
    const source = `${engine.tabs.id}/r${engine.nextNumber}`
    engine.nextNumber += 1
    const key: ReceivedKey = [replica.name, cursor?.epoch ?? '', cursor?.sequence ?? 0, source]
    changes.push({ kind: 'received', key, updates })
    replica.foldable.rows += 1
    replica.foldable.bytes += updates.reduce((sum, update) => sum + update.length, 0)
  }
  if (cursor !== undefined && !replica.owesWhole && !isSame(cursor, replica.storedCursor)) {
    const goesOn = replica.storedCursor !== undefined && !isWhole
    replica.storedCursor = cursor
    changes.push({ kind: 'cursor', document: replica.name, cursor, goesOn })
  }
  engine.device.push(changes)
  compactSoon(engine, replica)
}

function isSame(cursor: Cursor, other: Cursor | undefined): boolean {
  return goesOn(cursor, other) && cursor.sequence === other?.sequence
}

/** True for two cursors in one history of one document. */
function goesOn(cursor: Cursor, other: Cursor | undefined): boolean {
  return cursor.epoch === other?.epoch && cursor.lineage === other.lineage
}

/** Ends the duties for rows that have left the outbox on the disk: what may still follow them anybody may adopt. */
export function endAdoptions(engine: Engine, replica: Replica): void {
  if (replica.adoptions.size === 0) return
  const openings = () => new Set([...replica.rows.values()].map(row => row.opening))
  const left = openings()
  const over = [...replica.adoptions].filter(([opening, { isDone }]) => isDone && !left.has(opening))
  if (over.length === 0) return
  const end = () => {
    const left = openings()
    for (const [opening, { duty }] of over) {
      if (left.has(opening)) continue
      replica.adoptions.delete(opening)
      duty.abort()
    }
  }
  // A failure is told in the status, and this is tried again.
  engine.device.flush().then(end, () => undefined)
}

/** From now on this tab stores what comes from the relay; what others did not store is stored first. */
export function becomeKeeper(engine: Engine, replica: Replica): void {
  replica.isKeeper = true
  act(engine, core => {
    const cursor: Replica['storedCursor'] = core.cursor(replica.id)
    const stored = replica.storedCursor
    const isStored =
      cursor === undefined || (stored && goesOn(stored, cursor) && stored.sequence >= cursor.sequence)
    if (isStored && !replica.hasUnstored) return
    replica.owesWhole = true
    storeWhole(engine, replica)
  })
}

/**
 * Stores the document as it is in memory, with how far it goes, if that is owed and nothing in it can be refused any more:
 * what is stored as received stays when rows become a branch. Until then no cursor is stored.
 */
export function storeWhole(engine: Engine, replica: Replica): void {
  if (!replica.owesWhole || replica.rows.size > 0) return
  replica.storingWhole ??= tryToStoreWhole(engine, replica)
    // A failure of the disk is told in the status, and this is tried again.
    .catch(() => undefined)
    .finally(() => {
      replica.storingWhole = undefined
    })
}

async function tryToStoreWhole(engine: Engine, replica: Replica): Promise<void> {
  const { heard } = replica
  await engine.device.flush()
  // What other tabs have told is on the disk: in the outbox or a branch as long as it can be refused.
  const { outbox, branches } = await engine.device.load(replica.name)
  const isCertain =
    outbox.length === 0 &&
    replica.rows.size === 0 &&
    heard === replica.heard &&
    hasHeardOfAll(replica, branches)
  if (!isCertain || replica.ending.signal.aborted) return
  act(engine, core => {
    const cursor: Replica['storedCursor'] = core.cursor(replica.id)
    const whole = cursor && core.encode(replica.id)
    if (whole === undefined) return
    replica.owesWhole = false
    keep(engine, replica, [whole], cursor, true)
  })
}

/** True when the document is without everything that these branches hold. */
export function hasHeardOfAll(replica: Replica, branches: readonly StoredBranch[]): boolean {
  return (
    replica.branching === undefined &&
    branches.every(branch => branch.rows.every(row => replica.aside.has(rowName(row))))
  )
}

/** Rows of a document that are folded at once; fewer are not worth a second copy of the document in memory. */
const foldFrom = 100

function compactSoon(engine: Engine, replica: Replica): void {
  const { rows, bytes, snapshotBytes } = replica.foldable
  const isWorthIt = rows >= foldFrom * 10 || (rows >= foldFrom && bytes * 4 >= snapshotBytes)
  if (!isWorthIt || !replica.isKeeper || replica.isCompacting || engine.isClosed) return
  replica.isCompacting = true
  compact(engine, replica)
    .catch((error: unknown) => {
      if (!engine.isClosed) report(engine, error)
    })
    .finally(() => {
      replica.isCompacting = false
    })
}

/** Folds what is stored and acknowledged into one row; deletes exactly what it has read. */
async function compact(engine: Engine, replica: Replica): Promise<void> {
  await engine.device.flush()
  const { received } = await engine.device.load(replica.name)
  replica.foldable = { rows: 0, bytes: 0, snapshotBytes: 0 }
  if (received.length < 2 || engine.isClosed) return
  const update = call(engine, () => engine.wasm.compact(received.flatMap(row => row.updates.slice())))
  // Something is missing between the rows: they stay as they are, and are looked at again when there are more.
  if (update === undefined) return
  const last = received.reduce((a, b) => (b.key[2] > a.key[2] ? b : a))
  engine.nextNumber += 1
  const key: ReceivedKey = [replica.name, last.key[1], last.key[2], `${engine.tabs.id}/s${engine.nextNumber}`]
  engine.device.push([{ kind: 'compacted', from: received.map(row => row.key), key, update }])
  replica.foldable.snapshotBytes = update.length
}

/** A document's status may have changed: works it out if anybody listens or waits. */
export function refresh(engine: Engine, replica: Replica): void {
  if (replica.statusListeners.size > 0 || replica.waiters.size > 0) readStatus(engine, replica)
}

/** Works a document's status out anew, and tells if it has changed. */
export function readStatus(engine: Engine, replica: Replica): void {
  const isEnded = engine.isClosed || replica.ending.signal.aborted
  if (!isEnded && replica.id >= 0) readCoreStatus(engine, replica)
  const [, , edits, bytes, since] = replica.coreStatus
  const status: Status = {
    device: engine.device.state(replica.name),
    link: isEnded ? 'offline' : linkOf(engine, replica),
    unsent: { edits, bytes, since },
    storage: engine.device.storage,
    persistent: engine.device.persistent(),
  }
  if (isSameStatus(status, replica.status)) return
  replica.status = status
  for (const listener of replica.statusListeners) {
    engine.tasks.push(() => {
      if (replica.statusListeners.has(listener)) listener(status)
    })
  }
  queueMicrotask(() => tell(engine))
}

/** Leaves what is known as it is while the module starts anew: it is asked again then. */
function readCoreStatus(engine: Engine, replica: Replica): void {
  if (engine.recovery !== undefined || engine.generation !== wasmGeneration()) return
  try {
    replica.coreStatus = call(engine, core => core.status(replica.id)) as CoreStatus
    settleWaiters(engine, replica)
  } catch (error) {
    if (!isRecovery(error)) throw error
  }
}

function linkOf(engine: Engine, replica: Replica): Status['link'] {
  const [link, code] = replica.coreStatus
  if (link === 'refused' && code !== undefined) return { refused: code }
  const refusal = engine.connection?.refusal()
  if (refusal !== undefined) return { refused: refusal }
  if (link === 'live') return 'live'
  return engine.connection === undefined || engine.connection.state() === 'offline' ? 'offline' : 'connecting'
}

function settleWaiters(engine: Engine, replica: Replica): void {
  const link = linkOf(engine, replica)
  const code = typeof link === 'object' ? link.refused : undefined
  for (const waiter of [...replica.waiters]) {
    if (call(engine, core => core.is_acknowledged(replica.id, waiter.row))) {
      replica.waiters.delete(waiter)
      waiter.done()
    } else if (code !== undefined && !isTransient(code) && replica.branching === undefined) {
      // What is refused for a while is tried again by the core; what is on its way to a branch is told when it is there.
      replica.waiters.delete(waiter)
      waiter.fail(code)
    }
  }
}

/** Runs the application's callbacks. They may read, edit and throw. */
export function tell(engine: Engine): void {
  if (engine.isTelling || engine.recovery !== undefined) return
  engine.isTelling = true
  try {
    for (let task = engine.tasks.shift(); task !== undefined; task = engine.tasks.shift()) {
      try {
        task()
      } catch (error) {
        tellError(engine, error)
      }
    }
  } finally {
    engine.isTelling = false
  }
}
