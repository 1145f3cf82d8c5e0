//! Local branches: edits of this device that the relay refused, and what depends on them.
//!
//! A refused edit leaves a hole in its author's clock, so that nothing which that author makes later can enter. The
//! device keeps the edits as they are and goes on under another client ID. When they are to be merged after all, they
//! are made anew: the same edits in the same places under other client IDs, without what the relay has.
//! Rules BR1 to BR6 of `docs/protocol.md`.

use crate::admission::Admitted;
use crate::client_map::ClientMap;
use crate::code::Code;
use crate::lib0::{Reader, write_uint};
use crate::limits::{CLIENT_ID_END, UPDATE_BYTES_MAX};
use crate::update::{
    Id, InvalidUpdate, MergeError, Parent, Ranges, Scan, StructKind, delete_set, diff, merge, read_struct,
    rename_struct, write_delete_ranges, write_section_head,
};
use bytes::Bytes;
use std::ops::Range;

/// Which of `rows` build on what is not `known` of `refused`, directly or on each other: their places, in order. What
/// cannot be read builds on nothing.
pub fn dependents(refused: &[Bytes], rows: &[Bytes], known: &Admitted) -> Vec<u32> {
    let mut gone = SetAside::new(refused).units.without(known, Admitted::made);
    let mut found = vec![false; rows.len()];
    loop {
        let mut is_last = true;
        for (found, row) in found.iter_mut().zip(rows) {
            if !*found && gone.is_built_on_by(row).unwrap_or(false) {
                gone.add(row);
                (*found, is_last) = (true, false);
            }
        }
        if is_last {
            return (0..).zip(found).filter_map(|(at, found)| found.then_some(at)).collect();
        }
    }
}

/// Units that some updates bring, by their makers.
#[derive(Default)]
struct Units(ClientMap<Ranges>);

impl Units {
    fn add(&mut self, update: &Bytes) {
        let Ok(scan) = Scan::new(update) else { return };
        for section in &scan.sections {
            let mut reader = Reader::at(update, section.start);
            let mut clock = section.clock;
            for _ in 0..section.count {
                let Ok(read) = read_struct(&mut reader, clock) else { return };
                clock = read.end();
                if !matches!(read.kind, StructKind::Skip) {
                    let units = self.0.get_or_insert_with(section.client, Ranges::default);
                    units.extend(&Ranges::one(read.clock, read.end()));
                }
            }
        }
    }

    fn add_deletes(&mut self, update: &Bytes) {
        let Ok(scan) = Scan::new(update) else { return };
        for (client, start, end) in &scan.deletes {
            self.0.get_or_insert_with(*client, Ranges::default).extend(&Ranges::one(*start, *end));
        }
    }

    /// Those that are not in `part` of what is known.
    fn without(&self, known: &Admitted, part: fn(&Admitted, u64) -> Ranges) -> Units {
        let mut rest = Units::default();
        for (client, ranges) in self.0.iter() {
            rest.0.get_or_insert_with(client, Ranges::default).extend(&ranges.without(&part(known, client)));
        }
        rest
    }

    fn are_deleted_by(&self, scan: &Scan<'_>) -> bool {
        scan.deletes.iter().any(|(client, start, end)| self.overlaps(*client, *start..*end))
    }

    fn contains(&self, id: Id) -> bool {
        self.0.get(id.client).is_some_and(|ranges| ranges.contains(id.clock))
    }

    fn overlaps(&self, client: u64, range: Range<u32>) -> bool {
        let range = Ranges::one(range.start, range.end);
        self.0.get(client).is_some_and(|ranges| range.without(ranges) != range)
    }

