// A document as the application holds it.

import { rowName } from './device/store.js'
import {
  call,
  type Engine,
  flush,
  isRecovering,
  isRecovery,
  isStartingAnew,
  moduleReady,
  queueFlush,
  readStatus,
  refresh,
} from './engine.js'
import { TidewellError } from './error.js'
import {
  type CounterHandle,
  counterHandle,
  type ListHandle,
  listHandle,
  type MapHandle,
  mapHandle,
  type Path,
  type TextHandle,
  textHandle,
} from './handle.js'
import type { PlainValue } from './plain.js'
import { type Input, lossError, type Replica, type Waiter } from './replica.js'
import type { Status } from './status.js'

/** The plain value of a document: an entry for each root type. Frozen; unchanged parts stay the same objects. */
export type DocValue = Readonly<Record<string, PlainValue>>

/** Shared types of a document by name or path. Root types need not be made: naming one is enough. */
export interface Types {
  /** The text at `path`. Fails with `invalid_path` when something else is there. */
  text(path: Path): TextHandle
  /** The list at `path`. Fails with `invalid_path` when something else is there. */
  list(path: Path): ListHandle
  /** The map at `path`. Fails with `invalid_path` when something else is there. */
  map(path: Path): MapHandle
  /** The counter at `path`. Fails with `invalid_path` when something else is there. */
  counter(path: Path): CounterHandle
}

/** A document on this device. */
export interface Doc extends Types {
  readonly name: string
  /** The document as a plain value, with what this turn has edited; inside `edit`, as it was before this turn. */
  readonly value: DocValue
  /** Where it stands with this device and with the relay. */
  readonly status: Status
  /**
   * Edits in one transaction: all of them, or none when `change` throws. Inside, the handles read what was edited.
   * Answers what `change` answers. An `edit` inside another is a part of it. Fails with `closed`, and with
   * `invalid_options` when `change` is asynchronous: what it does later would be no part of it.
   */
  edit<T>(change: (types: Types) => T): T
  /**
   * Calls back with what `select` answers whenever that has changed, after the call that changed it. Arrays are the
   * same when their elements are. Ends with what it answers.
   */
  watch<T>(select: (value: DocValue) => T, callback: (selected: T) => void): () => void
  /** Calls with every new status. Ends with what it answers. */
  onStatus(callback: (status: Status) => void): () => void
  /**
   * Resolves when every edit made so far is on this device's disk (`device`) or durable at the relay (`relay`, which
   * waits while offline, and for ever in a client without `url`). Fails with the code of what prevents it (for `device`
   * `device_unavailable` when `status.storage` is `memory`), with `aborted` when `signal` ends the wait, and with `closed`.
   * Edits that the relay has refused are in a branch (`client.branches`): those who wait fail with its code, and if nobody
   * does, the next one who asks. It is the same with edits that were lost when the module failed: `invalid_value` when it
   * fails with them, `invalid_range` or another code of theirs when they cannot be made in what was loaded again,
   * `device_corrupt` when their row was set aside, and `device_failed` while the document cannot be loaded.
   */
  saved(where: 'device' | 'relay', options?: { readonly signal?: AbortSignal }): Promise<void>
  /**
   * Closes the document on this device, for all who have it from this client. What the relay does not have stays on
   * disk. Fails when it cannot be written, and when edits were lost that nobody has heard of yet; it is closed all the same.
   */
  close(): Promise<void>
}

