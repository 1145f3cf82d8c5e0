// Tabs of one store: who has what open, who does what, and what they tell each other.
//
// A duty is a lock: it is free again when its tab is gone, however that ends. Without Web Locks there is no store that
// tabs could share; without BroadcastChannel, or with it switched off, tabs meet at the relay and at the next start.

import { TidewellError } from './error.js'
import { newId } from './new_id.js'

/** An edit that is on the disk, or what a tab knows that another one has asked. */
export interface Told {
  readonly update: Uint8Array
  /** Of an answer: the relay's history that the tab knew last. */
  readonly lineage?: string
}

/** What tabs tell each other; `opening` is whose word it is. */
export type TabMessage =
  | ({ readonly kind: 'edit'; readonly opening: string; readonly document: string } & Told)
  | { readonly kind: 'ask'; readonly opening: string; readonly document: string; readonly known: Uint8Array }
  /** Rows have left the outbox, or a branch has ended. */
  | { readonly kind: 'branches'; readonly document: string }
  /** A branch is to end: who has heard of all branches, and has on the disk what joins them? */
  | { readonly kind: 'who_heard'; readonly document: string; readonly question: string }
  | { readonly kind: 'heard'; readonly opening: string; readonly document: string; readonly question: string }

/** This tab among its siblings. */
export interface Tabs {
  /** Random; what this tab stores of the relay's is named by it. */
  readonly id: string
  /** A number that no other living tab has, from 0 on. */
  readonly place: number
  tell(message: TabMessage): void
  /** Calls once when nobody has a duty; at once when nobody has it already. Ends when `signal` says so. */
  whenFree(duty: string, free: () => void, signal: AbortSignal): void
  /** True when nobody had a duty at the moment of asking. */
  isFree(duty: string): Promise<boolean>
  /** Holds a duty from when it is free until `signal`: `begin` is called when it is this tab's. */
  hold(duty: string, begin: () => void, signal: AbortSignal): void
  /** Holds a duty until `signal` if it is free now; answers if it is. */
  tryHold(duty: string, signal: AbortSignal): Promise<boolean>
  /** Holds a duty until `signal`, once it is free. Fails with `aborted`. */
  take(duty: string, signal: AbortSignal): Promise<void>
  /** The ends of the names of those duties that somebody has, which begin with `beginning`. */
  taken(beginning: string): Promise<readonly string[]>
  close(): void
}

/** A single tab, where there is no store that others could share. */
export function singleTab(): Tabs {
  return {
    id: newId(),
    place: 0,
    tell: () => undefined,
    whenFree: (_duty, free) => free(),
    isFree: () => Promise.resolve(true),
    hold: (_duty, begin) => begin(),
    tryHold: () => Promise.resolve(true),
    take: () => Promise.resolve(),
    taken: () => Promise.resolve([]),
    close: () => undefined,
  }
}

/** Joins the tabs of `store`. `hear` is called for what others tell, of edits unless `broadcast` is false. */
export async function joinTabs(
  store: string,
  broadcast: boolean,
  hear: (message: TabMessage) => void,
): Promise<Tabs> {
  const locks = globalThis.navigator?.locks
  if (locks === undefined) return singleTab()
  const id = newId()
  const ending = new AbortController()
  const name = (what: string) => `tidewell/${store}/${what}`
  const whole = typeof BroadcastChannel === 'undefined' ? undefined : new BroadcastChannel(name('tabs'))
  /** Of branches all tabs must know. */
  const isTold = ({ kind }: TabMessage) => broadcast || (kind !== 'edit' && kind !== 'ask')
  if (whole !== undefined) {
    whole.onmessage = ({ data }: MessageEvent<TabMessage>) => {
      if (isTold(data)) hear(data)
    }
  }

  function tryHold(duty: string, signal: AbortSignal): Promise<boolean> {
    return new Promise(answer => {
      if (signal.aborted) return answer(false)
      locks
        .request(name(duty), { ifAvailable: true }, lock => {
          answer(lock !== null)
          return lock === null ? undefined : until(signal)
        })
        .catch(() => answer(false))
    })
  }

  function hold(duty: string, begin: () => void, signal: AbortSignal): void {
    locks
      .request(name(duty), { signal }, () => {
        begin()
        return until(signal)
      })
      // Aborted before it was this tab's.
      .catch(() => undefined)
  }

  let place = 0
  while (!(await tryHold(`place/${place}`, ending.signal))) place += 1

  return {
    id,
    place,
    hold,
    tryHold,
    tell(message) {
      if (isTold(message)) whole?.postMessage(message)
    },
    whenFree(duty, free, signal) {
      locks.request(name(duty), { mode: 'shared', signal }, free).catch(() => undefined)
    },
    take: (duty, signal) =>
      new Promise((held, reject) => {
        const abort = () => reject(new TidewellError('aborted'))
        signal.addEventListener('abort', abort, { once: true })
        hold(duty, held, signal)
        if (signal.aborted) abort()
      }),
    async taken(beginning) {
      const { held = [] } = await locks.query()
      const start = name(beginning)
      return held.flatMap(({ name = '' }) => (name.startsWith(start) ? name.slice(start.length) : []))
    },
    isFree: duty =>
      locks
        .request(name(duty), { mode: 'shared', ifAvailable: true }, lock => lock !== null)
        .catch(() => false),
    close() {
      ending.abort()
      whole?.close()
    },
  }
}

function until(signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
