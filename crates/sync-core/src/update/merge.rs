//! Merging the updates of a log into one.

use super::content::STRING;
use super::structs::{Id, Item};
use super::{InvalidUpdate, Scan, Struct, StructKind, read_struct};
use super::{delete_set, write_delete_ranges, write_section_head};
use crate::client_map::ClientMap;
use crate::lib0::{Reader, write_uint};
use bytes::Bytes;
use thiserror::Error;

/// Why updates cannot be merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MergeError {
    /// One of them cannot be read.
    #[error(transparent)]
    Invalid(#[from] InvalidUpdate),
    /// A client's structs do not follow each other without a gap: these are not updates of one log.
    #[error("the updates do not follow each other")]
    Gap,
}

/// Merges updates of one log, in its order, into one update with the same meaning.
///
/// Admission leaves each client's structs contiguous from update to update, so this is concatenation, in
/// linear time. Text that one client typed on is joined into one item, as Yjs itself would encode it:
/// a sentence typed in fifty updates leaves as one item.
pub fn merge<'a>(updates: impl IntoIterator<Item = &'a Bytes>) -> Result<Bytes, MergeError> {
    let mut sections: ClientMap<Section<'a>> = ClientMap::default();
    let mut deletes = Vec::new();
    for update in updates {
        let scan = Scan::new(update)?;
        for read in &scan.sections {
            let section = sections.get_or_insert_with(read.client, || Section::starting_at(read.clock));
            section.append(read.client, scan.bytes, read)?;
        }
        deletes.extend_from_slice(&scan.deletes);
    }
    let deletes = delete_set(deletes);
    sections.values_mut().for_each(Section::flush);
    let mut out = Vec::new();
    write_uint(&mut out, sections.len() as u64);
    for (client, section) in sections.iter().rev() {
        write_section_head(&mut out, section.count, client, section.start);
        out.extend_from_slice(&section.bytes);
    }
    write_uint(&mut out, deletes.len() as u64);
    deletes.iter().for_each(|(client, ranges)| write_delete_ranges(&mut out, *client, ranges));
    Ok(out.into())
}

/// One client's structs so far.
struct Section<'a> {
    start: u32,
    next: u32,
    count: usize,
    bytes: Vec<u8>,
    /// Text that the next struct may continue; not yet in `bytes`.
    open: Option<OpenText<'a>>,
}

struct OpenText<'a> {
    /// Everything before the text's length, as written.
    head: &'a [u8],
    right_origin: Option<Id>,
    text: Vec<u8>,
}

impl<'a> Section<'a> {
    fn starting_at(clock: u32) -> Self {
        Section { start: clock, next: clock, count: 0, bytes: Vec::new(), open: None }
    }

    fn append(&mut self, client: u64, bytes: &'a [u8], read: &super::Section) -> Result<(), MergeError> {
        if read.clock != self.next {
            return Err(MergeError::Gap);
        }
        let mut reader = Reader::at(bytes, read.start);
        for _ in 0..read.count {
            let start = reader.position();
            let read = read_struct(&mut reader, self.next)?;
            if matches!(read.kind, StructKind::Skip) {
                return Err(MergeError::Gap);
            }
            self.push(client, &read, reader.since(start))?;
            self.next = read.end();
        }
        Ok(())
    }

    fn push(&mut self, client: u64, read: &Struct<'a>, written: &'a [u8]) -> Result<(), MergeError> {
        let text = match &read.kind {
            StructKind::Item(item) if item.info & 0x1f == STRING => item,
            _ => {
                self.flush();
                self.count += 1;
                self.bytes.extend_from_slice(written);
                return Ok(());
            }
        };
        let string = Reader::new(text.content).buffer().map_err(InvalidUpdate::from)?;
        let before = Id { client, clock: read.clock.wrapping_sub(1) };
        match &mut self.open {
            Some(open) if continues(text, before, open.right_origin) => open.text.extend_from_slice(string),
            _ => {
                self.flush();
                self.count += 1;
                let head = written.get(..written.len() - text.content.len()).unwrap_or(&[]);
                self.open = Some(OpenText { head, right_origin: text.right_origin, text: string.to_vec() });
            }
        }
        Ok(())
    }

    /// Writes the text that was kept open.
    fn flush(&mut self) {
        if let Some(open) = self.open.take() {
            self.bytes.extend_from_slice(open.head);
            write_uint(&mut self.bytes, open.text.len() as u64);
            self.bytes.extend_from_slice(&open.text);
        }
    }
}

/// True when `item` was typed right behind `before` and before the same right neighbour: Yjs joins such
/// items in memory, and integrating the joined item equals integrating its parts.
fn continues(item: &Item<'_>, before: Id, right_origin: Option<Id>) -> bool {
    item.origin == Some(before) && item.right_origin == right_origin
}
