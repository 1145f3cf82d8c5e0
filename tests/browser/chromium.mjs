// The browser of the end-to-end tests.

import { chromium } from 'playwright-core'

/** Starts a headless Chromium that is closed when the test `t` ends. `TIDEWELL_CHROMIUM` names another executable. */
export async function startChromium(t) {
  const browser = await chromium.launch({
    executablePath: process.env.TIDEWELL_CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
  })
  t.after(() => browser.close())
  return browser
}
