//! Yjs updates (format v1), read without building a document.
//!
//! The scanner walks an update once, checks its structure and allocates one small entry for each client
//! it names. It never recurses and never allocates in proportion to a claimed length. What yrs 0.28.1
//! and Yjs 13.6 would read differently, or only one of them can read, is refused.

mod content;
mod delete_set;
mod diff;
mod merge;
mod structs;
mod write;

pub use delete_set::{DeleteSet, Ranges, WrittenDeletes, delete_set, read_delete_set};
pub use diff::diff;
pub use merge::{MergeError, merge};
pub use structs::{ContentKind, Id, Item, Parent, Struct, StructKind, read_struct};
pub(crate) use write::{
    cut_up, rename_struct, trimmed, write_delete_ranges, write_item_head, write_section_head,
};

use crate::code::Code;
use crate::lib0::{ReadError, Reader};
use crate::limits::{CLIENT_ID_END, CLOCK_END, UPDATE_BYTES_MAX, UPDATE_CLIENTS_MAX};
use thiserror::Error;

/// The update that changes nothing.
pub const EMPTY: &[u8] = &[0, 0];

/// Why an update is refused for good. The sender keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidUpdate {
    /// The bytes cannot be read as an update.
    #[error("the update cannot be read: {0}")]
    Read(#[from] ReadError),
    /// More bytes follow after the end; among them are updates of format v2.
    #[error("bytes follow after the end of the update (is it of format v2?)")]
    Trailing,
    /// The update is larger than [`UPDATE_BYTES_MAX`].
    #[error("the update is larger than {UPDATE_BYTES_MAX} bytes")]
    TooLarge,
    /// It names more than [`UPDATE_CLIENTS_MAX`] clients.
    #[error("the update names more than {UPDATE_CLIENTS_MAX} clients")]
    Clients,
    /// A client ID is 2^53 or more.
    #[error("a client ID is out of range")]
    Client,
    /// A clock, or a clock and a length, reach 2^31.
    #[error("a clock is out of range")]
    Clock,
    /// One client has two sections.
    #[error("a client has two sections")]
    Section,
    /// A struct has no length, or bits or kinds that do not exist.
    #[error("a struct is of no known form")]
    Form,
    /// A kind of content that not every client can read.
    #[error("a kind of content that not every client can read")]
    Unsupported,
    /// A name is longer than the limit.
    #[error("a name is too long")]
    Key,
    /// A value is nested too deeply.
    #[error("a value is nested too deeply")]
    ValueDepth,
    /// An embed or format value is not JSON.
    #[error("an embed or format value is not JSON")]
    Json,
    /// The explicit parent of an item is neither a shared type nor deleted.
    #[error("the parent of an item is not a shared type")]
    Parent,
    /// The neighbours of an item are not in the same list.
    #[error("the neighbours of an item are not in the same list")]
    Neighbours,
    /// One item holds several values of one key, and they are not all deleted by the same update; or the
    /// value of a key is text that is not in a shared type.
    #[error("one item holds several values of one key, or bare text")]
    Entry,
    /// A subdocument lives in a shared type that can be deleted.
    #[error("a subdocument does not live in a root type")]
    Subdocument,
    /// Shared types are nested too deeply.
    #[error("shared types are nested too deeply")]
    TypeDepth,
    /// Items depend on each other in a circle.
    #[error("items depend on each other in a circle")]
    Cycle,
}

impl InvalidUpdate {
    /// The code that the sender is told.
    pub fn code(self) -> Code {
        match self {
            InvalidUpdate::TooLarge | InvalidUpdate::Clients => Code::UpdateTooLarge,
            InvalidUpdate::Unsupported | InvalidUpdate::Subdocument => Code::UnsupportedContent,
            _ => Code::InvalidUpdate,
        }
    }
}

/// All structs of one client in an update: contiguous clocks from `clock` on, holes as `Skip`s.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Whose structs they are.
    pub client: u64,
    /// Clock of the first struct.
    pub clock: u32,
    /// Number of structs.
    pub count: usize,
    /// Offset of the first struct's bytes.
    pub start: usize,
}

/// An update whose structure has been checked from its first byte to its last.
#[derive(Debug)]
pub struct Scan<'a> {
    /// The update's bytes.
    pub bytes: &'a [u8],
    /// Its sections in the order of the bytes; no client twice.
    pub sections: Vec<Section>,
    /// Number of structs in all sections, holes included.
    pub structs: usize,
    /// False when there are sections, or clients or ranges of the delete set, that hold nothing. Yjs
    /// does not write them; they are never handed on.
    pub is_canonical: bool,
    /// What it deletes, as written: unsorted, perhaps overlapping.
    pub deletes: Vec<(u64, u32, u32)>,
}

impl<'a> Scan<'a> {
    /// Walks `bytes` once and checks their structure (rules AD1 to AD9 of `docs/protocol.md`).
    pub fn new(bytes: &'a [u8]) -> Result<Self, InvalidUpdate> {
        let mut reader = Reader::new(bytes);
        let section_count = reader.count(3)?;
        if section_count > UPDATE_CLIENTS_MAX {
            return Err(InvalidUpdate::Clients);
        }
        let mut scan =
            Scan { bytes, sections: Vec::new(), structs: 0, is_canonical: true, deletes: Vec::new() };
        for _ in 0..section_count {
            scan.section(&mut reader)?;
        }
        scan.check_clients_once()?;
        let deletes = read_delete_set(&mut reader)?;
        scan.is_canonical &= deletes.is_canonical;
        scan.deletes = deletes.ranges;
        if reader.is_empty() { Ok(scan) } else { Err(InvalidUpdate::Trailing) }
    }

    fn section(&mut self, reader: &mut Reader<'a>) -> Result<(), InvalidUpdate> {
        let count = usize::try_from(reader.uint()?).map_err(|_| ReadError::End)?;
        let client = reader.uint()?;
        let clock = reader.uint32()?;
        if client >= CLIENT_ID_END {
            return Err(InvalidUpdate::Client);
        }
        if count > reader.remaining() {
            return Err(ReadError::End.into());
        }
        self.sections.push(Section { client, clock, count, start: reader.position() });
        self.structs += count;
        self.is_canonical &= count > 0;
        let mut next = clock;
        for _ in 0..count {
            let read = read_struct(reader, next)?;
            next = read.end();
        }
        if next >= CLOCK_END { Err(InvalidUpdate::Clock) } else { Ok(()) }
    }

    fn check_clients_once(&self) -> Result<(), InvalidUpdate> {
        if has_repeated(self.sections.iter().map(|section| section.client)) {
            Err(InvalidUpdate::Section)
        } else {
            Ok(())
        }
    }

    /// What it deletes, sorted.
    pub fn delete_set(&self) -> DeleteSet {
        delete_set(self.deletes.clone())
    }

    /// True when the update has neither structs nor deletions.
    pub fn is_empty(&self) -> bool {
        self.structs == 0 && self.deletes.is_empty()
    }
}

/// The clients in order, each with its position. All that sorts by client does it here: each kind of sorting takes 4 kB
/// of the browser's module.
pub(crate) fn positions_by_client(clients: impl Iterator<Item = u64>) -> Vec<(u64, usize)> {
    let mut positions: Vec<(u64, usize)> = clients.zip(0..).collect();
    positions.sort_unstable();
    positions
}

/// True when a client is there more than once.
fn has_repeated(clients: impl Iterator<Item = u64>) -> bool {
    let clients = positions_by_client(clients);
    clients.iter().zip(clients.iter().skip(1)).any(|(before, after)| before.0 == after.0)
}
