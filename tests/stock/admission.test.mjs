// Admission beside stock Yjs: of what Yjs makes nothing is refused and nothing is lost, and what admission hands on of
// damaged updates means the same to Yjs and to yrs. `TIDEWELL_ADMISSIONS` sets the number of random rounds,
// `TIDEWELL_SEED` their seed.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as Y from 'yjs'

import { randomNumbers } from '../browser/traces.mjs'
import { startNative } from './clients.mjs'
import { contentOf, edit, randomOperation } from './operation.mjs'

const ROUNDS = Number(process.env.TIDEWELL_ADMISSIONS ?? 400)
const seed = Number(process.env.TIDEWELL_SEED ?? Math.floor(Math.random() * 2 ** 31))

/** What a few people type, each hearing now and then of the others, as the updates that their editors send. */
function typed(random) {
  const whole = below => Math.floor(random() * below)
  const updates = []
  const docs = Array.from({ length: 1 + whole(3) }, (_, index) => {
    const doc = new Y.Doc({ gc: random() < 0.8 })
    // Some have the 32 bits of Yjs, some the 53 that it takes.
    doc.clientID = random() < 0.3 ? 2 ** 52 + whole(2 ** 31) * 4 + index : whole(2 ** 30) * 4 + index
    doc.on('update', (update, origin) => {
      if (origin !== 'heard') updates.push(update)
    })
    return doc
  })
  for (let turn = 0; turn < 2 + whole(30) || updates.length === 0; turn += 1) {
    const doc = docs[whole(docs.length)]
    edit(
      doc,
      Array.from({ length: 1 + whole(4) }, () => randomOperation(random)),
    )
    if (random() < 0.4) {
      const other = docs[whole(docs.length)]
      Y.applyUpdate(other, Y.encodeStateAsUpdate(doc, Y.encodeStateVector(other)), 'heard')
    }
  }
  return updates
}

/** The same updates on their way: out of order, twice, merged, or as the difference from what somebody had. */
function underway(updates, random) {
  const whole = below => Math.floor(random() * below)
  const some = () => updates.filter(() => random() < 0.5)
  const shapes = [...updates]
  for (let index = 0; index < 4; index += 1) {
    const merged = Y.mergeUpdates([updates[whole(updates.length)], ...some()])
    shapes.push(random() < 0.5 ? merged : Y.diffUpdate(merged, Y.encodeStateVectorFromUpdate(merged.slice())))
    shapes.push(merged)
  }
  for (let at = shapes.length - 1; at > 0; at -= 1) {
    const other = whole(at + 1)
    ;[shapes[at], shapes[other]] = [shapes[other], shapes[at]]
  }
  return shapes
}

function madeOf(updates) {
  const doc = new Y.Doc()
  for (const update of updates) Y.applyUpdate(doc, update)
  return doc
}

/** As it comes through a pipe: JSON has no NaN and no bytes, and whoever reads it may miss a number's last bit. */
function inJson(value) {
  const plain = (_, part) => {
    if (part instanceof Uint8Array) return [...part]
    return typeof part === 'number' && Number.isFinite(part) ? Number(part.toPrecision(15)) : part
  }
  return JSON.parse(JSON.stringify(value, plain))
}
const hex = bytes => Buffer.from(bytes).toString('hex')
const clocks = doc => new Map([...doc.store.clients.keys()].map(id => [id, Y.getState(doc.store, id)]))
const admit = (native, updates) => native('', { do: 'admit', updates: updates.map(update => [...update]) })

/** What yrs and Yjs make of the same pieces is the same, and Yjs is left waiting for nothing. */
function agrees({ pieces, yrs }) {
  const doc = madeOf(pieces.map(piece => Uint8Array.from(piece)))
  assert.equal(doc.store.pendingStructs, null, 'the pieces are closed')
  assert.equal(doc.store.pendingDs, null, 'and so are their deletions')
  const { state_vector: vector, text, map, array } = yrs
  // Not XML: yrs has an element's attributes in any order.
  const { xml: _, ...others } = contentOf(doc)
  assert.deepEqual(inJson({ text, map, array }), inJson(others))
  assert.deepEqual(Y.decodeStateVector(Buffer.from(vector, 'hex')), clocks(doc))
  return doc
}

test('of what Yjs makes nothing is refused and nothing is lost, in whatever shape and order it comes', async t => {
  const native = startNative(t)
  const random = randomNumbers(seed)
  let [count, pieces] = [0, 0]
  for (let round = 0; round < ROUNDS; round += 1) {
    const updates = typed(random)
    const shapes = underway(updates, random)
    const admitted = await admit(native, shapes)
    try {
      assert.deepEqual([admitted.refused, admitted.waiting], [[], 0])
      const [made, whole] = [agrees(admitted), madeOf(updates)]
      assert.deepEqual(contentOf(made), contentOf(whole))
      assert.deepEqual(clocks(made), clocks(whole))
      const told = madeOf([Buffer.from(admitted.yrs.update, 'hex')])
      assert.deepEqual(contentOf(told), contentOf(whole), 'what yrs tells others')
    } catch (error) {
      t.diagnostic(`TIDEWELL_SEED=${seed}, round ${round}: ${JSON.stringify(shapes.map(hex))}`)
      throw error
    }
    count += shapes.length
    pieces += admitted.pieces.length
  }
  t.diagnostic(`TIDEWELL_SEED=${seed}: ${ROUNDS} rounds, ${count} updates, ${pieces} pieces`)
})

test('what is handed on of damaged updates means the same to Yjs and to yrs', async t => {
  const native = startNative(t)
  const random = randomNumbers(seed + 1)
  const whole = below => Math.floor(random() * below)
  let [refused, taken] = [0, 0]
  for (let round = 0; round < ROUNDS; round += 1) {
    const updates = typed(random)
    const damaged = updates.map(update => {
      if (random() < 0.6) return update
      const copy = update.slice()
      for (let change = 0; change < 1 + whole(3); change += 1) {
        const at = whole(copy.length)
        copy[at] = random() < 0.5 ? copy[at] ^ (1 << whole(8)) : whole(256)
      }
      return random() < 0.1 ? copy.slice(0, whole(copy.length)) : copy
    })
    const admitted = await admit(native, damaged)
    try {
      agrees(admitted)
    } catch (error) {
      t.diagnostic(`TIDEWELL_SEED=${seed}, round ${round}: ${JSON.stringify(damaged.map(hex))}`)
      throw error
    }
    refused += admitted.refused.length
    taken += damaged.length - admitted.refused.length
  }
  assert.ok(refused > 0 && taken > 0)
  t.diagnostic(`TIDEWELL_SEED=${seed}: ${ROUNDS} rounds, ${refused} refused, ${taken} taken at least in part`)
})
