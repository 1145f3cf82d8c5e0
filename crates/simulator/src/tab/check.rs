//! What must hold of a process at any time.

use super::{Shared, Tab};
use crate::Violation;
use crate::disk::RowName;
use crate::oracle::Oracle;
use bytes::Bytes;
use std::collections::BTreeSet;
use tidewell_sync_core::admission::Admitted;
use tidewell_sync_core::replica::Replica;
use yrs::{ReadTxn, Transact};

impl Tab {
    /// Everything that was said to be saved is here, unless it is in a branch or something before it is missing.
    pub(super) fn check_saved(&self, document: usize, shared: &Shared) -> Result<(), Violation> {
        let disk = shared.disk(document);
        let elsewhere: BTreeSet<RowName> = disk.branched().map(|row| row.name).collect();
        let Some(replica) = self.replica(document) else { return Ok(()) };
        let all: Vec<Bytes> =
            disk.received().into_iter().chain(disk.outbox.values().map(|row| row.update.clone())).collect();
        if !has_all(replica, all.iter()) {
            return Ok(());
        }
        let rows = shared.saved.iter().filter(|(of, row)| {
            *of == document
                && !elsewhere.contains(&row.name)
                && !shared.superseded.contains(&(document, row.name))
        });
        if has_all(replica, rows.map(|(_, row)| &row.update)) {
            Ok(())
        } else {
            Err(Violation::DeviceSavedLost { device: shared.index })
        }
    }

    /// Nothing in memory has a gap: yrs has exactly what was admitted.
    pub(crate) fn check(&self, shared: &Shared) -> Result<(), Violation> {
        for replica in self.replicas() {
            let known = replica.doc().transact().state_vector();
            let admitted = replica.admitted().state_vector();
            let is_same = admitted.iter().count() == known.len()
                && admitted
                    .iter()
                    .all(|(client, clock)| known.get(&yrs::block::ClientID::new(client)) == clock);
            if !is_same {
                return Err(Violation::gap(&self.name(shared)));
            }
        }
        Ok(())
    }
}

/// The cursor is of a commit that was made, and everything up to it is here. What was checked before is not read again.
pub(super) fn check_known(
    device: usize,
    document: usize,
    replica: &Replica,
    checked: (u64, u64),
    oracle: &Oracle,
) -> Result<(u64, u64), Violation> {
    let Some(cursor) = replica.cursor() else { return Ok(checked) };
    let Some(history) = oracle.history(cursor.lineage, document) else {
        return Err(Violation::Cursor { device, what: "is of no history" });
    };
    if cursor.sequence > history.sequence() {
        return Err(Violation::Cursor { device, what: "passes the last commit" });
    }
    let after = if checked.0 == cursor.lineage { checked.1 } else { 0 };
    if has_all(replica, history.between(after, cursor.sequence)) {
        Ok((cursor.lineage, cursor.sequence))
    } else {
        Err(Violation::Cursor { device, what: "covers commits that are not here" })
    }
}

/// True when the document has everything in `updates`. What yrs deletes by itself, of two values of one key that came
/// from two sides, no update says, and admission does not know; an answer to the relay's question has it.
fn has_all<'a>(replica: &Replica, updates: impl Iterator<Item = &'a Bytes>) -> bool {
    let mut unknown = updates.filter(|update| !replica.admitted().covers(update).unwrap_or(false)).peekable();
    if unknown.peek().is_none() {
        return true;
    }
    let mut built = Admitted::new();
    built.admit(&replica.encode()).is_ok() && unknown.all(|update| built.covers(update).unwrap_or(false))
}
