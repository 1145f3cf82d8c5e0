//! Compaction: a materializer process makes a snapshot, the relay verifies it, the store takes it.
//!
//! The log is the truth and stays until the snapshot has been verified and the history has passed.

use crate::compaction::{End, Pause};
use crate::limits::PRUNE_DOCUMENTS_MAX;
use crate::materializer::{CompactError, Pool};
use crate::metrics::Metrics;
use crate::room_handle::RoomHandle;
use crate::store::{History, Prunable, ReadError, Readers, Snapshot, StoredDocument, SwapError};
use crate::writer::{Job, WriterQueue, now_ms};
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;
use tidewell_sync_core::admission::Admitted;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::update::InvalidUpdate;
use tokio::sync::oneshot;

/// Compacts documents.
pub(crate) struct Compactor {
    pool: Pool,
    readers: Readers,
    writer: Arc<WriterQueue>,
    metrics: Arc<Metrics>,
    history: HistoryLimits,
    pause: Mutex<Pause>,
}

/// How much of the rows that snapshots cover stays.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HistoryLimits {
    /// For so long.
    pub(crate) kept_for: Duration,
    /// So many bytes of one document.
    pub(crate) document_bytes_max: u64,
    /// So many bytes of a tenant's documents together.
    pub(crate) tenant_bytes_max: Option<u64>,
}

/// Why a compaction failed.
#[derive(Debug, Error)]
enum CompactionError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Materializer(#[from] CompactError),
    #[error(transparent)]
    Unfaithful(#[from] Unfaithful),
    #[error(transparent)]
    Swap(#[from] SwapError),
    #[error("the relay is ending")]
    Ending,
}

/// Why a document stays in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReleaseError {
    /// The room has just left memory: open it again.
    Evicted,
    /// The store cannot write.
    Store,
}

/// How a snapshot differs from what it was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Unfaithful {
    /// Admission refuses it.
    #[error("the snapshot is not a valid update: {0}")]
    Invalid(#[from] InvalidUpdate),
    /// It builds on something that it does not hold.
    #[error("the snapshot is incomplete")]
    Incomplete,
    /// Other clocks.
    #[error("the snapshot has another state vector")]
    StateVector,
    /// Something that is deleted has come back.
    #[error("the snapshot lacks deletions")]
    Deletions,
}

impl CompactionError {
    /// The word for the store, if it is the document that is at fault.
    fn quarantine(&self) -> Option<&'static str> {
        match self {
            CompactionError::Materializer(error) => error.quarantine(),
            CompactionError::Unfaithful(_) => Some("unfaithful"),
            CompactionError::Read(_) | CompactionError::Swap(_) | CompactionError::Ending => None,
        }
    }
}

impl Compactor {
    pub(crate) fn new(
        pool: Pool,
        readers: Readers,
        writer: Arc<WriterQueue>,
        metrics: Arc<Metrics>,
        history: HistoryLimits,
    ) -> Self {
        Compactor { pool, readers, writer, metrics, history, pause: Mutex::default() }
    }

    /// True while nothing is to be compacted.
    pub(crate) fn is_paused(&self, now: Instant) -> bool {
        self.pause.lock().is_on(now)
    }

    /// Compacts a room's document as it is in the store now.
    pub(crate) async fn compact(self: Arc<Self>, room: Arc<RoomHandle>) {
        let document = room.document();
        let end = match self.try_compact(document).await {
            Ok(end) => {
                self.metrics.compactions.increment(1);
                if self.pause.lock().succeeded() {
                    tracing::info!("documents can be compacted again");
                }
                end
            }
            // Somebody else's snapshot is newer.
            Err(CompactionError::Swap(SwapError::Stale)) => End::Later,
            Err(error) => match error.quarantine() {
                None => {
                    self.failed(document, &error);
                    End::Later
                }
                Some(reason) => {
                    tracing::error!(%document, %error, reason, "the document is quarantined: its sync goes on, its compaction does not");
                    self.quarantine(document, reason).await;
                    End::Quarantined
                }
            },
        };
        room.compacted(end);
    }

    /// Takes a room's document out of quarantine and tries to compact it at once; answers whether it was in one. Fails where
    /// the store cannot take it, and then leaves it there.
    pub(crate) async fn release(self: Arc<Self>, room: Arc<RoomHandle>) -> Result<bool, ReleaseError> {
        if !room.start_released().map_err(|_| ReleaseError::Evicted)? {
            return Ok(false);
        }
        let (done, released) = oneshot::channel();
        self.writer.run(Job::Release { document: room.document().clone(), done });
        // A task of its own: it ends what it began although whoever asked may go.
        let releasing = async move {
            let stored = matches!(released.await, Ok(Ok(_)));
            if stored {
                self.metrics.quarantined.decrement(1);
                tokio::spawn(self.compact(room));
            } else {
                room.compacted(End::Quarantined);
            }
            stored
        };
        match tokio::spawn(releasing).await {
            Ok(true) => Ok(true),
            _ => Err(ReleaseError::Store),
        }
    }

    /// Something that is no document's fault: all of them wait, and it is said once for all.
    fn failed(&self, document: &DocumentName, error: &CompactionError) {
        self.metrics.compactions_failed.increment(1);
        if let Some(pause) = self.pause.lock().failed(Instant::now()) {
            let seconds = pause.as_secs();
            tracing::warn!(%document, %error, "no document is compacted; it is tried again in {seconds} s");
        }
    }

