// Writes src/code.ts from the core's list: node scripts/codes.mjs > src/code.ts. A test holds the two together.

import { readFileSync } from 'node:fs'

const source = readFileSync(new URL('../../crates/sync-core/src/code.rs', import.meta.url), 'utf8')
const codes = [...source.matchAll(/^ {4}\w+ = (\d+) "(\w+)": "([^"]+)",$/gm)]

console.log(`// Made by scripts/codes.mjs from crates/sync-core/src/code.rs.

/** What each code means and what to do. */
export const help = {
${codes.map(([, , name, text]) => `  ${name}: ${JSON.stringify(text).replaceAll("'", "\\'").replace(/^"|"$/g, "'").replaceAll('\\"', '"')},`).join('\n')}
} as const

/** What went wrong, in one word that never changes. */
export type Code = keyof typeof help

/** True when the same request may succeed later. */
export function isTransient(code: Code): boolean {
  return transient.has(code)
}

const transient: ReadonlySet<Code> = new Set<Code>([
${codes
  .filter(([, number]) => Number(number) >= 500)
  .map(([, , name]) => `  '${name}',`)
  .join('\n')}
])`)