/** Makes the object that applications hold. */
export function makeDoc(engine: Engine, replica: Replica, close: () => Promise<void>): Doc {
  const types = makeTypes(engine, replica)
  return {
    ...types,
    name: replica.name,
    get value() {
      return readValue(engine, replica)
    },
    get status() {
      readStatus(engine, replica)
      return replica.status
    },
    edit: change => editTogether(engine, replica, types, change),
    watch: (select, callback) => watch(engine, replica, select, callback),
    onStatus(callback) {
      const listener = (status: Status) => callback(status)
      assertOpen(engine, replica)
      // Changes are told against what is known now.
      readStatus(engine, replica)
      replica.statusListeners.add(listener)
      return () => {
        replica.statusListeners.delete(listener)
      }
    },
    async saved(where, { signal } = {}) {
      if (where !== 'device' && where !== 'relay') throw new TidewellError('invalid_options', 'where')
      assertOpen(engine, replica)
      try {
        if (where === 'device') await until(signal, () => savedOnDevice(engine, replica))
        else await savedAtRelay(engine, replica, signal)
      } catch (error) {
        hear(replica, error)
        throw error
      }
    },
    close,
  }
}

function assertOpen(engine: Engine, replica: Replica): void {
  if (engine.isClosed || replica.ending.signal.aborted) throw new TidewellError('closed')
}

function makeTypes(engine: Engine, replica: Replica): Types {
  const declare = (path: Path, kind: 'text' | 'list' | 'map' | 'counter') => {
    if (Array.isArray(path)) return
    if (typeof path !== 'string') throw new TidewellError('invalid_path', 'a path is a string or an array')
    if (replica.root.get(path) === kind) return
    assertOpen(engine, replica)
    // The next module is asked when it is there.
    if (!isRecovering(engine)) call(engine, core => core.declare(replica.id, path, kind))
    replica.root.set(path, kind)
  }
  return {
    text(path) {
      declare(path, 'text')
      return textHandle(engine, replica, path)
    },
    list(path) {
      declare(path, 'list')
      return listHandle(engine, replica, path)
    },
    map(path) {
      declare(path, 'map')
      return mapHandle(engine, replica, path)
    },
    counter(path) {
      declare(path, 'counter')
      return counterHandle(engine, replica, path)
    },
  }
}

function readValue(engine: Engine, replica: Replica): DocValue {
  // Does nothing inside `edit`, whose edits may yet be taken back. The handles read them.
  flush(engine, replica)
  return call(engine, core => core.value(replica.id))
}

function editTogether<T>(engine: Engine, replica: Replica, types: Types, change: (types: Types) => T): T {
  if (replica.depth > 0) return now(change, types)
  assertOpen(engine, replica)
  const inputs: Input[] = []
  const wasCounting = replica.isCounting
  replica.edits.push(inputs)
  replica.depth = 1
  try {
    const answer = now(change, types)
    if (inputs.length === 0) replica.edits.pop()
    return answer
  } catch (error) {
    replica.isCounting = wasCounting
    replica.edits.pop()
    if (inputs.length > 0) rollBack(engine, replica)
    throw error
  } finally {
    replica.depth = 0
    if (replica.edits.length > 0) queueFlush(engine, replica)
  }
}

/** What `change` answers. What it would edit after it has answered could not be taken back with the rest. */
function now<T>(change: (types: Types) => T, types: Types): T {
  const answer = change(types)
  // A value of a document may have an entry of this name, but never a function.
  if (typeof (answer as { then?: unknown } | null | undefined)?.then === 'function')
    throw new TidewellError('invalid_options', 'edit was given an asynchronous function')
  return answer
}

/** The draft is made again from what was in it before: nothing of it has been written. */
function rollBack(engine: Engine, replica: Replica): void {
  if (engine.isClosed || engine.recovery !== undefined) return
  try {
    call(engine, core => {
      core.discard(replica.id)
      for (const input of replica.edits.flat()) input(core, replica.id)
    })
  } catch (error) {
    // The next module makes the draft of what is left.
    if (!isRecovery(error)) throw error
  }
}

function watch<T>(
  engine: Engine,
  replica: Replica,
  select: (value: DocValue) => T,
  callback: (selected: T) => void,
): () => void {
  let last = select(readValue(engine, replica))
  const listener = () => {
    // It may have ended since this call was due.
    if (!replica.valueListeners.has(listener)) return
    const next = select(readValue(engine, replica))
    if (isSame(last, next)) return
    last = next
    callback(next)
  }
  replica.valueListeners.add(listener)
  return () => {
    replica.valueListeners.delete(listener)
  }
}

