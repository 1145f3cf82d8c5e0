// Keeps the page's files, so that it opens without a network. It touches nothing else: documents are the package's.

declare const self: ServiceWorkerGlobalScope

/** Replaced by the build: the paths of all files, from the folder of the page, and a digest of their contents. */
declare const FILES: readonly string[]
declare const VERSION: string

const PREFIX = 'tidewell-demo-'
const CACHE = PREFIX + VERSION
const kept = new Set(FILES.map(path => new URL(path, self.registration.scope).pathname))

self.addEventListener('install', event => {
  // All or nothing: a page of two builds would not run. `no-cache`, because the browser's own cache may be of the last.
  const requests = [...kept].map(path => new Request(path, { cache: 'no-cache' }))
  event.waitUntil(
    caches
      .open(CACHE)
      .then(cache => cache.addAll(requests))
      .then(() => self.skipWaiting()),
  )
})

self.addEventListener('activate', event => {
  event.waitUntil(deleteOldCaches().then(() => self.clients.claim()))
})

self.addEventListener('fetch', event => {
  const url = new URL(event.request.url)
  const isOurs = url.origin === self.location.origin && event.request.method === 'GET'
  if (!isOurs) return
  if (kept.has(url.pathname)) event.respondWith(answer(event.request))
  else if (isScriptOrStyle(url.pathname)) event.respondWith(answerOld(event.request))
})

/** Names carry digests and a new build is a new worker, so what is kept is right without asking. */
async function answer(request: Request): Promise<Response> {
  const cache = await caches.open(CACHE)
  return (await cache.match(request, { ignoreSearch: true })) ?? fetch(request)
}

/** A page of the last build may be loading while this worker takes over; the server has its files no longer. */
async function answerOld(request: Request): Promise<Response> {
  return (await caches.match(request)) ?? fetch(request)
}

function isScriptOrStyle(path: string): boolean {
  return path.endsWith('.js') || path.endsWith('.css')
}

/** Keeps the last one: caches are listed as they were made. */
async function deleteOldCaches(): Promise<void> {
  const names = await caches.keys()
  const old = names.filter(name => name.startsWith(PREFIX) && name !== CACHE)
  await Promise.all(old.slice(0, -1).map(name => caches.delete(name)))
}

export {}
