//! What the tabs of a device share: the disk, who lives, who has which duty, and what is known of them from outside.

use super::siblings::Told;
use crate::Mutant;
use crate::disk::{DiskDocument, Row, RowName, updates_of};
use bytes::Bytes;
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tidewell_sync_core::admission::Admitted;
use tidewell_sync_core::branch;
use tidewell_sync_core::document_name::DocumentName;

/// What the tabs of a device share.
pub(crate) struct Shared {
    pub(crate) index: usize,
    pub(crate) is_native: bool,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) names: Vec<DocumentName>,
    pub(crate) disks: Vec<DiskDocument>,
    pub(crate) living: BTreeSet<u64>,
    /// Who has taken over the rows of a dead tab.
    pub(crate) adopters: BTreeMap<(usize, u64), u64>,
    /// Tabs that put rows of a document aside, or look whether they have any that build on another tab's branch.
    pub(super) branching: BTreeSet<(usize, u64)>,
    /// Which tab merges a branch: one at a time.
    pub(crate) merging: BTreeMap<u64, u64>,
    /// What tabs have told each other, by who is to hear it.
    pub(crate) told: BTreeMap<u64, VecDeque<Told>>,
    pub(crate) saved: Vec<(usize, Row)>,
    /// Rows whose edits were made anew.
    pub(crate) superseded: BTreeSet<(usize, RowName)>,
    /// The numbers in lists that a row brings.
    pub(crate) values: BTreeMap<(usize, RowName), Vec<i64>>,
    /// Numbers of merged rows that the relay did not have when the document was opened for the merge: what was on its way
    /// to it may bring them as they were.
    pub(crate) may_come_twice: BTreeSet<i64>,
    pub(super) own_clients: BTreeSet<u64>,
    client_ids: Vec<u64>,
    last_key: u64,
}

impl Shared {
    pub(crate) fn new(index: usize, names: &[DocumentName], mutant: Option<Mutant>, is_native: bool) -> Self {
        Shared {
            index,
            is_native,
            mutant,
            names: names.to_vec(),
            disks: vec![DiskDocument::default(); names.len()],
            living: BTreeSet::new(),
            adopters: BTreeMap::new(),
            branching: BTreeSet::new(),
            merging: BTreeMap::new(),
            told: BTreeMap::new(),
            saved: Vec::new(),
            superseded: BTreeSet::new(),
            values: BTreeMap::new(),
            may_come_twice: BTreeSet::new(),
            own_clients: BTreeSet::new(),
            client_ids: Vec::new(),
            last_key: 0,
        }
    }

    pub(crate) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    pub(super) fn disk(&self, document: usize) -> DiskDocument {
        self.disks.get(document).cloned().unwrap_or_default()
    }

    pub(super) fn next_key(&mut self) -> u64 {
        self.last_key += 1;
        self.last_key
    }

    pub(super) fn tell_others(&mut self, from: u64, what: &Told) {
        for tab in self.living.iter().filter(|tab| **tab != from) {
            self.told.entry(*tab).or_default().push_back(what.clone());
        }
    }

    /// True when every tab has heard of the document's branches, and nothing outside of one builds on these rows.
    pub(super) fn have_all_heard(&self, document: usize, rows: &[Row]) -> bool {
        let outbox = self.disks.get(document).into_iter().flat_map(|disk| disk.outbox.values());
        let outbox: Vec<Bytes> = outbox.map(|row| row.update.clone()).collect();
        let is_told = |told: &Told| matches!(told, Told::Branched { document: of } if *of == document);
        !self.branching.iter().any(|(of, _)| *of == document)
            && !self.told.values().flatten().any(is_told)
            && branch::dependents(&updates_of(rows), &outbox, &Admitted::new()).is_empty()
    }

    /// Saved rows that the relay has acknowledged and that build on refused ones: it has lost both with a backup that was
    /// restored. They go where those go.
    pub(crate) fn building_on(&self, document: usize, refused: &[Row]) -> Vec<RowName> {
        let elsewhere = |row: &Row| {
            self.disks.get(document).is_some_and(|disk| {
                disk.outbox.contains_key(&row.name) || disk.branched().any(|other| other.name == row.name)
            })
        };
        let saved = self.saved.iter().filter(|(of, row)| *of == document && !elsewhere(row));
        let saved: Vec<Row> = saved.map(|(_, row)| row.clone()).collect();
        let building = branch::dependents(&updates_of(refused), &updates_of(&saved), &Admitted::new());
        building.into_iter().filter_map(|at| saved.get(at as usize)).map(|row| row.name).collect()
    }

    pub(super) fn new_client_id(&mut self, document: usize, rng: &mut Rng) -> u64 {
        let id = match self.client_ids.get(document) {
            Some(id) if self.is(Mutant::ReuseClientId) => *id,
            _ => rng.u64(0..1 << 53),
        };
        if self.client_ids.len() == document {
            self.client_ids.push(id);
        }
        self.own_clients.insert(id);
        id
    }
}
