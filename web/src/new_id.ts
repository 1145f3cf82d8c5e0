// Names that nobody else has.

/** A new name: 128 random bits. Not `crypto.randomUUID`, which pages without https do not have. */
export function newId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), byte =>
    byte.toString(16).padStart(2, '0'),
  ).join('')
}
