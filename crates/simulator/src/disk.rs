//! A device's disk: what IndexedDB or the log of a native client has of each document.
//!
//! Changes are made by transactions, whole or not at all, in the order of whoever asked for them.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use tidewell_sync_core::protocol::Cursor;

/// Names a row of the outbox on disk: the process that made it, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RowName {
    pub(crate) tab: u64,
    pub(crate) number: u64,
}

/// A row of the outbox, or of a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) name: RowName,
    pub(crate) update: Bytes,
    pub(crate) edits: u32,
    pub(crate) made_ms: u64,
}

/// What is on disk of one document.
#[derive(Debug, Default, Clone)]
pub(crate) struct DiskDocument {
    pub(crate) cursor: Option<Cursor>,
    pub(crate) received: BTreeMap<u64, Vec<Bytes>>,
    pub(crate) outbox: BTreeMap<RowName, Row>,
    pub(crate) branches: BTreeMap<u64, Vec<Row>>,
}

/// One thing to write.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Edit(Row),
    Received {
        key: u64,
        updates: Vec<Bytes>,
    },
    Cursor(Cursor),
    /// The whole document, and the cursor that covers it.
    Whole {
        key: u64,
        update: Bytes,
        cursor: Cursor,
    },
    /// Rows leave the outbox and join what was received.
    Acknowledged {
        key: u64,
        rows: Vec<Row>,
    },
    Compacted {
        from: Vec<u64>,
        key: u64,
        update: Bytes,
    },
    /// Rows leave the outbox for a branch, which may be there already.
    Branched {
        id: u64,
        rows: Vec<Row>,
    },
    /// These rows of a branch were made anew. Others may have joined it meanwhile, and stay.
    BranchEnded {
        id: u64,
        rows: Vec<RowName>,
    },
}

impl DiskDocument {
    pub(crate) fn make(&mut self, change: Change) {
        match change {
            Change::Edit(row) => {
                self.outbox.insert(row.name, row);
            }
            Change::Received { key, updates } => {
                self.received.insert(key, updates);
            }
            // It goes on from the one before, and so means nothing when that is gone.
            Change::Cursor(cursor) => self.cursor = self.cursor.map(|_| cursor),
            Change::Whole { key, update, cursor } => {
                self.received.insert(key, vec![update]);
                self.cursor = Some(cursor);
            }
            Change::Acknowledged { key, rows } => {
                rows.iter().for_each(|row| drop(self.outbox.remove(&row.name)));
                self.received.insert(key, rows.into_iter().map(|row| row.update).collect());
            }
            Change::Compacted { from, key, update } => {
                from.iter().for_each(|key| drop(self.received.remove(key)));
                self.received.insert(key, vec![update]);
            }
            Change::Branched { id, rows } => {
                rows.iter().for_each(|row| drop(self.outbox.remove(&row.name)));
                self.branches.entry(id).or_default().extend(rows);
                // The relay may have some of them: what it has committed it does not send to its author again.
                self.cursor = None;
            }
            Change::BranchEnded { id, rows } => {
                if let Some(branch) = self.branches.get_mut(&id) {
                    branch.retain(|row| !rows.contains(&row.name));
                }
                self.branches.retain(|_, rows| !rows.is_empty());
            }
        }
    }

    /// Every update that was received, in no order that matters.
    pub(crate) fn received(&self) -> Vec<Bytes> {
        self.received.values().flatten().cloned().collect()
    }

    pub(crate) fn branched(&self) -> impl Iterator<Item = &Row> {
        self.branches.values().flatten()
    }

    /// True when no row is in the outbox and in a branch, or in two branches.
    pub(crate) fn is_in_one_place(&self) -> bool {
        let mut seen = BTreeSet::new();
        self.branched().all(|row| seen.insert(row.name) && !self.outbox.contains_key(&row.name))
    }
}

pub(crate) fn updates_of(rows: &[Row]) -> Vec<Bytes> {
    rows.iter().map(|row| row.update.clone()).collect()
}
