// Writes the bound module into a TypeScript file, gzipped, in base64: node scripts/inline.mjs FOLDER

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'

const folder = process.argv[2]
const module = readFileSync(join(folder, 'tidewell_bg.wasm'))
const gzipped = gzipSync(module, { level: 9 })

const text = `// Made by \`cargo xtask\`.

/** The module, gzipped, in base64. */
export const wasmGzipBase64: string =
  '${gzipped.toString('base64')}'
`
writeFileSync(join(folder, 'inlined.ts'), text)
console.log(`module: ${module.length} bytes, ${gzipped.length} gzipped`)
