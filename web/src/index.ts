// `tidewell`: the module is inlined, and nothing needs to be configured.

import { type Client, type OpenOptions, openClient } from './client.js'
import { inlinedWasm } from './inlined_wasm.js'
import { loadWasm } from './wasm.js'

export * from './api.js'

/** Opens a client. Fails with `invalid_options`, or with `device_unavailable` when `storage` is `indexeddb`. */
export async function open(options: OpenOptions = {}): Promise<Client> {
  return openClient(await loadWasm(inlinedWasm), options)
}

/** The version of the WebAssembly module. Fails if the module cannot be instantiated. */
export async function wasmVersion(): Promise<string> {
  return (await loadWasm(inlinedWasm)).version()
}
