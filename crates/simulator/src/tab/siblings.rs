//! What the tabs of a device tell each other: it comes late, and out of documents of which the hearer knows more.

use super::{Shared, Surroundings, Tab};
use crate::disk::{DiskDocument, RowName};
use crate::{Mutant, Violation};
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};
use tidewell_sync_core::admission::Admitted;
use tidewell_sync_core::branch;
use tidewell_sync_core::replica::Replica;
use tidewell_sync_core::state_vector::StateVector;
use tidewell_sync_core::update::Scan;
use yrs::{ReadTxn, Transact};

/// What one tab tells the others.
#[derive(Debug, Clone)]
pub(crate) enum Told {
    Edit { document: usize, update: Bytes },
    Ask { from: u64, document: usize, known: StateVector },
    Answer { document: usize, update: Bytes, lineage: u64 },
    Branched { document: usize },
}

impl Tab {
    /// Asks the other tabs for what they know and this one does not.
    pub(super) fn ask(&self, document: usize, shared: &mut Shared) {
        if let Some(replica) = self.replica(document) {
            let known = replica.admitted().state_vector();
            shared.tell_others(self.id, &Told::Ask { from: self.id, document, known });
        }
    }

    /// Hears the next thing that another tab has told. Answers false when there is none, or it must wait.
    pub(crate) fn hear(
        &mut self,
        shared: &mut Shared,
        around: &mut Surroundings<'_>,
    ) -> Result<bool, Violation> {
        let Some(told) = shared.told.get_mut(&self.id).and_then(VecDeque::pop_front) else {
            return Ok(false);
        };
        match &told {
            Told::Edit { document, update } | Told::Answer { document, update, .. } => {
                let Some(open) = self.documents.get(*document) else { return Ok(false) };
                let id = open.id;
                if open.branching.is_some() {
                    // What is being loaded may not have it.
                    shared.told.entry(self.id).or_default().push_front(told);
                    return Ok(false);
                }
                if self.is_of_branch(*document, update, shared) && !shared.is(Mutant::HearRefusedEdits) {
                    // Its tab has not heard of the branch yet.
                    return Ok(true);
                }
                let taken = self.client.with(id, |replica| match &told {
                    Told::Answer { lineage, .. } => replica.sibling_answer(update, *lineage),
                    _ => replica.sibling_edit(update),
                });
                if let Some(Err(code)) = taken {
                    return Err(Violation::refused(self.name(shared), code));
                }
            }
            Told::Ask { from, document, known } => {
                if !self.groups.is_empty() {
                    shared.told.entry(self.id).or_default().push_front(told);
                    return Ok(false);
                }
                let known = known.iter().map(|(client, clock)| (yrs::block::ClientID::new(client), clock));
                let known = yrs::StateVector::from_iter(known);
                let Some(replica) = self.replica(*document) else { return Ok(false) };
                if has_refused(replica, &shared.disk(*document)) && !shared.is(Mutant::AnswerWithRefusedEdits)
                {
                    // It has not heard of a branch. What the branch's rows have displaced here no row of it tells.
                    return Ok(true);
                }
                let update = Bytes::from(replica.doc().transact().encode_diff_v1(&known));
                if shared.living.contains(from) {
                    let answer = Told::Answer { document: *document, update, lineage: replica.lineage() };
                    shared.told.entry(*from).or_default().push_back(answer);
                }
            }
            Told::Branched { document } => self.branch_off(*document, None, shared),
        }
        self.settle(shared, around)?;
        Ok(true)
    }

    /// True when an update brings something that is or was in a branch, also what a branch deletes, or builds on it.
    pub(super) fn is_of_branch(&mut self, document: usize, update: &Bytes, shared: &Shared) -> bool {
        self.remember_refused(document, shared.disk(document).branched());
        if shared.is(Mutant::ForgetEndedBranches) {
            let now: BTreeSet<RowName> =
                self.branches(document, shared).into_values().flatten().map(|row| row.name).collect();
            self.refused.retain(|(of, name), _| *of != document || now.contains(name));
        }
        let refused = self.refused.iter().filter(|((of, _), _)| *of == document);
        let refused: Vec<Bytes> = refused.map(|(_, update)| update.clone()).collect();
        !branch::dependents(&refused, std::slice::from_ref(update), &Admitted::new()).is_empty()
            || refused.iter().any(|row| delete_the_same(row, update))
    }
}

/// True when there is something that both updates delete.
fn delete_the_same(one: &Bytes, other: &Bytes) -> bool {
    let (Ok(one), Ok(other)) = (Scan::new(one), Scan::new(other)) else { return false };
    let overlap = |(client, start, end): &(u64, u32, u32)| {
        one.deletes.iter().any(|(of, from, to)| of == client && from < end && start < to)
    };
    other.deletes.iter().any(overlap)
}

/// True when a document has rows that were put aside.
fn has_refused(replica: &Replica, disk: &DiskDocument) -> bool {
    disk.branched().any(|row| replica.admitted().covers(&row.update) == Ok(true))
}
