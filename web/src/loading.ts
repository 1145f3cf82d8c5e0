// Loading documents: the first time, and again after the module has failed.

import type { Device } from './device/device.js'
import {
  type Cursor,
  type OutboxRow,
  type ReceivedRow,
  rowName,
  type Stored,
  type StoredBranch,
} from './device/store.js'
import type { Added, DeltaOperation } from './effect.js'
import {
  act,
  becomeKeeper,
  call,
  type Engine,
  isRecovery,
  moduleReady,
  refresh,
  report,
  settle,
  startRecovery,
} from './engine.js'
import { errorFrom, TidewellError } from './error.js'
import { declareRoots, failWaiting, type Replica } from './replica.js'
import type { Told } from './tabs.js'
import { type Core, isTrap, replaceWasm, wasmGeneration } from './wasm.js'

/** Numbers that the module never gives: a document whose loading has not begun, and one that the next module loads. */
export const notLoaded = -1
export const toBeLoaded = -2

/** The duty that a tab has while a document is open in it, and until everything of that opening is on the disk. */
export const openDuty = (document: string, opening: string) => `open/${document}/${opening}`

/** The duty of whoever pushes an opening's rows after its end. */
export const rowsDuty = (opening: string) => `rows/${opening}`

/** The openings of a document, in all tabs. */
export async function openings(engine: Engine, document: string): Promise<readonly string[]> {
  const ends = await engine.tabs.taken(openDuty(document, ''))
  // The others are of documents whose names go on.
  return ends.filter(end => !end.includes('/'))
}

/**
 * Loads a document from this device alone. Fails with `invalid_name`, `closed`, `device_failed`, or as reading the store does.
 */
export async function loadReplica(engine: Engine, replica: Replica): Promise<void> {
  // Who ends a branch waits for those who may not have heard of it.
  await engine.tabs.take(openDuty(replica.name, replica.opening), replica.leaving.signal)
  const open = new Set(await openings(engine, replica.name))
  const stored = await withUnsaved(engine.device, replica)
  // Another document that waited for the module may have made it fail again.
  do await moduleReady(engine)
  while (engine.recovery !== undefined)
  try {
    addToCore(engine, replica, stored)
    settle(engine)
  } catch (error) {
    if (!isTrap(error) && !isRecovery(error)) throw error
    replica.id = toBeLoaded
    startRecovery(engine, error)
    await moduleReady(engine)
    if (replica.id === toBeLoaded) throw failedWith(replica, error)
  }
  const over: string[] = []
  for (const opening of new Set(stored.outbox.map(row => row.opening))) {
    // Where the document is open its rows are pushed from there.
    const isOver = !open.has(opening) && (await engine.tabs.isFree(openDuty(replica.name, opening)))
    if (isOver) over.push(opening)
    else watch(engine, replica, opening)
  }
  await adopt(engine, replica, over, true)
  // One may have followed the other.
  while (replica.branching !== undefined) await replica.branching
  for (const told of replica.early ?? []) hearEdit(engine, replica, told)
  replica.early = undefined
  if (replica.hasMissedBranch) engine.branchOff(engine, replica, undefined)
  engine.tabs.hold(`keeper/${replica.name}`, () => becomeKeeper(engine, replica), replica.ending.signal)
  // Also those that have told nothing yet: what they store last they may not live to tell.
  for (const opening of await openings(engine, replica.name)) watch(engine, replica, opening)
  askSiblings(engine, replica)
  refresh(engine, replica)
}

/** Another tab has told what it knows. */
export function hearEdit(engine: Engine, replica: Replica, told: Told): void {
  // Its number in the module may be another document's.
  if (replica.ending.signal.aborted) return
  if (engine.recovery !== undefined) {
    // The disk may have been read already.
    engine.recovery.then(() => hearEdit(engine, replica, told))
    return
  }
  const { update, lineage } = told
  replica.heard += 1
  act(engine, core => core.sibling(replica.id, update, lineage))
}

