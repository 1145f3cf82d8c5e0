// Tabs of one store: who is alive, who does what, and what they tell each other.
//
// A tab holds a lock named by its id for as long as it lives, however it ends. Without Web Locks there is no store that
// tabs could share; without BroadcastChannel, or with it switched off, tabs meet at the relay and at the next start.

import { newId } from './new_id.js'

/** What tabs tell each other. */
export type TabMessage =
  | { readonly kind: 'edit'; readonly tab: string; readonly document: string; readonly update: Uint8Array }
  | { readonly kind: 'ask'; readonly tab: string; readonly document: string; readonly known: Uint8Array }
  /** Rows have left the outbox, or a branch has ended. */
  | { readonly kind: 'branches'; readonly tab: string; readonly document: string }

/** This tab among its siblings. */
export interface Tabs {
  readonly id: string
  /** A number that no other living tab has, from 0 on. */
  readonly place: number
  tell(message: TabMessage): void
  /** Calls once when a tab is gone; at once when it is already. Ends when `signal` says so. */
  whenGone(tab: string, gone: () => void, signal: AbortSignal): void
  /** True when a tab was gone at the moment of asking. */
  isGone(tab: string): Promise<boolean>
  /** Holds a duty from when it is free until `signal`: `begin` is called when it is this tab's. */
  hold(duty: string, begin: () => void, signal: AbortSignal): void
  /** Holds a duty until `signal` if it is free now; answers if it is. */
  tryHold(duty: string, signal: AbortSignal): Promise<boolean>
  close(): void
}

/** A single tab, where there is no store that others could share. */
export function singleTab(): Tabs {
  return {
    id: newId(),
    place: 0,
    tell: () => undefined,
    whenGone: (_tab, gone) => gone(),
    isGone: () => Promise.resolve(true),
    hold: (_duty, begin) => begin(),
    tryHold: () => Promise.resolve(true),
    close: () => undefined,
  }
}

/** Joins the tabs of `store`. `hear` is called for what others tell, unless `broadcast` is false. */
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
  const whole =
    typeof BroadcastChannel === 'undefined' || !broadcast ? undefined : new BroadcastChannel(name('tabs'))
  if (whole !== undefined) {
    whole.onmessage = (event: MessageEvent<TabMessage>) => hear(event.data)
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

  await new Promise<void>(held => hold(`tab/${id}`, held, ending.signal))
  let place = 0
  while (!(await tryHold(`place/${place}`, ending.signal))) place += 1

  return {
    id,
    place,
    hold,
    tryHold,
    tell: message => whole?.postMessage(message),
    whenGone(tab, gone, signal) {
      locks.request(name(`tab/${tab}`), { mode: 'shared', signal }, gone).catch(() => undefined)
    },
    isGone: tab =>
      locks
        .request(name(`tab/${tab}`), { mode: 'shared', ifAvailable: true }, lock => lock !== null)
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
