// This device's store, or memory where there is none.

import type { Code } from '../code.js'
import { TidewellError } from '../error.js'
import { newId } from '../new_id.js'
import { memoryDevice } from './memory.js'
import {
  type Change,
  deviceId,
  type EditChange,
  load,
  loadBranches,
  openDatabase,
  outboxOpenings,
  type Stored,
  type StoredBranch,
  storeError,
} from './store.js'
import { type DeviceState, makeWriter, type WriterEvents } from './writer.js'

/** Where documents are kept. */
export interface Device {
  readonly storage: 'indexeddb' | 'memory'
  /** This device's name in counters. */
  readonly id: string
  /** Who opens the store from now on has another name in counters: the relay knows of counts that are not on disk. */
  spendId(): void
  /** All that is stored of a document. */
  load(document: string): Promise<Stored>
  /** Documents that have rows in the outbox, also such as are not on disk, and the openings whose rows they are. */
  outboxOpenings(): Promise<ReadonlyMap<string, ReadonlySet<string>>>
  /** The branches on disk of a document, or of all documents. */
  branches(document?: string): Promise<readonly StoredBranch[]>
  /** Changes; those of one call, and of one turn, are in the same transaction. */
  push(changes: readonly Change[]): void
  flush(): Promise<void>
  unsaved(document: string): readonly EditChange[]
  /** Branches of a document that are not on disk, with the rows that leave the outbox for them. */
  leaving(document: string): readonly StoredBranch[]
  state(document: string): DeviceState
  /** True when the browser has promised not to clear the store by itself. */
  persistent(): boolean
  close(): Promise<void>
}

/** What to do where there is no IndexedDB: `auto` takes memory, `indexeddb` fails. */
export type StorageChoice = 'auto' | 'indexeddb' | 'memory'

/** Opens the store. Fails with `device_unavailable` when `choice` is `indexeddb` and there is none. */
export async function openDevice(
  store: string,
  choice: StorageChoice,
  events: WriterEvents,
): Promise<Device> {
  if (choice === 'memory') return memoryDevice(events)
  // Without locks nobody knows which tabs live: two would push each other's rows, and count in one place.
  const isPossible = typeof indexedDB !== 'undefined' && globalThis.navigator?.locks !== undefined
  if (!isPossible) {
    if (choice === 'auto') return memoryDevice(events)
    const detail = globalThis.isSecureContext === false ? 'the page was not loaded over https' : undefined
    throw new TidewellError('device_unavailable', detail)
  }
  try {
    return await databaseDevice(store, events)
  } catch (error) {
    if (choice === 'auto') return memoryDevice(events)
    throw new TidewellError('device_unavailable', undefined, error)
  }
}

async function databaseDevice(store: string, events: WriterEvents): Promise<Device> {
  const db = await openDatabase(store, () => undefined)
  let id: string
  let isKnown = true
  try {
    const known = await deviceId(db)
    isKnown = known !== undefined
    id = known ?? newId()
  } catch (error) {
    db.close()
    throw storeError(error)
  }
  const writer = makeWriter(store, db, events)
  let persistent = false
  askForPersistence(granted => {
    persistent = granted
    events.changed()
  })
  return {
    storage: 'indexeddb',
    id: `${id}${spentIds(store)}`,
    spendId: () => spendId(store),
    load: document => writer.read(db => load(db, document)),
    async outboxOpenings() {
      const found = await writer.read(outboxOpenings)
      for (const { document, row } of writer.unsent())
        found.set(document, (found.get(document) ?? new Set()).add(row.opening))
      return found
    },
    branches: document => writer.read(db => loadBranches(db, document)),
    push(changes) {
      // Written with the first edit: opening writes nothing.
      if (!isKnown && changes.some(change => change.kind === 'edit')) {
        isKnown = true
        writer.push([{ kind: 'device', id }, ...changes])
      } else {
        writer.push(changes)
      }
    },
    flush: writer.flush,
    unsaved: writer.unsaved,
    leaving: writer.leaving,
    state: writer.state,
    persistent: () => persistent,
    close: writer.close,
  }
}

/** Never waited for: some browsers answer only after people have. */
function askForPersistence(answer: (granted: boolean) => void): void {
  const storage = globalThis.navigator?.storage
  if (storage?.persist === undefined) return
  storage.persist().then(answer, () => answer(false))
}

/** Why a write failed, if it did. */
export function failureOf(state: DeviceState): Code | undefined {
  return typeof state === 'object' ? state.failed : undefined
}

/** Not in IndexedDB, which is what has failed when it is needed. */
const spentKey = (store: string) => `tidewell/${store}/spent`

/** What is put behind the stored name: nothing, as long as no name has been spent. */
function spentIds(store: string): string {
  try {
    const count = localStorage.getItem(spentKey(store))
    return count === null ? '' : `-${count}`
  } catch {
    // A worker, or blocked.
    return ''
  }
}

function spendId(store: string): void {
  try {
    localStorage.setItem(spentKey(store), String(Number(localStorage.getItem(spentKey(store))) + 1))
  } catch {
    // Nowhere is left to write it down. The next tab counts right once it has heard of the relay.
  }
}