/** Asks the other tabs for what they know and this one does not. */
export function askSiblings(engine: Engine, replica: Replica): void {
  act(engine, core => {
    const known = core.state_vector(replica.id)
    if (known !== undefined) {
      engine.tabs.tell({ kind: 'ask', opening: replica.opening, document: replica.name, known })
    }
  })
}

/** Rows of this opening will be adopted when it is over. */
export function watch(engine: Engine, replica: Replica, opening: string): void {
  if (opening === replica.opening || replica.watched.has(opening)) return
  replica.watched.add(opening)
  const over = () => inBackground(engine, replica, adopt(engine, replica, [opening]))
  engine.tabs.whenFree(openDuty(replica.name, opening), over, replica.ending.signal)
}

/**
 * Takes over the rows of openings that are over, unless another tab has: it shows them, and pushes them. `wereOver` says that
 * they were when this document was loaded.
 */
export async function adopt(
  engine: Engine,
  replica: Replica,
  over: readonly string[],
  wereOver = false,
): Promise<void> {
  const isHeld = await Promise.all(over.map(opening => holdRows(engine, replica, opening)))
  const held = over.filter((_, at) => isHeld[at])
  await takeHeld(engine, replica, held, wereOver)
}

/** True when the duty is this tab's. If it is another's, the rows are taken once it is free. */
async function holdRows(engine: Engine, replica: Replica, opening: string): Promise<boolean> {
  const known = replica.adoptions.get(opening)
  if (known !== undefined) return known.isDone
  if (replica.ending.signal.aborted) return false
  const duty = new AbortController()
  replica.watched.add(opening)
  replica.adoptions.set(opening, { duty, isDone: false })
  if (await engine.tabs.tryHold(rowsDuty(opening), duty.signal)) return true
  const begin = () => {
    replica.inherited.push(opening)
    if (replica.inherited.length === 1) inBackground(engine, replica, takeInherited(engine, replica))
  }
  // Whoever has them may die too.
  engine.tabs.hold(rowsDuty(opening), begin, duty.signal)
  return false
}

/** Those that come while the disk is being read, as all others of a tab that is gone, are taken together. */
async function takeInherited(engine: Engine, replica: Replica): Promise<void> {
  const all = [...replica.inherited]
  try {
    await takeHeld(engine, replica, all, false)
  } finally {
    replica.inherited.splice(0, all.length)
    if (replica.inherited.length > 0) inBackground(engine, replica, takeInherited(engine, replica))
  }
}

async function takeHeld(
  engine: Engine,
  replica: Replica,
  over: readonly string[],
  wereOver: boolean,
): Promise<void> {
  const adoptions = over.flatMap(opening => replica.adoptions.get(opening) ?? [])
  if (adoptions.length === 0) return
  try {
    await take(engine, replica, new Set(over), wereOver)
    for (const adoption of adoptions) adoption.isDone = true
  } catch (error) {
    // Whoever can read them takes them.
    for (const opening of over) {
      const adoption = replica.adoptions.get(opening)
      if (adoption === undefined || adoption.isDone) continue
      replica.adoptions.delete(opening)
      adoption.duty.abort()
    }
    throw error
  }
}

/** Nobody waits for it. The end of the document is the end of it. */
export function inBackground(engine: Engine, replica: Replica, work: Promise<void>): void {
  work.catch((error: unknown) => {
    if (!engine.isClosed && !replica.ending.signal.aborted) report(engine, error)
  })
}

