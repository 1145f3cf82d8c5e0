// Builds `dist`: each file of `src` by itself, as ES modules and (in `dist/cjs`) as CommonJS, so that all entry points
// share one copy of the state, and the bundlers of applications see what is not used.

import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, extname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { transform } from 'esbuild'

process.chdir(fileURLToPath(new URL('..', import.meta.url)))
rmSync('dist', { recursive: true, force: true })

const sources = readdirSync('src', { recursive: true }).filter(
  path => /\.(ts|tsx|js)$/.test(path) && !path.endsWith('.d.ts'),
)
for (const path of sources) {
  const text = readFileSync(join('src', path), 'utf8')
  for (const [format, folder] of [
    ['esm', 'dist'],
    ['cjs', 'dist/cjs'],
  ]) {
    // Text, not a file: of a file, esbuild would see that its package is of ES modules, and then take a default import
    // for the whole of what CommonJS exports.
    const loader = extname(path).slice(1)
    const { code } = await transform(text, {
      format,
      loader,
      target: 'es2022',
      jsx: 'automatic',
      sourcefile: path,
    })
    const output = join(folder, path.replace(/\.tsx?$/, '.js'))
    mkdirSync(dirname(output), { recursive: true })
    writeFileSync(output, code)
  }
}
writeFileSync('dist/cjs/package.json', '{ "type": "commonjs" }\n')

for (const outDir of ['dist', 'dist/cjs']) {
  execFileSync('node_modules/.bin/tsc', ['--project', 'tsconfig.build.json', '--outDir', outDir], {
    stdio: 'inherit',
  })
  // Not every application's `lib` knows `Symbol.dispose`, and nothing of this file is the application's.
  const types = readFileSync('src/generated/tidewell.d.ts', 'utf8')
  const lines = types.split('\n').filter(line => !line.includes('[Symbol.dispose]'))
  writeFileSync(`${outDir}/generated/tidewell.d.ts`, lines.join('\n'))
}

copyFileSync('src/generated/tidewell_bg.wasm', 'dist/tidewell.wasm')
for (const licence of ['LICENSE-MIT', 'LICENSE-APACHE']) copyFileSync(`../${licence}`, licence)
