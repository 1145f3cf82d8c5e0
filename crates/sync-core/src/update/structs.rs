//! One struct of an update: an item, a garbage-collected range, or a hole.

use super::InvalidUpdate;
use super::content::{Content, FORMAT, skip_content};
use crate::lib0::{Reader, write_uint};
use crate::limits::{CLIENT_ID_END, CLOCK_END, KEY_BYTES_MAX};

pub(super) const HAS_ORIGIN: u8 = 0x80;
pub(super) const HAS_RIGHT_ORIGIN: u8 = 0x40;
const HAS_PARENT_SUB: u8 = 0x20;
const KIND_BITS: u8 = 0x1f;
pub(super) const GC: u8 = 0;
pub(super) const SKIP: u8 = 10;

/// The name of one unit of content: who made it, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Client ID, below 2^53.
    pub client: u64,
    /// Clock, below 2^31.
    pub clock: u32,
}

impl Id {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, InvalidUpdate> {
        let client = reader.uint()?;
        let clock = reader.uint32()?;
        if client >= CLIENT_ID_END {
            return Err(InvalidUpdate::Client);
        }
        if clock >= CLOCK_END {
            return Err(InvalidUpdate::Clock);
        }
        Ok(Id { client, clock })
    }

    pub(super) fn write(self, out: &mut Vec<u8>) {
        write_uint(out, self.client);
        write_uint(out, u64::from(self.clock));
    }
}

/// What an item holds, as far as admission cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentKind {
    /// A shared type: an array, map, text, or a part of an XML tree.
    Type,
    /// Content that was deleted and collected; the item still marks its place.
    Deleted,
    /// Text.
    String,
    /// A document of its own.
    Subdocument,
    /// Anything else.
    Value,
}

/// Where an item without origins lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent<'a> {
    /// In the root type of this name.
    Root(&'a str),
    /// In the shared type made by this item.
    Item(Id),
}

/// One insertion.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    /// The unit to its left when it was made.
    pub origin: Option<Id>,
    /// The unit to its right when it was made.
    pub right_origin: Option<Id>,
    /// Present exactly when there are no origins.
    pub parent: Option<Parent<'a>>,
    /// The key in its parent that it is a value of; written only when there are no origins.
    pub key: Option<&'a str>,
    /// What it holds.
    pub kind: ContentKind,
    /// First byte as written.
    pub(super) info: u8,
    /// Bytes of the content, behind the origins and the parent.
    pub(super) content: &'a [u8],
}

/// What a struct is.
#[derive(Debug, Clone, Copy)]
pub enum StructKind<'a> {
    /// A range of which nothing but its length is left.
    Gc,
    /// A hole: the sender does not have these clocks.
    Skip,
    /// An insertion.
    Item(Item<'a>),
}

/// One struct and its place in its client's history.
#[derive(Debug, Clone, Copy)]
pub struct Struct<'a> {
    /// Clock of its first unit.
    pub clock: u32,
    /// Units it spans, at least 1. Text counts UTF-16 code units.
    pub len: u32,
    /// What it is.
    pub kind: StructKind<'a>,
}

impl Struct<'_> {
    /// The clock after its last unit, at most 2^31.
    pub fn end(&self) -> u32 {
        self.clock + self.len
    }
}

/// Reads the struct that begins at `clock`, checking all of it.
pub fn read_struct<'a>(reader: &mut Reader<'a>, clock: u32) -> Result<Struct<'a>, InvalidUpdate> {
    let info = reader.u8()?;
    let (len, kind) = match info {
        GC => (reader.uint32()?, StructKind::Gc),
        SKIP => (reader.uint32()?, StructKind::Skip),
        _ => {
            let (len, item) = read_item(reader, info)?;
            (len, StructKind::Item(item))
        }
    };
    if len == 0 {
        return Err(InvalidUpdate::Form);
    }
    match clock.checked_add(len) {
        Some(end) if end <= CLOCK_END => Ok(Struct { clock, len, kind }),
        _ => Err(InvalidUpdate::Clock),
    }
}

fn read_item<'a>(reader: &mut Reader<'a>, info: u8) -> Result<(u32, Item<'a>), InvalidUpdate> {
    let origin = if info & HAS_ORIGIN != 0 { Some(Id::read(reader)?) } else { None };
    let right_origin = if info & HAS_RIGHT_ORIGIN != 0 { Some(Id::read(reader)?) } else { None };
    let (mut parent, mut key) = (None, None);
    if origin.is_none() && right_origin.is_none() {
        parent = Some(read_parent(reader)?);
        if info & HAS_PARENT_SUB != 0 {
            key = Some(read_key(reader)?);
        }
    }
    let start = reader.position();
    let Content { kind, len } = skip_content(reader, info & KIND_BITS)?;
    let content = reader.since(start);
    Ok((len, Item { origin, right_origin, parent, key, kind, info, content }))
}

fn read_parent<'a>(reader: &mut Reader<'a>) -> Result<Parent<'a>, InvalidUpdate> {
    match reader.u8()? {
        1 => Ok(Parent::Root(read_key(reader)?)),
        0 => Ok(Parent::Item(Id::read(reader)?)),
        _ => Err(InvalidUpdate::Form),
    }
}

pub(super) fn read_key<'a>(reader: &mut Reader<'a>) -> Result<&'a str, InvalidUpdate> {
    let key = reader.string()?;
    if key.len() > KEY_BYTES_MAX { Err(InvalidUpdate::Key) } else { Ok(key) }
}

impl Item<'_> {
    /// True when it changes a format of a text.
    pub(crate) fn is_format(&self) -> bool {
        self.info & KIND_BITS == FORMAT
    }

    /// The info byte of the rest of this item after a cut: it has an origin, the unit before the cut.
    pub(super) fn rest_info(&self) -> u8 {
        self.info | HAS_ORIGIN
    }
}
