// Builds the demo page, with the package as it stands in `web/dist`, into a folder: node web/demo/build.mjs FOLDER
//
// Scripts and styles have names with digests of their contents; the page, the manifest and the service worker keep
// theirs. The worker names all files and a digest of them, so that any change makes another worker.

import { createHash } from 'node:crypto'
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const COPIED = ['icon.svg', 'icon-192.png', 'icon-512.png', 'icon-maskable-512.png', 'manifest.webmanifest']

if (process.argv[2] === undefined) throw new Error('say where to: node web/demo/build.mjs FOLDER')
const folder = resolve(process.argv[2])
const here = fileURLToPath(new URL('.', import.meta.url))
rmSync(folder, { recursive: true, force: true })
mkdirSync(folder, { recursive: true })

const common = {
  absWorkingDir: here,
  outdir: folder,
  bundle: true,
  minify: true,
  target: 'es2022',
  format: 'esm',
  metafile: true,
}
const { metafile } = await build({
  ...common,
  entryPoints: ['src/main.ts', 'style.css'],
  entryNames: '[name]-[hash]',
})
const built = Object.entries(metafile.outputs).map(([path, { entryPoint }]) => [
  basename(entryPoint).replace(/\.ts$/, '.js'),
  basename(path),
])

const page = built.reduce(
  (text, [name, hashed]) => {
    if (!text.includes(`"${name}"`)) throw new Error(`index.html does not name ${name}`)
    return text.replace(`"${name}"`, `"${hashed}"`)
  },
  readFileSync(join(here, 'index.html'), 'utf8'),
)
writeFileSync(join(folder, 'index.html'), page)
for (const name of COPIED) copyFileSync(join(here, name), join(folder, name))

const files = [...built.map(([, hashed]) => hashed), ...COPIED]
const digest = createHash('sha256').update(page)
for (const name of files) digest.update(name).update(readFileSync(join(folder, name)))
await build({
  ...common,
  entryPoints: ['worker/service_worker.ts'],
  define: {
    // The page is kept as what a server gives for the folder.
    FILES: JSON.stringify(['./', ...files]),
    VERSION: JSON.stringify(digest.digest('hex').slice(0, 16)),
  },
})
console.log(`demo: ${['index.html', 'service_worker.js', ...files].join(' ')}`)
