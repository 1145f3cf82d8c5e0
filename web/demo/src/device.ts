// What the page needs of a device: the seam between what is shown and what is stored and sent.

import type { Change, Delta } from './text_change.js'

/** A shared text. */
export interface SharedText {
  read(): string
  /** Makes the changes one after another, as one edit. */
  change(changes: readonly Change[]): void
  /** Tells what others did, not what `change` did; yields the way to stop it. */
  onRemote(listener: (delta: Delta) => void): () => void
}

/** A task as the list shows it. */
export interface Task {
  readonly id: string
  readonly title: string
  readonly done: boolean
}

/** The tasks of the document. */
export interface Tasks {
  read(): readonly Task[]
  onChange(listener: (tasks: readonly Task[]) => void): () => void
  add(title: string): void
  /** The title of a task as a text of its own. */
  title(id: string): SharedText
  setDone(id: string, done: boolean): void
  remove(id: string): void
}

/** Where the edits of a device have got to. */
export interface DeviceStatus {
  readonly storage:
    | { readonly kind: 'saved' }
    | { readonly kind: 'saving' }
    | { readonly kind: 'failed'; readonly code: string }
    | { readonly kind: 'memory' }
  readonly link:
    | { readonly kind: 'live' }
    | { readonly kind: 'connecting' }
    | { readonly kind: 'offline' }
    | { readonly kind: 'cut' }
    | { readonly kind: 'refused'; readonly code: string }
  /** Edits that the relay has not acknowledged. */
  readonly editsWaiting: number
}

/** One device with the document open. */
export interface Device {
  readonly notes: SharedText
  readonly tasks: Tasks
  status(): DeviceStatus
  onStatus(listener: (status: DeviceStatus) => void): () => void
  /** Cuts the network of this device, or gives it back. */
  setNetwork(on: boolean): void
}
