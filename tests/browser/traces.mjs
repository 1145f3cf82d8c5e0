// Real editing histories, from the editing-traces collection of Joseph Gentle (CC BY 4.0; see traces/README.md).

import { readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'

/** A history by its name, as the collection has it. */
export function readTrace(name) {
  const file = new URL(`../traces/${name}.json.gz`, import.meta.url)
  return JSON.parse(gunzipSync(readFileSync(file)).toString('utf8'))
}

/** The text of a history of one author, transaction after transaction. */
export class Replay {
  text = ''
  /** Transactions made. */
  made = 0
  #transactions

  constructor(transactions) {
    this.#transactions = transactions
  }

  /** Goes on until `count` transactions are made. */
  advanceTo(count) {
    while (this.made < count) {
      for (const [at, deleted, inserted] of this.#transactions[this.made].patches) {
        this.text = this.text.slice(0, at) + inserted + this.text.slice(at + deleted)
      }
      this.made += 1
    }
    return this.text
  }
}

/**
 * What two authors knew: for each transaction, how many of the other's its author had seen.
 *
 * An author has seen the transactions of the other from the first to some last one, and all of their own: both are so
 * in what this returns an answer for, and it fails otherwise.
 */
export function knowledgeOf(transactions) {
  const made = [0, 0]
  const seen = []
  transactions.forEach(({ agent, parents }, index) => {
    const known = [0, 0]
    for (const parent of parents) {
      const { agent: author } = transactions[parent]
      for (const who of [0, 1]) known[who] = Math.max(known[who], seen[parent][who])
      known[author] = Math.max(known[author], seen[parent][author] + 1)
    }
    if (known[agent] !== made[agent])
      throw new Error(`transaction ${index} does not know all of its author's`)
    seen.push(known)
    made[agent] += 1
  })
  return transactions.map(({ agent }, index) => seen[index][1 - agent])
}

/** Numbers from 0 to 1, the same for the same seed: the generator called mulberry32. */
export function randomNumbers(seed) {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}
