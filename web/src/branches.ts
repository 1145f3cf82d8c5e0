// The branches of a client, as the application holds them.

import { type Ending, isLive, mergeNow, tryToEnd } from './branching.js'
import type { Code } from './code.js'
import type { StoredBranch } from './device/store.js'
import type { Doc, DocValue } from './doc.js'
import { call, type Engine } from './engine.js'
import { errorFrom, TidewellError } from './error.js'
import { updateOf } from './loading.js'
import type { Replica } from './replica.js'
import { isTrap } from './wasm.js'

/** Edits of one document that the relay refused, with those that build on them. They stay on this device. */
export interface Branch {
  readonly id: string
  /** The document's name. */
  readonly document: string
  /** Why the relay refused. */
  readonly code: Code
  /** Edits (transactions), bytes, and when the oldest was made, in milliseconds since 1970. */
  readonly edits: number
  readonly bytes: number
  readonly since: number
  /**
   * The document as this device has it, with the branch's edits, as a plain value to be read. Fails with `closed`, with
   * `device_full` or `device_failed` as the disk does, or with `recovered` while the module starts anew.
   */
  open(): Promise<DocValue>
  /**
   * A Yjs update (v1) with the branch's edits: applied to the document, it makes the branch's content. Fails with `closed`, or
   * with `recovered` while the module starts anew.
   */
  export(): Promise<Uint8Array>
  /**
   * Makes the edits again as new ones of this device, in the same places, without what the relay has of them; the branch
   * is gone then. Text, list elements and deletions are all kept; of an entry of a map, or what this device has counted in
   * a counter, that was set anew meanwhile, one value remains. Waits while offline, and until every tab that has the
   * document open has put aside what it had built on them. Fails with `update_incomplete` when they build on something that
   * is gone, with `update_too_large` when no relay takes as much, with `aborted` or `closed`, with `recovered` when
   * the module fails meanwhile; the branch stays then. Fails with `device_full` or `device_failed` as the disk does. When the
   * relay refuses them again, they become a branch again.
   */
  merge(options?: { readonly signal?: AbortSignal }): Promise<void>
  /**
   * Throws these edits away. What joined the branch after it was listed stays. Waits for other tabs as `merge` does. Fails
   * with `closed`, with `recovered` when the module fails meanwhile, or with `device_full` or `device_failed` as the disk does.
   */
  drop(): Promise<void>
}

/** All branches on this device. */
export interface Branches {
  /** The branches of all documents, the oldest first. Fails with `closed`, or `device_full` or `device_failed` as the disk does. */
  list(): Promise<readonly Branch[]>
  /** Calls when there are other branches than before. Ends with what it answers. */
  onChange(callback: () => void): () => void
}

/** What is needed of the client. */
export interface DocKeeper {
  /** Opens a document for a while, without the application. */
  open(name: string): Promise<Doc>
  /** Closes it, unless somebody else has it open. */
  close(name: string, doc: Doc): Promise<void>
}

/** Makes the object that applications hold. */
export function makeBranches(engine: Engine, keeper: DocKeeper, closing: AbortSignal): Branches {
  return {
    async list() {
      if (engine.isClosed) throw new TidewellError('closed')
      const found = await storedBranches(engine)
      return found
        .map(stored => makeBranch(engine, keeper, closing, stored))
        .sort((a, b) => a.since - b.since)
    },
    onChange(callback) {
      const listener = () => callback()
      engine.branchListeners.add(listener)
      return () => engine.branchListeners.delete(listener)
    },
  }
}

/** What is on its way to the disk is there. Fails as the disk does. */
async function storedBranches(engine: Engine): Promise<readonly StoredBranch[]> {
  await engine.device.flush()
  return engine.device.branches()
}

