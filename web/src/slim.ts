// `tidewell/slim`: the same, for those who host the module (`tidewell/wasm`) themselves.

import { loadWasm, type WasmSource } from './wasm.js'

export type { WasmSource } from './wasm.js'

/** The version of the WebAssembly module that `wasm` is. Fails if it cannot be instantiated. */
export async function wasmVersion(wasm: WasmSource): Promise<string> {
  return (await loadWasm(() => wasm)).version()
}
