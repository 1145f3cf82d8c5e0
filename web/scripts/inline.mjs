// Writes the gzipped module into a TypeScript file, in base64: node scripts/inline.mjs FOLDER

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const folder = process.argv[2]
const gzipped = readFileSync(join(folder, 'tidewell_bg.wasm.gz'))

const text = `// Made by \`cargo xtask\`.

/** The module, gzipped, in base64. */
export const wasmGzipBase64: string =
  '${gzipped.toString('base64')}'
`
writeFileSync(join(folder, 'inlined.ts'), text)
console.log(`module: ${gzipped.length} bytes, gzipped`)
