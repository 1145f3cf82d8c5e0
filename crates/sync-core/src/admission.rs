//! Admission: what of a stranger's update may enter a document.
//!
//! [`Admitted`] is what is known of one document without building it: for each client its clock, what is
//! deleted, and where each unit lives (how deep, and whether it is itself a shared type). It admits the
//! largest part of an update that is contiguous and closed under dependencies, takes only what is new,
//! names what is missing, and hands the rest on in pieces that yrs can apply in bounded time.
//! All or nothing: an update that is refused leaves no trace. Rules AD1 to AD22 of `docs/protocol.md`.

mod admitted;
mod pieces;

pub use admitted::Admitted;
use admitted::{Holds, List, Place, Run};

use crate::lib0::Reader;
use crate::limits::{MISSING_MAX, TYPE_DEPTH_MAX, UPDATE_CLIENTS_MAX};
use crate::update::{
    ContentKind, DeleteSet, Id, InvalidUpdate, Item, Parent, Ranges, Scan, Struct, StructKind, delete_set,
    positions_by_client, read_struct, write_delete_ranges,
};
use bytes::Bytes;
use pieces::Pieces;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use thiserror::Error;

/// What was taken of an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Updates with what was new, each closed once those before it are applied; of bounded struct count.
    pub pieces: Vec<Bytes>,
    /// The first of the IDs that something which was trimmed waits for; empty when nothing was trimmed.
    pub missing: Vec<Id>,
}

impl Admission {
    /// True when nothing was trimmed.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }
}

/// Why a stored document cannot be served. Its rows are left as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LoadError {
    /// A row is not an update that admission takes.
    #[error("a stored update is invalid: {0}")]
    Invalid(#[from] InvalidUpdate),
    /// A row builds on something that no row before it holds.
    #[error("a stored update builds on something that is missing")]
    Gap,
}

impl Admitted {
    /// What stored updates lead to, and all of them in pieces, as [`Admission::pieces`] are.
    pub fn load(updates: impl IntoIterator<Item = Bytes>) -> Result<(Self, Vec<Bytes>), LoadError> {
        let mut admitted = Admitted::new();
        let mut pieces = Vec::new();
        for update in updates {
            let admission = admitted.admit(&update)?;
            if !admission.is_complete() {
                return Err(LoadError::Gap);
            }
            pieces.extend(admission.pieces);
        }
        Ok((admitted, pieces))
    }

    /// Takes what can be taken of `update`. On an error nothing was taken.
    pub fn admit(&mut self, update: &Bytes) -> Result<Admission, InvalidUpdate> {
        let scan = Scan::new(update)?;
        let mut walk = Walk::new(self, &scan);
        walk.run()?;
        walk.check_for_cycles()?;
        walk.check_clients()?;
        Ok(walk.finish(update))
    }
}

/// Why a section went no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It has structs left and may go on.
    Open,
    /// All of its structs were looked at.
    Done,
    /// It waits for an ID that this update does not bring.
    Missing(Id),
    /// It waits for an ID of another section of this update.
    Waits { section: usize, id: Id },
}

/// Clocks that are waited for, each with the section that waits; the lowest clock on top.
type Waiters = BinaryHeap<Reverse<(u32, usize)>>;

/// One client's structs on their way in.
struct Progress {
    client: u64,
    /// Offset of the next struct's bytes.
    at: usize,
    /// Structs not yet looked at.
    remaining: usize,
    /// Clock of the next struct.
    clock: u32,
    /// First clock that is not known, counting what this update has brought so far.
    known: u32,
    known_before: u32,
    runs: Vec<Run>,
    end: End,
    /// Sections that wait for clocks of this one, the lowest clock first. Boxed: few are waited for, and
    /// an update may have very many sections.
    waiters: Option<Box<Waiters>>,
}

struct Walk<'r, 'u> {
    admitted: &'r mut Admitted,
    scan: &'u Scan<'u>,
    sections: Vec<Progress>,
    by_client: Vec<(u64, usize)>,
    pieces: Pieces<'u>,
    /// What the update deletes, sorted; made when it is first asked for.
    deletes: Option<DeleteSet>,
}

/// What a section does next.
enum Step {
    Next,
    Stop(End),
}

