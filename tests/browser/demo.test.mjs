import assert from 'node:assert/strict'
import { cp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'

import { untilAnswered } from './client_page.mjs'
import {
  AT_RELAY,
  CONNECTED,
  DEMO,
  deviceOf,
  NETWORK_OFF,
  ON_DEVICE,
  OUT_OF_REACH,
  until,
  waiting,
} from './demo_page.mjs'
import { startPersistentChromium } from './persistent_chromium.mjs'
import { startRelay, temporaryFolder } from './relay.mjs'
import { writeFirst } from './stock_yjs.mjs'

/** A relay that serves the page and a browser that shows it. */
async function openDemo(t, hash = '') {
  const data = await temporaryFolder(t)
  const profile = await temporaryFolder(t)
  const relay = await startRelay(t, { data, assets: DEMO })
  const browser = await startPersistentChromium(t, profile)
  const page = await openPage(browser, relay.url + hash)
  return {
    relay,
    browser,
    page,
    /** On the same address as before: another origin would be another page. */
    restartRelay: () => startRelay(t, { data, assets: DEMO, port: relay.port }),
    restartBrowser: () => startPersistentChromium(t, profile),
  }
}

async function openPage(browser, url) {
  const page = await browser.context.newPage()
  await page.goto(url)
  return page
}

/** Waits until the page says that it opens without a network. */
async function kept(page) {
  await page.getByText('it opens without a network').waitFor()
}

test('what is written on one device appears on the other, and the words say when the relay has it', async t => {
  const { page } = await openDemo(t)
  const [a, b] = [deviceOf(page, 'A'), deviceOf(page, 'B')]
  await a.says(CONNECTED, ON_DEVICE, AT_RELAY)
  await a.notes.fill('Bring a lamp.')
  await b.shows('Bring a lamp.')
  await a.says(CONNECTED, ON_DEVICE, AT_RELAY)

  await b.newTask.fill('Pack lunch')
  await b.newTask.press('Enter')
  await a.task('Pack lunch').getByRole('checkbox').check()
  await b.task('Pack lunch').and(page.locator('.done')).waitFor()
  await b.task('Pack lunch').getByRole('textbox').fill('Pack a lunch')
  await a.task('Pack a lunch').getByRole('button', { name: 'Delete: Pack a lunch' }).click()
  await b.task('Pack a lunch').waitFor({ state: 'detached' })
})

test('two people who edit one line while one of them has no network both keep what they wrote', async t => {
  const { page } = await openDemo(t)
  const [a, b] = [deviceOf(page, 'A'), deviceOf(page, 'B')]
  await a.notes.fill('Meet at nine.')
  await b.shows('Meet at nine.')
  await b.network.click()
  await b.says(NETWORK_OFF)
  await b.write(' Bring water.')
  await b.says(waiting(' Bring water.'.length))
  await a.notes.press('Control+Home')
  await a.notes.pressSequentially('Saturday: ')
  await a.says(AT_RELAY)
  assert.equal(await b.notes.inputValue(), 'Meet at nine. Bring water.')
  await b.network.click()
  for (const device of [a, b]) {
    await device.shows('Saturday: Meet at nine. Bring water.')
    await device.says(CONNECTED, ON_DEVICE, AT_RELAY)
  }
})

test('edits made without a network survive a reload, a killed browser and a killed relay', async t => {
  const demo = await openDemo(t)
  const b = deviceOf(demo.page, 'B')
  await b.says(CONNECTED)
  await kept(demo.page)
  await b.notes.fill('Known. ')
  await b.says(AT_RELAY)
  await b.network.click()
  await b.write('New.')
  await b.says(NETWORK_OFF, ON_DEVICE, waiting(4))

  await demo.page.reload()
  await b.shows('Known. New.')
  await b.says(NETWORK_OFF, ON_DEVICE, waiting(4))

  await demo.browser.kill()
  await demo.relay.kill()
  const browser = await demo.restartBrowser()
  const page = await openPage(browser, demo.relay.url)
  const [again, other] = [deviceOf(page, 'B'), deviceOf(page, 'A')]
  // What was cut was the network of a window, and that is gone.
  await again.shows('Known. New.')
  await again.says(OUT_OF_REACH, ON_DEVICE, waiting(4))

  await demo.restartRelay()
  await again.says(CONNECTED, ON_DEVICE, AT_RELAY)
  await other.shows('Known. New.')
})

test('with the relay stopped a browser that starts anew opens the page, takes edits, and sends them later', async t => {
  const demo = await openDemo(t)
  const first = deviceOf(demo.page, 'A')
  await first.notes.fill('Before.')
  await first.says(CONNECTED, AT_RELAY)
  await kept(demo.page)
  await demo.relay.stop()
  await first.says(OUT_OF_REACH)
  await demo.browser.close()

  const browser = await demo.restartBrowser()
  const page = await openPage(browser, demo.relay.url)
  const [a, b] = [deviceOf(page, 'A'), deviceOf(page, 'B')]
  await a.shows('Before.')
  await a.says(OUT_OF_REACH, ON_DEVICE, AT_RELAY)
  await a.write(' After')
  await a.says(OUT_OF_REACH, ON_DEVICE, waiting(6))
  // Nothing passes from panel to panel except through the relay.
  assert.equal(await b.notes.inputValue(), 'Before.')

  await demo.restartRelay()
  await a.says(CONNECTED, ON_DEVICE, AT_RELAY)
  await b.shows('Before. After')
})

test('what others write moves the caret and the selection with the letters they stood between', async t => {
  const { page } = await openDemo(t)
  const [a, b] = [deviceOf(page, 'A'), deviceOf(page, 'B')]
  await a.notes.fill('one two three')
  await b.shows('one two three')
  await a.notes.evaluate(field => field.setSelectionRange(4, 7, 'backward'))
  await b.notes.press('Control+Home')
  await b.notes.pressSequentially('zero ')
  await b.write(' four')
  await a.shows('zero one two three four')
  const selection = await a.notes.evaluate(field => [
    field.value.slice(field.selectionStart, field.selectionEnd),
    field.selectionDirection,
  ])
  assert.deepEqual(selection, ['two', 'backward'])
})

test('a composition goes on while others write, and what is composed ends up where it was begun', async t => {
  const { page, browser, relay } = await openDemo(t)
  const [a, b] = [deviceOf(page, 'A'), deviceOf(page, 'B')]
  await a.notes.fill('ab')
  await b.shows('ab')
  await b.says(AT_RELAY)
  const keyboard = await browser.context.newCDPSession(page)
  await a.notes.evaluate(field => {
    field.focus()
    field.setSelectionRange(1, 1)
  })
  const compose = text =>
    keyboard.send('Input.imeSetComposition', { text, selectionStart: text.length, selectionEnd: text.length })
  await compose('k')
  await a.shows('akb')
  // Not by the other panel: a field that is typed into takes the focus, and that would end the composition.
  await writeFirst(relay.url, 'demo/harbour', 'notes', '>> ')
  await b.shows(/^>> /)
  assert.equal(await a.notes.inputValue(), 'akb', 'the field of a composition is left alone')
  await compose('か')
  await keyboard.send('Input.insertText', { text: 'か' })
  for (const device of [a, b]) await device.shows('>> aかb')
  assert.equal(await a.notes.evaluate(field => field.selectionStart), 5)
})

test('everything can be done with the keyboard alone', async t => {
  const { page } = await openDemo(t, '#devices=A')
  const a = deviceOf(page, 'A')
  await a.says(CONNECTED)
  const focused = () =>
    page.evaluate(() => {
      const { activeElement: element } = document
      return element.ariaLabel ?? element.labels?.[0]?.textContent ?? element.textContent
    })
  /** Goes on with Tab until the element of this name has the focus. */
  const tabTo = async name => {
    const seen = []
    do {
      await page.keyboard.press('Tab')
      seen.push(await focused())
      assert.ok(seen.length < 40, `Tab never came to ${name}: ${seen.join(', ')}`)
    } while (seen.at(-1) !== name)
    const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle)
    assert.notEqual(outline, 'none', `${name} shows that it has the focus`)
  }

  await tabTo('Network')
  await page.keyboard.press('Space')
  await a.says(NETWORK_OFF)
  await page.keyboard.press('Enter')
  await a.says(CONNECTED)
  await tabTo('Notes')
  await page.keyboard.press('Control+a')
  await page.keyboard.type('By hand')
  await a.shows('By hand')
  await tabTo('New task')
  for (const title of ['First', 'Second']) {
    await page.keyboard.type(title)
    await page.keyboard.press('Enter')
  }
  const last = a.tasks.last()
  await until(last.getByRole('textbox'), 'Second')
  while ((await focused()) !== 'Done: Second') await page.keyboard.press('Shift+Tab')
  await page.keyboard.press('Space')
  assert.ok(await last.getByRole('checkbox').isChecked())
  await page.keyboard.press('Tab')
  await page.keyboard.press('ArrowUp')
  await page.keyboard.press('End')
  await page.keyboard.type(' of all')
  await tabTo('Delete: First of all')
  await page.keyboard.press('Enter')
  assert.equal(await focused(), 'Delete: Second', 'the focus goes to the next row')
})