function makeBranch(engine: Engine, keeper: DocKeeper, closing: AbortSignal, stored: StoredBranch): Branch {
  const { id, document, code, rows } = stored
  return {
    id,
    document,
    code,
    edits: rows.reduce((sum, row) => sum + row.edits, 0),
    bytes: rows.reduce((sum, row) => sum + row.update.length, 0),
    since: rows[0]?.made ?? 0,
    async open() {
      if (engine.isClosed) throw new TidewellError('closed')
      await engine.device.flush()
      const { received, outbox } = await engine.device.load(document)
      return readValue(engine, stored, [
        ...received.flatMap(row => row.updates.slice()),
        ...outbox.map(updateOf),
      ])
    },
    export: async () => call(engine, () => engine.wasm.branch_update(rows.map(updateOf))),
    merge: ({ signal } = {}) =>
      end(engine, keeper, closing, stored, signal, { isPossible: isLive, finish: mergeNow }),
    drop: () =>
      end(engine, keeper, closing, stored, undefined, {
        isPossible: () => true,
        finish() {
          engine.device.push([{ kind: 'branch_ended', branch: stored }])
          return true
        },
      }),
  }
}

/** A client of its own, which never connects, has the document for as long as it is read. */
function readValue(engine: Engine, branch: StoredBranch, updates: readonly Uint8Array[]): DocValue {
  return call(engine, () => {
    const core = new engine.wasm.Core()
    try {
      const { id } = core.add(branch.document, 0, '', [...updates, ...branch.rows.map(updateOf)], undefined)
      for (const [root, kind] of engine.replicas.get(branch.document)?.root ?? [])
        core.declare(id, root, kind)
      return core.value(id)
    } catch (error) {
      throw isTrap(error) ? error : errorFrom(error)
    } finally {
      core.free()
    }
  })
}

/** One tab at a time: whoever comes second finds the branch gone. */
async function end(
  engine: Engine,
  keeper: DocKeeper,
  closing: AbortSignal,
  { id, document }: StoredBranch,
  signal: AbortSignal | undefined,
  how: Ending,
): Promise<void> {
  if (closing.aborted) throw new TidewellError('closed')
  const ending = new AbortController()
  const stop = () => ending.abort()
  if (signal?.aborted === true) throw new TidewellError('aborted', undefined, signal.reason)
  signal?.addEventListener('abort', stop, { once: true })
  closing.addEventListener('abort', stop, { once: true })
  try {
    await engine.tabs.take(`branch/${id}`, ending.signal)
    if (!(await storedBranches(engine)).some(branch => branch.id === id)) return
    const doc = await keeper.open(document)
    try {
      const replica = engine.replicas.get(document)
      if (replica === undefined) throw new TidewellError('closed')
      await endWhenPossible(engine, replica, id, ending, how)
      await engine.device.flush()
    } finally {
      await keeper.close(document, doc)
    }
  } catch (error) {
    throw closing.aborted ? new TidewellError('closed') : error
  } finally {
    signal?.removeEventListener('abort', stop)
    closing.removeEventListener('abort', stop)
    ending.abort()
  }
}

/** Tries again whenever there is news of the branches or the relay. */
async function endWhenPossible(
  engine: Engine,
  replica: Replica,
  id: string,
  ending: AbortController,
  how: Ending,
): Promise<void> {
  const { signal } = ending
  const { signal: closing } = replica.ending
  let wake: () => void = () => undefined
  const listener = () => wake()
  const stop = () => {
    ending.abort()
    wake()
  }
  replica.retries.add(listener)
  engine.branchListeners.add(listener)
  signal.addEventListener('abort', stop, { once: true })
  closing.addEventListener('abort', stop, { once: true })
  try {
    for (;;) {
      if (closing.aborted) throw new TidewellError('closed')
      if (signal.aborted) throw new TidewellError('aborted')
      const news = new Promise<void>(resolve => {
        wake = resolve
      })
      if (await tryToEnd(engine, replica, id, signal, how)) return
      if (!signal.aborted) await news
    }
  } finally {
    replica.retries.delete(listener)
    engine.branchListeners.delete(listener)
    closing.removeEventListener('abort', stop)
  }
}
