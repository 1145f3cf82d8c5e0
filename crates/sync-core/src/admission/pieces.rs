//! Cutting what was admitted into updates of bounded struct count and size.

use crate::lib0::{Reader, write_uint};
use crate::limits::{PIECE_BYTES_MAX, PIECE_STRUCTS_MAX};
use crate::update::{
    InvalidUpdate, Ranges, Struct, cut_up, read_struct, trimmed, write_delete_ranges, write_section_head,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;

/// Ranges of deletions in one piece: each takes at most 10 bytes, and often its client's name.
const PIECE_DELETES_MAX: usize = PIECE_BYTES_MAX / 32;

/// The structs taken so far, in the order in which they were taken: an order that is closed under
/// dependencies, so that it can be cut anywhere.
pub(super) struct Pieces<'u> {
    bytes: &'u [u8],
    done: Vec<Bytes>,
    open: Vec<Part<'u>>,
    open_structs: usize,
    open_bytes: usize,
    /// For each section of the update, the open piece it was last put in and its part there.
    parts: Vec<Option<(usize, usize)>>,
    structs: usize,
    /// Deletions that have to come with the structs in the open piece.
    deletes: BTreeMap<u64, Vec<(u32, u32)>>,
    /// The next struct is deleted in the same piece.
    is_deleted_at_once: bool,
    /// True when everything was taken as written.
    intact: bool,
}

/// One client's structs in the open piece.
struct Part<'u> {
    client: u64,
    clock: u32,
    count: usize,
    /// A first struct that was cut.
    head: Vec<u8>,
    ranges: Vec<&'u [u8]>,
    /// Where the last range ends in the update.
    end: usize,
}

impl<'u> Pieces<'u> {
    pub(super) fn new(bytes: &'u [u8], sections: usize) -> Self {
        let parts = vec![None; sections];
        Pieces {
            bytes,
            done: Vec::new(),
            open: Vec::new(),
            open_structs: 0,
            open_bytes: 0,
            parts,
            structs: 0,
            deletes: BTreeMap::new(),
            is_deleted_at_once: false,
            intact: true,
        }
    }

    /// A struct was left out.
    pub(super) fn skipped(&mut self) {
        self.intact = false;
    }

    /// What is pushed next is deleted in the same piece.
    pub(super) fn delete_at_once(&mut self, client: u64, units: (u32, u32)) {
        self.make_room(0);
        self.is_deleted_at_once = true;
        self.deletes.entry(client).or_default().push(units);
    }

    fn make_room(&mut self, bytes: usize) {
        let is_full = self.open_structs == PIECE_STRUCTS_MAX || self.open_bytes + bytes > PIECE_BYTES_MAX;
        if is_full && self.open_structs > 0 {
            self.close(BTreeMap::new());
        }
    }

    /// Takes a struct, without its first `offset` units; `written` is where it stands in the update.
    pub(super) fn push(
        &mut self,
        section: usize,
        client: u64,
        read: &Struct<'_>,
        offset: u32,
        written: Range<usize>,
    ) -> Result<(), InvalidUpdate> {
        let update = self.bytes;
        let bytes = update.get(written.clone()).unwrap_or(&[]);
        if !std::mem::take(&mut self.is_deleted_at_once) {
            if written.len() > PIECE_BYTES_MAX {
                return self.push_in_parts(section, client, read, offset, written);
            }
            self.make_room(written.len());
        }
        if offset > 0 {
            let head = trimmed(client, read, offset)?;
            self.push_head(section, client, read.clock + offset, head, written);
            return Ok(());
        }
        self.open_bytes += bytes.len();
        let Some(part) = self.part(section, client, read.clock, &written) else { return Ok(()) };
        match part.ranges.last_mut() {
            Some(last) if part.end == written.start => {
                let start = written.start - last.len();
                *last = update.get(start..written.end).unwrap_or(&[]);
            }
            _ => part.ranges.push(bytes),
        }
        part.end = written.end;
        Ok(())
    }

