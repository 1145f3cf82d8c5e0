// Tokens: the client shows what the application's callback yields.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { join } from 'node:path'
import test from 'node:test'

import { on, startPages, stopClock, until, untilAnswered } from './client_page.mjs'
import { startRelay, temporaryFolder, tidewell } from './relay.mjs'

/** First bytes of the messages of `tidewell.v1` that hold edits: a push, and an answer. */
const pushes = [4, 5]

/** A relay with keys, a page whose `mint` makes tokens, and which counts sockets. */
async function start(t) {
  const folder = await temporaryFolder(t)
  const keys = join(folder, 'keys.json')
  assert.ok((await tidewell('token', 'key', '--keys', keys, '--kind', 'hmac')).length > 0)
  const relay = await startRelay(t, { data: await temporaryFolder(t), keys })
  const page = await (await startPages(t)).page(() => {
    globalThis.sockets = []
    const Socket = WebSocket
    globalThis.WebSocket = class extends Socket {
      constructor(...options) {
        super(...options)
        globalThis.sockets.push(options[0])
      }
    }
  })
  const mint = (access, life) => {
    const options = ['--keys', keys, '--subject', 'ada', '--for', life]
    return tidewell('token', 'mint', ...options, '--document', `${access}:test/doc`)
  }
  await page.exposeFunction('mint', mint)
  return { relay, page }
}

/** Opens a client whose `auth` is this function's text; it counts its calls in `globalThis.asked`. */
function openWith(page, relay, auth) {
  return page.evaluate(
    async ({ url, auth }) => {
      const { open } = await import('/dist/index.js')
      globalThis.asked = 0
      const errors = []
      const links = []
      const client = await open({
        url,
        onError: error => errors.push(error.code ?? error.message),
        auth: () => {
          globalThis.asked += 1
          return new Function(`return (${auth})`)()(globalThis.asked)
        },
      })
      const doc = await client.doc('test/doc')
      doc.onStatus(({ link }) => links.push(link))
      globalThis.devices = { a: { client, doc, errors, links } }
    },
    { url: relay.url, auth: auth.toString() },
  )
}

const counts = page => page.evaluate(() => [globalThis.asked, globalThis.sockets.length])

test('a token is shown to the relay, never in a URL, and replaced on the same connection before it expires', async t => {
  const { relay, page } = await start(t)
  await openWith(page, relay, asked => globalThis.mint('write', asked < 3 ? '12s' : '1h'))
  await on(page, ({ doc }) => {
    doc.text('notes').insert(0, 'with a token')
    return doc.saved('relay')
  })
  // Two tokens have come to their last part since: the first is not good any more.
  await page.waitForFunction(() => globalThis.asked === 3)
  await on(page, ({ doc }) => {
    doc.text('notes').insert(0, 'still ')
    return doc.saved('relay')
  })
  assert.deepEqual(await counts(page), [3, 1])
  assert.deepEqual(await on(page, ({ errors }) => errors), [])
  const [url] = await page.evaluate(() => globalThis.sockets)
  assert.equal(new URL(url).search, '')
})

test('an auth that fails is called again and reported, and then the connection is made', async t => {
  const { relay, page } = await start(t)
  await openWith(page, relay, asked => {
    if (asked === 1) throw new Error('thrown')
    return asked === 2 ? Promise.reject(new Error('rejected')) : globalThis.mint('write', '1h')
  })
  await until(page, ({ doc }) => doc.status.link === 'live')
  assert.deepEqual(await on(page, ({ errors }) => errors), ['thrown', 'rejected'])
  assert.deepEqual(await counts(page), [3, 1])
})

test('an auth that never answers has failed after a while, is reported, and called again', async t => {
  const { relay, page } = await start(t)
  await stopClock(page)
  await openWith(page, relay, asked => (asked === 1 ? new Promise(() => {}) : globalThis.mint('write', '1h')))
  await page.clock.runFor(29_000)
  assert.deepEqual(await on(page, ({ errors }) => errors), [])
  await page.clock.runFor(5_000)
  await until(page, ({ doc }) => doc.status.link === 'live')
  assert.deepEqual(await on(page, ({ errors }) => errors), ['timeout'])
  assert.deepEqual(await counts(page), [2, 1])
})

