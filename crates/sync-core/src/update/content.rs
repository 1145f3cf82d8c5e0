//! The content of items: checked and measured, never built.

use super::InvalidUpdate;
use super::structs::{ContentKind, read_key};
use crate::lib0::{ReadError, Reader};
use crate::limits::VALUE_DEPTH_MAX;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::fmt;

pub(super) const DELETED: u8 = 1;
pub(super) const JSON: u8 = 2;
pub(super) const BINARY: u8 = 3;
pub(super) const STRING: u8 = 4;
pub(super) const EMBED: u8 = 5;
pub(super) const FORMAT: u8 = 6;
pub(super) const TYPE: u8 = 7;
pub(super) const ANY: u8 = 8;
pub(super) const DOC: u8 = 9;
const MOVE: u8 = 11;

/// Content that was walked over.
pub(super) struct Content {
    pub kind: ContentKind,
    pub len: u32,
}

/// Walks over one item's content of the kind `kind`.
pub(super) fn skip_content(reader: &mut Reader<'_>, kind: u8) -> Result<Content, InvalidUpdate> {
    let value = |len| Ok(Content { kind: ContentKind::Value, len });
    match kind {
        DELETED => Ok(Content { kind: ContentKind::Deleted, len: reader.uint32()? }),
        STRING => {
            let len = utf16_len(reader.string()?)?;
            Ok(Content { kind: ContentKind::String, len })
        }
        BINARY => {
            reader.buffer()?;
            value(1)
        }
        EMBED => {
            check_json(reader.string()?)?;
            value(1)
        }
        FORMAT => {
            read_key(reader)?;
            check_json(reader.string()?)?;
            value(1)
        }
        TYPE => {
            skip_type_ref(reader)?;
            Ok(Content { kind: ContentKind::Type, len: 1 })
        }
        ANY => {
            let count = reader.count(1)?;
            for _ in 0..count {
                skip_any(reader)?;
            }
            value(u32::try_from(count).map_err(|_| ReadError::End)?)
        }
        DOC => {
            read_key(reader)?;
            // Yjs reads fields of the options, so anything but an object throws in every browser.
            let mut peek = *reader;
            if peek.u8()? != ANY_MAP {
                return Err(InvalidUpdate::Form);
            }
            skip_any(reader)?;
            Ok(Content { kind: ContentKind::Subdocument, len: 1 })
        }
        // yrs 0.28.1 reads one string too many from legacy JSON content, and so the rest of the update
        // as something else; Yjs 13 cannot read moves.
        JSON | MOVE => Err(InvalidUpdate::Unsupported),
        _ => Err(InvalidUpdate::Form),
    }
}

pub(super) fn utf16_len(text: &str) -> Result<u32, InvalidUpdate> {
    let len: usize = if text.is_ascii() { text.len() } else { text.chars().map(char::len_utf16).sum() };
    u32::try_from(len).map_err(|_| InvalidUpdate::Clock)
}

/// Array, map, text, XML element (with its name), XML fragment, XML text. Not the XML hook (yrs does not
/// read its name) and not the kinds that only yrs has.
fn skip_type_ref(reader: &mut Reader<'_>) -> Result<(), InvalidUpdate> {
    match reader.u8()? {
        0 | 1 | 2 | 4 | 6 => Ok(()),
        3 => read_key(reader).map(drop),
        5 | 7 | 9 | 15 => Err(InvalidUpdate::Unsupported),
        _ => Err(InvalidUpdate::Form),
    }
}

const ANY_MAP: u8 = 118;

/// Walks over one lib0 "any" value with a stack of its own: of each open array or map, the number of
/// entries that remain.
pub(super) fn skip_any(reader: &mut Reader<'_>) -> Result<(), InvalidUpdate> {
    let mut open = [(0usize, false); VALUE_DEPTH_MAX];
    let mut depth = 0;
    loop {
        match reader.u8()? {
            127 | 126 | 121 | 120 => {}
            125 => reader.skip_int()?,
            124 => drop(reader.take(4)?),
            123 | 122 => drop(reader.take(8)?),
            119 => drop(reader.string()?),
            116 => drop(reader.buffer()?),
            tag @ (117 | ANY_MAP) => {
                let is_map = tag == ANY_MAP;
                let count = reader.count(if is_map { 2 } else { 1 })?;
                let slot = open.get_mut(depth).ok_or(InvalidUpdate::ValueDepth)?;
                *slot = (count, is_map);
                depth += 1;
            }
            _ => return Err(InvalidUpdate::Form),
        }
        loop {
            let Some((remaining, is_map)) = depth.checked_sub(1).and_then(|top| open.get_mut(top)) else {
                return Ok(());
            };
            if *remaining == 0 {
                depth -= 1;
                continue;
            }
            *remaining -= 1;
            if *is_map {
                read_key(reader)?;
            }
            break;
        }
    }
}

/// Embeds and format values are JSON text: as yrs reads it (serde_json, which refuses lone surrogates and
/// numbers out of range), and nested no deeper than other values.
fn check_json(text: &str) -> Result<(), InvalidUpdate> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let checked = Check { depth: 0 }.deserialize(&mut deserializer).and_then(|()| deserializer.end());
    checked.map_err(|_| InvalidUpdate::Json)
}

#[derive(Clone, Copy)]
struct Check {
    depth: usize,
}

impl Check {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == VALUE_DEPTH_MAX {
            return Err(E::custom("nested too deeply"));
        }
        Ok(Check { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Check {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Check {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    // yrs keeps whole numbers as `i64` and refuses the rest.
    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<(), E> {
        i64::try_from(number).map(drop).map_err(|_| E::custom("number out of range"))
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while seq.next_element_seed(inner)?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if key.len() > crate::limits::KEY_BYTES_MAX {
                return Err(A::Error::custom("key too long"));
            }
            map.next_value_seed(inner)?;
        }
        Ok(())
    }
}
