// Draws the icons of the demo from its SVG, in Chromium: node web/demo/scripts/icons.mjs

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

const here = name => fileURLToPath(new URL(`../${name}`, import.meta.url))
// The browser driver belongs to the end-to-end tests.
const { chromium } = createRequire(new URL('../../../tests/package.json', import.meta.url))('playwright-core')

/** A maskable icon fills the square, and what matters stays within its inner four fifths. */
const ICONS = [
  { name: 'icon-192.png', size: 192, back: 'transparent', scale: 1 },
  { name: 'icon-512.png', size: 512, back: 'transparent', scale: 1 },
  { name: 'icon-maskable-512.png', size: 512, back: '#0d6e72', scale: 0.8 },
]

const svg = readFileSync(here('icon.svg'), 'utf8')
const browser = await chromium.launch({
  executablePath: process.env.TIDEWELL_CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
})
for (const { name, size, back, scale } of ICONS) {
  const page = await browser.newPage({ viewport: { width: size, height: size } })
  await page.setContent(
    `<style>body { margin: 0; background: ${back} } svg { display: block; scale: ${scale} }</style>${svg}`,
  )
  await page.screenshot({ path: here(name), omitBackground: true })
  await page.close()
}
await browser.close()
