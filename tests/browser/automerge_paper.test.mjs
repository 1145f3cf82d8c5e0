// One person's paper, typed through the package in a browser while everything around it fails.
//
// `TIDEWELL_LONG=1` types the whole paper with a hundred failures; otherwise it is the beginning with ten.
// `TIDEWELL_SEED` repeats a run.

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { openDevice, startPages, until } from './client_page.mjs'
import { openLink } from './link.mjs'
import { nativeClientHas } from './programs.mjs'
import { startRelay, temporaryFolder } from './relay.mjs'
import { readText } from './stock_yjs.mjs'
import { Replay, randomNumbers, readTrace } from './traces.mjs'

const LONG = process.env.TIDEWELL_LONG === '1'
const SEED = Number(process.env.TIDEWELL_SEED ?? Date.now() % 1_000_000)
const EDITS = LONG ? 259_778 : 20_000
const FAILURES = LONG ? 100 : 10
/** The typist waits when so many edits are not acknowledged: else all would be typed during the first failure. */
const AHEAD_MAX = 1_000
const DOCUMENT = 'test/automerge-paper'

test('a paper typed while links break and relays are killed arrives whole, and nothing acknowledged is ever missing', async t => {
  const { txns, endContent } = readTrace('automerge-paper')
  const edits = txns.slice(0, EDITS)
  const expected = new Replay(edits).advanceTo(edits.length)
  if (LONG) assert.equal(expected, endContent)
  t.diagnostic(`TIDEWELL_SEED=${SEED}`)
  const random = randomNumbers(SEED)

  const data = await temporaryFolder(t)
  const link = await openLink(t)
  let relay = await startRelay(t, { data })
  await link.lead(relay.port)
  // Two browsers, which share nothing but the relay.
  const writer = await (await startPages(t)).page()
  const reader = await (await startPages(t)).page()
  await openDevice(writer, { url: link.syncUrl, document: DOCUMENT })
  await openDevice(reader, { url: link.syncUrl, document: DOCUMENT })

  const began = performance.now()
  await startTyping(writer, edits)
  const moments = Array.from({ length: FAILURES }, () => Math.floor(random() * edits.length)).sort(
    (a, b) => a - b,
  )
  const stored = new Replay(edits)
  let [kills, cuts, unacknowledged] = [0, 0, 0]
  for (const moment of moments) {
    await typed(writer, moment)
    if (random() < 0.25) {
      await link.cut()
      cuts += 1
      // More than this is not typed before the link is back.
      const { made, acknowledged } = await progress(writer)
      const most = Math.min(acknowledged + AHEAD_MAX, edits.length) - made
      await typed(writer, made + Math.floor(random() * most))
      await link.lead(relay.port)
      await tellOnline(writer)
      continue
    }
    await relay.kill()
    await link.cut()
    kills += 1
    // Read after the kill: so it has every acknowledgement that left the relay and came here.
    const { made, acknowledged } = await progress(writer)
    unacknowledged += made - acknowledged
    relay = await startRelay(t, { data })
    // Nobody but this reader can reach the relay yet: what it says is what was in the store.
    storedIsAtLeast(stored, acknowledged, made, await readText(relay.url, DOCUMENT, 'text'))
    await link.lead(relay.port)
    await tellOnline(writer)
  }

  await typed(writer, edits.length)
  await writer.evaluate(() => globalThis.typing)
  const seconds = (performance.now() - began) / 1000
  await until(writer, hasText, expected)
  await tellOnline(reader)
  await until(reader, hasText, expected)
  await relay.kill()
  relay = await startRelay(t, { data })
  assert.equal(await readText(relay.url, DOCUMENT, 'text'), expected)
  await nativeClientHas(relay.syncUrl, DOCUMENT, 'text', expected)
  t.diagnostic(
    `${edits.length} edits in ${seconds.toFixed(1)} s, ${kills} relays killed, ${cuts} links cut, ` +
      `${unacknowledged} edits not acknowledged at the moments of the kills`,
  )
})

const hasText = ({ doc }, expected) => doc.text('text').toString() === expected

/** As browsers do when a network comes back: after many failures the package would wait for up to half a minute. */
function tellOnline(page) {
  return page.evaluate(() => void dispatchEvent(new Event('online')))
}

/** Types the edits one after another, each an edit of its own, and keeps count of what is acknowledged. */
async function startTyping(page, edits) {
  await page.evaluate(
    ({ patches, aheadMax }) => {
      const { doc } = globalThis.devices.a
      const progress = { made: 0, acknowledged: 0 }
      globalThis.progress = progress
      const turn = () => new Promise(resolve => setTimeout(resolve))
      const acknowledge = async () => {
        while (progress.acknowledged < patches.length) {
          const { made } = progress
          if (made === progress.acknowledged) await turn()
          else await doc.saved('relay')
          progress.acknowledged = made
        }
      }
      const type = async () => {
        for (const [index, transaction] of patches.entries()) {
          for (const [at, deleted, inserted] of transaction) {
            doc.edit(draft => {
              if (deleted > 0) draft.text('text').delete(at, deleted)
              if (inserted !== '') draft.text('text').insert(at, inserted)
            })
          }
          progress.made = index + 1
          if (index % 20 === 0) await turn()
          while (progress.made - progress.acknowledged > aheadMax) await turn()
        }
      }
      globalThis.typing = Promise.all([type(), acknowledge()])
    },
    { patches: edits.map(({ patches }) => patches), aheadMax: AHEAD_MAX },
  )
}

function progress(page) {
  return page.evaluate(() => globalThis.progress)
}

/** Waits until so many edits are made. */
async function typed(page, count) {
  await page.waitForFunction(count => globalThis.progress.made >= count, count, {
    polling: 10,
    timeout: 120_000,
  })
}

/** Fails unless `text` is what the first edits make, all those acknowledged among them. */
function storedIsAtLeast(replay, acknowledged, made, text) {
  replay.advanceTo(acknowledged)
  while (replay.text !== text) {
    assert.ok(replay.made < made, `of ${acknowledged} acknowledged edits some are not in the store`)
    replay.advanceTo(replay.made + 1)
  }
}
