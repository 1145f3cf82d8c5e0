//! How a branch's edits are made anew.

use super::{Shared, Surroundings, Tab};
use crate::disk::{Change, Row, RowName, updates_of};
use crate::{Mutant, Violation};
use std::collections::BTreeSet;
use tidewell_sync_core::admission::Admitted;
use tidewell_sync_core::code::Code;

/// A branch that this tab merges as soon as everything is here that the relay has.
pub(super) struct Merging {
    document: usize,
    branch: u64,
    /// The branch is read when so many changes more are on disk.
    read_in: usize,
}

impl Merging {
    /// So many changes are on disk.
    pub(super) fn count_written(&mut self, count: usize) {
        self.read_in = self.read_in.saturating_sub(count);
    }
}

impl Tab {
    /// The application wants a branch merged. Another tab may be about it already.
    pub(crate) fn want_merged(&mut self, document: usize, branch: u64, shared: &mut Shared) {
        if !shared.is_native && !shared.merging.contains_key(&branch) {
            shared.merging.insert(branch, self.id);
            self.merging.push(Merging { document, branch, read_in: self.groups.len() });
        }
    }

    /// Merges what is to be merged and can be now; the rest is tried again. Answers how many branches were merged.
    pub(crate) fn merge(
        &mut self,
        shared: &mut Shared,
        around: &mut Surroundings<'_>,
    ) -> Result<u64, Violation> {
        let mut count = 0;
        for merging in std::mem::take(&mut self.merging) {
            let Merging { document, branch, read_in } = merging;
            let outcome = match read_in {
                0 => self.merge_now(document, branch, shared, around)?,
                _ => Err(Code::Disconnected),
            };
            match outcome {
                Ok(()) => count += 1,
                Err(Code::Disconnected) => {
                    let read_in = if read_in == 0 { self.groups.len() } else { read_in };
                    self.merging.push(Merging { document, branch, read_in });
                }
                Err(code) => {
                    around.trace.note(self.name(shared), || format!("cannot merge: {code}"));
                    shared.merging.remove(&branch);
                }
            }
        }
        Ok(count)
    }

    /// Makes a branch's edits anew. They are on disk together with the branch's end, and only then does the relay hear
    /// of them. Answers `disconnected` when it must wait.
    fn merge_now(
        &mut self,
        document: usize,
        branch: u64,
        shared: &mut Shared,
        around: &mut Surroundings<'_>,
    ) -> Result<Result<(), Code>, Violation> {
        let stored = shared.disks.get(document).and_then(|disk| disk.branches.get(&branch));
        let Some(rows) = stored.cloned() else { return Ok(Err(Code::Closed)) };
        if !shared.have_all_heard(document, &rows) {
            return Ok(Err(Code::Disconnected));
        }
        let open = self.documents.get(document).filter(|open| open.branching.is_none());
        let Some(open) = open else { return Ok(Err(Code::Disconnected)) };
        let updates = updates_of(&rows);
        let (name, now_ms) = (format!("{:x}", around.rng.u64(0..1 << 53)), around.now_ms);
        let edits = rows.iter().map(|row| row.edits).sum();
        let before: BTreeSet<RowName> = open.rows.values().map(|row| row.name).collect();
        self.note_what_may_come_twice(document, &rows, shared, around);
        let merged =
            self.client.with(open.id, |replica| replica.merge_branch(&name, &updates, edits, now_ms));
        if let Some(Err(code)) = merged {
            return Ok(Err(code));
        }
        around.trace.note(self.name(shared), || format!("merges a branch of document {document}"));
        let end = Change::BranchEnded { id: branch, rows: rows.iter().map(|row| row.name).collect() };
        if shared.is(Mutant::EndBranchFirst) {
            self.written(document, end.clone(), shared)?;
        }
        self.push(document, end);
        self.settle(shared, around)?;
        if !shared.is(Mutant::SendBeforeBranchEnds) {
            self.held_until = self.groups.len();
        }
        let values: Vec<i64> = rows
            .iter()
            .flat_map(|row| shared.values.get(&(document, row.name)).cloned().unwrap_or_default())
            .collect();
        let Some(open) = self.documents.get(document) else { return Ok(Ok(())) };
        for row in open.rows.values().filter(|row| !before.contains(&row.name)) {
            shared.values.insert((document, row.name), values.clone());
        }
        Ok(Ok(()))
    }

    /// What the relay has when the document is opened is left out of a merge. What another tab, or a connection before,
    /// has sent it may be on its way still, and no device can know: it is taken after the merge, beside what was made
    /// anew. `docs/durability.md` tells users.
    fn note_what_may_come_twice(
        &self,
        document: usize,
        rows: &[Row],
        shared: &mut Shared,
        around: &Surroundings<'_>,
    ) {
        let lineage = self.wire.map_or(0, |(_, lineage)| lineage);
        let history = around.oracle.history(lineage, document);
        let Some(open) = self.documents.get(document) else { return };
        let mut at_opening = Admitted::new();
        for update in history.into_iter().flat_map(|history| history.between(0, open.opened_at)) {
            at_opening.admit(update).ok();
        }
        for row in rows {
            let values = shared.values.get(&(document, row.name)).cloned().unwrap_or_default();
            if at_opening.covers(&row.update) != Ok(true) {
                shared.may_come_twice.extend(&values);
            }
        }
    }
}
