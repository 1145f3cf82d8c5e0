// Plain values on their way in: checked and copied, because the application may change its own later.

import { TidewellError } from './error.js'
import { mark, type NewShared, type NewValue } from './shared.js'

/** What a document can hold as one value. Whole numbers beyond 2^53 are `bigint`. */
export type PlainValue =
  | null
  | boolean
  | number
  | string
  | bigint
  | Uint8Array
  | readonly PlainValue[]
  | { readonly [key: string]: PlainValue }

/** Deepest nesting of arrays and objects (`limits.rs`, VALUE_DEPTH_MAX). */
const depthMax = 64

/** Deepest nesting of shared types (`limits.rs`, TYPE_DEPTH_MAX). */
const typeDepthMax = 256

/** A new value as the module reads it. */
export type Encoded = readonly [kind: 0 | 1 | 2 | 3 | 4, content: unknown]

/** Checks and copies a value for a map or list. Fails with `invalid_value`, which names the place. */
export function encodeNew(value: NewValue, place = 'value', depth = 0): Encoded {
  if (!isShared(value)) return [0, copyPlain(value, place)]
  if (depth >= typeDepthMax) throw new TidewellError('invalid_value', `${place} is nested too deeply`)
  switch (value[mark]) {
    case 'text':
      return [1, value.content]
    case 'list':
      return [2, value.content.map((item, index) => encodeNew(item, `${place}[${index}]`, depth + 1))]
    case 'map':
      if (!isPlainObject(value.content)) throw invalid(place, 'is a map of something else than entries')
      return [
        3,
        Object.entries(value.content).map(([key, item]) => [
          key,
          encodeNew(item, `${place}.${key}`, depth + 1),
        ]),
      ]
    case 'counter':
      return [4, value.content]
  }
}

function isShared(value: NewValue): value is NewShared {
  return typeof value === 'object' && value !== null && mark in value
}

/** Checks and copies a plain value. Fails with `invalid_value`, which names the place. */
export function copyPlain(value: unknown, place = 'value'): PlainValue {
  return copy(value, place, [])
}

function copy(value: unknown, place: string, open: readonly object[]): PlainValue {
  switch (typeof value) {
    case 'boolean':
    case 'number':
    case 'string':
      return value
    case 'bigint':
      if (BigInt.asIntN(64, value) !== value) throw invalid(place, 'has more than 64 bits')
      return value
    case 'object':
      if (value === null) return null
      return copyObject(value, place, open)
    default:
      throw invalid(place, `is ${typeof value === 'undefined' ? 'undefined' : `a ${typeof value}`}`)
  }
}

function copyObject(value: object, place: string, open: readonly object[]): PlainValue {
  if (value instanceof Uint8Array) return value.slice()
  if (open.includes(value)) throw invalid(place, 'contains itself')
  if (open.length >= depthMax) throw invalid(place, `is nested deeper than ${depthMax}`)
  const inner = [...open, value]
  if (Array.isArray(value)) {
    // Not map(): it would leave out holes.
    return Array.from(value, (item: unknown, index) => copy(item, `${place}[${index}]`, inner))
  }
  if (mark in value) throw invalid(place, 'is a shared type inside a plain value')
  if (!isPlainObject(value)) throw invalid(place, 'is not a plain object')
  // Own fields of its own: a key may be "__proto__".
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, copy(item, `${place}.${key}`, inner)]),
  )
}

function isPlainObject(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === null || Object.getPrototypeOf(prototype) === null
}

function invalid(place: string, what: string): TidewellError {
  return new TidewellError('invalid_value', `${place} ${what}`)
}
