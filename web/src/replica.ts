// One open document inside a client: plain data, and what is done with it in a turn.

import type { Code } from './code.js'
import type { Cursor, OutboxRow } from './device/store.js'
import type { CoreStatus, DeltaOperation } from './effect.js'
import { errorFrom, TidewellError } from './error.js'
import { newId } from './new_id.js'
import type { Status } from './status.js'
import type { Told } from './tabs.js'
import { type Core, isTrap } from './wasm.js'

/** A call of the module that edits, kept until its bytes are out: a module that fails starts anew with it. */
export type Input = (core: Core, id: number) => void

/** Edits of a document that it was made without, after the module had failed. */
export interface Loss {
  readonly code: Code
  /** Who waits for edits that may be among them, or who asks next, has been told. */
  isHeard: boolean
}

/** Someone who waits until the relay has an edit. */
export interface Waiter {
  /** The newest row when the wait began; its name changes when the module starts anew. */
  row: number
  readonly done: () => void
  readonly fail: (code: Code) => void
}

/** Someone who wants a text's deltas. */
export interface DeltaWatch {
  readonly path: unknown
  /** The module's number for it. */
  watch: number
  /** Length of the text as the watcher knows it. */
  length: number
  readonly tell: (delta: readonly DeltaOperation[], isLocal: boolean) => void
}

/** The duty to push the rows of an opening that is over, held or waited for. */
export interface Adoption {
  /** Ends it. */
  readonly duty: AbortController
  /** The rows are this opening's. */
  isDone: boolean
}

/** One open document. */
export interface Replica {
  readonly name: string
  /** Of this time that the document is open in this tab: its rows are named by it. Random. */
  readonly opening: string
  /** The module's number for it. */
  id: number
  /** This turn's edits: the calls of each. */
  edits: Input[][]
  /** How many `edit` calls are running inside each other. */
  depth: number
  isFlushQueued: boolean
  /** This turn adds to a counter: nobody may know of it before the disk does. */
  isCounting: boolean
  /** The rows of the outbox by the module's numbers. */
  rows: Map<number, OutboxRow>
  /** This tab stores what the relay sends. */
  isKeeper: boolean
  storedCursor: Cursor | undefined
  /** The relay has not taken all that this tab offered it: no cursor came with what came last. */
  isOffering: boolean
  /** What came from the relay while another tab was to store it: of a part of what was lacking no cursor tells. */
  hasUnstored: boolean
  /** No cursor may be stored before the whole document is. */
  owesWhole: boolean
  storingWhole: Promise<void> | undefined
  /** How often another tab has told something. */
  heard: number
  /** Rows of branches, by name, that the document in the module is without. */
  aside: ReadonlySet<string>
  /** Rows that compaction could fold, and how large they are. */
  foldable: { rows: number; bytes: number; snapshotBytes: number }
  isCompacting: boolean
  status: Status
  coreStatus: CoreStatus
  readonly root: Map<string, 'text' | 'list' | 'map' | 'counter'>
  readonly valueListeners: Set<() => void>
  readonly statusListeners: Set<(status: Status) => void>
  readonly deltaWatches: Set<DeltaWatch>
  readonly waiters: Set<Waiter>
  /** Openings in other tabs whose rows are adopted once they are over. */
  readonly watched: Set<string>
  /** Openings whose rows this one takes over. */
  readonly adoptions: Map<string, Adoption>
  /** Openings whose rows became this one's to take, after another tab had had them. */
  readonly inherited: string[]
  /** Rows that cannot be used, while the disk may still have them in their place. */
  readonly setAside: Set<string>
  /** While its refused edits are being put aside. */
  branching: Promise<void> | undefined
  /** Why edits were refused while nobody waited: the next who does is told. */
  unheard: Code | undefined
  /** What was lost last. */
  lost: Loss | undefined
  /** Tabs that wait until this one has looked for branches. */
  questions: string[]
  /** Branches are still to be looked for: another tab has made one while the document was being loaded, or the disk failed. */
  hasMissedBranch: boolean
  /** Calls that may succeed when where it stands at the relay has changed. */
  readonly retries: Set<() => void>
  /** How often the module has failed with this turn's edits. */
  failures: number
  /** What other tabs tell while the document is being loaded. */
  early: Told[] | undefined
  readonly ending: AbortController
  /** Aborted when everything of it is on the disk. */
  readonly leaving: AbortController
}

