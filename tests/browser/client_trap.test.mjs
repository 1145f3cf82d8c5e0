// What happens when the WebAssembly module fails. A test makes it fail: it wraps what the module exports, in the page,
// so the package has no way in for that.

import assert from 'node:assert/strict'
import { test } from 'node:test'

import {
  failingReads,
  hasKeeper,
  on,
  openDevice,
  startPages,
  storeContent,
  until,
  untilAnswered,
} from './client_page.mjs'
import { openRefuser } from './refuser.mjs'
import { startRelay, temporaryFolder } from './relay.mjs'

/** The module copies each row when it reads it: from now on one with this word makes it fail, as yrs might. */
const poisonRows = () => {
  const { set } = Uint8Array.prototype
  Uint8Array.prototype.set = function (source, offset) {
    const isRow = source instanceof Uint8Array && source.length < 200
    if (isRow && String.fromCharCode(...source).includes('poison'))
      throw new WebAssembly.RuntimeError('unreachable (injected)')
    return set.call(this, source, offset)
  }
  globalThis.healRows = () => {
    Uint8Array.prototype.set = set
  }
}

/** Lets an exported function trap, if wanted only once another one was called: `globalThis.trap = { name, times, after }`. */
const trappableModule = () => {
  globalThis.traps = 0
  const fail = () => {
    globalThis.traps += 1
    throw new WebAssembly.RuntimeError('unreachable (injected)')
  }
  const wrap = ({ exports }) => {
    const wrapped = {}
    for (const [name, value] of Object.entries(exports)) {
      wrapped[name] =
        typeof value !== 'function'
          ? value
          : (...options) => {
              const { trap } = globalThis
              if (trap?.after === name) trap.after = undefined
              if (trap?.name === name && trap.after === undefined && trap.times > 0) {
                trap.times -= 1
                // As a real one: in the middle of the work.
                value(...options)
                fail()
              }
              return value(...options)
            }
    }
    return Object.create(WebAssembly.Instance.prototype, { exports: { value: wrapped } })
  }
  const { Instance, instantiate } = WebAssembly
  WebAssembly.Instance = class {
    constructor(module, imports) {
      // biome-ignore lint/correctness/noConstructorReturn: as the one that it stands for does
      return wrap(new Instance(module, imports))
    }
  }
  WebAssembly.instantiate = async (source, imports) => {
    const made = await instantiate(source, imports)
    return made instanceof Instance ? wrap(made) : { module: made.module, instance: wrap(made.instance) }
  }
}

/** Holds a read back after `globalThis.readsLeft` others, until `goOn`. */
const holdableReads = () => {
  const { set } = Object.getOwnPropertyDescriptor(IDBTransaction.prototype, 'oncomplete')
  const kept = []
  Object.defineProperty(IDBTransaction.prototype, 'oncomplete', {
    set(complete) {
      set.call(this, event => {
        if (this.mode === 'readonly' && globalThis.readsLeft-- === 0) kept.push(() => complete(event))
        else complete(event)
      })
    },
  })
  globalThis.isKept = () => kept.length > 0
  globalThis.goOn = () => kept.pop()()
}

test('a trap while an edit is written loses nothing: not that edit, not those before and after, and is reported as recovered', async t => {
  const page = await (await startPages(t)).page(trappableModule)
  await openDevice(page)
  await on(page, async ({ doc }) => {
    doc.text('notes').insert(0, 'a')
    await doc.saved('device')
    doc.text('notes').insert(1, 'b')
    await null
    globalThis.trap = { name: 'core_commit', times: 1 }
    doc.edit(d => {
      d.text('notes').insert(2, 'c')
      d.list('todos').push({ title: 'milk' })
    })
    await null
    await null
    doc.text('notes').insert(3, 'd')
    doc.list('todos').push({ title: 'bread' })
  })
  await until(page, ({ errors }) => errors.some(error => error.code === 'recovered'))
  const value = { notes: 'abcd', todos: [{ title: 'milk' }, { title: 'bread' }] }
  assert.deepEqual(await on(page, ({ doc }) => ({ ...doc.value })), value)
  await on(page, ({ doc }) => doc.saved('device'))
  assert.equal(await page.evaluate(() => globalThis.traps), 1)
  await page.reload()
  await openDevice(page)
  assert.deepEqual(await on(page, ({ doc }) => ({ ...doc.value })), value)
  assert.equal(await on(page, ({ doc }) => doc.status.unsent.edits), 5)
})

test('a trap in the draft, in a read or in a drain is recovered from too', async t => {
  for (const name of ['core_text_insert', 'core_length', 'core_drain', 'core_value', 'core_tick']) {
    const page = await (await startPages(t)).page(trappableModule)
    await openDevice(page)
    await on(
      page,
      async ({ doc, errors }, name) => {
        const recovered = () => errors.some(error => error.code === 'recovered')
        doc.text('notes').insert(0, 'before ')
        await doc.saved('device')
        globalThis.trap = { name, times: 1 }
        doc.text('notes').insert(7, 'during')
        try {
          doc.text('notes').length
          doc.value
        } catch (error) {
          if (error.code !== 'recovered') throw error
        }
        while (!recovered()) await new Promise(resolve => setTimeout(resolve, 10))
      },
      name,
    )
    assert.equal(await on(page, ({ doc }) => doc.text('notes').toString()), 'before during', name)
    await page.close()
  }
})

