// Handles of shared types: a document and a path. Nothing to free, and the same inside `edit` and outside.

import type { DeltaOperation } from './effect.js'
import { act, call, type Engine, edit, flush } from './engine.js'
import { TidewellError } from './error.js'
import { copyPlain, encodeNew, type PlainValue } from './plain.js'
import type { DeltaWatch, Input, Replica } from './replica.js'
import type { NewValue } from './shared.js'
import type { Core } from './wasm.js'

/** Where a shared type is: the name of a root type, or an array of it and of keys and indexes from there. */
export type Path = string | readonly [root: string, ...steps: (string | number)[]]

/** Formats of a part of a text; `null` takes one away. */
export type Formats = Readonly<Record<string, PlainValue>>

/** What `onDelta` tells besides the delta. */
export interface DeltaOrigin {
  /** True for edits of this document object; false for those of other devices and tabs. */
  readonly local: boolean
}

/** A shared text. Positions count UTF-16 units, as JavaScript strings do. */
export interface TextHandle {
  /** Number of positions. */
  readonly length: number
  /** The text without formats and embedded values. */
  toString(): string
  /** The text with formats, as a delta of insertions. */
  toDelta(): readonly DeltaOperation[]
  /** Puts text in; without `formats` it takes those before it. Fails with `invalid_range`. */
  insert(index: number, text: string, formats?: Formats): void
  /** Takes a part out. Fails with `invalid_range`. */
  delete(index: number, length?: number): void
  /** Puts formats on a part. Fails with `invalid_range` or `invalid_value`. */
  format(index: number, length: number, formats: Formats): void
  /** Makes all changes of a delta, or none. Fails with `invalid_range` or `invalid_value`. */
  applyDelta(delta: readonly DeltaOperation[]): void
  /** Calls with every change from now on, after the call that made it. Ends with what it answers. */
  onDelta(callback: (delta: readonly DeltaOperation[], origin: DeltaOrigin) => void): () => void
}

/** Makes handles of what lies below. */
export interface Below<Step extends string | number> {
  /** The text at `step`. */
  text(step: Step): TextHandle
  /** The list at `step`. */
  list(step: Step): ListHandle
  /** The map at `step`. */
  map(step: Step): MapHandle
  /** The counter at `step`. */
  counter(step: Step): CounterHandle
}

/** A shared list. */
export interface ListHandle extends Below<number> {
  /** Number of elements. */
  readonly length: number
  /** A plain copy of all elements. */
  readonly value: readonly PlainValue[]
  /** A plain copy of one element; `undefined` beyond the end. */
  get(index: number): PlainValue | undefined
  /** Puts values in. Fails with `invalid_range` or `invalid_value`. */
  insert(index: number, ...values: readonly NewValue[]): void
  /** Puts values at the end. Fails with `invalid_value`. */
  push(...values: readonly NewValue[]): void
  /** Takes elements out. Fails with `invalid_range`. */
  delete(index: number, count?: number): void
}

/** A shared map. */
export interface MapHandle extends Below<string> {
  /** Number of entries. */
  readonly size: number
  /** A plain copy of all entries. */
  readonly value: Readonly<Record<string, PlainValue>>
  /** A plain copy of one entry. */
  get(key: string): PlainValue | undefined
  /** True when there is an entry. */
  has(key: string): boolean
  /** The keys, in no order that means anything. */
  keys(): readonly string[]
  /** Sets an entry. Fails with `invalid_value`. */
  set(key: string, value: NewValue): void
  /** Takes an entry out, if it is there. */
  delete(key: string): void
}

/** A counter, whose additions on many devices add up. */
export interface CounterHandle {
  /** The sum. */
  readonly value: number
  /** Adds a whole number, which may be negative. Fails with `invalid_value`. */
  add(by?: number): void
}

/** A text's handle. */
export function textHandle(engine: Engine, replica: Replica, path: Path): TextHandle {
  return {
    get length() {
      return lengthOf(engine, replica, path, 'text')
    },
    toString() {
      const value = read(engine, replica, path)
      return typeof value === 'string' ? value : ''
    },
    toDelta() {
      flush(engine, replica)
      return call(engine, core => core.text_content(replica.id, path))
    },
    insert(index, text, formats) {
      if (typeof text !== 'string') throw new TidewellError('invalid_value', 'text')
      const copied = formats === undefined ? undefined : copyPlain(formats, 'formats')
      edit(engine, replica, (core, id) => core.text_insert(id, path, index, text, copied))
    },
    delete(index, length = 1) {
      edit(engine, replica, (core, id) => core.text_delete(id, path, index, length))
    },
    format(index, length, formats) {
      const copied = copyPlain(formats, 'formats')
      edit(engine, replica, (core, id) => core.text_format(id, path, index, length, copied))
    },
    applyDelta(delta) {
      const copied = copyPlain(delta, 'delta')
      edit(engine, replica, (core, id) => core.text_delta(id, path, copied))
    },
    onDelta(callback) {
      flush(engine, replica)
      const watch = call(engine, core => core.watch_text(replica.id, path))
      const watcher: DeltaWatch = {
        path,
        watch,
        length: lengthOf(engine, replica, path, 'text'),
        tell(delta, local) {
          watcher.length += delta.reduce((sum, operation) => sum + growth(operation), 0)
          if (replica.deltaWatches.has(watcher)) callback(delta, { local })
        },
      }
      replica.deltaWatches.add(watcher)
      return () => {
        if (replica.deltaWatches.delete(watcher))
          act(engine, core => core.unwatch_text(replica.id, watcher.watch))
      }
    },
  }
}

