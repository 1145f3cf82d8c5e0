// The types as an application in TypeScript sees them.

import { wasmVersion } from 'tidewell'
import { wasmVersion as slimVersion, type WasmSource } from 'tidewell/slim'

const version: Promise<string> = wasmVersion()
const source: WasmSource = new URL('https://example.com/tidewell.wasm')
const slim: Promise<string> = slimVersion(source)

// @ts-expect-error: the slim entry has no module of its own
slimVersion()

export { slim, version }
