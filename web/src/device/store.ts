// IndexedDB: open, load, write, and nothing else. What is written when is decided elsewhere.
//
// documents  name → { cursor }, and [name] → { cursor }, which goes on from that one and means nothing without it
// outbox     [document, opening, number] → a row that the relay has not acknowledged
// received   [document, epoch, sequence, source] → updates that came from the relay or went there
// branches   [document, branch, opening, number] → a row that the relay refused, or that builds on one, and the code
// set_aside  (counted) → a row that could not be read, for people to look at
// meta       'device' → this device's name in counters

import type { Code } from '../code.js'
import { TidewellError } from '../error.js'

/** Where knowledge of the relay's commits ends; epoch and lineage are 16 hexadecimal digits. */
export interface Cursor {
  readonly epoch: string
  readonly lineage: string
  readonly sequence: number
}

/** An edit that the relay has not acknowledged, as stored. */
export interface OutboxRow {
  /** The opening of the document that it was made in: of one tab, from `doc` to `close`. */
  readonly opening: string
  /** Unlike any other of the tab. */
  readonly number: number
  readonly update: Uint8Array
  readonly edits: number
  readonly made: number
}

/** Updates that are durable at the relay, as stored. */
export interface ReceivedRow {
  readonly key: ReceivedKey
  readonly updates: readonly Uint8Array[]
}

/** The last part keeps rows of several writers apart. */
export type ReceivedKey = readonly [document: string, epoch: string, sequence: number, source: string]

/** Edits that were put aside together, because the relay refused one of them. */
export interface StoredBranch {
  readonly document: string
  readonly id: string
  readonly code: Code
  readonly rows: readonly OutboxRow[]
}

/** All that is stored of a document. */
export interface Stored {
  readonly cursor: Cursor | undefined
  readonly received: readonly ReceivedRow[]
  readonly outbox: readonly OutboxRow[]
  readonly branches: readonly StoredBranch[]
}

/** One thing to write. The changes of one transaction are made in order, all or none. */
export type Change =
  | { readonly kind: 'edit'; readonly document: string; readonly row: OutboxRow }
  | { readonly kind: 'received'; readonly key: ReceivedKey; readonly updates: readonly Uint8Array[] }
  | {
      readonly kind: 'cursor'
      readonly document: string
      readonly cursor: Cursor
      /** It goes on from the one that is stored, and means nothing if there is none any more. */
      readonly goesOn: boolean
    }
  | {
      readonly kind: 'acknowledged'
      readonly document: string
      readonly epoch: string
      readonly sequence: number
      readonly rows: readonly OutboxRow[]
    }
  | {
      readonly kind: 'compacted'
      readonly from: readonly ReceivedKey[]
      readonly key: ReceivedKey
      readonly update: Uint8Array
    }
  /** Rows leave the outbox for a branch, which may be there already. */
  | { readonly kind: 'branched'; readonly branch: StoredBranch }
  /** These rows leave a branch for good. Others may have joined it meanwhile, and stay. */
  | { readonly kind: 'branch_ended'; readonly branch: StoredBranch }
  | { readonly kind: 'set_aside'; readonly document: string; readonly row: OutboxRow | ReceivedRow }
  | { readonly kind: 'device'; readonly id: string }

/** An edit that is to be written. */
export type EditChange = Extract<Change, { kind: 'edit' }>

/** The rows that leave the outbox with a change. */
export function leavingOutbox(change: Change): readonly OutboxRow[] {
  switch (change.kind) {
    case 'acknowledged':
      return change.rows
    case 'branched':
      return change.branch.rows
    case 'set_aside':
      return 'key' in change.row ? [] : [change.row]
    default:
      return []
  }
}

/** 2: branches. */
const version = 2

const stores = ['documents', 'outbox', 'received', 'meta', 'branches'] as const

