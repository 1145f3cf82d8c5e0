//! The first tab of a device stores what comes from the relay, and how far the device's knowledge goes.

use super::{Shared, Tab};
use crate::Mutant;
use crate::disk::Change;
use bytes::Bytes;
use tidewell_sync_core::protocol::Cursor;
use tidewell_sync_core::replica::{Replica, Stored};

impl Tab {
    /// Stores what came from the relay, and with it how far this device's knowledge goes.
    pub(super) fn keep(
        &mut self,
        document: usize,
        updates: Vec<Bytes>,
        cursor: Option<Cursor>,
        shared: &mut Shared,
    ) {
        let Some(open) = self.documents.get_mut(document) else { return };
        // The first cursor behind an offer comes with the whole document: it covers what other tabs have told, which need
        // not be on disk, and something in it may still be refused.
        let is_whole = std::mem::replace(&mut open.is_offering, cursor.is_none()) && cursor.is_some();
        if !self.is_keeper {
            open.has_unstored |= !updates.is_empty();
            return;
        }
        if let Some(cursor) = cursor {
            let goes_on = open.stored_cursor.is_some_and(|stored| is_of_one_history(stored, cursor));
            open.owes_whole |= is_whole || !goes_on;
        }
        let is_owed = open.owes_whole;
        if !updates.is_empty() && !is_whole {
            let key = shared.next_key();
            self.push(document, Change::Received { key, updates });
        }
        if is_owed {
            return self.store_whole(document, shared);
        }
        let Some(open) = self.documents.get_mut(document) else { return };
        if let Some(cursor) = cursor.filter(|cursor| Some(*cursor) != open.stored_cursor) {
            open.stored_cursor = Some(cursor);
            self.push(document, Change::Cursor(cursor));
        }
    }

    /// Stores a document as it is in memory, if that is owed and nothing in it may still be refused: what is stored as
    /// received stays when its rows become a branch.
    pub(super) fn store_whole(&mut self, document: usize, shared: &mut Shared) {
        let Some(open) = self.documents.get(document).filter(|open| open.owes_whole) else { return };
        let (Some(replica), Some(disk)) = (self.client.replica(open.id), shared.disks.get(document)) else {
            return;
        };
        let Some(cursor) = replica.cursor() else { return };
        let mut branched = disk.branched().filter(|row| !shared.superseded.contains(&(document, row.name)));
        let is_certain = open.rows.is_empty()
            && disk.outbox.is_empty()
            && open.branching.is_none()
            && !branched.any(|row| replica.admitted().covers(&row.update).unwrap_or(false));
        if !is_certain && !shared.is(Mutant::StoreWhatMayBeRefused) {
            return;
        }
        let update = replica.encode();
        drop(branched);
        let key = shared.next_key();
        if let Some(open) = self.documents.get_mut(document) {
            (open.stored_cursor, open.owes_whole) = (Some(cursor), false);
        }
        self.push(document, Change::Whole { key, update, cursor });
    }

    /// The first tab stores what comes from the relay. What others did not store is stored first.
    pub(crate) fn keep_if_first(&mut self, shared: &mut Shared) {
        if self.is_keeper || shared.living.first() != Some(&self.id) {
            return;
        }
        self.is_keeper = true;
        for document in 0..self.documents.len() {
            let Some(cursor) = self.replica(document).and_then(Replica::cursor) else { continue };
            let Some(open) = self.documents.get_mut(document) else { continue };
            let is_stored = open.stored_cursor.is_some_and(|stored| {
                let goes_on = is_of_one_history(stored, cursor) || shared.is(Mutant::KeeperIgnoresLineage);
                goes_on && stored.sequence >= cursor.sequence
            });
            let has_all = is_stored && shared.is(Mutant::KeeperIgnoresLineage);
            if has_all || shared.is(Mutant::KeeperStoresNoMore) {
                open.stored_cursor = Some(cursor);
            } else {
                let has_unstored = open.has_unstored && !shared.is(Mutant::KeeperTrustsCursor);
                open.owes_whole |= !is_stored || has_unstored;
            }
            self.store_whole(document, shared);
        }
    }

    /// Folds what was received into one snapshot: of exactly the rows that are read.
    pub(crate) fn compact(&mut self, shared: &mut Shared) {
        if !self.is_keeper || !self.groups.is_empty() {
            return;
        }
        for document in 0..self.documents.len() {
            let Some(name) = shared.names.get(document).cloned() else { continue };
            let disk = shared.disk(document);
            let mut received = disk.received();
            if shared.is(Mutant::ForgetOutboxAtCompaction) {
                received.extend(disk.outbox.values().map(|row| row.update.clone()));
                shared.disks.get_mut(document).into_iter().for_each(|disk| disk.outbox.clear());
            }
            let mut replica = Replica::new(name, 0, 0);
            let report = replica.load(Stored { cursor: None, received, outbox: Vec::new() });
            if disk.received.len() > 1 && !report.has_gap {
                let (from, key) = (disk.received.into_keys().collect(), shared.next_key());
                self.push(document, Change::Compacted { from, key, update: replica.encode() });
            }
        }
    }
}

fn is_of_one_history(one: Cursor, other: Cursor) -> bool {
    one.lineage == other.lineage && one.epoch == other.epoch
}
