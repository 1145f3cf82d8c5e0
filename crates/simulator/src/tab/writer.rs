//! What a tab writes: changes wait in their order, and a transaction has all of those that wait when it begins.

use super::siblings::Told;
use super::{Shared, Surroundings, Tab};
use crate::disk::{Change, Row};
use crate::{Mutant, Violation};

/// Changes of one turn, of one document.
pub(super) struct Group {
    pub(super) document: usize,
    pub(super) change: Change,
}

impl Tab {
    pub(super) fn push(&mut self, document: usize, change: Change) {
        if let Change::Branched { rows, .. } = &change {
            self.remember_refused(document, rows);
        }
        self.groups.push_back(Group { document, change });
    }

    /// Begins a transaction with everything that waits, or ends the one that runs.
    pub(crate) fn work_on_disk(
        &mut self,
        fails: bool,
        shared: &mut Shared,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Violation> {
        if self.in_flight == 0 {
            if self.is_keeper {
                (0..self.documents.len()).for_each(|document| self.store_whole(document, shared));
            }
            self.in_flight = self.groups.len();
            return Ok(());
        }
        if fails {
            around.trace.note(self.name(shared), || "a write to the disk is aborted".to_owned());
            if shared.is(Mutant::DropAbortedWrite) {
                self.groups.drain(..self.in_flight);
            }
            self.in_flight = 0;
            return Ok(());
        }
        let count = std::mem::take(&mut self.in_flight);
        let written: Vec<Group> = self.groups.drain(..count).collect();
        self.held_until = self.held_until.saturating_sub(count);
        self.merging.iter_mut().for_each(|merging| merging.count_written(count));
        around.trace.note(self.name(shared), || format!("{count} changes are on disk"));
        for Group { document, change } in written {
            self.written(document, change, shared)?;
        }
        Ok(())
    }

    pub(super) fn written(
        &mut self,
        document: usize,
        change: Change,
        shared: &mut Shared,
    ) -> Result<(), Violation> {
        match &change {
            Change::Edit(row) => {
                shared.saved.push((document, row.clone()));
                let update = row.update.clone();
                shared.tell_others(self.id, &Told::Edit { document, update });
            }
            Change::Branched { .. } => shared.tell_others(self.id, &Told::Branched { document }),
            Change::BranchEnded { id, rows } => {
                shared.merging.remove(id);
                if !shared.is(Mutant::LoseRefusedRows) {
                    let branch = shared.disk(document).branches.remove(id).unwrap_or_default();
                    let ended: Vec<Row> = branch.into_iter().filter(|row| rows.contains(&row.name)).collect();
                    let names = ended.iter().map(|row| row.name).chain(shared.building_on(document, &ended));
                    let names: Vec<_> = names.map(|name| (document, name)).collect();
                    shared.superseded.extend(names);
                }
            }
            _ => {}
        }
        let keeps_cursor = shared.is(Mutant::KeepCursorAtBranch);
        let Some(disk) = shared.disks.get_mut(document) else { return Ok(()) };
        let before = disk.cursor;
        disk.make(change);
        if keeps_cursor {
            disk.cursor = disk.cursor.or(before);
        }
        if disk.is_in_one_place() { Ok(()) } else { Err(Violation::TwoPlaces { device: shared.index }) }
    }
}