test('after a trap the connection is made anew, and what was not acknowledged arrives', async t => {
  const relay = await startRelay(t, { data: await temporaryFolder(t) })
  const pages = await startPages(t)
  const [page, other] = [await pages.page(trappableModule), await pages.page()]
  await openDevice(page, { url: relay.url })
  await openDevice(other, { store: 'other', url: relay.url })
  await until(page, ({ doc }) => doc.status.link === 'live')
  await on(page, ({ doc }) => {
    globalThis.trap = { name: 'core_frame', times: 1 }
    doc.text('notes').insert(0, 'through a trap')
    return doc.saved('relay')
  })
  await until(other, ({ doc }) => doc.text('notes').toString() === 'through a trap')
  await on(other, ({ doc }) => doc.text('notes').insert(0, 'and back, '))
  await until(page, ({ doc }) => doc.text('notes').toString() === 'and back, through a trap')
})

test('watchers go on after a trap: a text that is watched is told whole', async t => {
  const page = await (await startPages(t)).page(trappableModule)
  await openDevice(page)
  await on(page, async ({ doc }) => {
    globalThis.shown = ''
    doc.text('notes').onDelta(delta => {
      let at = 0
      for (const { insert, retain, delete: gone } of delta) {
        if (retain) at += retain
        if (gone) globalThis.shown = globalThis.shown.slice(0, at) + globalThis.shown.slice(at + gone)
        if (insert) {
          globalThis.shown = globalThis.shown.slice(0, at) + insert + globalThis.shown.slice(at)
          at += insert.length
        }
      }
    })
    doc.text('notes').insert(0, 'hello')
    await doc.saved('device')
    globalThis.trap = { name: 'core_commit', times: 1 }
    doc.text('notes').insert(5, ' you')
  })
  await until(page, ({ doc, errors }) => errors.length > 0 && doc.text('notes').toString() === 'hello you')
  await on(page, async ({ doc }) => {
    doc.text('notes').insert(9, '!')
    await doc.saved('device')
  })
  assert.equal(await page.evaluate(() => globalThis.shown), 'hello you!')
})

test('a row with which the module fails is found among many, set aside and reported, and editing goes on', async t => {
  const pages = await startPages(t)
  const first = await pages.page()
  await first.evaluate(async () => {
    const { open } = await import('/dist/index.js')
    for (let opening = 0; opening < 12; opening += 1) {
      const client = await open()
      const doc = await client.doc('test/doc')
      doc.map('words').set(`k${opening}`, opening === 7 ? 'poison' : 'fine')
      await client.close()
    }
  })
  await first.close()
  const page = await pages.page(poisonRows)
  await openDevice(page)
  await until(page, ({ errors }) => errors.some(error => error.code === 'device_corrupt'))
  const words = await on(page, ({ doc }) => doc.value.words)
  assert.deepEqual(Object.keys(words).length, 11)
  assert.ok(!('k7' in words))
  await on(page, ({ doc }) => {
    doc.map('words').set('k12', 'after')
    return doc.saved('device')
  })
  const { set_aside } = await storeContent(page)
  assert.equal(set_aside.values.length, 1)
  assert.match(String.fromCharCode(...set_aside.values[0].row.update), /poison/)
})

test('edits with which the module always fails are given up, reported and not called saved, and the next ones are made', async t => {
  const page = await (await startPages(t)).page(trappableModule)
  await openDevice(page)
  const outcomes = await on(page, async ({ doc, errors }) => {
    globalThis.trap = { name: 'core_commit', times: 1000 }
    doc.text('notes').insert(0, 'bad')
    const waits = ['device', 'relay', 'device'].map(where => doc.saved(where))
    const outcomes = await Promise.allSettled(waits)
    if (!errors.some(error => error.code === 'invalid_value')) throw new Error('not reported')
    globalThis.trap = undefined
    doc.text('notes').insert(0, 'good')
    await doc.saved('device')
    return outcomes.map(({ reason }) => reason?.code)
  })
  assert.deepEqual(outcomes, Array(3).fill('invalid_value'))
  assert.equal(await on(page, ({ doc }) => doc.text('notes').toString()), 'good')
})

test('whoever did not wait for edits that were given up hears of it at the next wait, or when the document or the client is closed', async t => {
  for (const what of ['saved', 'doc', 'client']) {
    const page = await (await startPages(t)).page(trappableModule)
    await openDevice(page)
    const code = await on(
      page,
      async (device, what) => {
        const { doc, client, errors } = device
        globalThis.trap = { name: 'core_commit', times: 1000 }
        doc.text('notes').insert(0, 'bad')
        while (!errors.some(error => error.code === 'invalid_value'))
          await new Promise(resolve => setTimeout(resolve, 10))
        globalThis.trap = undefined
        const end = what === 'saved' ? doc.saved('device') : device[what].close()
        const code = await end.catch(error => error.code)
        // Once is enough.
        if (what === 'saved') await doc.close()
        if (what !== 'client') await client.close()
        return code
      },
      what,
    )
    assert.equal(code, 'invalid_value', what)
    await page.close()
  }
})

test('an edit made while the module starts anew that cannot be made is lost whole, and not called saved', async t => {
  const page = await (await startPages(t)).page(trappableModule)
  await openDevice(page)
  const code = await on(page, async ({ doc }) => {
    doc.text('notes').insert(0, 'before')
    await doc.saved('device')
    globalThis.trap = { name: 'core_value', times: 1 }
    try {
      doc.value
    } catch {
      // That it starts anew.
    }
    doc.text('notes').insert(6, ' during')
    doc.edit(d => {
      d.text('notes').insert(0, 'half ')
      d.text('notes').insert(1000, 'beyond the end')
    })
    doc.text('notes').insert(13, ' after')
    return doc.saved('device').catch(error => error.code)
  })
  assert.equal(code, 'invalid_range')
  const text = await on(page, async ({ doc }) => {
    await doc.saved('device')
    return [doc.text('notes').toString(), doc.status.unsent.edits]
  })
  assert.deepEqual(text, ['before during after', 3])
})