/** What builds on a branch joins it: the relay would never have what it waits for. */
async function take(
  engine: Engine,
  replica: Replica,
  over: ReadonlySet<string>,
  wereOver: boolean,
): Promise<void> {
  const { aside } = replica
  const { received, outbox, branches } = await withUnsaved(engine.device, replica)
  do await moduleReady(engine)
  while (engine.recovery !== undefined)
  if (replica.ending.signal.aborted) return
  // Other edits were put aside meanwhile.
  if (aside !== replica.aside) return take(engine, replica, over, wereOver)
  const known = new Set([...replica.rows.values()].map(rowName))
  const rows = outbox.filter(row => over.has(row.opening) && !known.has(rowName(row)))
  const joined = call(engine, () => joining(engine, branches, rows, received))
  const gone = new Set(joined.flatMap(branch => branch.rows.slice()))
  const left = rows.filter(row => !gone.has(row))
  // What it had stored as received, and did not live to tell, a relay that was restored may lack.
  for (const update of wereOver ? [] : received.flatMap(row => row.updates.slice()))
    hearEdit(engine, replica, { update, lineage: '' })
  if (left.length > 0) act(engine, core => takeInto(engine, core, replica, left))
  if (joined.length === 0) return
  engine.device.push(joined.map(branch => ({ kind: 'branched', branch })))
  engine.branchOff(engine, replica, undefined)
}

export function takeInto(engine: Engine, core: Core, replica: Replica, all: readonly OutboxRow[]): void {
  const rows = all.filter(row => isUsable(replica, row))
  const names: readonly (number | undefined)[] = core.adopt(
    replica.id,
    rows.map(row => [row.update, row.edits, row.made]),
  )
  names.forEach((name, at) => {
    const row = rows[at]
    if (row === undefined) return
    if (name === undefined) setAside(engine, replica, row)
    else replica.rows.set(name, row)
  })
}

/** A document that is to be loaded anew. */
interface Load {
  readonly replica: Replica
  /** The names of the rows that it pushes. */
  readonly own: ReadonlySet<string>
  /** How often the module has failed with it. */
  traps: number
}

/** Starts the module anew and loads every document into it, without the rows that make it fail. */
export async function recover(engine: Engine, failure: unknown): Promise<void> {
  renew(engine)
  const loads = new Set<Load>()
  for (const replica of engine.replicas.values()) {
    const own = new Set([...replica.rows.values()].map(rowName))
    if (replica.id !== notLoaded) loads.add({ replica, own, traps: 0 })
  }
  try {
    while (!(await reloadAll(engine, loads))) renew(engine)
  } finally {
    // The relay knows the old instance's channels.
    engine.connection?.drop()
  }
  report(engine, new TidewellError('recovered', undefined, failure))
}

/** Each sets a row of the document aside. With one that has more bad rows than this it is not the rows that are to blame. */
const trapsMax = 20

/**
 * Answers false when that needs another module. A document that cannot be read, or makes the module fail whatever is set aside,
 * is reported, and stays without the module until it is closed and opened again.
 */
async function reloadAll(engine: Engine, loads: Set<Load>): Promise<boolean> {
  for (const load of loads) {
    const { replica } = load
    try {
      const stored = await readPatiently(engine, replica)
      // Another client of the page has thrown the module away meanwhile.
      if (engine.generation !== wasmGeneration()) return false
      if (!replica.ending.signal.aborted) reload(engine, load, stored)
    } catch (error) {
      load.traps += 1
      if (!isTrap(error) || load.traps > trapsMax) {
        loads.delete(load)
        giveUp(engine, replica, error)
      }
      if (isTrap(error)) return false
    }
  }
  return true
}

function reload(engine: Engine, { replica, own }: Load, stored: Stored): void {
  addToCore(engine, replica, stored)
  replica.rows = new Map()
  // What this tab pushed before it pushes again: its own rows, and those that it had adopted.
  takeInto(
    engine,
    engine.core,
    replica,
    stored.outbox.filter(row => own.has(rowName(row))),
  )
  restoreWatches(engine, replica)
}

/** The others go on. */
function giveUp(engine: Engine, replica: Replica, error: unknown): void {
  if (replica.id >= 0 && !isTrap(error)) engine.core.remove(replica.id)
  replica.id = toBeLoaded
  failWaiting(replica, 'device_failed')
  report(engine, isTrap(error) ? failedWith(replica, error) : error)
}

function failedWith({ name }: Replica, trap: unknown): TidewellError {
  return new TidewellError('device_failed', `the module fails with "${name}"`, trap)
}

/** Waits before a document that could not be read is read again, in milliseconds. */
const readAgainMs = [200, 400, 800, 1600]

