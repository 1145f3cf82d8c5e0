// What esbuild made of the two entries: the module is in the one and not in the other. And what the README's ten lines
// weigh in an application's bundle.

import { readFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'

const size = name => gzipSync(readFileSync(`bundled/${name}.mjs`), { level: 9 }).length
/** What docs/benchmarks.md promises. */
const exampleBytesMax = 200_000

const [full, slim, example] = [size('import'), size('slim'), size('example')]
console.log(
  `bundles, gzip -9: tidewell ${full} bytes, tidewell/slim ${slim} bytes, the ten lines ${example} bytes`,
)
if (slim > full / 3) throw new Error('the bundle of tidewell/slim contains what it must leave out')
if (example > exampleBytesMax) throw new Error(`the bundle of the ten lines exceeds ${exampleBytesMax} bytes`)