    /// A struct that is larger than a piece: each part of it is a piece.
    fn push_in_parts(
        &mut self,
        section: usize,
        client: u64,
        read: &Struct<'_>,
        offset: u32,
        written: Range<usize>,
    ) -> Result<(), InvalidUpdate> {
        let clock = read.clock + offset;
        let parts = if offset > 0 {
            let rest = trimmed(client, read, offset)?;
            cut_up(client, &read_struct(&mut Reader::new(&rest), clock)?, &rest, PIECE_BYTES_MAX)?
        } else {
            cut_up(client, read, self.bytes.get(written.clone()).unwrap_or(&[]), PIECE_BYTES_MAX)?
        };
        for (from, part) in parts {
            if self.open_structs > 0 {
                self.close(BTreeMap::new());
            }
            self.push_head(section, client, clock + from, part, written.clone());
        }
        Ok(())
    }

    /// Takes a struct that was written anew, as the first one of its client in the open piece.
    fn push_head(&mut self, section: usize, client: u64, clock: u32, head: Vec<u8>, written: Range<usize>) {
        self.intact = false;
        self.open_bytes += head.len();
        if let Some(part) = self.part(section, client, clock, &written) {
            part.head = head;
            part.end = written.end;
        }
    }

    /// The client's part of the open piece, for one more struct.
    fn part(
        &mut self,
        section: usize,
        client: u64,
        clock: u32,
        written: &Range<usize>,
    ) -> Option<&mut Part<'u>> {
        let piece = self.done.len();
        let known = self.parts.get(section).copied().flatten().filter(|(of, _)| *of == piece);
        let index = known.map_or(self.open.len(), |(_, index)| index);
        if known.is_none() {
            let (head, ranges) = (Vec::new(), Vec::new());
            self.open.push(Part { client, clock, count: 0, head, ranges, end: written.start });
            if let Some(slot) = self.parts.get_mut(section) {
                *slot = Some((piece, index));
            }
        }
        self.open_structs += 1;
        self.structs += 1;
        let part = self.open.get_mut(index)?;
        part.count += 1;
        Some(part)
    }

    fn close(&mut self, mut deletes: BTreeMap<u64, Ranges>) {
        for (client, units) in std::mem::take(&mut self.deletes) {
            deletes.entry(client).or_default().extend(&Ranges::normalized(units));
        }
        let mut parts = std::mem::take(&mut self.open);
        (self.open_structs, self.open_bytes) = (0, 0);
        // Yjs writes higher client IDs first.
        parts.sort_unstable_by_key(|part| std::cmp::Reverse(part.client));
        let mut out = Vec::new();
        write_uint(&mut out, parts.len() as u64);
        for part in parts {
            write_section_head(&mut out, part.count, part.client, part.clock);
            out.extend_from_slice(&part.head);
            part.ranges.iter().for_each(|range| out.extend_from_slice(range));
        }
        write_uint(&mut out, deletes.len() as u64);
        deletes.iter().rev().for_each(|(client, ranges)| write_delete_ranges(&mut out, *client, ranges));
        self.done.push(out.into());
    }

    /// The pieces, the last one with the deletions. An update that was taken whole and fits in one piece
    /// is handed on as it is, without a copy.
    pub(super) fn finish(
        &mut self,
        update: &Bytes,
        intact: bool,
        deletes: BTreeMap<u64, Ranges>,
    ) -> Vec<Bytes> {
        let nothing = self.structs == 0 && deletes.is_empty();
        if nothing {
            return Vec::new();
        }
        if intact && self.intact && self.done.is_empty() {
            return vec![update.clone()];
        }
        let deletes = self.close_all_but_last(deletes);
        if self.open_structs > 0 || !deletes.is_empty() {
            self.close(deletes);
        }
        std::mem::take(&mut self.done)
    }

    /// Closes a piece for each so many deletions; answers those that are left for the last one.
    fn close_all_but_last(&mut self, deletes: BTreeMap<u64, Ranges>) -> BTreeMap<u64, Ranges> {
        if deletes.values().map(Ranges::len).sum::<usize>() <= PIECE_DELETES_MAX {
            return deletes;
        }
        let normalized = |open: &mut BTreeMap<u64, Vec<(u32, u32)>>| {
            std::mem::take(open)
                .into_iter()
                .map(|(client, units)| (client, Ranges::normalized(units)))
                .collect()
        };
        let (mut open, mut count) = (BTreeMap::new(), 0);
        for (client, ranges) in &deletes {
            for units in ranges.iter() {
                if count == PIECE_DELETES_MAX {
                    self.close(normalized(&mut open));
                    count = 0;
                }
                open.entry(*client).or_default().push(units);
                count += 1;
            }
        }
        normalized(&mut open)
    }
}
