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

/** Answers what to call every few seconds while there is a relay: it looks for such edits if that is this tab's duty. */
export function leftBehind(engine: Engine, background: Background, signal: AbortSignal): () => void {
  const pushing = new Set<string>()
  /** What the relay or this device refuses is not tried again before the client is opened anew. */
  const refused = new Set<string>()
  let isBusy = true

  async function look(): Promise<void> {
    const left = await engine.device.outboxOpenings()
    // What was put aside or pushed by another tab may be followed by other edits.
    for (const name of refused) if (!left.has(name)) refused.delete(name)
    for (const [name, openings] of left) {
      for (const opening of openings) {
        if (signal.aborted || pushing.size >= atOnce) return
        if (pushing.has(name) || refused.has(name)) break
        if (!(await isLeftBehind(engine, name, opening))) continue
        if (background.isOpen(name)) {
          const replica = engine.replicas.get(name)
          if (replica !== undefined && replica.early === undefined) await adopt(engine, replica, [opening])
          continue
        }
        pushing.add(name)
        push(name)
          .catch((error: unknown) => {
            // Closed by the application, which had opened it meanwhile; or the disk fails, and this is tried again.
            if (error instanceof TidewellError && (error.code === 'closed' || isTransient(error.code))) return
            refused.add(name)
            if (!signal.aborted) report(engine, error)
          })
          .finally(() => pushing.delete(name))
        break
      }
    }
  }

  async function push(name: string): Promise<void> {
    const doc = await background.open(name)
    try {
      await doc.saved('relay', { signal })
    } finally {
      await background.close(name, doc)
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
  return (await tabs.isFree(openDuty(name, opening))) && tabs.isFree(rowsDuty(opening))
}