test('a token that is late replaces none of a newer connection', async t => {
  const { relay, page } = await start(t)
  const refresh = 7
  await page.evaluate(refresh => {
    globalThis.refreshes = 0
    const { send } = WebSocket.prototype
    WebSocket.prototype.send = function (frame) {
      if (frame[0] === refresh) globalThis.refreshes += 1
      return send.call(this, frame)
    }
  }, refresh)
  await openWith(page, relay, asked => {
    if (asked !== 2) return globalThis.mint('write', asked === 1 ? '12s' : '1h')
    return new Promise(resolve => {
      globalThis.answer = () => resolve('late')
    })
  })
  await page.waitForFunction(() => globalThis.answer !== undefined)
  await on(page, ({ client }) => {
    client.pause()
    client.resume()
  })
  await until(page, ({ doc }) => doc.status.link === 'live')
  await on(page, async ({ doc }) => {
    globalThis.answer()
    await null
    doc.text('notes').insert(0, 'x')
    await doc.saved('relay')
  })
  assert.deepEqual(await page.evaluate(() => [globalThis.refreshes, globalThis.asked]), [0, 3])
  assert.deepEqual(await on(page, ({ errors }) => errors), [])
})

test('whoever is asked for a token may pause, and no connection is made with it then', async t => {
  const { relay, page } = await start(t)
  await openWith(page, relay, asked => {
    if (asked === 2) globalThis.devices.a.client.pause()
    const token = globalThis.mint('write', '1h')
    globalThis.lastToken = token
    return token
  })
  await until(page, ({ doc }) => doc.status.link === 'live')
  const seen = await on(page, async ({ client, doc, links }) => {
    client.pause()
    client.resume()
    await globalThis.lastToken
    await new Promise(resolve => setTimeout(resolve, 0))
    return [doc.status.link, links.at(-1)]
  })
  assert.deepEqual(seen, ['offline', 'offline'])
  assert.deepEqual(await counts(page), [2, 1])
  await on(page, ({ client }) => client.resume())
  await until(page, ({ links }) => links.at(-1) === 'live')
  assert.deepEqual(await counts(page), [3, 2])
})

for (const [what, auth] of [
  ['a token that the relay does not accept', () => 'e30.e30.e30'],
  ['an auth that yields no token', () => undefined],
]) {
  test(`${what} is told in the status and not tried again every moment`, async t => {
    const { relay, page } = await start(t)
    await stopClock(page)
    await openWith(page, relay, auth)
    await page.clock.runFor(10)
    await until(page, ({ doc }) => doc.status.link.refused === 'invalid_token')
    assert.ok((await on(page, ({ errors }) => errors)).includes('invalid_token'))
    const before = await counts(page)
    await page.clock.runFor(25_000)
    await page.evaluate(() => globalThis.dispatchEvent(new Event('online')))
    await page.clock.runFor(4_000)
    assert.deepEqual(await counts(page), before)
    await page.clock.runFor(40_000)
    await page.waitForFunction(before => globalThis.asked > before, before[0])
  })
}

test('whoever waits for a relay that lets nobody in hears why, and resume asks for another token at once', async t => {
  const { relay, page } = await start(t)
  await openWith(page, relay, asked => (asked === 1 ? 'e30.e30.e30' : globalThis.mint('write', '1h')))
  const codes = await on(page, async ({ doc }) => {
    doc.text('notes').insert(0, 'x')
    const early = await doc.saved('relay').catch(error => error.code)
    return [early, await doc.saved('relay').catch(error => error.code)]
  })
  assert.deepEqual(codes, ['invalid_token', 'invalid_token'])
  await on(page, async ({ client, doc }) => {
    client.resume()
    await doc.saved('relay')
  })
  assert.deepEqual(await counts(page), [2, 2])
})

test('what was left behind is pushed with another token, although the relay let nobody in while it was tried', async t => {
  const { relay, page } = await start(t)
  await page.evaluate(pushes => {
    globalThis.lost = []
    const { send } = WebSocket.prototype
    WebSocket.prototype.send = function (frame) {
      if (globalThis.isLossy && pushes.includes(frame[0])) globalThis.lost.push(this)
      else send.call(this, frame)
    }
  }, pushes)
  await openWith(page, relay, () => (globalThis.isStale ? 'e30.e30.e30' : globalThis.mint('write', '1h')))
  await until(page, ({ doc }) => doc.status.link === 'live')
  await on(page, async ({ client, doc }) => {
    client.pause()
    doc.text('notes').insert(0, 'left behind')
    await doc.close()
    globalThis.isLossy = true
    client.resume()
  })
  await page.waitForFunction(() => globalThis.lost.length > 0)
  await page.evaluate(() => {
    globalThis.isStale = true
    for (const socket of globalThis.lost) socket.close()
  })
  await until(page, ({ errors }) => errors.includes('invalid_token'))
  await untilAnswered(page, async () => {
    const { held } = await navigator.locks.query()
    return held.every(({ name }) => !name.includes('/open/test/doc/'))
  })
  await on(page, async ({ client }) => {
    globalThis.isStale = false
    globalThis.isLossy = false
    client.resume()
  })
  const other = await (await startPages(t)).page()
  await other.exposeFunction('mint', () => page.evaluate(() => globalThis.mint('write', '1h')))
  await openWith(other, relay, () => globalThis.mint())
  await until(other, ({ doc }) => doc.text('notes').toString() === 'left behind')
})