/** Ends a document: nobody is told of it any more, and whoever waits hears that it was closed. */
export function endReplica(replica: Replica): void {
  replica.ending.abort()
  replica.valueListeners.clear()
  replica.statusListeners.clear()
  replica.deltaWatches.clear()
  failWaiting(replica, 'closed')
}

/** Nobody waits for the relay any more: they hear why. */
export function failWaiting(replica: Replica, code: Code): void {
  for (const waiter of replica.waiters) waiter.fail(code)
  replica.waiters.clear()
}

/** What is told of edits that are lost, with why. */
export function lossError({ name }: Replica, code: Code): TidewellError {
  return new TidewellError(code, `edits of "${name}" are lost`)
}

/** What a document that ends has lost, if nobody has heard of it. */
export function lossAtEnd(replica: Replica): TidewellError | undefined {
  const { lost } = replica
  if (lost !== undefined && !lost.isHeard) return lossError(replica, lost.code)
  // It could not be loaded again.
  return replica.edits.length > 0 ? lossError(replica, 'device_failed') : undefined
}

/** Tells the module what the application uses its root types as. */
export function declareRoots(core: Core, { id, root }: Replica): void {
  for (const [name, kind] of root) {
    try {
      core.declare(id, name, kind)
    } catch (error) {
      if (isTrap(error)) throw error
      // Others use it as something else, which it is now.
      root.delete(name)
    }
  }
}

/** How often the module may fail with the same edits. */
const failuresMax = 3

/** Makes the turn's edits in a draft that has none of them. Answers why some cannot be made: those are lost. */
export function makeEdits(core: Core, replica: Replica): readonly unknown[] {
  const refusals: unknown[] = []
  if (replica.edits.length === 0) replica.failures = 0
  // Without them everything else goes on.
  if (replica.failures >= failuresMax) {
    replica.edits = []
    replica.failures = 0
    refusals.push(new TidewellError('invalid_value', `edits of "${replica.name}" make the module fail`))
  }
  const made: Input[][] = []
  for (const edit of replica.edits) {
    const refusal = makeAgain(core, replica, made, edit)
    if (refusal === undefined) made.push(edit)
    else refusals.push(refusal)
  }
  replica.edits = made
  const last = refusals.at(-1)
  if (last !== undefined) {
    const code = last instanceof TidewellError ? last.code : 'invalid_value'
    replica.lost = { code, isHeard: false }
  }
  return refusals
}

/** Makes an edit behind those that were `made`, all of it or nothing. Answers why it cannot be made, if it cannot. */
function makeAgain(core: Core, { id }: Replica, made: readonly Input[][], edit: readonly Input[]): unknown {
  let count = 0
  try {
    for (const input of edit) {
      input(core, id)
      count += 1
    }
    return undefined
  } catch (error) {
    if (isTrap(error)) throw error
    // Of a call that fails nothing is in the draft.
    if (count > 0) {
      core.discard(id)
      for (const input of made.flat()) input(core, id)
    }
    return errorFrom(error)
  }
}

/** Everything of an ended document is on the disk: others may adopt its rows, and those that it had adopted. */
export function leaveReplica(replica: Replica): void {
  for (const { duty } of replica.adoptions.values()) duty.abort()
  replica.leaving.abort()
}

/** A document that is about to be loaded. */
export function newReplica(name: string, status: Status): Replica {
  return {
    name,
    opening: newId(),
    id: -1,
    edits: [],
    depth: 0,
    isFlushQueued: false,
    isCounting: false,
    rows: new Map(),
    isKeeper: false,
    storedCursor: undefined,
    isOffering: false,
    hasUnstored: false,
    owesWhole: false,
    storingWhole: undefined,
    heard: 0,
    aside: new Set(),
    foldable: { rows: 0, bytes: 0, snapshotBytes: 0 },
    isCompacting: false,
    status,
    coreStatus: ['closed', undefined, 0, 0, undefined, undefined],
    root: new Map(),
    valueListeners: new Set(),
    statusListeners: new Set(),
    deltaWatches: new Set(),
    waiters: new Set(),
    watched: new Set(),
    adoptions: new Map(),
    inherited: [],
    setAside: new Set(),
    branching: undefined,
    unheard: undefined,
    lost: undefined,
    questions: [],
    hasMissedBranch: false,
    retries: new Set(),
    failures: 0,
    early: [],
    ending: new AbortController(),
    leaving: new AbortController(),
  }
}
