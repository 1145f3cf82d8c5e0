// Where a document stands with this device and with the relay.

import type { Code } from './code.js'

/** Where a document stands. Immutable; a new one for each change. */
export interface Status {
  /**
   * `saved`: every edit is on this device's disk. `failed`: writing failed and is tried again, or there is no disk
   * (`device_unavailable`); edits are in memory.
   */
  readonly device: 'saved' | 'saving' | { readonly failed: Code }
  /** `refused`: the relay takes no edits for this document; they are kept here. */
  readonly link: 'live' | 'connecting' | 'offline' | { readonly refused: Code }
  /** What the relay has not acknowledged, in edits (transactions), and since when in milliseconds since 1970. */
  readonly unsent: { readonly edits: number; readonly bytes: number; readonly since: number | undefined }
  /** Where edits are kept on this device. */
  readonly storage: 'indexeddb' | 'memory'
  /** True when the browser has promised not to clear the storage by itself. */
  readonly persistent: boolean
}

/** True when nothing differs. */
export function isSameStatus(a: Status, b: Status): boolean {
  return (
    a.unsent.edits === b.unsent.edits &&
    a.unsent.bytes === b.unsent.bytes &&
    a.unsent.since === b.unsent.since &&
    a.persistent === b.persistent &&
    codeOf(a.device) === codeOf(b.device) &&
    codeOf(a.link) === codeOf(b.link)
  )
}

function codeOf(state: Status['device'] | Status['link']): string {
  if (typeof state === 'string') return state
  return 'failed' in state ? state.failed : state.refused
}
