//! How refused rows become a branch: the disk is read, its rows are put aside, and the document is loaded without them.

use super::writer::Group;
use super::{Shared, Surroundings, Tab};
use crate::disk::{Change, DiskDocument, Row, updates_of};
use crate::{Mutant, Violation};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tidewell_sync_core::admission::Admitted;
use tidewell_sync_core::branch;
use tidewell_sync_core::client::ReplicaId;
use tidewell_sync_core::code::Code;

/// Refused rows on their way to a branch.
pub(super) struct Branching {
    /// `None` when another tab has made a branch that own rows may build on.
    code: Option<Code>,
    /// What was on disk when it was read.
    stored: Option<DiskDocument>,
    /// Another tab has made one meanwhile.
    again: bool,
}

impl Tab {
    /// The branches of a document, on disk or on their way there.
    pub(super) fn branches(&self, document: usize, shared: &Shared) -> BTreeMap<u64, Vec<Row>> {
        let mut branches = shared.disk(document).branches;
        for group in self.groups.iter().filter(|group| group.document == document) {
            if let Change::Branched { id, rows } = &group.change {
                branches.entry(*id).or_default().extend(rows.iter().cloned());
            }
        }
        branches
    }

    /// Which of `rows` build on a branch of the document, and on which.
    pub(super) fn building_on_branches(
        &self,
        document: usize,
        rows: &[Row],
        shared: &Shared,
    ) -> Vec<(u64, Vec<Row>)> {
        let updates = updates_of(rows);
        let mut taken = BTreeSet::new();
        let mut found = Vec::new();
        for (id, branch) in self.branches(document, shared) {
            let joining: Vec<Row> = branch::dependents(&updates_of(&branch), &updates, &Admitted::new())
                .into_iter()
                .filter_map(|at| rows.get(at as usize))
                .filter(|row| taken.insert(row.name))
                .cloned()
                .collect();
            if !joining.is_empty() {
                found.push((id, joining));
            }
        }
        found
    }

    pub(super) fn remember_refused<'a>(&mut self, document: usize, rows: impl IntoIterator<Item = &'a Row>) {
        self.refused.extend(rows.into_iter().map(|row| ((document, row.name), row.update.clone())));
    }

    /// Has refused rows put aside, or those that build on another tab's branch.
    pub(super) fn branch_off(&mut self, document: usize, code: Option<Code>, shared: &mut Shared) {
        shared.branching.insert((document, self.id));
        let Some(open) = self.documents.get_mut(document) else { return };
        match &mut open.branching {
            Some(branching) => branching.again |= code.is_none(),
            None => open.branching = Some(Branching { code, stored: None, again: false }),
        }
    }

    /// True while rows that were refused are on their way to a branch.
    pub(crate) fn is_branching(&self) -> bool {
        self.documents.iter().any(|open| open.branching.is_some())
    }

    /// Reads the disk for documents that were refused, and at the next call puts their rows aside. Answers whether
    /// anything was done.
    pub(crate) fn put_aside(
        &mut self,
        shared: &mut Shared,
        around: &mut Surroundings<'_>,
    ) -> Result<bool, Violation> {
        let mut has_done = false;
        for document in 0..self.documents.len() {
            // A native client's log is read behind what it writes.
            let is_waiting = self.in_flight > 0 || (shared.is_native && !self.groups.is_empty());
            let Some(open) = self.documents.get_mut(document) else { continue };
            match open.branching.take() {
                None => {}
                Some(Branching { stored: None, code, again }) => {
                    let stored = (!is_waiting).then(|| with_unsaved(document, &self.groups, shared));
                    has_done |= stored.is_some();
                    open.branching = Some(Branching { code, stored, again });
                    if has_done {
                        return Ok(true);
                    }
                }
                Some(Branching { stored: Some(stored), code, again }) => {
                    self.put_rows_aside(document, stored, code, shared, around)?;
                    shared.branching.remove(&(document, self.id));
                    if again {
                        self.branch_off(document, None, shared);
                    }
                    self.settle(shared, around)?;
                    return Ok(true);
                }
            }
        }
        Ok(has_done)
    }

    fn put_rows_aside(
        &mut self,
        document: usize,
        mut stored: DiskDocument,
        code: Option<Code>,
        shared: &mut Shared,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Violation> {
        self.remember_refused(document, stored.branched());
        let Some(open) = self.documents.get(document) else { return Ok(()) };
        let (id, own) = (open.id, open.rows.values().cloned().collect::<Vec<Row>>());
        let branches = match code {
            Some(_) => vec![(shared.next_key(), own.clone())],
            None => self.building_on_branches(document, &own, shared),
        };
        let mut refused: Vec<Bytes> = stored.branched().map(|row| row.update.clone()).collect();
        let mut aside = BTreeSet::new();
        for (branch, rows) in branches.into_iter().filter(|(_, rows)| !rows.is_empty()) {
            let count = rows.len();
            around
                .trace
                .note(self.name(shared), || format!("puts {count} rows of document {document} aside"));
            refused.extend(rows.iter().map(|row| row.update.clone()));
            aside.extend(rows.iter().map(|row| row.name));
            self.push(document, Change::Branched { id: branch, rows });
            if shared.is(Mutant::LoseRefusedRows) {
                self.push(
                    document,
                    Change::BranchEnded { id: branch, rows: aside.iter().copied().collect() },
                );
            }
        }
        if shared.is(Mutant::GoOnWithRefusedRows) {
            return Ok(());
        }
        stored.outbox.retain(|name, _| !aside.contains(name));
        if !shared.is(Mutant::KeepCursorAtBranch) {
            stored.cursor = None;
        }
        // Rows of other tabs that build on it: their tabs put them aside.
        let rows: Vec<Row> = stored.outbox.values().cloned().collect();
        for at in branch::dependents(&refused, &updates_of(&rows), &Admitted::new()) {
            rows.get(at as usize).into_iter().for_each(|row| drop(stored.outbox.remove(&row.name)));
        }
        let left: Vec<Row> = own.into_iter().filter(|row| !aside.contains(&row.name)).collect();
        self.reload(document, id, &stored, left, shared, around)
    }

    /// Another replica takes the place of one, under another client ID.
    fn reload(
        &mut self,
        document: usize,
        id: ReplicaId,
        stored: &DiskDocument,
        rows: Vec<Row>,
        shared: &mut Shared,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Violation> {
        if shared.is_native {
            let (replica, open) = self.load(document, shared, stored, rows, Some(id), around)?;
            self.client.replace(id, replica);
            if let Some(slot) = self.documents.get_mut(document) {
                *slot = open;
            }
            return Ok(());
        }
        let (replica, mut open) = self.load(document, shared, stored, Vec::new(), None, around)?;
        self.client.remove(id);
        open.id = self.client.add(replica);
        if let Some(slot) = self.documents.get_mut(document) {
            *slot = open;
        }
        self.take_rows(document, rows);
        Ok(())
    }
}

/// What is on disk and what is still on its way there.
fn with_unsaved(document: usize, groups: &VecDeque<Group>, shared: &Shared) -> DiskDocument {
    let mut stored = shared.disk(document);
    for group in groups.iter().filter(|group| group.document == document) {
        match &group.change {
            Change::Edit(row) => drop(stored.outbox.insert(row.name, row.clone())),
            Change::Branched { rows, .. } => {
                rows.iter().for_each(|row| drop(stored.outbox.remove(&row.name)));
            }
            _ => {}
        }
    }
    stored
}
