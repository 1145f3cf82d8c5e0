// Local branches: what the relay refuses leaves the outbox, and the document goes on without it.
//
// The rows are put aside in one transaction. Until it is complete they are in the outbox, and a tab that dies before has
// them refused again at the next start.

import type { Code } from './code.js'
import { type OutboxRow, rowName, type Stored, type StoredBranch } from './device/store.js'
import {
  call,
  type Engine,
  flush,
  holdUntilOnDisk,
  isRecovery,
  isStartingAnew,
  moduleReady,
  refresh,
  report,
  settle,
  startRecovery,
  tell,
} from './engine.js'
import { TidewellError } from './error.js'
import {
  addToCore,
  adopt,
  dependents,
  hearEdit,
  joining,
  openDuty,
  openings,
  restoreWatches,
  setBranchesAside,
  takeInto,
  toBeLoaded,
  updateOf,
  withUnsaved,
} from './loading.js'
import { newId } from './new_id.js'
import type { Replica } from './replica.js'
import { isTrap } from './wasm.js'

/**
 * Puts aside what cannot enter the document at the relay any more, and loads the document without it: all of this tab's
 * outbox when the relay has refused some of it with `code`; without one, what builds on branches that other tabs have made,
 * if there are other branches than this tab knows.
 */
export function branchOff(engine: Engine, replica: Replica, code: Code | undefined): void {
  const isEnded = () => engine.isClosed || replica.ending.signal.aborted
  if (isEnded()) return
  if (replica.id < 0) {
    replica.hasMissedBranch = true
    return
  }
  replica.hasMissedBranch = false
  if (replica.branching !== undefined) {
    // The other tab's branch is there when this one is looked at.
    if (code === undefined) replica.branching.then(() => branchOff(engine, replica, undefined))
    return
  }
  const questions = replica.questions.splice(0)
  // What other tabs tell from now on may not be in what is loaded.
  replica.early ??= []
  replica.branching = putAside(engine, replica, code)
    .then(() => answerQuestions(engine, replica, questions))
    .catch((error: unknown) => {
      if (isEnded()) return
      // Tried again.
      replica.hasMissedBranch = true
      replica.questions.unshift(...questions)
      if (!isRecovery(error)) report(engine, error)
    })
    .finally(() => {
      replica.branching = undefined
      const early = replica.early ?? []
      replica.early = undefined
      if (isEnded()) return
      for (const told of early) hearEdit(engine, replica, told)
      refresh(engine, replica)
    })
    .catch((error: unknown) => report(engine, error))
}

/** What joined a branch must be on the disk; when it cannot be, its being there is told later, and this is asked again. */
async function answerQuestions(
  engine: Engine,
  replica: Replica,
  questions: readonly string[],
): Promise<void> {
  const { device, tabs } = engine
  if (questions.length === 0 || (device.leaving(replica.name).length > 0 && !(await isWritten(engine))))
    return
  for (const question of questions) {
    tabs.tell({ kind: 'heard', opening: replica.opening, document: replica.name, question })
  }
}

function isWritten(engine: Engine): Promise<boolean> {
  return engine.device.flush().then(
    () => true,
    () => false,
  )
}

/**
 * Waits until all tabs that have the document open have put aside what builds on its branches, or `signal`. Until then
 * they may build more on them, and tell the relay of them under their old names.
 */
async function allHaveHeard(engine: Engine, replica: Replica, signal: AbortSignal): Promise<void> {
  const { tabs } = engine
  const { name: document } = replica
  const left = new Set(await openings(engine, document))
  left.delete(replica.opening)
  if (left.size === 0) return
  const question = newId()
  const ask = () => tabs.tell({ kind: 'who_heard', document, question })
  const ending = new AbortController()
  await new Promise<void>(resolve => {
    const heard = (opening: string) => {
      left.delete(opening)
      if (left.size === 0) resolve()
    }
    engine.questions.set(question, heard)
    engine.branchListeners.add(ask)
    signal.addEventListener('abort', () => resolve(), { once: true })
    if (signal.aborted) resolve()
    for (const opening of left) {
      tabs.whenFree(openDuty(document, opening), () => heard(opening), ending.signal)
    }
    ask()
  })
  ending.abort()
  engine.questions.delete(question)
  engine.branchListeners.delete(ask)
}

/** How a branch ends. */
export interface Ending {
  /** False when there is no need to ask the other tabs yet. */
  readonly isPossible: (engine: Engine, replica: Replica) => boolean
  /** Does it, with the branch as it is on the disk; answers false when it must wait. */
  readonly finish: (engine: Engine, replica: Replica, branch: StoredBranch) => boolean
}

/** True when the relay has the document open. Fails with `device_failed` when it could not be loaded again. */
export function isLive(engine: Engine, replica: Replica): boolean {
  mustBeLoaded(replica)
  return call(engine, core => core.status(replica.id))[0] === 'live'
}

function mustBeLoaded({ id, name }: Replica): void {
  if (id < 0) throw new TidewellError('device_failed', `document "${name}"`)
}