test('the status is read out once it has settled, without the number of edits', async t => {
  const { page } = await openDemo(t)
  const b = deviceOf(page, 'B')
  const spoken = b.panel.getByRole('status')
  await spoken.filter({ hasText: 'Connected. Saved on this device. Saved at the relay.' }).waitFor()
  await b.network.click()
  await b.write('abc')
  await spoken
    .filter({ hasText: 'Network is off. Saved on this device. Edits are waiting for the relay.' })
    .waitFor()
})

test('the page loads nothing from elsewhere, breaks no rule of its own, and can be installed', async t => {
  const { page, relay } = await openDemo(t, '#devices=A')
  const complaints = []
  const asked = []
  page.on('console', message => {
    if (message.type() === 'error') complaints.push(message.text())
  })
  page.on('pageerror', error => complaints.push(error.message))
  page.on('request', request => asked.push(request.url()))
  await page.reload()
  await deviceOf(page, 'A').says(CONNECTED)
  await kept(page)
  assert.deepEqual(complaints, [])
  assert.deepEqual(
    asked.filter(url => !url.startsWith(relay.url)),
    [],
  )
  const session = await page.context().newCDPSession(page)
  const { errors } = await session.send('Page.getAppManifest')
  assert.deepEqual(errors, [])
  const { installabilityErrors } = await session.send('Page.getInstallabilityErrors')
  assert.deepEqual(installabilityErrors, [])
})