test('an edit of this tab that is set aside before the relay has it fails those who wait for it', async t => {
  const page = await (await startPages(t)).page(trappableModule)
  await page.evaluate(poisonRows)
  await openDevice(page)
  const code = await on(page, async ({ doc }) => {
    doc.map('words').set('k', 'poison')
    const wait = doc.saved('relay').catch(error => error.code)
    await doc.saved('device')
    globalThis.trap = { name: 'core_value', times: 1 }
    try {
      doc.value
    } catch {
      // That it starts anew.
    }
    return wait
  })
  assert.equal(code, 'device_corrupt')
})

test('what saved is asked inside an edit is answered when that edit is on the disk', async t => {
  const page = await (await startPages(t)).page()
  await openDevice(page)
  const rows = await on(page, async ({ doc }) => {
    let saved
    doc.edit(d => {
      d.text('notes').insert(0, 'x')
      saved = doc.saved('device')
    })
    await saved
    return doc.status.device
  })
  assert.equal(rows, 'saved')
  assert.equal((await storeContent(page)).outbox.keys.length, 1)
})

test('a trap while the status is read is nobody’s error: saved(device) resolves, and the status is told', async t => {
  const page = await (await startPages(t)).page(trappableModule)
  await openDevice(page)
  const seen = await on(page, async ({ doc, errors }) => {
    const told = new Promise(resolve => {
      doc.onStatus(({ device, unsent }) => device === 'saved' && unsent.edits === 1 && resolve())
    })
    doc.text('notes').insert(0, 'x')
    await null
    // When the row is on the disk: nothing else asks before.
    globalThis.trap = { name: 'core_status', times: 1 }
    await doc.saved('device')
    await told
    return errors.map(error => error.code)
  })
  assert.deepEqual(seen, ['recovered'])
})

test('what was edited in the turn of a trap is written, though the document or the client is closed at once', async t => {
  for (const what of ['doc', 'client']) {
    const page = await (await startPages(t)).page(trappableModule)
    await openDevice(page)
    await on(
      page,
      async (device, what) => {
        globalThis.trap = { name: 'core_commit', times: 1 }
        device.doc.text('notes').insert(0, 'kept')
        await device[what].close()
        globalThis.trap = undefined
        await device.client.close()
      },
      what,
    )
    assert.equal(await page.evaluate(() => globalThis.traps), 1)
    await openDevice(page)
    assert.equal(await on(page, ({ doc }) => doc.text('notes').toString()), 'kept', what)
  }
})

test('what an edit throws is thrown, though the module fails while the edit is taken back', async t => {
  const page = await (await startPages(t)).page(trappableModule)
  await openDevice(page)
  const thrown = await on(page, async ({ doc }) => {
    doc.text('notes').insert(0, 'before')
    globalThis.trap = { name: 'core_discard', times: 1 }
    let thrown
    try {
      doc.edit(d => {
        d.text('notes').insert(0, 'never ')
        throw new Error('mine')
      })
    } catch (error) {
      thrown = error.message
    }
    await doc.saved('device')
    return `${thrown}, ${doc.text('notes')}`
  })
  assert.equal(thrown, 'mine, before')
})

test('a document is opened though the module fails meanwhile, in this client or in another one of the page', async t => {
  const page = await (await startPages(t)).page(trappableModule)
  await openDevice(page, { name: 'a', store: 'a' })
  await openDevice(page, { name: 'b', store: 'b' })
  await on(page, async ({ client }) => {
    globalThis.trap = { name: 'core_drain', times: 1 }
    const doc = await client.doc('test/second')
    doc.text('notes').insert(0, 'x')
    await doc.saved('device')
  })
  assert.equal(await page.evaluate(() => globalThis.traps), 1)
  await on(
    page,
    async ({ client }) => {
      const doc = await client.doc('test/second')
      doc.text('notes').insert(0, 'y')
      await doc.saved('device')
    },
    undefined,
    'b',
  )
  for (const name of ['a', 'b']) {
    const codes = await on(page, ({ errors }) => errors.map(error => error.code), undefined, name)
    assert.deepEqual(codes, ['recovered'])
  }
})

test('a document that was closed reads no other one, also when the module starts anew', async t => {
  const page = await (await startPages(t)).page(trappableModule)
  await openDevice(page)
  const seen = await on(page, async ({ client, doc, errors }) => {
    const other = await client.doc('test/other')
    other.text('notes').insert(0, 'other')
    const notes = doc.text('notes')
    await doc.close()
    globalThis.trap = { name: 'core_tick', times: 1 }
    while (errors.length === 0) await new Promise(resolve => setTimeout(resolve, 10))
    const code = read => {
      try {
        return String(read())
      } catch (error) {
        return error.code
      }
    }
    return [() => notes.toString(), () => notes.length, () => doc.value.notes, () => other.value.notes].map(
      code,
    )
  })
  assert.deepEqual(seen, ['closed', 'closed', 'closed', 'other'])
})

/** A page whose next edit is refused. */
async function refusedPage(t) {
  const relay = await startRelay(t, { data: await temporaryFolder(t) })
  const refuser = await openRefuser(t, relay.syncUrl)
  const page = await (await startPages(t)).page(trappableModule)
  await openDevice(page, { url: refuser.syncUrl })
  await until(page, ({ doc }) => doc.status.link === 'live')
  refuser.refuse()
  return { refuser, page }
}

/** Makes an edit and answers what waiting for the relay fails with, and what remains then. */
const typeRefused = async ({ client, doc }) => {
  doc.text('notes').insert(0, 'refused')
  const code = await doc.saved('relay').catch(error => error.code)
  return [code, doc.text('notes').toString(), (await client.branches.list()).length]
}

