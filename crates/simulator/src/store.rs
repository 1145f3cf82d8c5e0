//! The relay's disk: a log and a snapshot for each document, as the product's store has them.

use crate::device::contents_of;
use crate::oracle::Oracle;
use crate::{Mutant, Violation};
use bytes::Bytes;
use tidewell_sync_core::admission::Admitted;
use tidewell_sync_core::replica::new_doc;
use tidewell_sync_core::room::{Batch, Behind};
use tidewell_sync_core::update::{diff, merge};
use yrs::updates::decoder::Decode;
use yrs::{ReadTxn, Transact};

/// Rows of the log that compaction leaves.
const KEPT_ROWS: u64 = 5;

/// Rows that are read at a time for a member that is behind.
const ROWS_AT_ONCE: usize = 12;

#[derive(Debug, Clone)]
struct LogRow {
    first: u64,
    through: u64,
    update: Bytes,
}

/// One document on disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoredDocument {
    snapshot: Option<(u64, Bytes)>,
    rows: Vec<LogRow>,
    pub(crate) sequence: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Store {
    pub(crate) lineage: u64,
    pub(crate) documents: Vec<StoredDocument>,
}

/// Updates that bring a member to a sequence, to be sent one by one.
#[derive(Debug)]
pub(crate) struct CatchUp {
    pub(crate) through: u64,
    pub(crate) parts: Vec<Bytes>,
}

impl Store {
    pub(crate) fn append(
        &mut self,
        document: usize,
        batch: &Batch,
        oracle: &mut Oracle,
    ) -> Result<(), Violation> {
        let (first, through, update) = (batch.first(), batch.through(), batch.update().clone());
        let history = oracle.history_mut(self.lineage, document);
        if !history.is_some_and(|history| history.append(first, through, &update)) {
            return Err(Violation::gap("the log"));
        }
        if let Some(stored) = self.documents.get_mut(document) {
            stored.sequence = through;
            stored.rows.push(LogRow { first, through, update });
        }
        Ok(())
    }

    /// Each document's log becomes a snapshot, the newest rows stay.
    pub(crate) fn compact(&mut self, oracle: &mut Oracle, mutant: Option<Mutant>) -> Result<(), Violation> {
        for (index, document) in self.documents.iter_mut().enumerate() {
            let mut updates = document.updates();
            if mutant == Some(Mutant::SnapshotWithoutLastRow) && document.rows.len() > 1 {
                updates.pop();
            }
            let snapshot =
                Bytes::from(build(updates)?.transact().encode_diff_v1(&yrs::StateVector::default()));
            if mutant != Some(Mutant::SnapshotWithoutLastRow) {
                check_snapshot(&snapshot, index, self.lineage, oracle)?;
            }
            document.snapshot = Some((document.sequence, snapshot));
            let kept_after = document.sequence.saturating_sub(KEPT_ROWS);
            document.rows.retain(|row| row.through > kept_after);
        }
        Ok(())
    }

    /// Every document as text.
    pub(crate) fn contents(&self) -> Result<Vec<String>, Violation> {
        self.documents.iter().map(|document| Ok(contents_of(&build(document.updates())?))).collect()
    }

    /// Every document.
    pub(crate) fn build(&self) -> Result<Vec<yrs::Doc>, Violation> {
        self.documents.iter().map(|document| build(document.updates())).collect()
    }
}

/// A snapshot has what the log has, or it is not used.
fn check_snapshot(
    snapshot: &Bytes,
    document: usize,
    lineage: u64,
    oracle: &mut Oracle,
) -> Result<(), Violation> {
    let Some(history) = oracle.history_mut(lineage, document) else { return Ok(()) };
    let mut again = Admitted::new();
    let is_whole = again.admit(snapshot).is_ok_and(|admission| admission.is_complete());
    let is_same = again.state_vector() == history.admitted.state_vector();
    if !is_whole || !is_same || !again.covers_deletes_of(&history.admitted) {
        return Err(Violation::gap("a snapshot"));
    }
    // Building a document makes deletions that no update carries; now they are durable.
    history.admitted = again;
    Ok(())
}

impl StoredDocument {
    /// Snapshot, then the rows behind it.
    pub(crate) fn updates(&self) -> Vec<Bytes> {
        let after = self.snapshot.as_ref().map_or(0, |(through, _)| *through);
        let rows = self.rows.iter().filter(|row| row.through > after).map(|row| row.update.clone());
        self.snapshot.iter().map(|(_, snapshot)| snapshot.clone()).chain(rows).collect()
    }

    /// What a member that is behind is sent.
    pub(crate) fn catch_up(&self, behind: &Behind, mutant: Option<Mutant>) -> Result<CatchUp, Violation> {
        let failed = || Violation::gap("a catch-up");
        match behind {
            Behind::After(after) => {
                let rows: Vec<&LogRow> = self.rows.iter().filter(|row| row.through > *after).collect();
                let is_pruned = match rows.first() {
                    Some(row) => row.first > after + 1,
                    None => self.snapshot.as_ref().is_some_and(|(through, _)| through > after),
                };
                if is_pruned && mutant != Some(Mutant::ServePrunedLog) {
                    return Ok(CatchUp { through: self.sequence, parts: self.updates() });
                }
                let rows: Vec<&LogRow> = rows.into_iter().take(ROWS_AT_ONCE).collect();
                let through = rows.last().map_or(*after, |row| row.through);
                let (early, late) = rows.split_at(rows.len() / 2);
                let mut parts = Vec::new();
                for half in [early, late].into_iter().filter(|half| !half.is_empty()) {
                    parts.push(merge(half.iter().map(|row| &row.update)).map_err(|_| failed())?);
                }
                Ok(CatchUp { through, parts })
            }
            Behind::StateVector(known) => {
                let parts = self.updates().into_iter().map(|update| diff(&update, known));
                let parts: Result<Vec<Option<Bytes>>, _> = parts.collect();
                let parts = parts.map_err(|_| failed())?.into_iter().flatten().collect();
                Ok(CatchUp { through: self.sequence, parts })
            }
        }
    }
}

/// A document out of updates; each must apply at once.
fn build(updates: Vec<Bytes>) -> Result<yrs::Doc, Violation> {
    let doc = new_doc(0);
    for update in updates {
        let decoded = yrs::Update::decode_v1(&update).map(|update| doc.transact_mut().apply_update(update));
        if !matches!(decoded, Ok(Ok(()))) {
            return Err(Violation::gap("a document"));
        }
    }
    Ok(doc)
}
