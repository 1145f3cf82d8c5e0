// Edits that tabs have left behind, most of them in documents that nobody has open: one tab of the store pushes them.

import { isTransient } from './code.js'
import type { Doc } from './doc.js'
import { type Engine, report } from './engine.js'
import { TidewellError } from './error.js'
import { adopt, openDuty, rowsDuty } from './loading.js'

/** What is needed of the client. */
export interface Background {
  isOpen(name: string): boolean
  /** Opens a document for a while, without the application. */
  open(name: string): Promise<Doc>
  /** Closes it, unless somebody else has it open. */
  close(name: string, doc: Doc): Promise<void>
}

/** Documents that are open at once for this; each may be as large as any. */
const atOnce = 4

/** Looks at which the relay did not take a document for a while, after which it makes room for another one. */
const refusalsMax = 6

/** One document that is being pushed. */
interface Turn {
  readonly ending: AbortController
  /** Looks at which the relay did not take it. One that is on its way for long is no refusal. */
  refusals: number
}

/** Answers what to call every few seconds while there is a relay: it looks for such edits if that is this tab's duty. */
export function leftBehind(engine: Engine, background: Background, signal: AbortSignal): () => void {
  const pushing = new Map<string, Turn>()
  /** When each had its last turn, in turns. */
  const lastTurns = new Map<string, number>()
  let turns = 0
  /** What the relay or this device refuses is not tried again before the client is opened anew. */
  const refused = new Set<string>()
  let isBusy = true

  async function look(): Promise<void> {
    const left = await engine.device.outboxOpenings()
    // What was put aside or pushed by another tab may be followed by other edits.
    for (const name of refused) if (!left.has(name)) refused.delete(name)
    for (const name of lastTurns.keys()) if (!left.has(name)) lastTurns.delete(name)
    for (const [name, turn] of pushing) {
      if (engine.replicas.get(name)?.coreStatus[0] === 'refused') turn.refusals += 1
    }
    const inTurn = [...left].sort(([a], [b]) => (lastTurns.get(a) ?? 0) - (lastTurns.get(b) ?? 0))
    for (const [name, openings] of inTurn) {
      for (const opening of openings) {
        if (pushing.has(name) || refused.has(name)) break
        const isWanted = await isLeftBehind(engine, name, opening)
        if (signal.aborted) return
        if (!isWanted) continue
        if (background.isOpen(name)) {
          const replica = engine.replicas.get(name)
          if (replica !== undefined && replica.early === undefined) await adopt(engine, replica, [opening])
          continue
        }
        if (pushing.size >= atOnce) {
          ;[...pushing.values()].find(turn => turn.refusals >= refusalsMax)?.ending.abort()
          return
        }
        turns += 1
        lastTurns.set(name, turns)
        push(name)
          .catch((error: unknown) => {
            // Its turn is over; or the application has closed it, which had opened it meanwhile; or the disk fails. It is
            // tried again.
            const code = error instanceof TidewellError ? error.code : undefined
            if (code === 'aborted' || code === 'closed' || (code !== undefined && isTransient(code))) return
            // The relay lets this client in no more, or not yet.
            if (engine.connection?.refusal() !== undefined) return
            refused.add(name)
            if (!signal.aborted) report(engine, error)
          })
          .finally(() => pushing.delete(name))
        break
      }
    }
  }

  async function push(name: string): Promise<void> {
    const ending = new AbortController()
    const end = () => ending.abort()
    pushing.set(name, { ending, refusals: 0 })
    signal.addEventListener('abort', end)
    try {
      const doc = await background.open(name)
      try {
        await doc.saved('relay', { signal: ending.signal })
      } finally {
        await background.close(name, doc)
      }
    } finally {
      signal.removeEventListener('abort', end)
    }
  }

  const begin = () => {
    isBusy = false
  }
  engine.tabs.hold('left-behind', begin, signal)
  return () => {
    if (isBusy) return
    isBusy = true
    // The disk's failures are told when something is written; this is tried again.
    look().then(begin, begin)
  }
}

/** True when the document was closed, or its tab is gone, and nobody has taken the rows over. */
async function isLeftBehind(engine: Engine, name: string, opening: string): Promise<boolean> {
  const { tabs } = engine
  const replica = engine.replicas.get(name)
  // In memory there are no other tabs, and so no duties.
  if (replica?.opening === opening || replica?.adoptions.has(opening) === true) return false
  return (await tabs.isFree(openDuty(name, opening))) && tabs.isFree(rowsDuty(opening))
}
