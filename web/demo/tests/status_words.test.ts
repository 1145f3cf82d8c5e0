import { expect, test } from 'vitest'
import type { DeviceStatus } from '../src/device.js'
import { spokenStatus, statusWords } from '../src/status_words.js'

const well: DeviceStatus = { storage: { kind: 'saved' }, link: { kind: 'live' }, editsWaiting: 0 }

test('the words for waiting edits count them, one by one and by the thousand', () => {
  const words = (editsWaiting: number) => statusWords({ ...well, editsWaiting }).relay.text
  expect([0, 1, 2, 12_345].map(words)).toEqual([
    'Saved at the relay',
    '1 edit waiting for the relay',
    '2 edits waiting for the relay',
    '12,345 edits waiting for the relay',
  ])
})

test('what is read out stays the same while the number of waiting edits grows', () => {
  const spoken = (editsWaiting: number) => spokenStatus({ ...well, link: { kind: 'cut' }, editsWaiting })
  expect(spoken(2)).toBe(spoken(1))
  expect(spoken(1)).not.toBe(spoken(0))
})

test('only what needs somebody is called bad, and it names its code', () => {
  const tones = (status: DeviceStatus) => Object.values(statusWords(status)).map(({ tone }) => tone)
  expect(tones(well)).toEqual(['good', 'good', 'good'])
  for (const kind of ['connecting', 'offline', 'cut'] as const) {
    expect(tones({ ...well, link: { kind }, editsWaiting: 3 })).not.toContain('bad')
  }
  const refused = statusWords({ ...well, link: { kind: 'refused', code: 'quota' } }).link
  expect(refused).toEqual({ text: 'Refused by the relay: quota', tone: 'bad' })
  const failed = statusWords({ ...well, storage: { kind: 'failed', code: 'device_full' } }).storage
  expect(failed).toEqual({ text: 'Not saved on this device: device_full', tone: 'bad' })
})
