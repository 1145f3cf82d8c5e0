// What esbuild made of the two entries: the module is in the one and not in the other.

import { readFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'

const size = name => gzipSync(readFileSync(`bundled/${name}.mjs`), { level: 9 }).length
const [full, slim] = [size('import'), size('slim')]
console.log(`bundles, gzip -9: tidewell ${full} bytes, tidewell/slim ${slim} bytes`)
if (slim > full / 3) throw new Error('the bundle of tidewell/slim contains what it must leave out')
