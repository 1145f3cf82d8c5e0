// Changes of a text, and what becomes of them and of a caret when somebody else has changed the text meanwhile. Pure.
// Positions count UTF-16 code units, as text fields and Yjs do.

/** A stretch of text replaced by another. */
export interface Change {
  readonly at: number
  readonly deleted: number
  readonly inserted: string
}

/** A change as Yjs tells it: a walk along the text. */
export type Delta = readonly DeltaStep[]

/** One step of the walk. */
export type DeltaStep =
  | { readonly retain: number }
  | { readonly insert: string }
  | { readonly delete: number }

/**
 * What a person did who has made `after` of `before` and whose caret now stands at `caret`; `undefined` if nothing.
 *
 * The caret tells which of several equal letters was typed; without it, what others write nearby would end up on the
 * wrong side.
 */
export function changeBetween(before: string, after: string, caret: number): Change | undefined {
  if (before === after) return undefined
  const shorter = Math.min(before.length, after.length)
  let suffix = 0
  const suffixMax = Math.min(shorter, after.length - caret)
  while (suffix < suffixMax && before.at(-1 - suffix) === after.at(-1 - suffix)) suffix += 1
  let prefix = 0
  while (prefix < shorter - suffix && before[prefix] === after[prefix]) prefix += 1
  // Two emoji can share half of their code units, and half a character cannot be sent.
  if (prefix > 0 && isHighSurrogate(after, prefix - 1)) prefix -= 1
  if (suffix > 0 && isLowSurrogate(after, after.length - suffix)) suffix -= 1
  return {
    at: prefix,
    deleted: before.length - prefix - suffix,
    inserted: after.slice(prefix, after.length - suffix),
  }
}

/** The text after a change. */
export function applyChange(text: string, { at, deleted, inserted }: Change): string {
  return text.slice(0, at) + inserted + text.slice(at + deleted)
}

/** The text after a delta. */
export function applyDelta(text: string, delta: Delta): string {
  let result = ''
  let at = 0
  for (const step of delta) {
    if ('insert' in step) result += step.insert
    else if ('delete' in step) at += step.delete
    else {
      result += text.slice(at, at + step.retain)
      at += step.retain
    }
  }
  return result + text.slice(at)
}

/** Where a position is after a delta. What is inserted exactly there comes after it. */
export function shiftPosition(position: number, delta: Delta): number {
  let before = 0
  let after = 0
  for (const step of delta) {
    if ('insert' in step) {
      if (before === position) return after
      after += step.insert.length
    } else if ('delete' in step) {
      if (position <= before + step.delete) return after
      before += step.delete
    } else {
      if (position <= before + step.retain) break
      before += step.retain
      after += step.retain
    }
  }
  return after + position - before
}

/** What is left of the stretch from `start` to `end` after a delta: what others inserted into it is no part of it. */
export function shiftStretch(start: number, end: number, delta: Delta): readonly Stretch[] {
  const left: Stretch[] = []
  let before = 0
  let after = 0
  const keep = (length: number) => {
    const from = Math.max(start, before)
    const to = Math.min(end, before + length)
    if (from < to) left.push({ start: after + from - before, end: after + to - before })
    before += length
    after += length
  }
  for (const step of delta) {
    if ('insert' in step) after += step.insert.length
    else if ('delete' in step) before += step.delete
    else keep(step.retain)
  }
  if (before < end) keep(end - before)
  return left
}

/** A part of a text, without its end. */
export interface Stretch {
  readonly start: number
  readonly end: number
}

/**
 * The changes to make, in this order, that do to a text after `deltas` what `change` did to the text before them.
 */
export function changeAfter(change: Change, deltas: readonly Delta[]): readonly Change[] {
  let at = change.at
  let gone: readonly Stretch[] = [{ start: change.at, end: change.at + change.deleted }]
  for (const delta of deltas) {
    at = shiftPosition(at, delta)
    gone = gone.flatMap(({ start, end }) => shiftStretch(start, end, delta))
  }
  // From the back, so that no change moves the place of the next.
  const deletions = gone
    .map(({ start, end }) => ({ at: start, deleted: end - start, inserted: '' }))
    .reverse()
  return [...deletions, { at, deleted: 0, inserted: change.inserted }].filter(
    ({ deleted, inserted }) => deleted > 0 || inserted !== '',
  )
}

function isHighSurrogate(text: string, index: number): boolean {
  const unit = text.charCodeAt(index)
  return unit >= 0xd800 && unit < 0xdc00
}

function isLowSurrogate(text: string, index: number): boolean {
  const unit = text.charCodeAt(index)
  return unit >= 0xdc00 && unit < 0xe000
}