function growth(operation: DeltaOperation): number {
  if ('insert' in operation) return typeof operation.insert === 'string' ? operation.insert.length : 1
  return 'delete' in operation ? -operation.delete : 0
}

/** A list's handle. */
export function listHandle(engine: Engine, replica: Replica, path: Path): ListHandle {
  /** The end is looked for when the values are put in: while the module starts anew nobody knows it. */
  const insert = (index: number | 'end', values: readonly NewValue[]) => {
    const encoded = values.map((value, at) => encodeNew(value, `values[${at}]`))
    const place = (core: Core, id: number): number =>
      index === 'end' ? core.length(id, path, 'list') : index
    const put: Input = (core, id) => core.list_insert(id, path, place(core, id), encoded)
    edit(engine, replica, put, values.some(mayCount))
  }
  const length = () => lengthOf(engine, replica, path, 'list')
  return {
    ...below(engine, replica, path),
    get length() {
      return length()
    },
    get value() {
      const value = read(engine, replica, path)
      return Array.isArray(value) ? value : []
    },
    get: index => (index < length() ? read(engine, replica, join(path, index)) : undefined),
    insert: (index, ...values) => insert(index, values),
    push: (...values) => insert('end', values),
    delete(index, count = 1) {
      edit(engine, replica, (core, id) => core.list_delete(id, path, index, count))
    },
  }
}

/** A map's handle. */
export function mapHandle(engine: Engine, replica: Replica, path: Path): MapHandle {
  const value = (): Readonly<Record<string, PlainValue>> => {
    const found = read(engine, replica, path)
    return isRecord(found) ? found : {}
  }
  return {
    ...below(engine, replica, path),
    get size() {
      return lengthOf(engine, replica, path, 'map')
    },
    get value() {
      return value()
    },
    get: key => read(engine, replica, join(path, key)),
    has: key => read(engine, replica, join(path, key)) !== undefined,
    keys: () => Object.keys(value()),
    set(key, next) {
      checkKey(key)
      const encoded = encodeNew(next)
      edit(engine, replica, (core, id) => core.map_set(id, path, key, encoded), mayCount(next))
    },
    delete(key) {
      checkKey(key)
      edit(engine, replica, (core, id) => core.map_delete(id, path, key))
    },
  }
}

/** A counter's handle. */
export function counterHandle(engine: Engine, replica: Replica, path: Path): CounterHandle {
  return {
    get value() {
      const value = read(engine, replica, path)
      return typeof value === 'number' ? value : 0
    },
    add(by = 1) {
      // The module would read '1' as 1.
      if (typeof by !== 'number') throw new TidewellError('invalid_value', 'by')
      edit(engine, replica, (core, id) => core.counter_add(id, path, by), true)
    },
  }
}

/** A new shared type may contain a counter; looking closer would cost more than it saves. */
function mayCount(value: NewValue): boolean {
  return typeof value === 'object' && value !== null
}

/** The module would read other things as some string. */
function checkKey(key: unknown): void {
  if (typeof key !== 'string') throw new TidewellError('invalid_value', 'key')
}

function below<Step extends string | number>(engine: Engine, replica: Replica, path: Path): Below<Step> {
  return {
    text: step => textHandle(engine, replica, join(path, step)),
    list: step => listHandle(engine, replica, join(path, step)),
    map: step => mapHandle(engine, replica, join(path, step)),
    counter: step => counterHandle(engine, replica, join(path, step)),
  }
}

function join(path: Path, step: string | number): Path {
  return typeof path === 'string' ? [path, step] : [...path, step]
}

function isRecord(value: PlainValue | undefined): value is Readonly<Record<string, PlainValue>> {
  return (
    typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array)
  )
}

/** Inside `edit` with the draft's edits; outside after this turn's have been written. */
function read(engine: Engine, replica: Replica, path: Path): PlainValue | undefined {
  if (replica.depth > 0) return call(engine, core => core.draft_read(replica.id, path))
  flush(engine, replica)
  return call(engine, core => core.read(replica.id, path))
}

function lengthOf(engine: Engine, replica: Replica, path: Path, kind: 'text' | 'list' | 'map'): number {
  // The draft knows; nothing needs to be written for it.
  return call(engine, core => core.length(replica.id, path, kind))
}
