import { expect, test } from 'vitest'
import { formatAddress, nextDevice, parseAddress } from '../src/address.js'

test('an address that was formatted is read as it was', () => {
  for (const document of ['demo/harbour', 'a b&c=d#e', 'Ä/ö%2F', '日本']) {
    const address = { document, devices: ['B', 'D'] }
    expect(parseAddress(formatAddress(address))).toEqual(address)
  }
})

test('what an address does not name, or names wrongly, is two devices of the first document', () => {
  const first = { document: 'demo/harbour', devices: ['A', 'B'] }
  for (const hash of ['', '#', '#devices=', '#devices=1,,ab', '#document=%20', '#other=x']) {
    expect(parseAddress(hash), hash).toEqual(first)
  }
  expect(parseAddress('#devices=c,C,a').devices, 'each device once').toEqual(['C', 'A'])
})

test('the next device is one that the page does not show, as long as there are letters', () => {
  expect(nextDevice(['A', 'B'])).toBe('C')
  expect(nextDevice(['D', 'A'])).toBe('E')
  expect(nextDevice(['Z'])).toBe('Z')
})