test('a trap after a branch was merged, before its edits were out, does not end the branch: it is merged then', async t => {
  const { refuser, page } = await refusedPage(t)
  assert.deepEqual(await on(page, typeRefused), ['update_too_large', '', 1])
  refuser.accept()
  const [text, branches] = await on(page, async ({ client, doc }) => {
    globalThis.trap = { name: 'core_drain', times: 1, after: 'core_merge_branch' }
    const [branch] = await client.branches.list()
    await branch.merge()
    await doc.saved('relay')
    return [doc.text('notes').toString(), (await client.branches.list()).length]
  })
  assert.deepEqual([text, branches], ['refused', 0])
  assert.equal(await page.evaluate(() => globalThis.traps), 1)
})

test('whoever waits for the relay hears of a refusal also when the module fails while the edits are put aside', async t => {
  const { page } = await refusedPage(t)
  await page.evaluate(() => {
    globalThis.trap = { name: 'core_drain', times: 1, after: 'core_set_aside' }
  })
  assert.deepEqual(await on(page, typeRefused), ['update_too_large', '', 1])
  assert.equal(await page.evaluate(() => globalThis.traps), 1)
  const codes = await on(page, ({ errors }) => errors.map(({ cause }) => cause?.message))
  assert.deepEqual(codes, ['unreachable (injected)'])
})

test('a merge into a document that a new module could not read fails with device_failed, and is made when it is opened again', async t => {
  const { refuser, page } = await refusedPage(t)
  assert.deepEqual(await on(page, typeRefused), ['update_too_large', '', 1])
  refuser.accept()
  await page.evaluate(failingReads)
  const code = await on(page, async ({ client, doc }) => {
    globalThis.failingReads = 5
    globalThis.trap = { name: 'core_value', times: 1 }
    try {
      doc.value
    } catch {
      // That it starts anew.
    }
    const [branch] = await client.branches.list()
    return branch.merge().catch(error => error.code ?? String(error))
  })
  assert.equal(code, 'device_failed')
  const [text, branches] = await on(page, async ({ client, doc }) => {
    await doc.close()
    const again = await client.doc('test/doc')
    const [branch] = await client.branches.list()
    await branch.merge()
    await again.saved('relay')
    return [again.text('notes').toString(), (await client.branches.list()).length]
  })
  assert.deepEqual([text, branches], ['refused', 0])
})

test('other tabs hear what they ask about branches of a document that a new module could not read meanwhile', async t => {
  const page = await (await startPages(t)).page(trappableModule)
  await page.evaluate(failingReads)
  await openDevice(page)
  await on(page, ({ doc }) => {
    const other = new BroadcastChannel('tidewell/default/tabs')
    other.onmessage = ({ data }) => {
      globalThis.isHeard ||= data.kind === 'heard'
    }
    const { transaction } = IDBDatabase.prototype
    IDBDatabase.prototype.transaction = function (...options) {
      IDBDatabase.prototype.transaction = transaction
      // It is read for the answer; the next module cannot.
      const tx = transaction.apply(this, options)
      globalThis.failingReads = 5
      globalThis.trap = { name: 'core_value', times: 1 }
      try {
        doc.value
      } catch {
        // That it starts anew.
      }
      return tx
    }
    other.postMessage({ kind: 'who_heard', opening: 'other', document: 'test/doc', question: 'whether' })
  })
  await page.waitForFunction(() => globalThis.isHeard)
  const codes = await on(page, ({ errors }) => errors.map(error => error.code ?? String(error)))
  assert.deepEqual(codes, ['device_failed', 'recovered'])
})

/** A page that uses as a text what another device has made a map of, and has a second document open. */
async function pageAtOdds(t) {
  const { refuser, page } = await refusedPage(t)
  refuser.accept()
  await on(page, async device => {
    device.doc.text('odd')
    device.second = await device.client.doc('test/second')
  })
  await openDevice(page, { name: 'b', store: 'other', url: refuser.syncUrl })
  await on(page, ({ doc }) => doc.edit(d => [d.map('odd').set('k', 1), d.list('l').push(1)]), undefined, 'b')
  await until(page, ({ doc }) => doc.list('l').length === 1)
  return { refuser, page }
}

test('a new module loads all documents, though other devices use something in one as another type', async t => {
  const { page } = await pageAtOdds(t)
  const seen = await on(page, async ({ doc, second, errors }) => {
    globalThis.trap = { name: 'core_tick', times: 1 }
    while (errors.length === 0) await new Promise(resolve => setTimeout(resolve, 10))
    for (const open of [doc, second]) {
      open.text('notes').insert(0, 'after')
      await open.saved('relay')
    }
    return [doc.map('odd').get('k'), errors.map(error => error.code)]
  })
  assert.deepEqual(seen, [1, ['recovered']])
})

test('whoever waits hears of a refusal, though other devices use something in the document as another type', async t => {
  const { refuser, page } = await pageAtOdds(t)
  refuser.refuse()
  assert.deepEqual(await on(page, typeRefused), ['update_too_large', '', 1])
  assert.deepEqual(await on(page, ({ errors }) => errors), [])
})

test('a row from the relay with which the module fails is set aside in a document with a branch, too', async t => {
  const { refuser, page } = await refusedPage(t)
  assert.deepEqual(await on(page, typeRefused), ['update_too_large', '', 1])
  refuser.accept()
  await on(page, async ({ client, doc }) => {
    doc.map('words').set('k', 'poison')
    await doc.saved('relay')
    client.pause()
    doc.text('notes').insert(0, 'unsent')
    await doc.saved('device')
  })
  await page.evaluate(poisonRows)
  const seen = await on(page, async ({ client, doc, errors }) => {
    globalThis.trap = { name: 'core_tick', times: 1 }
    while (!errors.some(error => error.code === 'recovered'))
      await new Promise(resolve => setTimeout(resolve, 10))
    globalThis.healRows()
    // The relay has what was set aside, and what was typed since builds on it.
    client.resume()
    await doc.saved('relay')
    return [doc.value, errors.map(error => error.code)]
  })
  assert.deepEqual(seen, [{ notes: 'unsent', words: { k: 'poison' } }, ['device_corrupt', 'recovered']])
})

