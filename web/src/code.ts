// Made by scripts/codes.mjs from crates/sync-core/src/code.rs.

/** What each code means and what to do. */
export const help = {
  invalid_frame:
    'A frame could not be decoded. The client and the relay do not speak the same protocol; update the older one.',
  invalid_update:
    'An update is malformed or names things that cannot be. It was not applied; it is kept on the device that made it.',
  invalid_name: 'A document name must have 1 to 512 bytes of UTF-8 and no control characters.',
  unsupported_version: 'The relay does not speak this version of the protocol. Update the older side.',
  unsupported_content:
    'An update holds a kind of content that not every client can read (legacy JSON, XML hooks, moves, weak links).',
  frame_too_large:
    'A frame or message is larger than the limit told in the welcome. Send it in fragments, or split the edit.',
  update_too_large: "An update is larger than the relay's limit. Split the edit into smaller ones.",
  origin_forbidden:
    "The relay does not accept connections from this web page's origin. Start it with --allow-origin for this origin.",
  protocol_violation:
    'A message came that is not allowed in this state. This is a defect in the client; please report it.',
  channels_exceeded: 'Too many documents are open on one connection. Close some.',
  document_reset:
    'The document was deleted and made anew at the relay; this device holds the old one. Its edits are kept here.',
  update_incomplete:
    'An update builds on edits that its sender could not supply. They are kept on the device that made them.',
  awareness_too_large: 'An awareness message is too large or has too many entries.',
  invalid_state_vector: 'A state vector could not be decoded.',
  invalid_awareness: 'An awareness message could not be decoded.',
  forbidden: 'The token does not grant this. Edits are kept on the device; ask for a token that does.',
  invalid_token:
    'The token is missing, malformed, not yet valid, for another relay, or signed with an unknown key.',
  token_revoked: 'The token was revoked. Only one that is issued anew is accepted.',
  document_full:
    'The document is as large as it may be at the relay. Edits are kept on the device; deleting makes room.',
  invalid_options: 'An option has a value that cannot be used; the message names it.',
  invalid_value:
    'A value cannot be stored in a document (undefined, a function, a symbol, a cycle, or nesting deeper than 64).',
  invalid_range: 'A position or length lies outside the text or list.',
  invalid_path: 'A path names something that is not there or is of another type.',
  closed: 'The client or document was closed.',
  aborted: "The caller's signal ended the wait.",
  device_corrupt:
    "A row in this device's store cannot be read. It was set aside; everything else was loaded.",
  storage_unavailable:
    'The relay cannot write to its disk. Nothing is lost: edits stay on the devices until it can.',
  shutting_down: 'The relay is restarting. Clients return by themselves.',
  overloaded: 'The relay has more to do than it can. Clients try again later by themselves.',
  timeout: 'The peer did not answer in time.',
  load_failed:
    'The relay could not load this document from its store. Nothing was changed; its operator has been told.',
  disconnected: 'There is no connection to the relay. Edits are kept on this device and sent later.',
  token_expired: 'The token has expired. The client asks for a new one and comes back by itself.',
  kicked: "The relay's administrator ended this connection. The client comes back by itself.",
  quota_exceeded:
    "The documents of this name's first segment are as large as they may be. Edits are kept on the device until there is room.",
  device_failed:
    "The browser aborted a write to this device's store, or could not read it. A write is tried again; the edits are still in memory.",
  device_full: "The browser's storage quota is used up. Free some space; the edits are still in memory.",
  device_unavailable: 'This browser gives the page no IndexedDB (private mode or blocked storage).',
  recovered:
    "The WebAssembly instance failed and was started anew from this device's store. No edit was lost.",
} as const

/** What went wrong, in one word that never changes. */
export type Code = keyof typeof help

/** True when the same request may succeed later. */
export function isTransient(code: Code): boolean {
  return transient.has(code)
}

const transient: ReadonlySet<Code> = new Set<Code>([
  'storage_unavailable',
  'shutting_down',
  'overloaded',
  'timeout',
  'load_failed',
  'disconnected',
  'token_expired',
  'kicked',
  'quota_exceeded',
  'device_failed',
  'device_full',
  'device_unavailable',
  'recovered',
])
