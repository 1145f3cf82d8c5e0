// `tidewell/slim`: the same, for those who host the module (`tidewell/wasm`) themselves.

import { type Client, type OpenOptions, openClient } from './client.js'
import { TidewellError } from './error.js'
import { loadWasm, type WasmSource } from './wasm.js'

export * from './api.js'
export type { WasmSource } from './wasm.js'

/** Opens a client with the module that `wasm` is. Fails as `open` of `tidewell` does, or when it cannot be instantiated. */
export async function open(options: OpenOptions & { readonly wasm: WasmSource }): Promise<Client> {
  if (options?.wasm === undefined) throw new TidewellError('invalid_options', 'wasm')
  return openClient(await loadWasm(() => options.wasm), options)
}

/** The version of the WebAssembly module that `wasm` is. Fails if it cannot be instantiated. */
export async function wasmVersion(wasm: WasmSource): Promise<string> {
  return (await loadWasm(() => wasm)).version()
}
