// Marks for values that become shared types when they are put into a map or a list.

import type { PlainValue } from './plain.js'

/** A value of a document: what JSON has, and `bigint` and `Uint8Array`. */
export type Value = PlainValue

/** A shared type that is to be made. Plain arrays and objects beside it are registers, replaced as a whole. */
export type NewShared =
  | { readonly [mark]: 'text'; readonly content: string }
  | { readonly [mark]: 'list'; readonly content: readonly NewValue[] }
  | { readonly [mark]: 'map'; readonly content: Readonly<Record<string, NewValue>> }
  | { readonly [mark]: 'counter'; readonly content: number }

/** What can be put into a map or a list: a plain value, or a shared type to be made. */
export type NewValue = PlainValue | NewShared

/** The key that marks them. */
export const mark: unique symbol = Symbol('tidewell.shared')

/** A shared text, in which people can type at the same time. */
export function text(content = ''): NewShared {
  return { [mark]: 'text', content }
}

/** A shared list, into which people can insert at the same time. */
export function list(...content: readonly NewValue[]): NewShared {
  return { [mark]: 'list', content }
}

/** A shared map, whose entries are set one by one. */
export function map(content: Readonly<Record<string, NewValue>> = {}): NewShared {
  return { [mark]: 'map', content }
}

/** A counter, whose additions add up. */
export function counter(start = 0): NewShared {
  return { [mark]: 'counter', content: start }
}
