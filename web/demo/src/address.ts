// Which document and which devices the page shows: the part of its address after `#`.

/** What an address names. */
export interface Address {
  readonly document: string
  /** Letters, each the name of a device with its own storage. */
  readonly devices: readonly string[]
}

/** What is shown when the address names nothing. */
const DEFAULT: Address = { document: 'demo/harbour', devices: ['A', 'B'] }

/** Reads an address; what cannot be read is as if it were not there. */
export function parseAddress(hash: string): Address {
  const named = new URLSearchParams(hash.replace(/^#/, ''))
  const document = named.get('document')?.trim() ?? ''
  const devices = (named.get('devices') ?? '')
    .toUpperCase()
    .split(',')
    .filter(name => /^[A-Z]$/.test(name))
  return {
    document: document === '' ? DEFAULT.document : document,
    devices: devices.length === 0 ? DEFAULT.devices : [...new Set(devices)],
  }
}

/** The address, to be put after the page's own. */
export function formatAddress({ document, devices }: Address): string {
  return `#document=${encodeURIComponent(document).replaceAll('%2F', '/')}&devices=${devices.join(',')}`
}

/** The name of a device that comes after all these; after Z comes Z again, which is another tab of the same device. */
export function nextDevice(devices: readonly string[]): string {
  const last = devices.reduce((highest, name) => (name > highest ? name : highest), '')
  return last === '' ? 'A' : String.fromCharCode(Math.min(last.charCodeAt(0) + 1, 'Z'.charCodeAt(0)))
}

/** A document that nobody has seen yet. */
export function newDocument(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(5))
  return `demo/${[...bytes].map(byte => byte.toString(36).padStart(2, '0')).join('')}`
}
