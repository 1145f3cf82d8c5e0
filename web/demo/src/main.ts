// The page: the devices that its address names, side by side.

import { formatAddress, newDocument, nextDevice, parseAddress } from './address.js'
import { devicePanel, failedPanel, openingPanel } from './device_panel.js'
import { openDevice } from './tidewell_device.js'

const address = parseAddress(location.hash)

function shownElement(id: string): HTMLElement {
  const found = document.getElementById(id)
  if (found === null) throw new Error(`the page has no #${id}`)
  return found
}

function showLinks(): void {
  shownElement('document-name').textContent = address.document
  const more = shownElement('more-devices')
  let next = nextDevice(address.devices)
  const point = () => more.setAttribute('href', formatAddress({ ...address, devices: [next] }))
  point()
  more.addEventListener('click', () => {
    // After the browser has followed the link as it was.
    setTimeout(() => {
      next = nextDevice([next])
      point()
    })
  })
  shownElement('new-document').setAttribute('href', formatAddress({ ...address, document: newDocument() }))
}

async function showDevice(name: string): Promise<void> {
  const opening = openingPanel(name)
  shownElement('devices').append(opening)
  try {
    opening.replaceWith(devicePanel(name, await openDevice(address.document, name)))
  } catch (error) {
    opening.replaceWith(failedPanel(name, reason(error)))
  }
}

/** Has the service worker keep the page, and says whether it could. */
async function keepForOfflineUse(): Promise<void> {
  const shown = shownElement('offline-use')
  if (!('serviceWorker' in navigator)) {
    shown.textContent = 'This browser cannot keep the page: it opens with a network only.'
    return
  }
  try {
    await navigator.serviceWorker.register('service_worker.js', { updateViaCache: 'none' })
    await navigator.serviceWorker.ready
    shown.textContent = 'This page is kept on this computer: it opens without a network.'
  } catch (error) {
    shown.textContent = `This page could not be kept, so it opens with a network only. ${reason(error)}`
  }
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

// The address is read once: another document is another page.
addEventListener('hashchange', () => location.reload())
showLinks()
for (const name of address.devices) void showDevice(name)
void keepForOfflineUse()