    /// True when `update` repeats a unit, follows one in its maker's clock, lies beside or in one, or deletes one.
    fn is_built_on_by(&self, update: &Bytes) -> Result<bool, InvalidUpdate> {
        let scan = Scan::new(update)?;
        if self.are_deleted_by(&scan) {
            return Ok(true);
        }
        for section in &scan.sections {
            let mut reader = Reader::at(update, section.start);
            let mut clock = section.clock;
            for _ in 0..section.count {
                let read = read_struct(&mut reader, clock)?;
                clock = read.end();
                let item = match &read.kind {
                    StructKind::Item(item) => Some(item),
                    StructKind::Gc | StructKind::Skip => None,
                };
                let parent = item.and_then(|item| match item.parent {
                    Some(Parent::Item(id)) => Some(id),
                    Some(Parent::Root(_)) | None => None,
                });
                let named = item.map(|item| [item.origin, item.right_origin]).into_iter().flatten();
                // The unit before it in its maker's clock is one that it builds on too.
                if named.flatten().chain(parent).any(|id| self.contains(id))
                    || self.overlaps(section.client, read.clock.saturating_sub(1)..read.end())
                {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// What the branches of a document hold, and the document goes on without.
#[derive(Default)]
pub(crate) struct SetAside {
    units: Units,
    deleted: Units,
}

impl SetAside {
    pub(crate) fn new(rows: &[Bytes]) -> Self {
        let mut aside = SetAside::default();
        for row in rows {
            aside.units.add(row);
            aside.deleted.add_deletes(row);
        }
        aside
    }

    /// True when `update` brings something of it, builds on it, or makes a deletion of it. What is `known` all the same
    /// is the relay's.
    pub(crate) fn is_in(&self, update: &Bytes, known: &Admitted) -> bool {
        let Ok(scan) = Scan::new(update) else { return false };
        self.deleted.without(known, Admitted::deleted).are_deleted_by(&scan)
            || self.units.without(known, Admitted::made).is_built_on_by(update).unwrap_or(false)
    }
}

/// The edits of `rows` as new ones, under client IDs that nobody else uses, for a document of which `known` is known:
/// what is known of them, under their old names or their new ones, is left out. The updates are to be applied in their
/// order. Fails with the code of what prevents it: `update_incomplete` when they build on something that is not there.
pub fn made_anew(branch: &str, rows: &[Bytes], known: &Admitted) -> Result<Vec<Bytes>, Code> {
    let renamed = Renamed::new(branch, rows, known).map_err(InvalidUpdate::code)?;
    let mut waiting = Vec::new();
    for row in rows {
        let new = diff(row, &known.state_vector()).map_err(InvalidUpdate::code)?;
        waiting.extend(new.map(|new| renamed.update(&new)).transpose().map_err(InvalidUpdate::code)?);
    }
    let mut admitted = known.clone();
    let mut pieces = Vec::new();
    // Rows of several tabs may stand in another order than that in which they build on each other.
    while !waiting.is_empty() {
        let before = (waiting.len(), pieces.len());
        let mut later = Vec::new();
        for update in waiting {
            let admission = admitted.admit(&update).map_err(InvalidUpdate::code)?;
            if !admission.is_complete() {
                later.push(update);
            }
            pieces.extend(admission.pieces);
        }
        waiting = later;
        if before == (waiting.len(), pieces.len()) {
            return Err(Code::UpdateIncomplete);
        }
    }
    // A single value cannot be cut.
    if pieces.iter().any(|piece| piece.len() > UPDATE_BYTES_MAX) {
        return Err(Code::UpdateTooLarge);
    }
    Ok(pieces)
}

/// One update with what all of `rows` bring, under the names that they have, for those who have what they build on.
pub fn as_one_update(rows: &[Bytes]) -> Result<Bytes, Code> {
    // As a list of references, with which the outbox is merged too: another one would be compiled once more.
    let rows: Vec<&Bytes> = rows.iter().collect();
    merge(rows.iter().copied()).map_err(|error| match error {
        MergeError::Invalid(invalid) => invalid.code(),
        MergeError::Gap => Code::UpdateIncomplete,
    })
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a. A branch's name is random; nobody can look for another one with the same hash.
fn hash(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// New names for the units of a branch: another client ID for each of its makers, whose clock begins with the first
/// unit that is not known.
struct Renamed(ClientMap<(u64, u32)>);

impl Renamed {
    /// A branch whose merge was not stored, though the relay has it, is merged again under the same names. Anything that
    /// would put other edits under them, as another beginning, changes the names.
    fn new(branch: &str, rows: &[Bytes], known: &Admitted) -> Result<Self, InvalidUpdate> {
        let mut makers = ClientMap::default();
        let mut digest = hash(FNV_OFFSET, branch.as_bytes());
        for row in rows {
            digest = hash(digest, row);
            for section in Scan::new(row)?.sections {
                makers.get_or_insert_with(section.client, || (0, known.clock(section.client)));
            }
        }
        for (_, (_, first)) in makers.iter() {
            digest = hash(digest, &first.to_le_bytes());
        }
        for (client, next) in makers.values_mut().zip(0..) {
            client.0 = digest.wrapping_add(next) % CLIENT_ID_END;
        }
        Ok(Renamed(makers))
    }

    fn id(&self, id: Id) -> Id {
        match self.0.get(id.client) {
            Some((client, first)) if id.clock >= *first => Id { client: *client, clock: id.clock - first },
            _ => id,
        }
    }

    fn update(&self, update: &Bytes) -> Result<Bytes, InvalidUpdate> {
        let scan = Scan::new(update)?;
        let mut out = Vec::with_capacity(update.len());
        write_uint(&mut out, scan.sections.len() as u64);
        for section in &scan.sections {
            let first = self.id(Id { client: section.client, clock: section.clock });
            write_section_head(&mut out, section.count, first.client, first.clock);
            let mut reader = Reader::at(update, section.start);
            let mut clock = section.clock;
            for _ in 0..section.count {
                let start = reader.position();
                let read = read_struct(&mut reader, clock)?;
                clock = read.end();
                rename_struct(&mut out, &read, reader.since(start), |id| self.id(id));
            }
        }
        let deletes = delete_set(scan.deletes.iter().flat_map(|range| self.deleted(*range)).collect());
        write_uint(&mut out, deletes.len() as u64);
        deletes.iter().for_each(|(client, ranges)| write_delete_ranges(&mut out, *client, ranges));
        Ok(out.into())
    }

    /// What is known keeps its name, so a range may have two.
    fn deleted(&self, (client, start, end): (u64, u32, u32)) -> [(u64, u32, u32); 2] {
        let Some((new, first)) = self.0.get(client) else { return [(client, start, end), (client, 0, 0)] };
        let (known, rest) = (end.min(*first), start.max(*first));
        [(client, start, known), (*new, rest - first, end.max(rest) - first)]
    }
}

#[cfg(test)]
mod tests;