/** Ends a branch. Answers false when that must wait for news of the branches or the relay. */
export async function tryToEnd(
  engine: Engine,
  replica: Replica,
  id: string,
  signal: AbortSignal,
  how: Ending,
): Promise<boolean> {
  await moduleReady(engine)
  if (signal.aborted || !how.isPossible(engine, replica)) return false
  branchOff(engine, replica, undefined)
  await replica.branching
  await allHaveHeard(engine, replica, signal)
  await engine.device.flush()
  const stored = await withUnsaved(engine.device, replica)
  await moduleReady(engine)
  if (signal.aborted) return false
  if (replica.branching !== undefined) return tryToEnd(engine, replica, id, signal, how)
  const branch = stored.branches.find(branch => branch.id === id)
  if (branch === undefined) return true
  const late = call(engine, () => dependents(engine, branch.rows, stored.outbox, stored.received))
  if (late.length === 0) return how.finish(engine, replica, branch)
  // They are of an opening that is over, and about to join.
  const open = new Set(await openings(engine, replica.name))
  const over = new Set(late.flatMap(row => (open.has(row.opening) ? [] : row.opening)))
  await adopt(engine, replica, [...over])
  return false
}

async function putAside(engine: Engine, replica: Replica, code: Code | undefined): Promise<void> {
  const stored = await loadAll(engine, replica)
  if (engine.isClosed || replica.ending.signal.aborted) return
  const refused = stored.branches.flatMap(branch => branch.rows.slice())
  const isKnown = refused.every(row => replica.aside.has(rowName(row)))
  if (code === undefined && isKnown && call(engine, core => core.status(replica.id))?.[0] !== 'refused') {
    // Others may have ended, or the document could not be loaded again.
    call(engine, core => setBranchesAside(core, replica, refused))
    return
  }
  // Edits of this moment build on the others, and those of whoever is told of them: the draft is thrown away.
  if (isStartingAnew(engine, [replica])) return putAside(engine, replica, code)
  // Whoever was told may have closed it. And one that was given up has edits that are in no module.
  if (engine.isClosed || replica.ending.signal.aborted) return
  mustBeLoaded(replica)
  const own = [...replica.rows.values()]
  const branches =
    code === undefined
      ? call(engine, () => joining(engine, stored.branches, own, stored.received))
      : [{ document: replica.name, id: newId(), code, rows: own }]
  const aside = new Set(branches.flatMap(branch => branch.rows.map(rowName)))
  engine.device.push(branches.map(branch => ({ kind: 'branched', branch })))
  // In the new replica nothing is left of what they wait for.
  const reason = code ?? branches[0]?.code
  const tellWaiting = reason === undefined ? () => undefined : refuseWaiting(replica, reason)

  const isLeft = (row: OutboxRow) => !aside.has(rowName(row))
  try {
    replaceReplica(
      engine,
      replica,
      // Rows of other tabs that build on it: their tabs put them aside.
      {
        ...stored,
        cursor: undefined,
        outbox: stored.outbox.filter(isLeft),
        branches: [...stored.branches, ...branches],
      },
      own.filter(isLeft),
    )
    // Whoever hears of it reads the document.
    if (engine.recovery !== undefined) await engine.recovery
  } finally {
    tellWaiting()
  }
}

/** Nobody waits any more; what it answers tells those who did. If there are none, the next who asks is told. */
function refuseWaiting(replica: Replica, reason: Code): () => void {
  const waiting = [...replica.waiters]
  replica.waiters.clear()
  if (waiting.length === 0) replica.unheard = reason
  return () => {
    // Until one of them has heard it: their signals may end meanwhile.
    if (waiting.length > 0) replica.unheard = reason
    for (const waiter of waiting) waiter.fail(reason)
  }
}

/** All that is on disk, once what is known here is too. */
async function loadAll(engine: Engine, replica: Replica): Promise<Stored> {
  for (;;) {
    const generation = engine.generation
    // Told in the status; what is on disk belongs together all the same, and the relay sends the rest again.
    await engine.device.flush().catch(() => undefined)
    const stored = await withUnsaved(engine.device, replica)
    if (engine.recovery !== undefined) await engine.recovery
    if (generation === engine.generation) return stored
  }
}

/** Loads the document anew, under another client ID, with `own` as its outbox. */
function replaceReplica(engine: Engine, replica: Replica, stored: Stored, own: readonly OutboxRow[]): void {
  try {
    call(engine, core => core.remove(replica.id))
    addToCore(engine, replica, stored)
    replica.rows = new Map()
    takeInto(engine, engine.core, replica, own)
    restoreWatches(engine, replica)
    settle(engine)
  } catch (error) {
    if (!isTrap(error) && !isRecovery(error)) throw error
    replica.id = toBeLoaded
    startRecovery(engine, error)
  }
}

/** Makes a branch's edits anew; answers false when that must wait for the relay. Fails when it cannot be done. */
export function mergeNow(engine: Engine, replica: Replica, branch: StoredBranch): boolean {
  if (replica.branching !== undefined || engine.recovery !== undefined) return false
  mustBeLoaded(replica)
  flush(engine, replica)
  const edits = branch.rows.reduce((sum, row) => sum + row.edits, 0)
  // There may be counts in it.
  holdUntilOnDisk(engine)
  try {
    call(engine, core =>
      core.merge_branch(replica.id, branch.id, branch.rows.map(updateOf), edits, Date.now()),
    )
    settle(engine)
  } catch (error) {
    if (isWaiting(error)) return false
    throw error
  }
  // Its edits are out, and before this: if only they come to the disk, or only the relay hears of them, the branch is found to
  // be there when it is merged again.
  engine.device.push([{ kind: 'branch_ended', branch }])
  return true
}

function isWaiting(error: unknown): boolean {
  const code = (error as { readonly code?: unknown }).code
  return code === 'disconnected' || code === 'recovered'
}

/** Branches are there that were not, or the other way round. */
export function tellBranches(engine: Engine): void {
  engine.tasks.push(...engine.branchListeners)
  // In memory this is said while rows are being put aside.
  queueMicrotask(() => tell(engine))
}