async function readPatiently(engine: Engine, replica: Replica): Promise<Stored> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await withUnsaved(engine.device, replica)
    } catch (error) {
      const ms = readAgainMs[attempt]
      if (ms === undefined || engine.isClosed) throw error
      await new Promise(resolve => setTimeout(resolve, ms))
    }
  }
}

/** What is on disk and what is still on its way there. */
export async function withUnsaved(device: Device, replica: Replica): Promise<Stored> {
  const stored = await device.load(replica.name)
  const leavingFor = device.leaving(replica.name)
  const leaving = new Set(leavingFor.flatMap(branch => branch.rows.map(rowName)))
  const known = new Set([...stored.outbox.map(rowName), ...leaving])
  const unsaved = device.unsaved(replica.name).flatMap(({ row }) => (known.has(rowName(row)) ? [] : row))
  return {
    ...stored,
    // It may cover those of them that the relay has.
    cursor: leavingFor.length > 0 ? undefined : stored.cursor,
    outbox: [...stored.outbox.filter(row => !leaving.has(rowName(row))), ...unsaved],
    branches: [...stored.branches, ...leavingFor],
  }
}

/** Tells everybody who watches or waits of a document that was loaded anew. */
export function restoreWatches(engine: Engine, replica: Replica): void {
  const core = engine.core
  declareRoots(core, replica)
  for (const watch of replica.deltaWatches) {
    try {
      watch.watch = core.watch_text(replica.id, watch.path)
      const content: readonly DeltaOperation[] = core.text_content(replica.id, watch.path)
      // What is there when it is told: the next module may load the document once more before.
      engine.tasks.push(() =>
        watch.tell(watch.length > 0 ? [{ delete: watch.length }, ...content] : content, false),
      )
    } catch (error) {
      if (isTrap(error)) throw error
      // The text is gone with what could not be read: there is nothing to tell any more.
      replica.deltaWatches.delete(watch)
    }
  }
  const newest: number | undefined = core.status(replica.id)[5]
  for (const waiter of replica.waiters) waiter.row = newest ?? waiter.row
  for (const listener of replica.valueListeners) engine.tasks.push(listener)
}

/** One stored row. */
type Row = ReceivedRow | OutboxRow

function updatesOf(row: Row): readonly Uint8Array[] {
  return 'key' in row ? row.updates : [row.update]
}

function isUsable(replica: Replica, row: Row): boolean {
  return !replica.setAside.has('key' in row ? row.key.join('\n') : rowName(row))
}

/** Those of `rows` that build on something of `refused` that the relay does not have. */
export function dependents(
  engine: Engine,
  refused: readonly OutboxRow[],
  rows: readonly OutboxRow[],
  received: readonly ReceivedRow[],
): readonly OutboxRow[] {
  if (refused.length === 0 || rows.length === 0) return []
  const found = engine.wasm.dependents(
    refused.map(updateOf),
    rows.map(updateOf),
    received.flatMap(row => row.updates.slice()),
  )
  return [...found].flatMap(at => rows[at] ?? [])
}

/** What of `rows` belongs to which branch. */
export function joining(
  engine: Engine,
  branches: readonly StoredBranch[],
  rows: readonly OutboxRow[],
  received: readonly ReceivedRow[],
): readonly StoredBranch[] {
  let left = rows
  return branches.flatMap(branch => {
    const joined = new Set(dependents(engine, branch.rows, left, received))
    left = left.filter(row => !joined.has(row))
    return joined.size > 0 ? { ...branch, rows: [...joined] } : []
  })
}

/** The rows' updates, as the module takes them. */
export function updateOf(row: OutboxRow): Uint8Array {
  return row.update
}

/**
 * Opens the document in the module, without its branches and what builds on them. Fails with the trap of a row, after
 * setting it aside.
 */
