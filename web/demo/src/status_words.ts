// The status of a device in words.

import type { DeviceStatus } from './device.js'

/** What each part of the status line says, and how grave it is. */
export interface StatusWords {
  readonly link: Words
  readonly storage: Words
  readonly relay: Words
}

/** A phrase and its tone: what is as it should be, what takes its time, what needs somebody. */
export interface Words {
  readonly text: string
  readonly tone: 'good' | 'waiting' | 'bad'
}

/** Says where the edits of a device have got to. */
export function statusWords(status: DeviceStatus): StatusWords {
  return { link: linkWords(status), storage: storageWords(status), relay: relayWords(status) }
}

/** One sentence for screen readers, without the number, which would be read out with every key. */
export function spokenStatus(status: DeviceStatus): string {
  const { link, storage } = statusWords(status)
  const relay = status.editsWaiting === 0 ? 'Saved at the relay' : 'Edits are waiting for the relay'
  return `${link.text}. ${storage.text}. ${relay}.`
}

function linkWords({ link }: DeviceStatus): Words {
  switch (link.kind) {
    case 'live':
      return { text: 'Connected', tone: 'good' }
    case 'connecting':
      return { text: 'Connecting', tone: 'waiting' }
    case 'offline':
      return { text: 'Relay out of reach', tone: 'waiting' }
    case 'cut':
      return { text: 'Network is off', tone: 'waiting' }
    case 'refused':
      return { text: `Refused by the relay: ${link.code}`, tone: 'bad' }
  }
}

function storageWords({ storage }: DeviceStatus): Words {
  switch (storage.kind) {
    case 'saved':
      return { text: 'Saved on this device', tone: 'good' }
    case 'saving':
      return { text: 'Saving on this device', tone: 'waiting' }
    case 'memory':
      return { text: 'Kept in memory only', tone: 'bad' }
    case 'failed':
      return { text: `Not saved on this device: ${storage.code}`, tone: 'bad' }
  }
}

function relayWords({ editsWaiting }: DeviceStatus): Words {
  if (editsWaiting === 0) return { text: 'Saved at the relay', tone: 'good' }
  const edits = editsWaiting === 1 ? '1 edit' : `${editsWaiting.toLocaleString('en')} edits`
  return { text: `${edits} waiting for the relay`, tone: 'waiting' }
}
