// What is to be written on this device, in its order, until it is.
//
// Edits of about 50 ms share one strict transaction; when someone waits or the page hides, it begins at once.
// What fails is tried again with everything that came later: nothing leaves this list before its `complete`.

import type { Code } from '../code.js'
import { TidewellError } from '../error.js'
import {
  type Change,
  type EditChange,
  leavingOutbox,
  openDatabase,
  rowName,
  type StoredBranch,
  storeError,
  write,
} from './store.js'

/** How edits are on disk: all of them, not yet, or not at the last try. */
export type DeviceState = 'saved' | 'saving' | { readonly failed: Code }

/** The list of what is to be written. */
export interface Writer {
  /** Reads from the database, which is opened again when the browser has closed it. */
  read<T>(run: (db: IDBDatabase) => Promise<T>): Promise<T>
  /** Adds changes; those of one call are never in different transactions. */
  push(changes: readonly Change[]): void
  /** Writes what is there, now. Fails with what the browser says; it is tried again all the same. */
  flush(): Promise<void>
  /** Edits of a document that are not on disk. */
  unsaved(document: string): readonly EditChange[]
  /** Edits of all documents that are not on disk, and stay in the outbox. */
  unsent(): readonly EditChange[]
  /** Branches of a document that are not on disk, with the rows that leave the outbox for them. */
  leaving(document: string): readonly StoredBranch[]
  /** How a document's edits are on disk. */
  state(document: string): DeviceState
  /** Ends; what is there is written first if it can be. */
  close(): Promise<void>
}

/** What a writer tells. */
export interface WriterEvents {
  /** These changes are on disk. */
  readonly written: (changes: readonly Change[]) => void
  /** The state of documents has changed. */
  readonly changed: () => void
}

/** Longest time that an edit waits for others, in milliseconds. */
const gatherMs = 50

/** Wait before a failed write is tried again, in milliseconds: doubled up to the second. */
const retryMs = [200, 10_000] as const

/** A writer to the database of `store`, which is open already. */
export function makeWriter(store: string, open: IDBDatabase, events: WriterEvents): Writer {
  let db: IDBDatabase | undefined = open
  open.onclose = lost
  let groups: (readonly Change[])[] = []
  let inFlight: Promise<void> | undefined
  let timer: ReturnType<typeof setTimeout> | undefined
  let failed: Code | undefined
  let failures = 0
  let closed = false

  function lost(): void {
    db = undefined
  }

  async function database(): Promise<IDBDatabase> {
    if (closed) throw new TidewellError('closed')
    db ??= await openDatabase(store, lost)
    return db
  }

  async function read<T>(run: (db: IDBDatabase) => Promise<T>): Promise<T> {
    const used = await database()
    try {
      return await run(used)
    } catch (error) {
      // The connection may be gone without having said so: then nothing has been read, and one that is new can.
      if (!(error instanceof DOMException)) throw error
      if (db === used) db = undefined
      return await run(await database())
    }
  }

  function later(ms: number): void {
    if (timer !== undefined || closed) return
    timer = setTimeout(() => {
      timer = undefined
      // Told in the state, and tried again.
      flush().catch(() => undefined)
    }, ms)
  }

  async function writeGroups(taken: readonly (readonly Change[])[]): Promise<void> {
    const changes = taken.flat()
    // What the relay does not have.
    const isOwn = changes.some(change => change.kind === 'edit' || change.kind === 'branched')
    const durability = isOwn ? 'strict' : 'relaxed'
    try {
      await write(await database(), changes, durability)
    } catch (error) {
      // The connection may be gone without having said so: the next try opens anew.
      if (error instanceof DOMException) db = undefined
      const known = storeError(error)
      failures += 1
      failed = known.code
      later(Math.min(retryMs[0] * 2 ** failures, retryMs[1]))
      throw known
    }
    groups = groups.slice(taken.length)
    failures = 0
    failed = undefined
    events.written(changes)
  }

  async function flush(): Promise<void> {
    // One at a time, so that order holds when one fails.
    const last = inFlight
    if (last !== undefined) await last.catch(() => undefined)
    if (inFlight !== undefined && inFlight !== last) return flush()
    if (groups.length === 0) return
    clearTimeout(timer)
    timer = undefined
    // A copy: what is pushed while it is being written is not in it.
    const run = writeGroups([...groups])
    inFlight = run
    try {
      await run
    } finally {
      inFlight = undefined
      events.changed()
      if (groups.length > 0) later(failed === undefined ? gatherMs : retryMs[0] * 2 ** failures)
    }
  }

  function unsaved(document: string): readonly EditChange[] {
    return groups
      .flat()
      .flatMap(change => (change.kind === 'edit' && change.document === document ? change : []))
  }

  function unsent(): readonly EditChange[] {
    const left = new Map<string, EditChange>()
    for (const change of groups.flat()) {
      if (change.kind === 'edit') left.set(rowName(change.row), change)
      for (const row of leavingOutbox(change)) left.delete(rowName(row))
    }
    return [...left.values()]
  }

  function leaving(document: string): readonly StoredBranch[] {
    return groups
      .flat()
      .flatMap(change =>
        change.kind === 'branched' && change.branch.document === document ? change.branch : [],
      )
  }

  return {
    read,
    unsaved,
    unsent,
    leaving,
    flush,
    push(changes) {
      if (changes.length === 0) return
      groups.push(changes)
      later(gatherMs)
    },
    state(document) {
      if (unsaved(document).length === 0) return 'saved'
      return failed === undefined ? 'saving' : { failed }
    },
    async close() {
      try {
        await flush()
      } finally {
        closed = true
        clearTimeout(timer)
        db?.close()
      }
    },
  }
}