impl<'r, 'u> Walk<'r, 'u> {
    fn new(admitted: &'r mut Admitted, scan: &'u Scan<'u>) -> Self {
        let sections: Vec<Progress> = scan
            .sections
            .iter()
            .map(|section| {
                let known = admitted.clock(section.client);
                Progress {
                    client: section.client,
                    at: section.start,
                    remaining: section.count,
                    clock: section.clock,
                    known,
                    known_before: known,
                    runs: Vec::new(),
                    end: End::Open,
                    waiters: None,
                }
            })
            .collect();
        let by_client = positions_by_client(sections.iter().map(|section| section.client));
        let pieces = Pieces::new(scan.bytes, sections.len());
        Walk { admitted, scan, sections, by_client, pieces, deletes: None }
    }

    /// Takes structs section by section until nothing can be taken any more.
    fn run(&mut self) -> Result<(), InvalidUpdate> {
        let mut ready: Vec<usize> = (0..self.sections.len()).rev().collect();
        while let Some(index) = ready.pop() {
            let end = loop {
                match self.step(index)? {
                    Step::Next => self.wake(index, &mut ready),
                    Step::Stop(end) => break end,
                }
            };
            if let End::Waits { section, id } = end
                && let Some(other) = self.sections.get_mut(section)
            {
                other.waiters.get_or_insert_default().push(Reverse((id.clock, index)));
            }
            if let Some(section) = self.sections.get_mut(index) {
                section.end = end;
            }
        }
        Ok(())
    }

    /// Looks at one struct of a section.
    fn step(&mut self, index: usize) -> Result<Step, InvalidUpdate> {
        let Some(section) = self.sections.get(index) else { return Ok(Step::Stop(End::Done)) };
        if section.remaining == 0 {
            return Ok(Step::Stop(End::Done));
        }
        let (client, known) = (section.client, section.known);
        let mut reader = Reader::at(self.scan.bytes, section.at);
        let start = reader.position();
        let read = read_struct(&mut reader, section.clock)?;
        if read.end() > known && !matches!(read.kind, StructKind::Skip) {
            if read.clock > known {
                return Ok(Step::Stop(End::Missing(Id { client, clock: known })));
            }
            let place = match self.place(index, &read)? {
                Ok(place) => place,
                Err(end) => return Ok(Step::Stop(end)),
            };
            self.check_entry(client, known..read.end(), place)?;
            self.pieces.push(index, client, &read, known - read.clock, start..reader.position())?;
            if let Some(section) = self.sections.get_mut(index) {
                Run::append(&mut section.runs, known, place);
                section.known = read.end();
            }
        } else {
            self.pieces.skipped();
        }
        if let Some(section) = self.sections.get_mut(index) {
            section.at = reader.position();
            section.clock = read.end();
            section.remaining -= 1;
        }
        Ok(Step::Next)
    }

    fn wake(&mut self, index: usize, ready: &mut Vec<usize>) {
        let Some(section) = self.sections.get_mut(index) else { return };
        let Some(waiters) = section.waiters.as_mut() else { return };
        while let Some(Reverse((clock, waiter))) = waiters.peek().copied() {
            if clock >= section.known {
                break;
            }
            waiters.pop();
            ready.push(waiter);
        }
    }

    /// Where a struct would live, or why it has to wait.
    fn place(&self, index: usize, read: &Struct<'_>) -> Result<Result<Place, End>, InvalidUpdate> {
        let mut item = match &read.kind {
            StructKind::Item(item) => *item,
            StructKind::Gc | StructKind::Skip => return Ok(Ok(Place::Gc)),
        };
        if let Some(Progress { client, known, .. }) =
            self.sections.get(index).filter(|s| s.known > read.clock)
        {
            // What is left after the cut stands behind the unit before it, wherever that is: the cut-off
            // part may have been written differently before.
            item.origin = Some(Id { client: *client, clock: known - 1 });
            item.parent = None;
        }
        let explicit = match item.parent {
            Some(Parent::Item(id)) => Some(id),
            _ => None,
        };
        for id in [item.origin, item.right_origin, explicit].into_iter().flatten() {
            if let Some(end) = self.waits_for(index, id) {
                return Ok(Err(end));
            }
        }
        self.place_of_item(&item).map(Ok)
    }

