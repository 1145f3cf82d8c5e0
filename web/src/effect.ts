// What the module asks for after a call (`effect.rs`).

import type { Code } from './code.js'
import type { Cursor } from './device/store.js'

/** One operation of a text delta, as Quill writes them; positions count UTF-16 units. */
export type DeltaOperation =
  | { readonly insert: unknown; readonly attributes?: Readonly<Record<string, unknown>> }
  | { readonly retain: number; readonly attributes?: Readonly<Record<string, unknown>> }
  | { readonly delete: number }

/** One thing that is asked for; `document` is the number that the module gave it. */
export type Effect =
  | readonly ['edit', document: number, row: number, update: Uint8Array, edits: number, made: number]
  | readonly ['received', document: number, updates: readonly Uint8Array[], cursor: Cursor | undefined]
  | readonly ['acknowledged', document: number, rows: readonly number[], sequence: number]
  | readonly ['send', frame: Uint8Array]
  | readonly ['branch', document: number, code: Code]
  | readonly ['changed', document: number]
  | readonly ['status', document: number]
  | readonly ['delta', document: number, watch: number, operations: readonly DeltaOperation[]]
  | readonly ['token']
  | readonly ['close', code: Code | undefined]

/** What the module tells of a document's place at the relay. */
export type CoreStatus = readonly [
  link: 'closed' | 'opening' | 'live' | 'refused',
  code: Code | undefined,
  edits: number,
  bytes: number,
  since: number | undefined,
  newestRow: number | undefined,
]

/** What the module answers when it opens a document. */
export interface Added {
  readonly id: number
  readonly unreadable: readonly number[]
  readonly hasGap: boolean
}
