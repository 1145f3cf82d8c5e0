//! Writing updates out of parts of others.

use super::InvalidUpdate;
use super::content::{ANY, DELETED, STRING, skip_any, utf16_len};
use super::delete_set::Ranges;
use super::structs::{GC, HAS_ORIGIN, HAS_RIGHT_ORIGIN, Id, Item, Parent, SKIP, Struct, StructKind};
use crate::lib0::{Reader, write_uint};

/// Writes the head of a section.
pub(crate) fn write_section_head(out: &mut Vec<u8>, count: usize, client: u64, clock: u32) {
    write_uint(out, count as u64);
    write_uint(out, client);
    write_uint(out, u64::from(clock));
}

/// Writes an item of text between two units, but for the text.
pub(crate) fn write_item_head(out: &mut Vec<u8>, left: Id, right: Option<Id>) {
    let has_right = if right.is_some() { HAS_RIGHT_ORIGIN } else { 0 };
    out.push(STRING | HAS_ORIGIN | has_right);
    left.write(out);
    right.into_iter().for_each(|id| id.write(out));
}

/// Writes one client's deleted ranges.
pub(crate) fn write_delete_ranges(out: &mut Vec<u8>, client: u64, ranges: &Ranges) {
    write_uint(out, client);
    write_uint(out, ranges.len() as u64);
    for (start, end) in ranges.iter() {
        write_uint(out, u64::from(start));
        write_uint(out, u64::from(end - start));
    }
}

/// Writes a struct that stands as `written` in its update, with other names for the units that it names.
pub(crate) fn rename_struct(
    out: &mut Vec<u8>,
    read: &Struct<'_>,
    written: &[u8],
    new_name: impl Fn(Id) -> Id,
) {
    let StructKind::Item(item) = &read.kind else { return out.extend_from_slice(written) };
    // Numbers are in their shortest form, so this is as long as what stands there.
    let mut old = Vec::new();
    write_names(&mut old, item, |id| id);
    write_names(out, item, new_name);
    out.extend_from_slice(written.get(old.len()..).unwrap_or(&[]));
}

/// Writes an item up to the last unit that it names.
fn write_names(out: &mut Vec<u8>, item: &Item<'_>, name: impl Fn(Id) -> Id) {
    out.push(item.info);
    item.origin.into_iter().chain(item.right_origin).for_each(|id| name(id).write(out));
    if let Some(Parent::Item(id)) = item.parent {
        out.push(0);
        name(id).write(out);
    }
}

/// Writes what remains of `read` after its first `offset` units (`0 < offset < len`), as Yjs does: the
/// unit before the cut becomes the origin. A surrogate pair that is cut leaves U+FFFD.
pub(crate) fn trimmed(client: u64, read: &Struct<'_>, offset: u32) -> Result<Vec<u8>, InvalidUpdate> {
    let mut out = Vec::new();
    let rest = read.len.checked_sub(offset).ok_or(InvalidUpdate::Clock)?;
    let item = match &read.kind {
        StructKind::Gc | StructKind::Skip => {
            out.push(if matches!(read.kind, StructKind::Gc) { GC } else { SKIP });
            write_uint(&mut out, u64::from(rest));
            return Ok(out);
        }
        StructKind::Item(item) => item,
    };
    out.extend_from_slice(&rest_head(client, read, item, offset));
    let mut content = Reader::new(item.content);
    match item.rest_info() & 0x1f {
        DELETED => write_uint(&mut out, u64::from(rest)),
        STRING => write_string_rest(&mut out, content.string()?, offset)?,
        ANY => {
            content.uint()?;
            for _ in 0..offset {
                skip_any(&mut content)?;
            }
            write_uint(&mut out, u64::from(rest));
            let remaining = content.remaining();
            out.extend_from_slice(content.take(remaining)?);
        }
        // Every other content has length 1 and cannot be cut.
        _ => return Err(InvalidUpdate::Form),
    }
    Ok(out)
}

/// What stands before the content of an item's rest after a cut.
fn rest_head(client: u64, read: &Struct<'_>, item: &Item<'_>, offset: u32) -> Vec<u8> {
    let mut out = vec![item.rest_info()];
    Id { client, clock: read.clock + offset - 1 }.write(&mut out);
    if let Some(right) = item.right_origin {
        right.write(&mut out);
    }
    out
}

/// Cuts a long text or list of values into structs of at most about `bytes_max`, as Yjs does: the unit before a cut is
/// the origin of what follows. `written` is how `read` stands in its update. Answers the parts with their offsets in
/// units; a single one if it cannot be cut.
pub(crate) fn cut_up(
    client: u64,
    read: &Struct<'_>,
    written: &[u8],
    bytes_max: usize,
) -> Result<Vec<(u32, Vec<u8>)>, InvalidUpdate> {
    let StructKind::Item(item) = &read.kind else { return Ok(vec![(0, written.to_vec())]) };
    let mut content = Reader::new(item.content);
    let mut parts = Vec::new();
    let mut offset = 0;
    match item.rest_info() & 0x1f {
        STRING => {
            let mut text = content.string()?;
            while !text.is_empty() {
                let (part, rest) = text.split_at(text.floor_char_boundary(bytes_max));
                let mut out = part_head(client, read, item, written, offset);
                write_uint(&mut out, part.len() as u64);
                out.extend_from_slice(part.as_bytes());
                parts.push((offset, out));
                offset += utf16_len(part)?;
                text = rest;
            }
        }
        ANY => {
            let mut left = u32::try_from(content.uint()?).map_err(|_| InvalidUpdate::Clock)?;
            while left > 0 {
                let (start, mut count) = (content.position(), 0);
                while count < left && (count == 0 || content.position() - start < bytes_max) {
                    skip_any(&mut content)?;
                    count += 1;
                }
                let mut out = part_head(client, read, item, written, offset);
                write_uint(&mut out, u64::from(count));
                out.extend_from_slice(content.since(start));
                parts.push((offset, out));
                (offset, left) = (offset + count, left - count);
            }
        }
        _ => parts.push((0, written.to_vec())),
    }
    Ok(parts)
}

/// What stands before the content of the part of an item that begins `offset` units behind its first.
fn part_head(client: u64, read: &Struct<'_>, item: &Item<'_>, written: &[u8], offset: u32) -> Vec<u8> {
    if offset == 0 {
        let head = written.len().saturating_sub(item.content.len());
        return written.get(..head).unwrap_or(&[]).to_vec();
    }
    rest_head(client, read, item, offset)
}

fn write_string_rest(out: &mut Vec<u8>, text: &str, offset: u32) -> Result<(), InvalidUpdate> {
    let mut units = 0;
    for (at, char) in text.char_indices() {
        if units == offset {
            let rest = text.get(at..).unwrap_or("");
            write_uint(out, rest.len() as u64);
            out.extend_from_slice(rest.as_bytes());
            return Ok(());
        }
        units += utf16_len(char.encode_utf8(&mut [0; 4]))?;
        if units > offset {
            let rest = text.get(at + char.len_utf8()..).unwrap_or("");
            write_uint(out, (rest.len() + '\u{fffd}'.len_utf8()) as u64);
            out.extend_from_slice("\u{fffd}".as_bytes());
            out.extend_from_slice(rest.as_bytes());
            return Ok(());
        }
    }
    Err(InvalidUpdate::Clock)
}
