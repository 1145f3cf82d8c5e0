// The one socket of a client: opened, kept, and opened again. What is said on it the core decides.

import type { Code } from './code.js'

/** What a connection needs of its client. */
export interface ConnectionEvents {
  /** Asked for the token of each connection, before it is made; none when the relay needs none. */
  readonly token: (() => Promise<string>) | undefined
  /** There is no token: the attempt has failed. */
  readonly noToken: (error: unknown) => void
  /** The socket is open: the core greets with the token. */
  readonly opened: (token: string) => void
  readonly frame: (bytes: Uint8Array) => void
  /** The socket is gone, or the attempt failed. */
  readonly lost: () => void
  /** Where the connection stands has changed. */
  readonly changed: () => void
  /** No socket could be made: the page may not connect to such an address. It is not tried again. */
  readonly impossible: (error: unknown) => void
  /** Milliseconds to wait before the next attempt. */
  readonly wait: (attempt: number) => number
}

/** Where a connection stands. */
export type ConnectionState = 'connecting' | 'open' | 'offline'

/** A connection that is always on its way to be there. */
export interface Connection {
  state(): ConnectionState
  /** Sends when the socket is open and nothing is held back. Frames for a socket that is gone are dropped. */
  send(frame: Uint8Array): void
  /** Holds frames back until `done`, in order. */
  holdUntil(done: Promise<unknown>): void
  /** Ends the socket; it comes back after the wait. */
  drop(): void
  /** The relay lets nobody in, for this reason: the next attempt waits for long. */
  refuse(code: Code): void
  /** Why the relay let nobody in at the last attempt. */
  refusal(): Code | undefined
  /** The relay has said welcome. */
  welcomed(): void
  /** The relay has answered: the next wait is the shortest again. */
  succeeded(): void
  pause(): void
  resume(): void
  close(): void
}

/** The socket's subprotocol (`protocol.rs`). */
const subprotocol = 'tidewell.v1'

/** How long a socket may take to open, in milliseconds. Browsers themselves wait for minutes. */
const connectMsMax = 10_000

/**
 * Shortest wait after the relay has refused who this is, in milliseconds; as much again is random. Another token may be
 * better, but what was refused for good is not asked about every moment.
 */
const refusedMs = 30_000

/** What is used of a WebSocket. */
export type SocketConstructor = new (url: string, protocol: string) => WebSocket

/** Keeps a connection to `url`, from now on until `close`. */
export function keepConnection(url: string, Socket: SocketConstructor, events: ConnectionEvents): Connection {
  let socket: WebSocket | undefined
  let isOpen = false
  let attempt = 0
  /** Of the wait for the next attempt, or for the socket to open. */
  let timer: ReturnType<typeof setTimeout> | undefined
  let isPaused = false
  let isClosed = false
  /** What `token` is being asked; another's answer counts for nothing. */
  let asking: Promise<string> | undefined
  let refused: Code | undefined
  let holds = 0
  let held: Uint8Array<ArrayBuffer>[] = []

  function connect(): void {
    if (socket !== undefined || isPaused || isClosed || asking !== undefined) return
    clearTimeout(timer)
    timer = undefined
    if (events.token === undefined) {
      openSocket('')
      return
    }
    const asked = events.token()
    // Whoever was asked may have paused.
    if (!isPaused) asking = asked
    asked.then(
      token => {
        if (asking !== asked) return
        asking = undefined
        openSocket(token)
      },
      (error: unknown) => {
        if (asking !== asked) return
        asking = undefined
        events.noToken(error)
        wait()
        events.changed()
      },
    )
    events.changed()
  }

  function openSocket(token: string): void {
    let mine: WebSocket
    try {
      mine = new Socket(url, subprotocol)
    } catch (error) {
      events.impossible(error)
      events.changed()
      return
    }
    socket = mine
    timer = setTimeout(drop, connectMsMax)
    mine.binaryType = 'arraybuffer'
    mine.onopen = () => {
      if (socket !== mine) return
      clearTimeout(timer)
      timer = undefined
      isOpen = true
      events.opened(token)
      events.changed()
    }
    mine.onmessage = (event: MessageEvent<unknown>) => {
      if (socket === mine && event.data instanceof ArrayBuffer) events.frame(new Uint8Array(event.data))
    }
    mine.onclose = () => end(mine)
    // An error is always followed by a close.
    mine.onerror = () => undefined
    events.changed()
  }

  function end(which: WebSocket): void {
    if (socket !== which) return
    socket = undefined
    held = []
    isOpen = false
    events.lost()
    // Whoever was told may have had it begin anew.
    if (!isPaused && !isClosed && socket === undefined && asking === undefined) wait()
    events.changed()
  }

  function wait(): void {
    clearTimeout(timer)
    const ms = refused === undefined ? events.wait(attempt) : refusedMs * (1 + Math.random())
    timer = setTimeout(connect, ms)
    attempt += 1
  }

  /** Ends what is under way: whoever is asked for the token again may have another one. */
  function abandon(): void {
    asking = undefined
    clearTimeout(timer)
    timer = undefined
    drop()
  }

  function drop(): void {
    const which = socket
    if (which === undefined) return
    which.close()
    // A close of a dead connection takes as long as the network likes.
    end(which)
  }

  /** The network or the person is back: waits as after a first loss, unless the relay has asked for longer. */
  function hurry(): void {
    if (socket !== undefined || timer === undefined || refused !== undefined) return
    attempt = 0
    wait()
  }

  const page = globalThis.document
  const onVisibility = () => {
    if (page?.visibilityState === 'visible') hurry()
  }
  globalThis.addEventListener?.('online', hurry)
  page?.addEventListener('visibilitychange', onVisibility)
  timer = setTimeout(connect, 0)

  return {
    state: () => (isOpen ? 'open' : socket !== undefined || asking !== undefined ? 'connecting' : 'offline'),
    send(frame) {
      // The module's bytes are copies of their own, never shared.
      const bytes = frame as Uint8Array<ArrayBuffer>
      if (!isOpen) return
      if (holds > 0) held.push(bytes)
      else socket?.send(bytes)
    },
    holdUntil(done) {
      holds += 1
      const release = () => {
        holds -= 1
        if (holds > 0) return
        const frames = held
        held = []
        if (isOpen) for (const frame of frames) socket?.send(frame)
      }
      done.then(release, release)
    },
    drop,
    refuse(code) {
      refused = code
      drop()
    },
    refusal: () => refused,
    welcomed() {
      refused = undefined
    },
    succeeded() {
      attempt = 0
    },
    pause() {
      isPaused = true
      abandon()
      events.changed()
    },
    resume() {
      if (!isPaused && refused === undefined) return
      isPaused = false
      refused = undefined
      abandon()
      attempt = 0
      connect()
    },
    close() {
      isClosed = true
      abandon()
      globalThis.removeEventListener?.('online', hurry)
      page?.removeEventListener('visibilitychange', onVisibility)
    },
  }
}
