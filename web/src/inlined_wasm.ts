// The module that travels inside the script, so that no bundler and no server needs to know of it.

import { wasmGzipBase64 } from './generated/inlined.js'

/** The bytes of the module. Fails where `DecompressionStream` is missing (Safari before 16.4). */
export async function inlinedWasm(): Promise<ArrayBuffer> {
  const gzipped = Uint8Array.from(atob(wasmGzipBase64), character => character.charCodeAt(0))
  const inflated = new Blob([gzipped]).stream().pipeThrough(new DecompressionStream('gzip'))
  return await new Response(inflated).arrayBuffer()
}