/** Opens the database of a store. `onLost` is called when the browser closes it. */
export function openDatabase(store: string, onLost: () => void): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(`tidewell/${store}`, version)
    request.onupgradeneeded = () => {
      const db = request.result
      const isNew = (name: string) => !db.objectStoreNames.contains(name)
      for (const name of stores) if (isNew(name)) db.createObjectStore(name)
      if (isNew('set_aside')) db.createObjectStore('set_aside', { autoIncrement: true })
    }
    request.onsuccess = () => {
      const db = request.result
      // Another tab upgrades or deletes the database: without this it would wait for ever.
      db.onversionchange = () => {
        db.close()
        onLost()
      }
      db.onclose = onLost
      resolve(db)
    }
    request.onerror = () => reject(storeError(request.error))
    request.onblocked = () =>
      reject(new TidewellError('device_unavailable', 'another tab holds an older database'))
  })
}

/** Everything of a document, in one moment. */
export function load(db: IDBDatabase, document: string): Promise<Stored> {
  return new Promise((resolve, reject) => {
    const tx = db.transaction(['documents', 'outbox', 'received', 'branches'], 'readonly')
    const documents = tx.objectStore('documents')
    const first: IDBRequest<{ cursor: Cursor } | undefined> = documents.get(document)
    const further: IDBRequest<{ cursor: Cursor } | undefined> = documents.get([document])
    const rows: IDBRequest<OutboxRow[]> = tx.objectStore('outbox').getAll(of(document))
    const updates: IDBRequest<Uint8Array[][]> = tx.objectStore('received').getAll(of(document))
    const keys = tx.objectStore('received').getAllKeys(of(document))
    const branches = readBranches(tx, of(document))
    tx.oncomplete = () => {
      const received = keys.result.map((key, at) => ({
        key: key as unknown as ReceivedKey,
        updates: updates.result[at] ?? [],
      }))
      const cursor = first.result && (further.result ?? first.result).cursor
      resolve({ cursor, received, outbox: rows.result, branches: branches() })
    }
    tx.onabort = () => reject(storeError(tx.error))
  })
}

/** The branches of a document, or of all documents. */
export function loadBranches(db: IDBDatabase, document?: string): Promise<readonly StoredBranch[]> {
  return new Promise((resolve, reject) => {
    const tx = db.transaction('branches', 'readonly')
    const branches = readBranches(tx, document === undefined ? undefined : of(document))
    tx.oncomplete = () => resolve(branches())
    tx.onabort = () => reject(storeError(tx.error))
  })
}

interface BranchRow {
  readonly code: Code
  readonly row: OutboxRow
}

/** Asks for branches; what it answers tells them when the transaction is complete. */
function readBranches(tx: IDBTransaction, range: IDBKeyRange | undefined): () => readonly StoredBranch[] {
  const keys = tx.objectStore('branches').getAllKeys(range)
  const values: IDBRequest<BranchRow[]> = tx.objectStore('branches').getAll(range)
  return () => {
    const found = new Map<string, StoredBranch & { readonly rows: OutboxRow[] }>()
    values.result.forEach(({ code, row }, at) => {
      const [document, id] = keys.result[at] as unknown as readonly [string, string]
      const branch = found.get(id) ?? { document, id, code, rows: [] }
      branch.rows.push(row)
      found.set(id, branch)
    })
    return [...found.values()].map(branch => ({ ...branch, rows: inOrder(branch.rows) }))
  }
}

/** Names a row of a document's outbox. */
export function rowName(row: { readonly opening: string; readonly number: number }): string {
  return `${row.opening}/${row.number}`
}

/** Keys sort by opening; edits are shown in the order of their making. */
export function inOrder(rows: readonly OutboxRow[]): readonly OutboxRow[] {
  return [...rows].sort((a, b) => a.made - b.made || a.number - b.number)
}

/** Documents that have rows in the outbox, and the openings whose rows they are. */
export function outboxOpenings(db: IDBDatabase): Promise<Map<string, Set<string>>> {
  return new Promise((resolve, reject) => {
    const tx = db.transaction('outbox', 'readonly')
    const keys = tx.objectStore('outbox').getAllKeys()
    tx.oncomplete = () => {
      const found = new Map<string, Set<string>>()
      for (const key of keys.result) {
        const [document, opening] = key as unknown as readonly [string, string, number]
        found.set(document, (found.get(document) ?? new Set()).add(opening))
      }
      resolve(found)
    }
    tx.onabort = () => reject(storeError(tx.error))
  })
}