test('what another tab tells while the module starts anew is not missed', async t => {
  const pages = await startPages(t)
  const [page, other] = [await pages.page(trappableModule), await pages.page()]
  await page.evaluate(holdableReads)
  await openDevice(page, { document: 'test/one' })
  await on(page, ({ client }) => client.doc('test/two'))
  await openDevice(other, { document: 'test/one' })
  // It has asked, and is answered: nothing else is read.
  await on(other, ({ doc }) => doc.list('l').push(1))
  await until(page, ({ doc }) => doc.list('l').length === 1)
  await page.evaluate(() => {
    globalThis.readsLeft = 1
    globalThis.trap = { name: 'core_tick', times: 1 }
    new BroadcastChannel('tidewell/default/tabs').onmessage = () => {
      globalThis.hasHeard = true
    }
  })
  await page.waitForFunction(() => globalThis.isKept())
  await on(other, ({ doc }) => doc.list('l').push(2))
  await page.waitForFunction(() => globalThis.hasHeard)
  await page.evaluate(() => globalThis.goOn())
  await until(page, ({ errors }) => errors.length > 0)
  await until(page, ({ doc }) => doc.list('l').length === 2)
})

/** Two documents that the next module cannot read for the first `times`, and another one that is opened then. */
async function recoverReading(t, times) {
  const page = await (await startPages(t)).page(trappableModule)
  await page.evaluate(failingReads)
  await openDevice(page, { document: 'test/one' })
  await on(
    page,
    async (device, times) => {
      device.two = await device.client.doc('test/two')
      for (const doc of [device.doc, device.two]) {
        doc.text('notes').insert(0, doc.name)
        await doc.saved('device')
      }
      globalThis.failingReads = times
      globalThis.trap = { name: 'core_tick', times: 1 }
      while (device.errors.length === 0) await new Promise(resolve => setTimeout(resolve, 10))
      device.three = await device.client.doc('test/three')
      device.three.text('notes').insert(0, 'test/three')
    },
    times,
  )
  return page
}

const texts = ({ doc, two, three }) => [doc, two, three].map(doc => doc.text('notes').toString())

test('a new module reads again what the disk did not give at once', async t => {
  const page = await recoverReading(t, 2)
  await on(page, ({ doc }) => doc.text('notes').insert(8, '.'))
  assert.deepEqual(await on(page, texts), ['test/one.', 'test/two', 'test/three'])
  assert.deepEqual(await on(page, ({ errors }) => errors.map(error => error.code)), ['recovered'])
})

test('what is typed while a document is being loaded anew is not called saved when it cannot be, and its close tells so', async t => {
  const page = await (await startPages(t)).page(trappableModule)
  await page.evaluate(failingReads)
  await openDevice(page)
  const codes = await on(page, async ({ doc }) => {
    doc.text('notes').insert(0, 'kept')
    await doc.saved('device')
    const codeOf = promise =>
      promise.then(
        () => 'resolved',
        error => error.code,
      )
    const early = codeOf(doc.saved('relay'))
    await null
    globalThis.failingReads = 5
    globalThis.trap = { name: 'core_value', times: 1 }
    try {
      doc.value
    } catch {
      // That it starts anew.
    }
    doc.text('notes').insert(4, ' not')
    const ends = []
    for (const end of [() => doc.saved('device'), () => doc.saved('relay'), () => doc.close()])
      ends.push(await codeOf(end()))
    return [await early, ...ends]
  })
  assert.deepEqual(codes, Array(4).fill('device_failed'))
  await on(page, async device => {
    device.doc = await device.client.doc('test/doc')
  })
  assert.equal(await on(page, ({ doc }) => doc.text('notes').toString()), 'kept')
})

test('what is typed into a document that a new module could not read comes into no other, and it can be opened again', async t => {
  const page = await recoverReading(t, 5)
  const code = await on(page, async device => {
    let code
    try {
      device.doc.text('notes').insert(0, 'astray ')
    } catch (error) {
      code = error.code
    }
    device.two.text('notes').insert(0, 'of ')
    await device.doc.close()
    device.doc = await device.client.doc('test/one')
    return code
  })
  assert.equal(code, 'closed')
  assert.deepEqual(await on(page, texts), ['test/one', 'of test/two', 'test/three'])
  const codes = await on(page, ({ errors }) => errors.map(error => error.code))
  assert.deepEqual(codes, ['device_failed', 'recovered'])
})

test('what is typed into a document that has been loaded anew, while another one has not, is written before it is called saved', async t => {
  const page = await (await startPages(t)).page(trappableModule)
  await page.evaluate(holdableReads)
  await openDevice(page)
  const seen = await on(page, async ({ client, doc }) => {
    const second = await client.doc('test/second')
    doc.text('notes').insert(0, 'before ')
    second.text('notes')
    await doc.saved('device')
    globalThis.readsLeft = 1
    globalThis.trap = { name: 'core_tick', times: 1 }
    while (!globalThis.isKept()) await new Promise(resolve => setTimeout(resolve, 10))
    doc.edit(d => d.text('notes').insert(7, 'during'))
    second.text('notes').insert(0, 'too')
    const saved = [doc, second].map(open => open.saved('device'))
    globalThis.goOn()
    await Promise.all(saved)
    return [doc.text('notes').toString(), second.text('notes').toString(), doc.status.unsent.edits]
  })
  assert.deepEqual(seen, ['before during', 'too', 2])
})

