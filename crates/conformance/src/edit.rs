//! Updates (format v1) made by hand: what one client types at the end of the root text `t`.

use bytes::Bytes;
use tidewell_sync_core::lib0::{write_buffer, write_uint};
use tidewell_sync_core::state_vector::StateVector;

/// A string struct, and its content's first flag: there is a left origin.
const STRING: u8 = 4;
const HAS_ORIGIN: u8 = 0x80;

/// `client` types `text` (ASCII), having typed `clock` characters before it.
pub(crate) fn typed(client: u64, clock: u32, text: &str) -> Bytes {
    let mut out = Vec::new();
    // One client with one struct.
    write_uint(&mut out, 1);
    write_uint(&mut out, 1);
    write_uint(&mut out, client);
    write_uint(&mut out, clock.into());
    match clock.checked_sub(1) {
        Some(before) => {
            out.push(STRING | HAS_ORIGIN);
            write_uint(&mut out, client);
            write_uint(&mut out, before.into());
        }
        None => {
            out.push(STRING);
            // The parent is a root, by name.
            write_uint(&mut out, 1);
            write_buffer(&mut out, b"t");
        }
    }
    write_buffer(&mut out, text.as_bytes());
    // Nothing is deleted.
    write_uint(&mut out, 0);
    out.into()
}

/// `client` typed so many characters, and nobody else anything.
pub(crate) fn knows(client: u64, clock: u32) -> StateVector {
    [(client, clock)].into_iter().collect()
}

/// True when one of the updates holds this text in one piece.
pub(crate) fn hold(updates: &[Bytes], text: &str) -> bool {
    updates.iter().any(|update| contains(update, text.as_bytes()))
}

pub(crate) fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