    /// Documents that keep their history join the values that one client gave to one key. Such an item
    /// can be split by others, and then a value that was superseded is found by nobody when its parent
    /// is collected: yrs goes on to use the freed parent. It is let in when all of it is deleted by the
    /// same update, which is how documents write it (rule AD17).
    fn check_entry(
        &mut self,
        client: u64,
        units: std::ops::Range<u32>,
        place: Place,
    ) -> Result<(), InvalidUpdate> {
        let Place::In(List { is_key: true, .. }, Holds::Value) = place else { return Ok(()) };
        if units.len() < 2 {
            return Ok(());
        }
        let deletes = self.deletes.get_or_insert_with(|| self.scan.delete_set());
        let ranges = Ranges::one(units.start, units.end);
        let deleted = deletes.binary_search_by_key(&client, |(client, _)| *client);
        if !deleted.is_ok_and(|at| deletes.get(at).is_some_and(|(_, deleted)| deleted.covers(&ranges))) {
            return Err(InvalidUpdate::Entry);
        }
        self.pieces.delete_at_once(client, units);
        Ok(())
    }

    fn waits_for(&self, index: usize, id: Id) -> Option<End> {
        match self.section_of(id.client) {
            Some((_, section)) if id.clock < section.known => None,
            // A section that waits for its own future is a circle of one.
            Some((other, _)) if other == index => Some(End::Waits { section: index, id }),
            Some((_, section)) if section.end == End::Done => Some(End::Missing(id)),
            Some((other, _)) => Some(End::Waits { section: other, id }),
            None if id.clock < self.admitted.clock(id.client) => None,
            None => Some(End::Missing(id)),
        }
    }

    fn section_of(&self, client: u64) -> Option<(usize, &Progress)> {
        let found = self.by_client.binary_search_by_key(&client, |(client, _)| *client).ok()?;
        let (_, index) = self.by_client.get(found)?;
        Some((*index, self.sections.get(*index)?))
    }

    /// The place of a known ID.
    fn place_of(&self, id: Id) -> Place {
        match self.section_of(id.client) {
            Some((_, section)) if id.clock >= section.known_before => Run::find(&section.runs, id.clock),
            _ => self.admitted.place(id),
        }
    }

    /// Where an item lives whose dependencies are known (rules AD14 to AD16).
    fn place_of_item(&self, item: &Item<'_>) -> Result<Place, InvalidUpdate> {
        let list = match item.parent {
            Some(Parent::Root(name)) => Some(List::of_root(name, item.key)),
            Some(Parent::Item(id)) => match self.place_of(id) {
                Place::In(parent, Holds::Type) => Some(List::of_type(id, item.key, parent.depth + 1)),
                Place::In(_, Holds::Value) => return Err(InvalidUpdate::Parent),
                // The parent is gone: Yjs and yrs collect the item at once.
                Place::In(_, Holds::Deleted) | Place::Gc => None,
            },
            None => self.list_of_neighbours(item)?,
        };
        let Some(list) = list else { return Ok(Place::Gc) };
        match item.kind {
            ContentKind::Type if list.depth > TYPE_DEPTH_MAX => Err(InvalidUpdate::TypeDepth),
            ContentKind::Type => Ok(Place::In(list, Holds::Type)),
            ContentKind::Deleted => Ok(Place::In(list, Holds::Deleted)),
            // Nobody writes text as the value of a key, and merging would join it to several values.
            ContentKind::String if list.is_key => Err(InvalidUpdate::Entry),
            // When its parent is collected with it, yrs goes on to use the freed item (rule AD22).
            ContentKind::Subdocument if list.depth > 1 => Err(InvalidUpdate::Subdocument),
            ContentKind::String | ContentKind::Value | ContentKind::Subdocument => {
                Ok(Place::In(list, Holds::Value))
            }
        }
    }

    /// The list that the neighbours are in; none when they were collected. One that was collected says
    /// nothing: a peer may have collected what others still have.
    fn list_of_neighbours(&self, item: &Item<'_>) -> Result<Option<List>, InvalidUpdate> {
        let list = |id: Option<Id>| match id.map(|id| self.place_of(id)) {
            Some(Place::In(list, _)) => Some(list),
            Some(Place::Gc) | None => None,
        };
        match (list(item.origin), list(item.right_origin)) {
            (Some(left), Some(right)) if left != right => Err(InvalidUpdate::Neighbours),
            (left, right) => Ok(left.or(right)),
        }
    }

