// The WebAssembly module: instantiated at the first use, once for each page, and never at import.

import init, {
  __wbg_reset_state,
  backoff_ms,
  branch_update,
  Core as CoreClass,
  compact,
  dependents,
  version,
} from './generated/tidewell.js'

// By name: with the whole namespace, what nobody calls would be in every application's bundle.
const glue = { Core: CoreClass, backoff_ms, branch_update, compact, dependents, version }

/** Where the module comes from: compiled, as bytes, as a response, or as the address of `tidewell/wasm`. */
export type WasmSource = WebAssembly.Module | BufferSource | Response | URL | string

/** What the module exports. */
export type Wasm = typeof glue

/** The core of one client. */
export type Core = CoreClass

let loading: Promise<Wasm> | undefined

/** Counts the instances of this page. What was made in an earlier one is gone. */
let generation = 0

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

/** Which instance is the page's. */
export function wasmGeneration(): number {
  return generation
}

/** Throws the instance of `failed` away, unless that has happened already, and makes a new one. */
export function replaceWasm(failed: number): void {
  if (failed !== generation) return
  generation += 1
  __wbg_reset_state()
}

/** True when the module has failed so that nothing in it can be trusted: a trap or its stack's end. */
export function isTrap(error: unknown): boolean {
  // Firefox has an error of its own for its stack's end.
  const isStackEnd = error instanceof RangeError || (error instanceof Error && error.name === 'InternalError')
  return isStackEnd || error instanceof WebAssembly.RuntimeError
}