    async fn try_compact(&self, document: &DocumentName) -> Result<End, CompactionError> {
        // Documents wait for their turn in the store, not in memory.
        let turn = self.pool.turn().await?;
        let Some(stored) = self.readers.document(document.clone()).await? else { return Ok(End::Later) };
        if let (Some(snapshot), true) = (&stored.snapshot, stored.tail.is_empty()) {
            // What was counted since the last one is in it already.
            return Ok(End::Done { snapshot_bytes: size(snapshot), rows: u64::MAX, bytes: u64::MAX });
        }
        let updates: Vec<Bytes> = stored.updates().cloned().collect();
        let update = self.pool.compact(&turn, &updates).await?;
        drop(updates);
        let end = End::Done {
            snapshot_bytes: size(&update),
            rows: u64::try_from(stored.tail.len()).unwrap_or(u64::MAX),
            bytes: stored.tail.iter().map(size).sum(),
        };
        let (epoch, sequence) = (stored.epoch, stored.sequence);
        let verify = {
            let update = update.clone();
            move || verify(stored, &update)
        };
        tokio::task::spawn_blocking(verify).await.map_err(|_| CompactionError::Ending)??;
        let snapshot = Snapshot { document: document.clone(), epoch, sequence, update };
        let (done, swapped) = oneshot::channel();
        self.writer.run(Job::Swap { snapshot, done });
        swapped.await.map_err(|_| CompactionError::Ending)??;
        tell_unpruned(self.prune(&[(document.clone(), self.history())]).await);
        Ok(end)
    }

    async fn quarantine(&self, document: &DocumentName, reason: &str) {
        let (done, written) = oneshot::channel();
        self.writer.run(Job::Quarantine { document: document.clone(), reason: reason.to_owned(), done });
        if let Ok(Err(error)) = written.await {
            // It is tried again after the next load, and will end here again.
            tracing::warn!(%document, %error, "the quarantine could not be written down");
        }
        self.metrics.quarantined.increment(1);
    }

    /// Deletes rows that are covered by snapshots and not of the history, of all documents.
    pub(crate) async fn prune_all(&self) {
        let pruned = async {
            // Off the writer's thread: it is all documents that are looked at.
            let documents = self.readers.prunable(self.history(), self.history.tenant_bytes_max).await?;
            for documents in documents.chunks(PRUNE_DOCUMENTS_MAX) {
                self.prune(documents).await?;
            }
            Ok::<(), CompactionError>(())
        };
        tell_unpruned(pruned.await);
    }

    /// … of some: a few rows at a time, with commits in between.
    async fn prune(&self, documents: &[Prunable]) -> Result<(), CompactionError> {
        loop {
            let (done, pruned) = oneshot::channel();
            self.writer.run(Job::Prune { documents: documents.to_vec(), done });
            if pruned.await.map_err(|_| CompactionError::Ending)?? == 0 {
                return Ok(());
            }
        }
    }

    fn history(&self) -> History {
        let kept_for_ms = u64::try_from(self.history.kept_for.as_millis()).unwrap_or(u64::MAX);
        let since_ms = now_ms().saturating_sub(kept_for_ms);
        History { since_ms, bytes_max: self.history.document_bytes_max }
    }
}

fn tell_unpruned(pruned: Result<(), CompactionError>) {
    match pruned {
        Ok(()) | Err(CompactionError::Ending) => {}
        Err(error) => tracing::warn!(%error, "old rows could not be deleted"),
    }
}

fn size(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Compares a snapshot with the rows it was made of, by admission alone: the process that made it is not
/// believed.
fn verify(stored: StoredDocument, snapshot: &Bytes) -> Result<(), Unfaithful> {
    let mut before = Admitted::new();
    for update in stored.updates() {
        before.admit(update)?;
    }
    drop(stored);
    compare(&before, snapshot)
}

/// Compares a snapshot with what it is to hold.
pub(crate) fn compare(before: &Admitted, snapshot: &Bytes) -> Result<(), Unfaithful> {
    let mut after = Admitted::new();
    if !after.admit(snapshot)?.is_complete() {
        return Err(Unfaithful::Incomplete);
    }
    if after.state_vector() != before.state_vector() {
        return Err(Unfaithful::StateVector);
    }
    // More may be deleted: concurrent map entries delete each other without an update that says so.
    if !after.covers_deletes_of(before) {
        return Err(Unfaithful::Deletions);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use yrs::{Doc, ReadTxn, Text, Transact};

    fn state(doc: &Doc) -> Bytes {
        doc.transact().encode_diff_v1(&yrs::StateVector::default()).into()
    }

    #[test]
    fn a_snapshot_that_lacks_edits_or_deletions_is_unfaithful() {
        let doc = Doc::new();
        let text = doc.get_or_insert_text("t");
        text.push(&mut doc.transact_mut(), "hello");
        let before = state(&doc);
        text.remove_range(&mut doc.transact_mut(), 1, 2);
        let after = state(&doc);
        let stored = |tail: &Bytes| StoredDocument {
            epoch: 1,
            sequence: 1,
            snapshot: None,
            snapshot_sequence: 0,
            tail: vec![tail.clone()],
            quarantined: false,
        };
        assert_eq!(verify(stored(&after), &after), Ok(()));
        assert_eq!(verify(stored(&before), &after), Ok(()), "more deletions are allowed");
        assert_eq!(verify(stored(&after), &before), Err(Unfaithful::Deletions));
        text.push(&mut doc.transact_mut(), "!");
        assert_eq!(verify(stored(&state(&doc)), &after), Err(Unfaithful::StateVector));
        let garbage = Bytes::from_static(&[1, 2, 3]);
        assert!(matches!(verify(stored(&after), &garbage), Err(Unfaithful::Invalid(_))));
    }
}