/** The first token was refused, and the next attempt has come as far as `isThere` says. The page's clock stands still. */
async function refusedOnce(page, relay, auth, isThere) {
  await stopClock(page)
  await openWith(page, relay, auth)
  await page.clock.runFor(10)
  await until(page, ({ doc }) => doc.status.link.refused === 'invalid_token')
  while (!(await page.evaluate(isThere))) await page.clock.runFor(1000)
}

test('resume does not wait for an auth that was asked before it, and what that answers late counts for nothing', async t => {
  const { relay, page } = await start(t)
  const auth = asked => {
    if (asked !== 2) return asked === 1 ? 'e30.e30.e30' : globalThis.mint('write', '1h')
    return new Promise(resolve => {
      globalThis.answer = () => resolve('e30.e30.e30')
    })
  }
  await refusedOnce(page, relay, auth, () => globalThis.answer !== undefined)
  await on(page, ({ client, links }) => {
    links.length = 0
    client.resume()
  })
  await until(page, ({ links }) => links.at(-1) === 'live')
  assert.deepEqual(await on(page, ({ links }) => links), ['connecting', 'live'])
  await on(page, async ({ doc }) => {
    globalThis.answer()
    await null
    doc.text('notes').insert(0, 'x')
    await doc.saved('relay')
  })
  assert.deepEqual(await counts(page), [3, 2])
})

test('resume does not wait for a connection that is on its way with the token that was refused', async t => {
  const { relay, page } = await start(t)
  const silent = createServer(socket => socket.on('error', () => {}).resume())
  await once(silent.listen(0, '127.0.0.1'), 'listening')
  t.after(() => silent.close())
  await page.evaluate(url => {
    const Socket = WebSocket
    globalThis.WebSocket = class extends Socket {
      constructor(address, protocol) {
        super(globalThis.sockets.length === 1 ? url : address, protocol)
      }
    }
  }, `ws://127.0.0.1:${silent.address().port}`)
  const auth = asked => (asked < 3 ? 'e30.e30.e30' : globalThis.mint('write', '1h'))
  await refusedOnce(page, relay, auth, () => globalThis.sockets.length === 2)
  await on(page, ({ client }) => client.resume())
  await until(page, ({ doc }) => doc.status.link === 'live')
  assert.deepEqual(await counts(page), [3, 3])
})

test('whoever listens hears that no socket could be made with the token', async t => {
  const { relay, page } = await start(t)
  await page.evaluate(() => {
    globalThis.WebSocket = class {
      constructor() {
        throw new Error('not to such an address')
      }
    }
  })
  await openWith(page, relay, () => {
    return new Promise(resolve => {
      globalThis.answer = () => resolve('a token')
    })
  })
  await until(page, ({ doc }) => doc.status.link === 'connecting')
  await page.evaluate(() => globalThis.answer())
  await until(page, ({ links }) => links.at(-1) === 'offline')
  assert.deepEqual(await on(page, ({ errors }) => errors), ['disconnected'])
})

test('what is edited without the right to is refused with forbidden, becomes a branch, and can be merged with another token', async t => {
  const { relay, page } = await start(t)
  await openWith(page, relay, asked => globalThis.mint(asked === 1 ? 'read' : 'write', '1h'))
  await until(page, ({ doc }) => doc.status.link === 'live')
  const code = await on(page, ({ doc }) => {
    doc.text('notes').insert(0, 'mine')
    return doc.saved('relay').catch(error => error.code)
  })
  assert.equal(code, 'forbidden')
  assert.deepEqual(
    await on(page, async ({ client }) => (await client.branches.list()).map(branch => branch.code)),
    ['forbidden'],
  )
  assert.equal(await on(page, ({ doc }) => doc.text('notes').toString()), '')
  await on(page, async ({ client, doc }) => {
    client.pause()
    client.resume()
    const [branch] = await client.branches.list()
    await branch.merge()
    await doc.saved('relay')
  })
  assert.equal(await on(page, ({ doc }) => doc.text('notes').toString()), 'mine')
})
