//! Updates as a person's typing makes them, written and read without building documents: the load generator must
//! cost less than the relays it measures.

use anyhow::{Result, anyhow};
use tidewell_sync_core::lib0::{Reader, write_buffer, write_uint};
use tidewell_sync_core::update::{StructKind, read_struct};

/// Name of the root text that all documents of the benchmarks have.
pub(crate) const ROOT: &str = "text";

/// Client IDs count up from here: five bytes each, as almost all of Yjs's random ones are.
pub(crate) const FIRST_CLIENT: u64 = 1_000_000_000;

/// Info byte of a string, and the bit that says that its origin follows.
const STRING: u8 = 4;
const HAS_ORIGIN: u8 = 0x80;

/// The update of `text` (ASCII) typed by `client` behind its own last character.
pub(crate) fn typed(client: u64, clock: u32, text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + text.len());
    out.extend([1, 1]);
    write_uint(&mut out, client);
    write_uint(&mut out, clock.into());
    match clock.checked_sub(1) {
        Some(origin) => {
            out.push(STRING | HAS_ORIGIN);
            write_uint(&mut out, client);
            write_uint(&mut out, origin.into());
        }
        None => {
            out.extend([STRING, 1]);
            write_buffer(&mut out, ROOT.as_bytes());
        }
    }
    write_buffer(&mut out, text.as_bytes());
    out.push(0);
    out
}

/// Tells `each` the units of a v1 update: client, first clock, and the clock after the last.
pub(crate) fn units(update: &[u8], mut each: impl FnMut(u64, u32, u32)) -> Result<()> {
    let unreadable = |error| anyhow!("an update cannot be read: {error}");
    let mut reader = Reader::new(update);
    let sections = reader.count(3)?;
    for _ in 0..sections {
        let structs = reader.count(1)?;
        let client = reader.uint()?;
        let mut clock = reader.uint32()?;
        for _ in 0..structs {
            let read = read_struct(&mut reader, clock).map_err(unreadable)?;
            if !matches!(read.kind, StructKind::Skip) {
                each(client, clock, read.end());
            }
            clock = read.end();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::Replica;

    #[test]
    fn what_is_typed_is_what_yrs_reads() -> Result<()> {
        let mut replica = Replica::new();
        for (clock, letter) in ["a", "b", "c"].into_iter().enumerate() {
            replica.apply(&typed(FIRST_CLIENT, u32::try_from(clock)?, letter))?;
        }
        assert_eq!(replica.text(), "abc");
        Ok(())
    }

    #[test]
    fn units_of_an_update_are_counted_as_yrs_counts_them() -> Result<()> {
        let mut replica = Replica::new();
        replica.apply(&typed(FIRST_CLIENT, 0, "one"))?;
        replica.apply(&typed(FIRST_CLIENT + 1, 0, "two!"))?;
        let mut seen = Vec::new();
        units(&replica.state(), |client, from, to| seen.push((client, from, to)))?;
        seen.sort_unstable();
        assert_eq!(seen, [(FIRST_CLIENT, 0, 3), (FIRST_CLIENT + 1, 0, 4)]);
        Ok(())
    }
}