test('a link opens one more device of the same document', async t => {
  const { page } = await openDemo(t, '#document=demo/linked')
  const a = deviceOf(page, 'A')
  await a.says(CONNECTED)
  await a.notes.fill('For everybody')
  const [opened] = await Promise.all([
    page.context().waitForEvent('page'),
    page.getByRole('link', { name: 'Open another device' }).click(),
  ])
  await deviceOf(opened, 'C').shows('For everybody')
})

/** Changes a built page into one of another build: its script says `number`, and what named the old one names it. Answers the old one. */
async function rebuild(folder, number) {
  const [script] = (await readdir(folder)).filter(name => /^main-.*\.js$/.test(name))
  const next = `main-BUILD${number}.js`
  const code = await readFile(join(folder, script), 'utf8')
  await writeFile(join(folder, next), `${code}\ndocument.documentElement.dataset.build = '${number}'\n`)
  await rm(join(folder, script))
  for (const name of ['index.html', 'service_worker.js']) {
    const path = join(folder, name)
    const text = (await readFile(path, 'utf8')).replace(script, next)
    await writeFile(path, text.replace(/\b[0-9a-f]{16}\b/, `${number}`.repeat(16)))
  }
  return script
}

test('a new build replaces the kept one at the visit after next, whole, with what was written, and opens offline', async t => {
  const [data, profile, assets] = [
    await temporaryFolder(t),
    await temporaryFolder(t),
    await temporaryFolder(t),
  ]
  await cp(DEMO, assets, { recursive: true })
  const relay = await startRelay(t, { data, assets })
  const page = await openPage(await startPersistentChromium(t, profile), relay.url)
  const a = deviceOf(page, 'A')
  const build = () => page.evaluate(() => document.documentElement.dataset.build)
  await page.addInitScript(() => {
    navigator.serviceWorker.addEventListener('controllerchange', () => {
      globalThis.hasNewWorker = true
    })
  })
  /** Loads the page, which is then of the build that was kept, until the worker of the new one has taken over. */
  const visit = async () => {
    await page.reload()
    await page.waitForFunction(() => globalThis.hasNewWorker)
    await a.says(CONNECTED)
  }
  await a.notes.fill('Written with the first build.')
  await a.says(CONNECTED, ON_DEVICE, AT_RELAY)
  await kept(page)

  const oldScript = await rebuild(assets, 2)
  await visit()
  assert.equal(await build(), undefined)
  await a.shows('Written with the first build.')
  // As a page whose files were still on their way when the new worker took over.
  const status = await page.evaluate(async script => (await fetch(script)).status, oldScript)
  assert.equal(status, 200, 'the last build has all its files')
  await page.reload()
  await a.says(CONNECTED, AT_RELAY)
  assert.equal(await build(), '2')
  await a.shows('Written with the first build.')

  await rebuild(assets, 3)
  await visit()
  assert.equal(await build(), '2')
  // Only the last build is kept besides; older ones go once the new worker has taken over.
  await untilAnswered(page, async () => (await caches.keys()).length === 2)
  await relay.kill()
  await page.reload()
  await a.shows('Written with the first build.')
  assert.equal(await build(), '3')
  await a.says(OUT_OF_REACH, ON_DEVICE)
})
