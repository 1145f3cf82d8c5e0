import { expect, test } from 'vitest'
import {
  applyChange,
  applyDelta,
  type Change,
  changeAfter,
  changeBetween,
  type Delta,
  type DeltaStep,
  shiftPosition,
} from '../src/text_change.js'

/** Numbers from 0 to 1, the same for the same seed: the generator called mulberry32. */
function randomNumbers(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}

test('a change between two texts makes the one of the other', () => {
  const random = randomNumbers(1)
  const below = (end: number) => Math.floor(random() * end)
  // Few different characters, so that nearly every change could have been made in several places.
  const text = () => Array.from({ length: below(9) }, () => ['a', 'b', '😀', '😁'][below(4)]).join('')
  for (let round = 0; round < 2_000; round += 1) {
    const [before, after] = [text(), text()]
    const change = changeBetween(before, after, below(after.length + 1))
    expect(applyChange(before, change ?? { at: 0, deleted: 0, inserted: '' })).toBe(after)
    if (change !== undefined) {
      const parts = [
        change.inserted,
        before.slice(0, change.at),
        before.slice(change.at, change.at + change.deleted),
      ]
      for (const part of parts) expect(part, `${before} → ${after}`).not.toMatch(/\p{Surrogate}/u)
    }
  }
})

test('a letter typed among equal letters is the one before the caret', () => {
  expect(changeBetween('aaaa', 'aaaaa', 2)).toEqual({ at: 1, deleted: 0, inserted: 'a' })
  expect(changeBetween('aaaa', 'aaaaa', 5)).toEqual({ at: 4, deleted: 0, inserted: 'a' })
  expect(changeBetween('aaaa', 'aaa', 1)).toEqual({ at: 1, deleted: 1, inserted: '' })
})

test('a caret stays between the letters it stood between, and before what is inserted at it', () => {
  const delta: Delta = [{ retain: 2 }, { insert: 'xy' }, { retain: 2 }, { delete: 2 }, { insert: 'z' }]
  expect(applyDelta('abcdefg', delta)).toBe('abxycdzg')
  expect([0, 1, 2, 3, 4, 5, 6, 7].map(position => shiftPosition(position, delta))).toEqual([
    0, 1, 2, 5, 6, 6, 6, 8,
  ])
})

test('a change made without knowing what others did takes nothing of theirs and loses nothing of its own', () => {
  const random = randomNumbers(2)
  const below = (end: number) => Math.floor(random() * end)
  for (let round = 0; round < 2_000; round += 1) {
    // Every character occurs once, so that each can be followed.
    let next = 0x4e00
    const fresh = (length: number) => Array.from({ length }, () => String.fromCharCode(next++)).join('')
    const before = fresh(below(12))
    const at = below(before.length + 1)
    const change: Change = { at, deleted: below(before.length - at + 1), inserted: fresh(below(3)) }

    let remote = before
    const deltas = Array.from({ length: below(4) }, () => {
      const steps: DeltaStep[] = []
      let left = remote.length
      while (left > 0 && random() < 0.8) {
        const length = 1 + below(left)
        left -= length
        steps.push(random() < 0.5 ? { retain: length } : { delete: length })
        if (random() < 0.5) steps.push({ insert: fresh(1 + below(3)) })
      }
      remote = applyDelta(remote, steps)
      return steps
    })

    const result = changeAfter(change, deltas).reduce(applyChange, remote)
    const own = before.slice(at, at + change.deleted)
    const expected = [...remote].filter(character => !own.includes(character)).join('')
    const without = [...result].filter(character => !change.inserted.includes(character)).join('')
    expect(without).toBe(expected)
    expect(result).toContain(change.inserted)
  }
})