test('an edit is not given up for failures of the module that were not its own', async t => {
  const page = await (await startPages(t)).page(trappableModule)
  await openDevice(page)
  const seen = await on(page, async ({ client, doc, errors }) => {
    const read = await client.doc('test/read')
    read.text('notes')
    doc.text('notes').insert(0, 'other')
    await doc.saved('device')
    for (const failure of [1, 2, 3, 4]) {
      globalThis.trap = { name: 'core_value', times: 1 }
      try {
        doc.value
      } catch {
        // That it starts anew.
      }
      if (failure > 2) read.text('notes').insert(0, 'innocent ')
      while (errors.length < failure) await new Promise(resolve => setTimeout(resolve, 10))
    }
    await read.saved('device')
    return [read.text('notes').toString(), errors.map(error => error.code)]
  })
  assert.deepEqual(seen, ['innocent innocent ', Array(4).fill('recovered')])
})

test('an edit is not given up for those of another document, with which the module fails', async t => {
  const page = await (await startPages(t)).page(trappableModule)
  await openDevice(page)
  const seen = await on(page, async ({ client, doc, errors }) => {
    const other = await client.doc('test/other')
    other.list('l')
    doc.text('notes').insert(0, 'innocent')
    globalThis.trap = { name: 'core_list_insert', times: 1000 }
    other.list('l').push(1)
    const code = await other.saved('device').catch(error => error.code)
    await doc.saved('device')
    return [code, doc.text('notes').toString(), errors.map(error => error.code)]
  })
  assert.deepEqual(seen, [
    'invalid_value',
    'innocent',
    ['recovered', 'recovered', 'recovered', 'invalid_value'],
  ])
})

test('nothing is called saved at the relay while the document is being loaded anew, whatever made the module fail', async t => {
  for (const failing of ['other client', 'core_status']) {
    const relay = await startRelay(t, { data: await temporaryFolder(t) })
    const page = await (await startPages(t)).page(trappableModule)
    await openDevice(page, { name: 'b', store: 'b' })
    await openDevice(page, { url: relay.url })
    const seen = await on(
      page,
      async ({ client, doc, errors }, failing) => {
        client.pause()
        doc.text('notes').insert(0, 'x')
        await doc.saved('device')
        globalThis.trap = { name: failing === 'core_status' ? failing : 'core_value', times: 1 }
        try {
          if (failing !== 'core_status') globalThis.devices.b.doc.value
        } catch {
          // That it starts anew.
        }
        let isSaved = false
        const saved = doc.saved('relay').then(() => {
          isSaved = true
        })
        while (errors.length === 0) await new Promise(resolve => setTimeout(resolve, 10))
        const before = [isSaved, doc.status.unsent.edits]
        client.resume()
        await saved
        return [...before, doc.status.unsent.edits]
      },
      failing,
    )
    assert.deepEqual(seen, [false, 1, 0], failing)
    assert.equal(await page.evaluate(() => globalThis.traps), 1)
    await page.close()
  }
})

test('a wait that its signal ends takes no news of lost edits away from the next one', async t => {
  const page = await (await startPages(t)).page(trappableModule)
  await openDevice(page)
  const codes = await on(page, async ({ doc, errors }) => {
    globalThis.trap = { name: 'core_commit', times: 1000 }
    doc.text('notes').insert(0, 'bad')
    while (!errors.some(error => error.code === 'invalid_value'))
      await new Promise(resolve => setTimeout(resolve, 10))
    globalThis.trap = undefined
    const ending = new AbortController()
    const { signal } = ending
    const waits = [doc.saved('device', { signal }), doc.saved('relay', { signal })]
    ending.abort()
    const outcomes = await Promise.allSettled(waits)
    outcomes.push(...(await Promise.allSettled([doc.saved('device')])))
    // Once is enough.
    await doc.saved('device')
    return outcomes.map(({ reason }) => reason?.code)
  })
  assert.deepEqual(codes, ['aborted', 'aborted', 'invalid_value'])
})

test('a wait that its signal ends, before or after a refusal, takes no news of it away from the next one', async t => {
  for (const when of ['before', 'after']) {
    const { refuser, page } = await refusedPage(t)
    const codes = await on(
      page,
      async ({ client, doc }, when) => {
        const hasBranch = async () => (await client.branches.list()).length > 0
        const ending = new AbortController()
        const notes = doc.text('notes')
        // It goes on waiting for the next module then.
        if (when === 'before') globalThis.trap = { name: 'core_value', times: 1 }
        try {
          doc.value
        } catch {
          // That it starts anew.
        }
        notes.insert(0, 'refused')
        while (when === 'after' && !(await hasBranch())) await new Promise(resolve => setTimeout(resolve, 10))
        const first = doc.saved('relay', { signal: ending.signal }).catch(error => error.code)
        ending.abort()
        while (!(await hasBranch())) await new Promise(resolve => setTimeout(resolve, 10))
        return [await first, await doc.saved('relay').catch(error => error.code)]
      },
      when,
    )
    assert.deepEqual(codes, ['aborted', 'update_too_large'], when)
    refuser.accept()
    // Once is enough.
    await on(page, ({ doc }) => doc.saved('relay'))
    await page.close()
  }
})

test('a wait that is ended by whoever is told of a refusal first takes no news of it away from the next one', async t => {
  const { page } = await refusedPage(t)
  const codes = await on(page, async ({ doc }) => {
    const ending = new AbortController()
    doc.text('notes').insert(0, 'refused')
    // The document is there without the edit, and nobody who waits knows yet.
    doc.watch(
      value => value.notes,
      () => ending.abort(),
    )
    const outcomes = await Promise.allSettled([doc.saved('relay', { signal: ending.signal })])
    // Once is enough.
    for (let wait = 0; wait < 2; wait += 1) outcomes.push(...(await Promise.allSettled([doc.saved('relay')])))
    return outcomes.map(({ reason }) => reason?.code)
  })
  assert.deepEqual(codes, ['aborted', 'update_too_large', undefined])
})

