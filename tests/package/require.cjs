// The package as CommonJS: the default entry, and the slim one with the module's file.

const assert = require('node:assert/strict')
const { readFileSync } = require('node:fs')

const { version } = require('tidewell/package.json')
const full = require('tidewell')
const slim = require('tidewell/slim')

async function main() {
  assert.equal(await slim.wasmVersion(readFileSync(require.resolve('tidewell/wasm'))), version)
  assert.equal(await full.wasmVersion(), version)
  console.log(`required: ${version}`)
}
main()
