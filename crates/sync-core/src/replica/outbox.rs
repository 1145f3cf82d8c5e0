//! What the relay has not acknowledged: the rows on disk, in memory.

use crate::admission::Admitted;
use crate::limits::{PUSH_BYTES_MAX, PUSHED_BYTES_MAX};
use crate::update::merge;
use bytes::Bytes;
use std::collections::VecDeque;

/// Names a row of this replica's outbox; later rows have larger ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId(pub u64);

/// One transaction that this device made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its name in this replica.
    pub id: RowId,
    /// What it changed, a v1 update.
    pub update: Bytes,
    /// Edits of the application that are in it, for counting.
    pub edits: u32,
    /// When it was made, in milliseconds since 1970 by the device's clock.
    pub made_ms: u64,
}

/// A row of a tab that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptedRow {
    /// What it changed, a v1 update.
    pub update: Bytes,
    /// Edits of the application that are in it.
    pub edits: u32,
    /// When it was made, in milliseconds since 1970.
    pub made_ms: u64,
}

/// What waits for the relay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unsent {
    /// Edits of the application.
    pub edits: u64,
    /// Bytes of their updates.
    pub bytes: u64,
    /// When the oldest was made, in milliseconds since 1970.
    pub since_ms: Option<u64>,
}

#[derive(Debug)]
struct Entry {
    row: OutboxRow,
    /// The push that carried it on this connection.
    pushed: Option<u64>,
    /// The document does not have all of it yet: something before it is missing.
    is_held: bool,
}

impl Entry {
    /// True when it is to be pushed on this connection and was not yet.
    fn waits(&self) -> bool {
        self.pushed.is_none() && !self.is_held
    }
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    entries: VecDeque<Entry>,
    next_id: u64,
    edits: u64,
    bytes: u64,
    /// Pushes so far on this connection.
    pushes: u64,
    /// For each push that is not acknowledged, its number and size.
    in_flight: VecDeque<(u64, usize)>,
}

impl Outbox {
    pub(super) fn next_id(&self) -> RowId {
        RowId(self.next_id)
    }

    /// Adds a row; its name is larger than those before it.
    pub(super) fn push(&mut self, row: OutboxRow) {
        self.add(Entry { row, pushed: None, is_held: false });
    }

    /// Adds a row that is not to be pushed before it is released.
    pub(super) fn push_held(&mut self, row: OutboxRow) {
        self.add(Entry { row, pushed: None, is_held: true });
    }

    /// True when a row waits for something that the document does not have.
    pub(super) fn has_held(&self) -> bool {
        self.entries.iter().any(|entry| entry.is_held)
    }

    /// Lets those be pushed that the document has now.
    pub(super) fn release(&mut self, admitted: &Admitted) {
        for entry in self.entries.iter_mut().filter(|entry| entry.is_held) {
            entry.is_held = admitted.covers(&entry.row.update) != Ok(true);
        }
    }

    /// A row with this name stays on the disk and is not pushed: no other may have its name.
    pub(super) fn skip(&mut self, id: RowId) {
        self.next_id = self.next_id.max(id.0.saturating_add(1));
    }

    fn add(&mut self, entry: Entry) {
        let row = &entry.row;
        self.skip(row.id);
        self.edits += u64::from(row.edits);
        self.bytes += row.update.len() as u64;
        self.entries.push_back(entry);
    }

    pub(super) fn names(&self) -> impl Iterator<Item = RowId> {
        self.entries.iter().map(|entry| entry.row.id)
    }

    pub(super) fn first(&self) -> Option<RowId> {
        self.entries.front().map(|entry| entry.row.id)
    }

    pub(super) fn last(&self) -> Option<RowId> {
        self.entries.back().map(|entry| entry.row.id)
    }

    /// Bytes of the largest row.
    pub(super) fn largest(&self) -> usize {
        self.entries.iter().map(|entry| entry.row.update.len()).max().unwrap_or(0)
    }

    pub(super) fn unsent(&self) -> Unsent {
        let since_ms = self.entries.front().map(|entry| entry.row.made_ms);
        Unsent { edits: self.edits, bytes: self.bytes, since_ms }
    }

    /// The next push: as many waiting rows as fit, merged. `None` when nothing waits or enough is on
    /// its way.
    pub(super) fn next_push(&mut self) -> Option<(u64, Bytes)> {
        let in_flight: usize = self.in_flight.iter().map(|(_, bytes)| bytes).sum();
        if in_flight > PUSHED_BYTES_MAX {
            return None;
        }
        let mut updates: Vec<&Bytes> = Vec::new();
        let mut bytes = 0;
        for entry in self.entries.iter().filter(|entry| entry.waits()) {
            if !updates.is_empty() && bytes + entry.row.update.len() > PUSH_BYTES_MAX {
                break;
            }
            bytes += entry.row.update.len();
            updates.push(&entry.row.update);
        }
        let (count, update) = match updates.as_slice() {
            [] => return None,
            [single] => (1, (*single).clone()),
            // Rows of several tabs need not follow each other; then they go one by one.
            [first, ..] => match merge(updates.iter().copied()) {
                Ok(merged) => (updates.len(), merged),
                Err(_) => (1, (*first).clone()),
            },
        };
        let number = self.start_push(update.len());
        let waiting = self.entries.iter_mut().filter(|entry| entry.waits());
        waiting.take(count).for_each(|entry| entry.pushed = Some(number));
        Some((number, update))
    }

    /// A part of `bytes` of something larger goes out; answers its number.
    pub(super) fn push_part(&mut self, bytes: usize) -> u64 {
        self.start_push(bytes)
    }

    /// Everything in the outbox that the document has goes out with a message of `bytes`; answers its number.
    pub(super) fn push_all(&mut self, bytes: usize) -> u64 {
        let number = self.start_push(bytes);
        let here = self.entries.iter_mut().filter(|entry| !entry.is_held);
        here.for_each(|entry| entry.pushed = Some(number));
        number
    }

    fn start_push(&mut self, bytes: usize) -> u64 {
        self.pushes += 1;
        self.in_flight.push_back((self.pushes, bytes));
        self.pushes
    }

    /// Pushes up to `number` are durable: their rows leave.
    pub(super) fn acknowledge(&mut self, number: u64) -> Vec<RowId> {
        self.in_flight.retain(|(pushed, _)| *pushed > number);
        let mut rows = Vec::new();
        self.entries.retain(|entry| {
            let is_durable = entry.pushed.is_some_and(|pushed| pushed <= number);
            if is_durable {
                rows.push(entry.row.id);
                self.edits -= u64::from(entry.row.edits);
                self.bytes -= entry.row.update.len() as u64;
            }
            !is_durable
        });
        rows
    }

    /// The connection or channel is gone: numbers begin anew, and nothing counts as pushed.
    pub(super) fn lost(&mut self) {
        self.pushes = 0;
        self.in_flight.clear();
        self.entries.iter_mut().for_each(|entry| entry.pushed = None);
    }
}
