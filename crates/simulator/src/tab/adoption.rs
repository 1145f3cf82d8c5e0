//! Who takes over the rows that dead tabs left in the outbox.

use super::{Shared, Surroundings, Tab};
use crate::disk::{Change, Row, RowName};
use crate::{Mutant, Violation};
use std::collections::BTreeSet;
use tidewell_sync_core::replica::AdoptedRow;

impl Tab {
    /// Takes over the rows of tabs that are gone: it shows them, and pushes them. What builds on a branch joins it.
    pub(crate) fn adopt(
        &mut self,
        shared: &mut Shared,
        around: &mut Surroundings<'_>,
    ) -> Result<bool, Violation> {
        if shared.is_native || shared.is(Mutant::LeaveDeadTabsRows) {
            return Ok(false);
        }
        let mut has_adopted = self.take_received(shared, around)?;
        for document in 0..self.documents.len() {
            let rows = self.left_behind(document, shared);
            if rows.is_empty() {
                continue;
            }
            has_adopted = true;
            let count = rows.len();
            around
                .trace
                .note(self.name(shared), || format!("takes over {count} rows of document {document}"));
            let joining = match shared.is(Mutant::AdoptRowsOfBranches) {
                true => Vec::new(),
                false => self.building_on_branches(document, &rows, shared),
            };
            if !joining.is_empty() {
                // They may be in what was loaded.
                self.branch_off(document, None, shared);
            }
            let mut rows = rows;
            for (id, joined) in joining {
                rows.retain(|row| !joined.contains(row));
                self.push(document, Change::Branched { id, rows: joined });
            }
            self.take_rows(document, rows);
        }
        self.settle(shared, around)?;
        Ok(has_adopted)
    }

    /// Takes what a tab that is gone had stored as received, and did not live to tell. A relay that was restored may lack it.
    fn take_received(
        &mut self,
        shared: &mut Shared,
        around: &mut Surroundings<'_>,
    ) -> Result<bool, Violation> {
        if !self.has_lost_sibling || self.is_branching() {
            return Ok(false);
        }
        self.has_lost_sibling = false;
        for document in 0..self.documents.len() {
            for update in shared.disk(document).received() {
                let Some(id) = self.documents.get(document).map(|open| open.id) else { continue };
                if !self.is_of_branch(document, &update, shared) {
                    self.client.with(id, |replica| replica.sibling_answer(&update, 0));
                }
            }
        }
        self.settle(shared, around)?;
        Ok(true)
    }

    fn left_behind(&self, document: usize, shared: &mut Shared) -> Vec<Row> {
        let Some(open) = self.documents.get(document).filter(|open| open.branching.is_none()) else {
            return Vec::new();
        };
        let known: BTreeSet<RowName> = open.rows.values().map(|row| row.name).collect();
        let leaving: BTreeSet<RowName> = self.leaving(document).map(|row| row.name).collect();
        let Some(disk) = shared.disks.get(document) else { return Vec::new() };
        let (living, adopters) = (&shared.living, &mut shared.adopters);
        let rows = disk.outbox.values().filter(|row| {
            !living.contains(&row.name.tab)
                && *adopters.entry((document, row.name.tab)).or_insert(self.id) == self.id
                && !known.contains(&row.name)
                && !leaving.contains(&row.name)
        });
        rows.cloned().collect()
    }

    /// Rows of the outbox whose leaving is not on disk.
    fn leaving(&self, document: usize) -> impl Iterator<Item = &Row> {
        self.groups.iter().filter(move |group| group.document == document).flat_map(|group| {
            match &group.change {
                Change::Branched { rows, .. } | Change::Acknowledged { rows, .. } => rows.as_slice(),
                _ => &[],
            }
        })
    }

    pub(super) fn take_rows(&mut self, document: usize, rows: Vec<Row>) {
        let Some(open) = self.documents.get_mut(document) else { return };
        let adopted = rows.iter().map(|row| AdoptedRow {
            update: row.update.clone(),
            edits: row.edits,
            made_ms: row.made_ms,
        });
        let adopted = adopted.collect();
        let names = self.client.with(open.id, |replica| replica.adopt(adopted)).unwrap_or_default();
        for (name, row) in names.into_iter().zip(rows) {
            name.into_iter().for_each(|name| drop(open.rows.insert(name, row.clone())));
        }
    }
}
