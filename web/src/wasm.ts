// The WebAssembly module: instantiated at the first use, once for each page, and never at import.

import init, * as glue from './generated/tidewell.js'

/** Where the module comes from: compiled, as bytes, as a response, or as the address of `tidewell/wasm`. */
export type WasmSource = WebAssembly.Module | BufferSource | Response | URL | string

/** What the module exports. */
export type Wasm = typeof glue

let loading: Promise<Wasm> | undefined

/** The module, instantiated from what `source` yields if it is not there yet. Fails as `source` or instantiation does. */
export function loadWasm(source: () => WasmSource | Promise<WasmSource>): Promise<Wasm> {
  loading ??= instantiate(source).catch((error: unknown) => {
    // The next call tries again: a network that failed once may be back.
    loading = undefined
    throw error
  })
  return loading
}

async function instantiate(source: () => WasmSource | Promise<WasmSource>): Promise<Wasm> {
  await init({ module_or_path: await source() })
  return glue
}