test('whoever waits for the disk hears once that an edit was set aside', async t => {
  const page = await (await startPages(t)).page(trappableModule)
  await page.evaluate(poisonRows)
  await openDevice(page)
  const codes = await on(page, async ({ doc }) => {
    doc.map('words').set('k', 'poison')
    const wait = doc.saved('device').catch(error => error.code)
    globalThis.trap = { name: 'core_value', times: 1 }
    try {
      doc.value
    } catch {
      // That it starts anew.
    }
    const codes = [await wait]
    for (const end of [() => doc.saved('device'), () => doc.close()])
      codes.push(await end().catch(error => error.code))
    return codes
  })
  assert.deepEqual(codes, ['device_corrupt', undefined, undefined])
})

test('a document that makes every module fail is given up, and the others go on', async t => {
  const page = await (await startPages(t)).page(trappableModule)
  await openDevice(page)
  const seen = await on(page, async ({ client, doc, errors }) => {
    const second = await client.doc('test/second')
    for (const open of [doc, second]) open.text('notes').insert(0, 'x')
    doc.text('notes').onDelta(() => undefined)
    await Promise.all([doc.saved('device'), second.saved('device')])
    const codeOf = promise =>
      promise.then(
        () => 'resolved',
        error => error.code,
      )
    const waits = ['waits', 'waits']
    for (const [at, open] of [doc, second].entries()) {
      codeOf(open.saved('relay')).then(code => {
        waits[at] = code
      })
    }
    await null
    globalThis.trap = { name: 'core_text_content', times: 1000 }
    try {
      doc.text('notes').toDelta()
    } catch {
      // That it starts anew.
    }
    while (errors.length === 0) await new Promise(resolve => setTimeout(resolve, 10))
    second.text('notes').insert(1, 'y')
    waits.push(await codeOf(second.saved('device')))
    // What was to be told of the text is what made it fail.
    await doc.close()
    globalThis.trap = undefined
    const again = await client.doc('test/doc')
    return [
      ...waits,
      second.text('notes').toString(),
      again.text('notes').toString(),
      errors.map(error => error.code),
    ]
  })
  assert.deepEqual(seen, ['device_failed', 'waits', 'resolved', 'xy', 'x', ['device_failed', 'recovered']])
})

/** From now on the module fails with each document whose name ends with ü. */
const poisonName = () => {
  // It encodes the name when the document is added, and nothing else of the kind.
  const { encodeInto } = TextEncoder.prototype
  TextEncoder.prototype.encodeInto = function (text, bytes) {
    if (text === 'ü') throw new WebAssembly.RuntimeError('unreachable (injected)')
    return encodeInto.call(this, text, bytes)
  }
}

test('a document with which the module fails when it is opened is not, and the others go on', async t => {
  const page = await (await startPages(t)).page(trappableModule)
  await openDevice(page)
  await page.evaluate(poisonName)
  const seen = await on(page, async ({ client, doc, errors }) => {
    doc.text('notes').insert(0, 'x')
    await doc.saved('device')
    const code = await client.doc('test/ü').catch(error => error.code)
    doc.text('notes').insert(1, 'y')
    await doc.saved('device')
    return [code, doc.text('notes').toString(), errors.map(error => error.code)]
  })
  assert.deepEqual(seen, ['device_failed', 'xy', ['device_failed', 'recovered']])
})

test('no row is set aside for a document with which the module fails without any', async t => {
  const relay = await startRelay(t, { data: await temporaryFolder(t) })
  const page = await (await startPages(t)).page()
  await openDevice(page, { document: 'test/ü', url: relay.url })
  await untilAnswered(page, hasKeeper)
  await on(page, async ({ client, doc }) => {
    doc.text('notes').insert(0, 'sent')
    await doc.saved('relay')
    client.pause()
    for (const text of ['un', 'sent']) {
      doc.text('unsent').insert(0, text)
      await doc.saved('device')
    }
    await client.close()
  })
  const before = await storeContent(page)
  assert.ok(before.received.keys.length > 0 && before.outbox.keys.length > 1)
  await page.evaluate(poisonName)
  const seen = await page.evaluate(async () => {
    const { open } = await import('/dist/index.js')
    const errors = []
    const client = await open({ onError: error => errors.push(error.code) })
    errors.push(await client.doc('test/ü').catch(error => error.code))
    await client.close()
    return errors
  })
  assert.deepEqual(seen, ['device_failed', 'recovered', 'device_failed'])
  assert.deepEqual(await storeContent(page), before)
  await page.reload()
  await openDevice(page, { document: 'test/ü' })
  assert.deepEqual(await on(page, ({ doc }) => ({ ...doc.value })), { notes: 'sent', unsent: 'sentun' })
})

test('documents that wait for the same module are opened, though it fails with a row of the first one', async t => {
  const pages = await startPages(t)
  const first = await pages.page()
  for (const [document, word] of [
    ['test/a', 'poison'],
    ['test/b', 'fine'],
  ]) {
    await openDevice(first, { document })
    await on(
      first,
      async ({ client, doc }, word) => {
        doc.map('words').set('early', 'fine')
        await doc.saved('device')
        doc.map('words').set('k', word)
        await client.close()
      },
      word,
    )
  }
  await first.close()
  const page = await pages.page(trappableModule)
  await page.evaluate(holdableReads)
  await openDevice(page)
  await page.evaluate(poisonRows)
  const seen = await on(page, async ({ client, doc, errors }) => {
    const later = () => new Promise(resolve => setTimeout(resolve, 10))
    globalThis.readsLeft = 0
    globalThis.trap = { name: 'core_value', times: 1 }
    try {
      doc.value
    } catch {
      // That it starts anew.
    }
    while (!globalThis.isKept()) await later()
    const opening = []
    for (const name of ['test/a', 'test/b']) {
      const before = globalThis.readsLeft
      opening.push(client.doc(name))
      // It has been read, and waits for the module.
      while (globalThis.readsLeft === before) await later()
    }
    globalThis.goOn()
    const outcomes = await Promise.allSettled(opening)
    const words = outcomes.map(({ value, reason }) => value?.value.words ?? reason.code)
    return [words, errors.map(error => error.code)]
  })
  assert.deepEqual(seen, [
    [{ early: 'fine' }, { early: 'fine', k: 'fine' }],
    ['recovered', 'device_corrupt', 'recovered'],
  ])
})

