//! Cutting what was admitted into updates of bounded struct count and size.

use crate::lib0::{Reader, write_uint};
use crate::limits::{PIECE_BYTES_MAX, PIECE_STRUCTS_MAX};
use crate::update::{
    DeleteSet, InvalidUpdate, Struct, cut_up, delete_set, positions_by_client, read_struct, trimmed,
    write_delete_ranges, write_section_head,
};
use bytes::Bytes;
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
    deletes: Vec<(u64, u32, u32)>,
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
            deletes: Vec::new(),
            is_deleted_at_once: false,
            intact: true,
        }
    }

    /// A struct was left out.
    pub(super) fn skipped(&mut self) {
        self.intact = false;
    }

    /// What is pushed next is deleted in the same piece.
    pub(super) fn delete_at_once(&mut self, client: u64, units: Range<u32>) {
        self.make_room(0);
        self.is_deleted_at_once = true;
        self.deletes.push((client, units.start, units.end));
    }

    fn make_room(&mut self, bytes: usize) {
        let is_full = self.open_structs == PIECE_STRUCTS_MAX || self.open_bytes + bytes > PIECE_BYTES_MAX;
        if is_full && self.open_structs > 0 {
            self.close(&DeleteSet::new());
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
                self.close(&DeleteSet::new());
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

    fn close(&mut self, deletes: &DeleteSet) {
        let mut written = std::mem::take(&mut self.deletes);
        for (client, ranges) in deletes {
            written.extend(ranges.iter().map(|(start, end)| (*client, start, end)));
        }
        let deletes = delete_set(written);
        let parts = std::mem::take(&mut self.open);
        (self.open_structs, self.open_bytes) = (0, 0);
        let mut out = Vec::new();
        write_uint(&mut out, parts.len() as u64);
        // Yjs writes higher client IDs first.
        let order = positions_by_client(parts.iter().map(|part| part.client));
        for part in order.iter().rev().filter_map(|(_, position)| parts.get(*position)) {
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
    pub(super) fn finish(&mut self, update: &Bytes, intact: bool, deletes: &DeleteSet) -> Vec<Bytes> {
        let nothing = self.structs == 0 && deletes.is_empty();
        if nothing {
            return Vec::new();
        }
        let ranges: usize = deletes.iter().map(|(_, ranges)| ranges.len()).sum();
        if intact && self.intact && self.done.is_empty() && ranges <= PIECE_DELETES_MAX {
            return vec![update.clone()];
        }
        if ranges > PIECE_DELETES_MAX {
            let all = deletes
                .iter()
                .flat_map(|(client, ranges)| ranges.iter().map(|(start, end)| (*client, start, end)));
            let all: Vec<(u64, u32, u32)> = all.collect();
            all.chunks(PIECE_DELETES_MAX).for_each(|part| self.close(&delete_set(part.to_vec())));
        } else if self.open_structs > 0 || !deletes.is_empty() {
            self.close(deletes);
        }
        std::mem::take(&mut self.done)
    }
}