    /// Sections that wait for each other in a circle can never be applied by anyone (rule AD13).
    /// Each section waits for one other at most, so each is visited once.
    fn check_for_cycles(&self) -> Result<(), InvalidUpdate> {
        let mut visited_from: Vec<Option<usize>> = vec![None; self.sections.len()];
        for start in 0..self.sections.len() {
            let mut at = start;
            while let Some(End::Waits { section, .. }) = self.sections.get(at).map(|section| section.end) {
                match visited_from.get_mut(at) {
                    Some(Some(from)) if *from == start => return Err(InvalidUpdate::Cycle),
                    Some(visit @ None) => *visit = Some(start),
                    _ => break,
                }
                at = section;
            }
        }
        Ok(())
    }

    /// A document has no more clients than one update may name, or no update could hold all of it
    /// (rule AD2).
    fn check_clients(&self) -> Result<(), InvalidUpdate> {
        let is_new = |section: &&Progress| section.known_before == 0 && section.known > 0;
        let new = self.sections.iter().filter(is_new).count();
        if new > 0 && self.admitted.client_count() + new > UPDATE_CLIENTS_MAX {
            return Err(InvalidUpdate::Clients);
        }
        Ok(())
    }

    /// Makes everything final: the new state, the pieces, and what is missing.
    fn finish(self, update: &Bytes) -> Admission {
        let Walk { admitted, scan, sections, mut pieces, .. } = self;
        let mut missing: Vec<Id> = Vec::new();
        for section in sections {
            match section.end {
                End::Open | End::Done => {}
                End::Missing(id) | End::Waits { id, .. } => note(&mut missing, id),
            }
            admitted.advance(section.client, section.known, section.runs);
        }
        let deletes = take_deletes(admitted, &scan.deletes, &mut missing);
        let intact = missing.is_empty() && deletes.intact && scan.is_canonical;
        let pieces = pieces.finish(update, intact, &deletes.new);
        Admission { pieces, missing }
    }
}

struct TakenDeletes {
    new: DeleteSet,
    /// True when every deletion as written was new, and none was written twice.
    intact: bool,
}

/// Bytes that the new deletions of an update may take beyond those that it came with.
const DELETES_GROWTH_MAX: usize = 4096;

/// Bytes that ranges take in an update.
fn ranges_bytes(ranges: &Ranges) -> usize {
    let mut out = Vec::new();
    write_delete_ranges(&mut out, 0, ranges);
    out.len()
}

/// Takes the deletions that name known clocks; what they name beyond is missing (rule AD18). Where the new ones alone
/// would take many more bytes than they came in, all are handed on.
fn take_deletes(admitted: &mut Admitted, written: &[(u64, u32, u32)], missing: &mut Vec<Id>) -> TakenDeletes {
    let mut room = DELETES_GROWTH_MAX;
    let mut of_known = Vec::with_capacity(written.len());
    let mut units_written = 0;
    for (client, start, end) in written.iter().copied() {
        let known = admitted.clock(client);
        if end > known && end > start {
            note(missing, Id { client, clock: known });
        }
        units_written += u64::from(end.min(known).saturating_sub(start));
        of_known.push((client, start, end.min(known)));
    }
    let mut units_new = 0;
    let mut new = delete_set(of_known);
    for (client, ranges) in &mut new {
        let fresh = admitted.delete(*client, ranges);
        units_new += fresh.iter().map(|(start, end)| u64::from(end - start)).sum::<u64>();
        if fresh.is_empty() {
            *ranges = fresh;
            continue;
        }
        // One range around very many that are known would leave as very many.
        if let Some(left) = room.checked_sub(ranges_bytes(&fresh).saturating_sub(ranges_bytes(ranges))) {
            room = left;
            *ranges = fresh;
        }
    }
    new.retain(|(_, ranges)| !ranges.is_empty());
    TakenDeletes { new, intact: units_written == units_new }
}

/// Keeps the first of the IDs that are missing.
fn note(missing: &mut Vec<Id>, id: Id) {
    if let Err(at) = missing.binary_search(&id)
        && at < MISSING_MAX
    {
        missing.truncate(MISSING_MAX - 1);
        missing.insert(at, id);
    }
}
