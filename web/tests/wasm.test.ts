// The module's failures.

import { expect, test } from 'vitest'

import { TidewellError } from '../src/error.js'
import { isTrap } from '../src/wasm.js'

test('a trap and the end of the stack, as each browser names it, are failures of the module, and its codes are not', () => {
  class InternalError extends Error {
    override readonly name = 'InternalError'
  }
  const failures = [
    new WebAssembly.RuntimeError('unreachable'),
    new RangeError('Maximum call stack size exceeded'),
    new InternalError('too much recursion'),
  ]
  for (const failure of failures) expect(isTrap(failure), String(failure)).toBe(true)
  for (const other of ['invalid_path', new TidewellError('closed'), new TypeError('x')])
    expect(isTrap(other), String(other)).toBe(false)
})
