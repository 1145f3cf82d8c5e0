// One device: its network switch, its status in words, the text and the tasks.

import type { Device, DeviceStatus } from './device.js'
import { element } from './element.js'
import { spokenStatus, statusWords, type Words } from './status_words.js'
import { taskList } from './task_list.js'
import { bindTextField } from './text_field.js'

/** For how long a status must last to be read out: one that lasts for a keystroke is noise. */
const SPOKEN_AFTER_MS = 600

/** The panel of a device before it has opened its document. */
export function openingPanel(name: string): HTMLElement {
  return element(
    'article',
    { class: 'device', 'aria-labelledby': `device-${name}`, 'aria-busy': 'true', 'data-device': name },
    element('header', {}, element('h2', { id: `device-${name}` }, `Device ${name}`)),
    element('p', { class: 'opening' }, 'Opening…'),
  )
}

/** What stands in place of a panel whose device could not be opened. */
export function failedPanel(name: string, reason: string): HTMLElement {
  return element(
    'article',
    { class: 'device', 'aria-labelledby': `device-${name}`, 'data-device': name },
    element('header', {}, element('h2', { id: `device-${name}` }, `Device ${name}`)),
    element('p', { class: 'failed', role: 'alert' }, `This device cannot be opened. ${reason}`),
  )
}

/** The panel of a device. */
export function devicePanel(name: string, device: Device): HTMLElement {
  const id = `device-${name}`
  const notes = element('textarea', {
    id: `${id}-notes`,
    rows: '9',
    spellcheck: 'false',
    placeholder: 'Write something',
  })
  bindTextField(notes, device.notes)
  const status = statusElements(device)
  const heading = element('h3', {}, element('label', { for: notes.id }, 'Notes'))
  return element(
    'article',
    { class: 'device', 'aria-labelledby': id, 'data-device': name },
    element(
      'header',
      {},
      element('div', {}, element('h2', { id }, `Device ${name}`), status.link),
      networkSwitch(device),
    ),
    status.line,
    status.spoken,
    element('section', {}, element('div', { class: 'section-head' }, heading), notes),
    taskList(device.tasks, id),
  )
}

function networkSwitch(device: Device): HTMLElement {
  const knob = element('span', { class: 'knob', 'aria-hidden': 'true' })
  const button = element('button', { type: 'button', role: 'switch', class: 'switch' }, 'Network', knob)
  const show = ({ link }: DeviceStatus) => button.setAttribute('aria-checked', String(link.kind !== 'cut'))
  button.addEventListener('click', () => device.setNetwork(button.getAttribute('aria-checked') !== 'true'))
  show(device.status())
  device.onStatus(show)
  return button
}

/** What is shown of the status, and what is read out. */
function statusElements(device: Device): Record<'link' | 'line' | 'spoken', HTMLElement> {
  const link = element('p')
  const storage = element('span')
  const relay = element('span')
  const line = element('p', { class: 'status' }, storage, relay)
  const spoken = element('p', { class: 'spoken', role: 'status', 'aria-live': 'polite' })
  let timer: ReturnType<typeof setTimeout> | undefined

  const show = (status: DeviceStatus) => {
    const words = statusWords(status)
    showWords(link, words.link, 'link ')
    showWords(storage, words.storage)
    showWords(relay, words.relay)
    clearTimeout(timer)
    timer = setTimeout(() => {
      // A live region is read out when its text is set, even to what it was.
      const sentence = spokenStatus(status)
      if (spoken.textContent !== sentence) spoken.textContent = sentence
    }, SPOKEN_AFTER_MS)
  }
  show(device.status())
  device.onStatus(show)
  return { link, line, spoken }
}

function showWords(part: HTMLElement, { text, tone }: Words, role = ''): void {
  if (part.textContent !== text) part.textContent = text
  part.className = role + tone
}
