//! Cutting what was admitted into updates of bounded struct count.

use crate::lib0::write_uint;
use crate::limits::PIECE_STRUCTS_MAX;
use crate::update::{InvalidUpdate, Ranges, Struct, trimmed, write_delete_ranges, write_section_head};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;

/// The structs taken so far, in the order in which they were taken: an order that is closed under
/// dependencies, so that it can be cut anywhere.
pub(super) struct Pieces<'u> {
    bytes: &'u [u8],
    done: Vec<Bytes>,
    open: Vec<Part<'u>>,
    open_structs: usize,
    /// For each section of the update, the open piece it was last put in and its part there.
    parts: Vec<Option<(usize, usize)>>,
    structs: usize,
    /// Deletions that have to come with the structs in the open piece.
    deletes: BTreeMap<u64, Vec<(u32, u32)>>,
    /// True when everything was taken as written.
    intact: bool,
    /// Bytes by which a piece may be larger than the update, at most.
    grown: usize,
}

/// What a section's head can grow by when its first clock is a later one.
const CLOCK_BYTES: usize = 4;

/// What a deletion takes that comes in a piece of its own: a client, a count, a range.
const DELETION_BYTES: usize = 24;

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
            parts,
            structs: 0,
            deletes: BTreeMap::new(),
            intact: true,
            grown: 0,
        }
    }

    /// Bytes by which a piece may be larger than the update, at most.
    pub(super) fn grown(&self) -> usize {
        self.grown
    }

    /// A struct was left out.
    pub(super) fn skipped(&mut self) {
        self.intact = false;
    }

    /// What is pushed next is deleted in the same piece.
    pub(super) fn delete_at_once(&mut self, client: u64, units: (u32, u32)) {
        self.make_room();
        self.grown += DELETION_BYTES;
        self.deletes.entry(client).or_default().push(units);
    }

    fn make_room(&mut self) {
        if self.open_structs == PIECE_STRUCTS_MAX {
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
        self.make_room();
        let piece = self.done.len();
        let known = self.parts.get(section).copied().flatten().filter(|(of, _)| *of == piece);
        let index = known.map_or(self.open.len(), |(_, index)| index);
        if known.is_none() {
            let clock = read.clock + offset;
            let ranges = Vec::new();
            self.open.push(Part { client, clock, count: 0, head: Vec::new(), ranges, end: written.start });
            if let Some(slot) = self.parts.get_mut(section) {
                *slot = Some((piece, index));
            }
        }
        let Some(part) = self.open.get_mut(index) else { return Ok(()) };
        part.count += 1;
        self.open_structs += 1;
        self.structs += 1;
        if offset > 0 {
            self.intact = false;
            part.head = trimmed(client, read, offset)?;
            self.grown += (part.head.len() + CLOCK_BYTES).saturating_sub(written.len());
            part.end = written.end;
            return Ok(());
        }
        let bytes = self.bytes.get(written.clone()).unwrap_or(&[]);
        match part.ranges.last_mut() {
            Some(last) if part.end == written.start => {
                let start = written.start - last.len();
                *last = self.bytes.get(start..written.end).unwrap_or(&[]);
            }
            _ => part.ranges.push(bytes),
        }
        part.end = written.end;
        Ok(())
    }

    fn close(&mut self, mut deletes: BTreeMap<u64, Ranges>) {
        for (client, units) in std::mem::take(&mut self.deletes) {
            deletes.entry(client).or_default().extend(&Ranges::normalized(units));
        }
        let mut parts = std::mem::take(&mut self.open);
        self.open_structs = 0;
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
        if intact && self.intact && self.structs <= PIECE_STRUCTS_MAX {
            return vec![update.clone()];
        }
        if self.open_structs > 0 || !deletes.is_empty() {
            self.close(deletes);
        }
        std::mem::take(&mut self.done)
    }
}