export function addToCore(engine: Engine, replica: Replica, stored: Stored): void {
  const refused = stored.branches.flatMap(branch => branch.rows.slice())
  const received = stored.received.filter(row => isUsable(replica, row))
  const outbox = stored.outbox.filter(row => isUsable(replica, row))
  let rows: readonly Row[] = [...received, ...outbox]
  let added: Added
  try {
    // The module reads them for this, too, and may fail with one.
    const late = new Set<Row>(dependents(engine, refused, outbox, received))
    rows = rows.filter(row => !late.has(row))
    added = tryAdd(engine, replica, rows, replica.setAside.size > 0 ? undefined : stored.cursor)
  } catch (error) {
    if (isTrap(error) && engine.recovery !== undefined) {
      const culprit = isolate(engine, replica, rows)
      if (culprit !== undefined) setAside(engine, replica, culprit)
    }
    throw error
  }
  const ofUpdate = rows.flatMap(row => updatesOf(row).map(() => row))
  for (const row of new Set(added.unreadable.flatMap(at => ofUpdate[at] ?? [])))
    setAside(engine, replica, row)
  replica.id = added.id
  replica.storedCursor = replica.setAside.size > 0 || added.hasGap ? undefined : stored.cursor
  replica.isOffering = false
  replica.hasUnstored = false
  setBranchesAside(engine.core, replica, refused)
  const [first, ...others] = stored.received
  replica.foldable = {
    rows: stored.received.length,
    bytes: others.reduce((sum, row) => sum + sizeOf(row), 0),
    snapshotBytes: first === undefined ? 0 : sizeOf(first),
  }
}

/** From now on nothing of these rows is taken from other tabs. */
export function setBranchesAside(core: Core, replica: Replica, rows: readonly OutboxRow[]): void {
  replica.aside = new Set(rows.map(rowName))
  core.set_aside(replica.id, rows.map(updateOf))
}

function sizeOf(row: Row): number {
  return updatesOf(row).reduce((sum, update) => sum + update.length, 0)
}

function tryAdd(engine: Engine, replica: Replica, rows: readonly Row[], cursor: Cursor | undefined): Added {
  const place = `${engine.device.id}.${engine.tabs.place}`
  const updates = rows.flatMap(row => updatesOf(row).slice())
  try {
    return engine.core.add(replica.name, randomClientId(), place, updates, cursor)
  } catch (error) {
    throw errorFrom(error)
  }
}

/** Finds the row with which the module fails, by halves: the shortest beginning that fails ends with it. */
function isolate(engine: Engine, replica: Replica, rows: readonly Row[]): Row | undefined {
  const fails = (count: number): boolean => {
    renew(engine)
    try {
      tryAdd(engine, replica, rows.slice(0, count), undefined)
      return false
    } catch (error) {
      if (!isTrap(error)) throw error
      return true
    }
  }
  // Where it fails without any row, too, none is to blame.
  if (fails(0) || !fails(rows.length)) return undefined
  let [good, bad] = [0, rows.length]
  while (bad - good > 1) {
    const middle = (good + bad) >> 1
    if (fails(middle)) bad = middle
    else good = middle
  }
  return rows[bad - 1]
}

function renew(engine: Engine): void {
  replaceWasm(engine.generation)
  // Numbers are given again: what one had before is another document's then.
  for (const replica of engine.replicas.values()) if (replica.id !== notLoaded) replica.id = toBeLoaded
  engine.core = new engine.wasm.Core()
  engine.generation = wasmGeneration()
}

function setAside(engine: Engine, replica: Replica, row: Row): void {
  replica.setAside.add('key' in row ? row.key.join('\n') : rowName(row))
  engine.device.push([{ kind: 'set_aside', document: replica.name, row }])
  if (!('key' in row) && row.opening === replica.opening) {
    replica.lost = { code: 'device_corrupt', isHeard: replica.waiters.size > 0 }
    failWaiting(replica, 'device_corrupt')
  }
  report(engine, new TidewellError('device_corrupt', `a row of "${replica.name}"`))
}

/** Random below 2^53; it enters the document with the first edit only. */
function randomClientId(): number {
  const [high = 0, low = 0] = crypto.getRandomValues(new Uint32Array(2))
  return (high & 0x1fffff) * 2 ** 32 + low
}
