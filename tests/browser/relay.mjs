// The relay as a process of its own, with its data in a folder that outlives it.

import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

import { atEnd } from './cleanup.mjs'
import { programPath, startListening } from './programs.mjs'

/** A temporary folder that is gone when the test `t` has ended. */
export async function temporaryFolder(t) {
  const folder = await mkdtemp(join(tmpdir(), 'tidewell-test-'))
  atEnd(t, () => rm(folder, { recursive: true, force: true, maxRetries: 5 }))
  return folder
}

/** Starts a relay on `data`, and on a free port unless one is given; it is killed when the test `t` ends. */
export async function startRelay(t, { data, assets, keys, port: asked = 0, limits = [] }) {
  const options = ['serve', '--listen', `127.0.0.1:${asked}`, '--data', data, ...limits]
  if (assets !== undefined) options.push('--assets', assets)
  if (keys !== undefined) options.push('--keys', keys)
  const { port, end } = await startListening(t, 'tidewell', options)
  return {
    port,
    url: `http://127.0.0.1:${port}/`,
    syncUrl: `ws://127.0.0.1:${port}/v1/sync`,
    /** As a crash ends it. */
    kill: () => end('SIGKILL'),
    /** As an operator ends it. */
    stop: () => end('SIGTERM'),
  }
}

/** Runs one of the relay's tools to its end and answers what it prints; fails with what it says when it fails. */
export async function tidewell(...options) {
  const { stdout } = await promisify(execFile)(programPath('tidewell'), options)
  return stdout.trim()
}
