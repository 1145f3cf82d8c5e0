// The one error that this package throws and reports.

import { type Code, help } from './code.js'

/** What went wrong: `code` for programs, `message` for people, `cause` where there is one. */
export class TidewellError extends Error {
  override readonly name = 'TidewellError'
  /** One of a closed list. */
  readonly code: Code

  /** An error with what its code means as the message, after `detail` where there is one. */
  constructor(code: Code, detail?: string, cause?: unknown) {
    super(
      detail === undefined ? help[code] : `${detail}: ${help[code]}`,
      cause === undefined ? {} : { cause },
    )
    this.code = code
  }
}

/** The module throws the names of codes: this makes errors of them, and leaves everything else as it is. */
export function errorFrom(thrown: unknown, detail?: string): unknown {
  return isCode(thrown) ? new TidewellError(thrown, detail) : thrown
}

function isCode(thrown: unknown): thrown is Code {
  return typeof thrown === 'string' && Object.hasOwn(help, thrown)
}