function isSame(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true
  return (
    Array.isArray(a) &&
    Array.isArray(b) &&
    a.length === b.length &&
    a.every((item, at) => Object.is(item, b[at]))
  )
}

/** What has become of edits is told once. Not before it is thrown: a wait that its signal has ended tells nobody. */
function hear(replica: Replica, error: unknown): void {
  if (!(error instanceof TidewellError)) return
  if (error.code === replica.unheard) replica.unheard = undefined
  if (error.code === replica.lost?.code) replica.lost.isHeard = true
}

/** Waits until the edits so far are rows. Fails with the code of what prevents it, or of what has become of some. */
async function written(engine: Engine, replica: Replica): Promise<void> {
  const before = replica.lost?.isHeard === true ? replica.lost : undefined
  // The edit that is running has ended then.
  if (replica.depth > 0) await null
  while (isStartingAnew(engine, [replica])) await moduleReady(engine)
  const { lost } = replica
  if (lost !== undefined && lost !== before) throw lossError(replica, lost.code)
  // The document could not be loaded again: they are in memory, and nowhere else.
  if (replica.edits.length > 0) throw new TidewellError('device_failed')
}

async function savedOnDevice(engine: Engine, replica: Replica): Promise<void> {
  if (engine.device.storage === 'memory') throw new TidewellError('device_unavailable', 'kept in memory only')
  await written(engine, replica)
  // Not until nothing is unsaved: somebody who types on would keep it from ending.
  const unsaved = engine.device.unsaved(replica.name)
  const newest = unsaved.at(-1)
  while (newest !== undefined && engine.device.unsaved(replica.name).includes(newest))
    await engine.device.flush()
  // The module may have failed with one of them meanwhile.
  if (unsaved.some(({ row }) => replica.setAside.has(rowName(row))))
    throw lossError(replica, 'device_corrupt')
}

async function savedAtRelay(
  engine: Engine,
  replica: Replica,
  signal: AbortSignal | undefined,
): Promise<void> {
  let waiter: Waiter | undefined
  const acknowledged = async (): Promise<void> => {
    await written(engine, replica)
    assertOpen(engine, replica)
    if (replica.unheard !== undefined) throw new TidewellError(replica.unheard)
    readStatus(engine, replica)
    // What was read before says nothing of now.
    if (isStartingAnew(engine, [replica])) return acknowledged()
    if (replica.id < 0) throw new TidewellError('device_failed')
    const row = replica.coreStatus[5]
    // Nobody would take the waiter away again, who then would hear of refusals.
    if (row === undefined || signal?.aborted === true) return
    await new Promise<void>((done, reject) => {
      waiter = { row, done, fail: code => reject(new TidewellError(code)) }
      replica.waiters.add(waiter)
      refresh(engine, replica)
    })
  }
  try {
    await until(signal, acknowledged)
  } finally {
    if (waiter !== undefined) replica.waiters.delete(waiter)
  }
}

/** The promise, or `aborted` when the signal comes first. */
async function until(signal: AbortSignal | undefined, start: () => Promise<void>): Promise<void> {
  const aborted = () => new TidewellError('aborted', undefined, signal?.reason)
  if (signal?.aborted === true) throw aborted()
  const promise = start()
  if (signal === undefined) return promise
  let stop: (() => void) | undefined
  const stopped = new Promise<never>((_, reject) => {
    stop = () => reject(aborted())
    signal.addEventListener('abort', stop, { once: true })
  })
  try {
    await Promise.race([promise, stopped])
  } finally {
    if (stop !== undefined) signal.removeEventListener('abort', stop)
    // Whoever waits no longer does not hear of its failure.
    promise.catch(() => undefined)
  }
}
