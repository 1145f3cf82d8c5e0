// What both entry points export besides `open`.

export type { Branch, Branches } from './branches.js'
export type { Client, OpenOptions } from './client.js'
export type { Code } from './code.js'
export { isTransient } from './code.js'
export type { SocketConstructor } from './connection.js'
export type { StorageChoice } from './device/device.js'
export type { Doc, DocValue, Types } from './doc.js'
export type { DeltaOperation } from './effect.js'
export { TidewellError } from './error.js'
export type {
  Below,
  CounterHandle,
  DeltaOrigin,
  Formats,
  ListHandle,
  MapHandle,
  Path,
  TextHandle,
} from './handle.js'
export type { PlainValue } from './plain.js'
export type { NewShared, NewValue } from './shared.js'
export { counter, list, map, text } from './shared.js'
export type { Status } from './status.js'
