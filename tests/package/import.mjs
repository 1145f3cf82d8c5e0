// The package as an ES module. Bundled by esbuild, too, and run again.

const touched = []
const watch = (object, name) => {
  const use =
    how =>
    (target, ...rest) => {
      touched.push(name)
      return how(target, ...rest)
    }
  object[name] = new Proxy(object[name], { apply: use(Reflect.apply), construct: use(Reflect.construct) })
}
for (const name of ['instantiate', 'compile', 'Module', 'Instance', 'Memory']) watch(WebAssembly, name)
for (const name of ['atob', 'fetch', 'DecompressionStream', 'WebSocket', 'BroadcastChannel', 'setTimeout']) {
  if (name in globalThis) watch(globalThis, name)
}

const { wasmVersion } = await import('tidewell')
if (touched.length > 0) throw new Error(`importing the package used ${touched}: nothing may happen at import`)

const version = await wasmVersion()
if (!/^\d+\.\d+\.\d+$/.test(version)) throw new Error(`the module says that its version is ${version}`)
if (!touched.includes('DecompressionStream')) throw new Error('the watch over globals sees nothing')
console.log(`imported: ${version}`)
