// The demo page as people see and use it.

import { fileURLToPath } from 'node:url'

/** Where `cargo xtask` builds the page. */
export const DEMO = process.env.TIDEWELL_DEMO ?? fileURLToPath(new URL('../../target/demo', import.meta.url))

export const CONNECTED = 'Connected'
export const NETWORK_OFF = 'Network is off'
export const OUT_OF_REACH = 'Relay out of reach'
export const ON_DEVICE = 'Saved on this device'
export const AT_RELAY = 'Saved at the relay'
/** What the page says while edits wait. */
export const waiting = count => `${count === 1 ? '1 edit' : `${count} edits`} waiting for the relay`

/** One device of a page, by its letter. */
export function deviceOf(page, name) {
  const panel = page.getByRole('article', { name: `Device ${name}` })
  const notes = panel.getByRole('textbox', { name: 'Notes' })
  const tasks = panel.getByRole('listitem')
  return {
    panel,
    notes,
    tasks,
    network: panel.getByRole('switch', { name: 'Network' }),
    newTask: panel.getByRole('textbox', { name: 'New task' }),
    task: title =>
      panel.getByRole('listitem').filter({ has: page.getByRole('checkbox', { name: `Done: ${title}` }) }),
    /** Waits until the status has all these phrases. */
    async says(...phrases) {
      for (const text of phrases) await panel.getByText(text, { exact: true }).waitFor()
    },
    /** Waits until the notes are this text, or one that fits. */
    shows: expected => until(notes, expected),
    /** Types at the end of the notes. */
    async write(text) {
      await notes.press('Control+End')
      await notes.pressSequentially(text)
    },
  }
}

/** Waits until the value of a field is `expected`, or fits it; says what it was if that does not come. */
export async function until(field, expected) {
  const isRegExp = expected instanceof RegExp
  try {
    await field.evaluate(
      (element, { source, isRegExp }) =>
        new Promise((resolve, reject) => {
          const deadline = performance.now() + 15_000
          const look = () => {
            if (isRegExp ? new RegExp(source).test(element.value) : element.value === source) resolve()
            else if (performance.now() > deadline)
              reject(new Error(`it stayed ${JSON.stringify(element.value)}`))
            else requestAnimationFrame(look)
          }
          look()
        }),
      { source: isRegExp ? expected.source : expected, isRegExp },
    )
  } catch (error) {
    throw new Error(
      `the field did not become ${isRegExp ? expected : JSON.stringify(expected)}: ${error.message}`,
    )
  }
}
