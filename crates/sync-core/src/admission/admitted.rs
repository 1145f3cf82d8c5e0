//! What is known of a document without building it.

use crate::client_map::ClientMap;
use crate::lib0::Reader;
use crate::state_vector::StateVector;
use crate::update::{Id, InvalidUpdate, Ranges, Scan, StructKind, read_struct};
use std::hash::{DefaultHasher, Hash, Hasher};

/// The admitted state of one document: per client its clock, its deletions, and where its units live.
/// A text of any length by one client takes one run; a list of records takes a few for each record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admitted {
    clients: ClientMap<Client>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Client {
    clock: u32,
    runs: Vec<Run>,
    deleted: Ranges,
}

/// One chain of items: the children of a shared type, or the values one of its keys has had.
///
/// Known by a hash, because a room keeps one for each run: exact names would take several times the
/// memory. Whoever constructs two lists with the same hash upsets only the document that they write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct List {
    /// Two halves, so that a run takes 16 bytes.
    hash: [u32; 2],
    /// Depth 1 is directly in a root type.
    pub(super) depth: u16,
    /// True when these are the values of a key.
    pub(super) is_key: bool,
}

impl List {
    /// The children of a root type, or the values of one of its keys.
    pub(super) fn of_root(name: &str, key: Option<&str>) -> Self {
        List::new((0u8, name, key), key, 1)
    }

    /// The children of a shared type, or the values of one of its keys.
    pub(super) fn of_type(item: Id, key: Option<&str>, depth: u16) -> Self {
        List::new((1u8, item, key), key, depth)
    }

    fn new(name: impl Hash, key: Option<&str>, depth: u16) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let hash = hasher.finish();
        List { hash: [(hash >> 32) as u32, hash as u32], depth, is_key: key.is_some() }
    }
}

/// What a unit is, as far as others may name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// A value or text.
    Value,
    /// A shared type.
    Type,
    /// Something deleted and collected that still has its place.
    Deleted,
}

/// Where a unit lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In a list.
    In(List, Holds),
    /// Collected with its parent: there is no place any more.
    Gc,
}

/// Units from `start` to the next run's start live in the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    start: u32,
    place: Place,
}

impl Run {
    /// Adds units from `start` on.
    pub(super) fn append(runs: &mut Vec<Run>, start: u32, place: Place) {
        if runs.last().is_none_or(|last| last.place != place) {
            if runs.is_empty() {
                // Most clients of a large document made one run.
                runs.reserve_exact(1);
            }
            runs.push(Run { start, place });
        }
    }

    /// The place of `clock`. Clocks before the first run do not occur; they would be collected ones.
    pub(super) fn find(runs: &[Run], clock: u32) -> Place {
        let after = runs.partition_point(|run| run.start <= clock);
        after.checked_sub(1).and_then(|index| runs.get(index)).map_or(Place::Gc, |run| run.place)
    }
}
impl Admitted {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first clock of `client` that is not known.
    pub fn clock(&self, client: u64) -> u32 {
        self.clients.get(client).map_or(0, |known| known.clock)
    }

    /// True when this ID is known.
    pub fn knows(&self, id: Id) -> bool {
        id.clock < self.clock(id.client)
    }

    /// True when this ID is known to be deleted.
    pub(crate) fn has_deleted(&self, id: Id) -> bool {
        self.clients.get(id.client).is_some_and(|known| known.deleted.contains(id.clock))
    }

    /// What is known of a client.
    pub(crate) fn made(&self, client: u64) -> Ranges {
        Ranges::one(0, self.clock(client))
    }

    /// What is known to be deleted of a client.
    pub(crate) fn deleted(&self, client: u64) -> Ranges {
        self.clients.get(client).map(|known| known.deleted.clone()).unwrap_or_default()
    }

    /// True when nothing was ever admitted.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Clients that made something.
    pub fn client_count(&self) -> usize {
        self.clients.len()
    }

    /// All clocks.
    pub fn state_vector(&self) -> StateVector {
        self.clients.iter().map(|(client, known)| (client, known.clock)).collect()
    }

    /// Each client's deletions.
    pub fn deletes(&self) -> impl Iterator<Item = (u64, &Ranges)> {
        self.clients.iter().map(|(client, known)| (client, &known.deleted)).filter(|(_, d)| !d.is_empty())
    }

    /// True when everything that `other` deletes is deleted here too.
    pub fn covers_deletes_of(&self, other: &Admitted) -> bool {
        let none = Ranges::default();
        other.deletes().all(|(client, deleted)| {
            self.clients.get(client).map_or(&none, |known| &known.deleted).covers(deleted)
        })
    }

    /// True when everything in `update` is here: its structs are known and its deletions made.
    pub fn covers(&self, update: &[u8]) -> Result<bool, InvalidUpdate> {
        let scan = Scan::new(update)?;
        let deletes_known = scan.deletes.iter().all(|(client, start, end)| {
            let ranges = Ranges::one(*start, *end);
            ranges.is_empty() || self.clients.get(*client).is_some_and(|known| known.deleted.covers(&ranges))
        });
        Ok(deletes_known && self.knows_structs(update, &scan)?)
    }

    /// True when all structs of `update` are known; it may delete more.
    pub fn knows_structs_of(&self, update: &[u8]) -> Result<bool, InvalidUpdate> {
        self.knows_structs(update, &Scan::new(update)?)
    }

    fn knows_structs(&self, update: &[u8], scan: &Scan<'_>) -> Result<bool, InvalidUpdate> {
        for section in &scan.sections {
            let mut reader = Reader::at(update, section.start);
            let mut end = section.clock;
            for _ in 0..section.count {
                let read = read_struct(&mut reader, end)?;
                end = read.end();
                if !matches!(read.kind, StructKind::Skip) && end > self.clock(section.client) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    pub(super) fn place(&self, id: Id) -> Place {
        self.clients.get(id.client).map_or(Place::Gc, |known| Run::find(&known.runs, id.clock))
    }

    pub(super) fn advance(&mut self, client: u64, clock: u32, runs: Vec<Run>) {
        if runs.is_empty() {
            return;
        }
        let known = self.clients.get_or_insert_with(client, Client::default);
        known.clock = clock;
        if known.runs.is_empty() {
            known.runs = runs;
        } else {
            runs.into_iter().for_each(|run| Run::append(&mut known.runs, run.start, run.place));
        }
    }

    /// Deletes ranges of known clocks and returns those that were not deleted before.
    pub(super) fn delete(&mut self, client: u64, ranges: &Ranges) -> Ranges {
        let Some(known) = self.clients.get_mut(client) else { return Ranges::default() };
        let new = ranges.without(&known.deleted);
        known.deleted.extend(&new);
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_takes_sixteen_bytes_or_fewer() {
        assert!(size_of::<Run>() <= 20, "{} bytes", size_of::<Run>());
    }
}
