// Two people's text, typed again by two devices, each of which sees of the other exactly what that person had seen.
//
// `TIDEWELL_LONG=1` types all of it; otherwise it is the beginning. Stock Yjs goes along, as the two people: after each
// delivery each device must show what they had before them.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as Y from 'yjs'

import { on, openDevice, startPages, until } from './client_page.mjs'
import { openGate } from './gate.mjs'
import { startRelay, temporaryFolder } from './relay.mjs'
import { readText } from './stock_yjs.mjs'
import { knowledgeOf, readTrace } from './traces.mjs'

const TRANSACTIONS = process.env.TIDEWELL_LONG === '1' ? Number.POSITIVE_INFINITY : 2_000
const DOCUMENT = 'test/friendsforever'

test('two devices that see of each other what two people saw end with the text that those people had', async t => {
  const trace = readTrace('friendsforever')
  const transactions = trace.txns.slice(0, TRANSACTIONS)
  const data = await temporaryFolder(t)
  const relay = await startRelay(t, { data })
  const page = await (await startPages(t)).page()
  const devices = await devicesInOrder(t, page, relay)
  const people = [new Person(1), new Person(2)]

  const began = performance.now()
  const runs = runsOf(transactions)
  let deliveries = 0
  for (const { agent, first, end, seen } of runs) {
    const [device, person] = [devices[agent], people[agent]]
    const [otherDevice, otherPerson] = [devices[1 - agent], people[1 - agent]]
    if (person.see(otherPerson, seen)) {
      device.gate.releaseThrough(device.arrivals[seen])
      deliveries += 1
    }
    const patches = transactions.slice(first, end).map(transaction => transaction.patches)
    const before = person.text()
    for (const transaction of patches) person.write(transaction)
    // The device that writes is told that it is saved, the other what was written: one frame each. A letter that was
    // typed and taken back in one turn never leaves the device.
    if (await typeAfter(page, device.name, before, patches)) {
      await Promise.all([device.gate.nextArrived(), otherDevice.gate.nextArrived()])
    }
    otherDevice.arrivals[person.made()] = otherDevice.gate.arrived()
  }
  const seconds = (performance.now() - began) / 1000

  for (const [agent, { gate, name }] of devices.entries()) {
    people[agent].see(people[1 - agent], people[1 - agent].made())
    gate.releaseThrough(gate.arrived())
    await until(page, hasText, people[agent].text(), name)
  }
  const expected = transactions.length === trace.txns.length ? trace.endContent : people[0].text()
  assert.deepEqual(
    people.map(person => person.text()),
    [expected, expected],
  )
  await relay.kill()
  const stored = await startRelay(t, { data })
  assert.equal(await readText(stored.url, DOCUMENT, 'text'), expected)
  t.diagnostic(
    `${transactions.length} transactions in ${runs.length} runs and ${deliveries} deliveries, ${seconds.toFixed(1)} s`,
  )
})

const hasText = ({ doc }, expected) => doc.text('text').toString() === expected

/** One of the two people, in stock Yjs. */
class Person {
  #doc = new Y.Doc()
  #updates = []
  #seen = 0

  constructor(clientID) {
    this.#doc.clientID = clientID
  }

  text() {
    return this.#doc.getText('text').toString()
  }

  /** Transactions written. */
  made() {
    return this.#updates.length
  }

  /** Sees what the other wrote first, `count` transactions of it; false if all of that was known. */
  see(other, count) {
    const isNews = count > this.#seen
    for (; this.#seen < count; this.#seen += 1) Y.applyUpdate(this.#doc, other.#updates[this.#seen])
    return isNews
  }

  write(patches) {
    const before = Y.encodeStateVector(this.#doc)
    this.#doc.transact(() => {
      const text = this.#doc.getText('text')
      for (const [at, deleted, inserted] of patches) {
        text.delete(at, deleted)
        text.insert(at, inserted)
      }
    })
    this.#updates.push(Y.encodeStateAsUpdate(this.#doc, before))
  }
}

/**
 * The transactions in runs as long as can be: of one author, who sees nothing new meanwhile, and all of which the other
 * sees at once.
 */
function runsOf(transactions) {
  const seen = knowledgeOf(transactions)
  const seenByOther = [new Set(), new Set()]
  for (const [index, { agent }] of transactions.entries()) seenByOther[1 - agent].add(seen[index])
  const made = [0, 0]
  const runs = []
  for (const [index, { agent }] of transactions.entries()) {
    const run = runs.at(-1)
    const goesOn = run?.agent === agent && run.seen === seen[index] && !seenByOther[agent].has(made[agent])
    if (goesOn) run.end = index + 1
    else runs.push({ agent, first: index, end: index + 1, seen: seen[index] })
    made[agent] += 1
  }
  return runs
}

/**
 * Two devices behind gates. Where both wrote at one place at one time, Yjs puts the lower client ID first, and in the
 * recording the first person's text comes first: so the device with the lower ID takes that part.
 */
async function devicesInOrder(t, page, relay) {
  const devices = []
  for (const name of ['one', 'two']) {
    const gate = await openGate(t, relay.syncUrl)
    await openDevice(page, { name, store: name, url: gate.syncUrl, document: DOCUMENT })
    // One that is still opening the document would get the other's first edit with it, not as an update.
    await until(page, ({ doc }) => doc.status.link === 'live', undefined, name)
    devices.push({ name, gate, arrivals: [] })
  }
  for (const { name, gate } of devices) {
    // A device takes its client ID at its first edit.
    await on(page, ({ doc }) => doc.text('other').insert(0, 'x'), undefined, name)
    await gate.nextArrived()
  }
  await Promise.all(devices.map(({ gate }) => gate.nextArrived()))
  for (const { gate } of devices) gate.releaseThrough(gate.arrived())
  const clientId = ({ gate }) => [...Y.parseUpdateMeta(gate.firstUpdate()).from.keys()][0]
  return devices.sort((one, two) => clientId(one) - clientId(two))
}

/** Types the transactions in one turn, once the device shows what was to be seen before; true if that sent anything. */
function typeAfter(page, name, before, patches) {
  return page.evaluate(
    async ({ name, before, patches }) => {
      const { doc } = globalThis.devices[name]
      const text = doc.text('text')
      await new Promise((resolve, reject) => {
        const expired = setTimeout(() => reject(new Error(`${name} shows ${text}`)), 20_000)
        const look = () => {
          if (text.toString() !== before) return
          clearTimeout(expired)
          stop()
          resolve()
        }
        const stop = text.onDelta(look)
        look()
      })
      const { bytes } = doc.status.unsent
      for (const transaction of patches) {
        doc.edit(() => {
          for (const [at, deleted, inserted] of transaction) {
            if (deleted > 0) text.delete(at, deleted)
            if (inserted !== '') text.insert(at, inserted)
          }
        })
      }
      // Reading ends the turn.
      text.toString()
      return doc.status.unsent.bytes > bytes
    },
    { name, before, patches },
  )
}
