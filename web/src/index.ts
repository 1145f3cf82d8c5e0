// `tidewell`: the module is inlined, and nothing needs to be configured.

import { inlinedWasm } from './inlined_wasm.js'
import { loadWasm } from './wasm.js'

/** The version of the WebAssembly module. Fails if the module cannot be instantiated. */
export async function wasmVersion(): Promise<string> {
  return (await loadWasm(inlinedWasm)).version()
}