/** This device's name in counters, if it has one. */
export function deviceId(db: IDBDatabase): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const tx = db.transaction('meta', 'readonly')
    const id: IDBRequest<string | undefined> = tx.objectStore('meta').get('device')
    tx.oncomplete = () => resolve(id.result)
    tx.onabort = () => reject(storeError(tx.error))
  })
}

/** Makes changes in one transaction. Resolves at its `complete`: with `strict`, they are on disk. */
export function write(
  db: IDBDatabase,
  changes: readonly Change[],
  durability: 'strict' | 'relaxed',
): Promise<void> {
  return new Promise((resolve, reject) => {
    const tx = db.transaction([...stores, 'set_aside'], 'readwrite', { durability })
    tx.oncomplete = () => resolve()
    // An error of one request aborts the transaction, and `error` is then told here too.
    tx.onabort = () => reject(storeError(tx.error))
    for (const change of changes) make(tx, change)
    // Said outright it also completes when the page is on its way out. No change may wait for a read: what it would then ask
    // for comes too late.
    tx.commit()
  })
}

function make(tx: IDBTransaction, change: Change): void {
  switch (change.kind) {
    case 'edit':
      tx.objectStore('outbox').put(change.row, [change.document, change.row.opening, change.row.number])
      return
    case 'received':
      tx.objectStore('received').put(change.updates, [...change.key])
      return
    case 'cursor':
      putCursor(tx.objectStore('documents'), change)
      return
    case 'acknowledged':
      // They join what was received: deleted, they would be missing at the next start without network.
      for (const row of change.rows) {
        const source = `${row.opening}/${row.number}`
        tx.objectStore('received').put([row.update], [change.document, change.epoch, change.sequence, source])
        tx.objectStore('outbox').delete([change.document, row.opening, row.number])
      }
      return
    case 'compacted':
      for (const key of change.from) tx.objectStore('received').delete([...key])
      tx.objectStore('received').put([change.update], [...change.key])
      return
    case 'branched': {
      const { document, id, code, rows } = change.branch
      for (const row of rows) {
        tx.objectStore('branches').put({ code, row }, [document, id, row.opening, row.number])
        tx.objectStore('outbox').delete([document, row.opening, row.number])
      }
      // It may cover those of them that the relay has, and that the document goes on without.
      forgetCursor(tx.objectStore('documents'), document)
      return
    }
    case 'branch_ended': {
      const { document, id, rows } = change.branch
      for (const row of rows) tx.objectStore('branches').delete([document, id, row.opening, row.number])
      return
    }
    case 'set_aside':
      tx.objectStore('set_aside').add({ document: change.document, row: change.row })
      // It promises that everything before it is here: without it the relay is asked for what is missing.
      forgetCursor(tx.objectStore('documents'), change.document)
      if ('key' in change.row) tx.objectStore('received').delete([...change.row.key])
      else tx.objectStore('outbox').delete([change.document, change.row.opening, change.row.number])
      return
    case 'device':
      tx.objectStore('meta').put(change.id, 'device')
  }
}

function putCursor(
  documents: IDBObjectStore,
  { document, cursor, goesOn }: Change & { kind: 'cursor' },
): void {
  if (!goesOn) forgetCursor(documents, document)
  documents.put({ cursor }, goesOn ? [document] : document)
}

function forgetCursor(documents: IDBObjectStore, document: string): void {
  documents.delete(document)
  documents.delete([document])
}

/** All keys that begin with a document's name, or more: arrays sort after everything else. */
function of(...beginning: readonly string[]): IDBKeyRange {
  return IDBKeyRange.bound([...beginning], [...beginning, []])
}

/** What the browser's error means. */
export function storeError(error: unknown): TidewellError {
  if (error instanceof TidewellError) return error
  const name = error instanceof Error || error instanceof DOMException ? error.name : ''
  const code: Code = name === 'QuotaExceededError' ? 'device_full' : 'device_failed'
  return new TidewellError(code, undefined, error ?? undefined)
}