test('documents are loaded anew though another client of the page throws the module away meanwhile', async t => {
  const page = await (await startPages(t)).page(trappableModule)
  await page.evaluate(holdableReads)
  await openDevice(page, { name: 'b', store: 'b' })
  await openDevice(page)
  const seen = await on(page, async ({ doc, errors }) => {
    const { b } = globalThis.devices
    const fail = device => {
      globalThis.trap = { name: 'core_value', times: 1 }
      try {
        device.doc.value
      } catch {
        // That it starts anew.
      }
    }
    const later = () => new Promise(resolve => setTimeout(resolve, 10))
    doc.text('notes').insert(0, 'x')
    await doc.saved('device')
    globalThis.readsLeft = 0
    fail({ doc })
    while (!globalThis.isKept()) await later()
    while (b.errors.length === 0) await later()
    fail(b)
    globalThis.goOn()
    await doc.saved('device')
    return [globalThis.traps, doc.text('notes').toString(), errors.map(error => error.code)]
  })
  assert.deepEqual(seen, [2, 'x', ['recovered']])
})

test('a module that cannot be started is tried again, and until then nobody waits in vain', async t => {
  const page = await (await startPages(t)).page(trappableModule)
  await openDevice(page, { name: 'b', store: 'b' })
  await openDevice(page)
  const seen = await on(page, async ({ doc, errors }) => {
    doc.text('notes').insert(0, 'x')
    await doc.saved('device')
    let code = 'waits'
    doc.saved('relay').catch(error => {
      code = error.code
    })
    await null
    globalThis.trap = { name: 'core_value', times: 1 }
    try {
      globalThis.devices.b.doc.value
    } catch {
      // That the other client starts anew, and this one hears of it at its next call.
    }
    globalThis.trap = { name: 'core_new', times: 1 }
    doc.text('notes').insert(1, 'y')
    while (errors.length < 2) await new Promise(resolve => setTimeout(resolve, 10))
    await doc.saved('device')
    return [code, doc.text('notes').toString(), errors.map(error => error.code ?? error.message)]
  })
  assert.deepEqual(seen, ['device_failed', 'xy', ['unreachable (injected)', 'recovered']])
})

test('types that nobody had named are named and edited while the module starts anew, before and after their document is loaded', async t => {
  const page = await (await startPages(t)).page(trappableModule)
  await page.evaluate(holdableReads)
  await openDevice(page)
  const seen = await on(page, async ({ client, doc, errors }) => {
    doc.map('odd').set('k', 1)
    await doc.saved('device')
    await doc.close()
    const open = await client.doc('test/doc')
    await client.doc('test/second')
    globalThis.readsLeft = 1
    globalThis.trap = { name: 'core_value', times: 1 }
    try {
      open.value
    } catch {
      // That it starts anew.
    }
    open.edit(d => d.text('early').insert(0, 'x'))
    while (!globalThis.isKept()) await new Promise(resolve => setTimeout(resolve, 10))
    open.edit(d => d.list('late').push(1))
    open.text('empty')
    open.list('odd').push(2)
    const saved = open.saved('device').catch(error => error.code)
    globalThis.goOn()
    const code = await saved
    open.map('odd').set('l', 3)
    return [code, open.value, errors.map(error => error.code)]
  })
  assert.deepEqual(seen, [
    'invalid_path',
    { early: 'x', late: [1], empty: '', odd: { k: 1, l: 3 } },
    ['recovered', 'invalid_path'],
  ])
})

test('of a text that is watched nothing is told that was not there, though several modules are begun and a row is set aside', async t => {
  const page = await (await startPages(t)).page(trappableModule)
  await page.evaluate(poisonRows)
  await openDevice(page)
  const seen = await on(page, async ({ client, doc, errors }) => {
    const second = await client.doc('test/second')
    let shown = ''
    doc.text('notes').onDelta(delta => {
      let at = 0
      for (const { insert, retain, delete: gone } of delta) {
        if (at + (retain ?? gone ?? 0) > shown.length) throw new Error('beyond the end')
        if (retain) at += retain
        if (gone) shown = shown.slice(0, at) + shown.slice(at + gone)
        if (insert) {
          shown = shown.slice(0, at) + insert + shown.slice(at)
          at += insert.length
        }
      }
    })
    doc.text('notes').insert(0, 'fine')
    await doc.saved('device')
    doc.text('notes').insert(4, ' poison')
    second.text('notes').insert(0, 'poison')
    await Promise.all([doc.saved('device'), second.saved('device')])
    const recovered = async times => {
      globalThis.trap = { name: 'core_tick', times: 1 }
      const count = () => errors.filter(error => error.code === 'recovered').length
      while (count() < times) await new Promise(resolve => setTimeout(resolve, 10))
    }
    // The first document is loaded again when the second one has made its module fail.
    await recovered(1)
    const once = shown
    await recovered(2)
    return [once, shown, errors.map(error => error.code ?? error.message)]
  })
  const codes = ['device_corrupt', 'device_corrupt', 'recovered', 'recovered']
  assert.deepEqual(seen, ['fine', 'fine', codes])
})
