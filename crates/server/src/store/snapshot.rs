//! Snapshots: what compaction made and the relay has verified.

use super::recent::move_to_log;
use super::{Store, to_sql};
use crate::limits::{PRUNE_BYTES_MAX, PRUNE_ROWS_MAX};
use rusqlite::{OptionalExtension, Transaction, TransactionBehavior};
use thiserror::Error;
use tidewell_sync_core::document_name::DocumentName;

/// A verified snapshot on its way into the store.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// Which document.
    pub document: DocumentName,
    /// Its incarnation.
    pub epoch: u64,
    /// Everything up to this sequence is in it.
    pub sequence: u64,
    /// The whole document as one v1 update.
    pub update: bytes::Bytes,
}

/// Which of the rows that a document's snapshot covers stay: the last ones that are young enough and have few enough bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct History {
    /// Older ones are deleted.
    pub since_ms: u64,
    /// So many bytes stay at most.
    pub bytes_max: u64,
}

/// A document, and what stays of it.
pub(crate) type Prunable = (DocumentName, History);

/// More than SQLite can count is no limit.
pub(super) fn limit_in_sql(bytes_max: u64) -> i64 {
    i64::try_from(bytes_max).unwrap_or(i64::MAX)
}

/// Why a snapshot was not taken. The log and the snapshot before it are as they were.
#[derive(Debug, Error)]
pub(crate) enum SwapError {
    /// SQLite or the disk failed.
    #[error("the store cannot write: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The document has another epoch or a newer snapshot, or its log does not reach this sequence.
    #[error("the snapshot does not fit the document any more")]
    Stale,
}

impl Store {
    /// Takes a snapshot in. The rows that it covers stay until they are pruned.
    pub(crate) fn swap_snapshot(&mut self, snapshot: &Snapshot, at_ms: u64) -> Result<(), SwapError> {
        let sequence = to_sql(snapshot.sequence)?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // What a snapshot covers is in the log: there it is deleted one day, and nothing brings it back.
        move_to_log(&transaction, &self.recent, &snapshot.document, usize::MAX)?;
        let id: Option<i64> = transaction
            .prepare_cached(
                "SELECT id FROM document WHERE name = ?1 AND epoch = ?2
                 AND NOT EXISTS (SELECT 1 FROM snapshot WHERE document = id AND sequence >= ?3)
                 AND EXISTS (SELECT 1 FROM log WHERE document = id AND sequence = ?3)",
            )?
            .query_row((snapshot.document.as_str(), to_sql(snapshot.epoch)?, sequence), |row| row.get(0))
            .optional()?;
        let Some(id) = id else { return Err(SwapError::Stale) };
        transaction
            .prepare_cached(
                "UPDATE document SET history_bytes = history_bytes + (
                    SELECT coalesce(sum(length(update_v1)), 0) FROM log WHERE document = ?1 AND sequence <= ?2
                    AND sequence > coalesce((SELECT sequence FROM snapshot WHERE document = ?1), 0))
                 WHERE id = ?1",
            )?
            .execute((id, sequence))?;
        transaction
            .prepare_cached(
                "INSERT INTO snapshot (document, sequence, at_ms, update_v1) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (document) DO UPDATE SET
                    sequence = excluded.sequence, at_ms = excluded.at_ms, update_v1 = excluded.update_v1",
            )?
            .execute((id, sequence, to_sql(at_ms)?, snapshot.update.as_ref()))?;
        transaction.commit()?;
        self.recent.moved(&snapshot.document, usize::MAX);
        Ok(())
    }

    /// Deletes the first rows of documents, as far as their snapshots cover them and they are not of the history: a young
    /// one keeps all that follow it, also where the clock was ahead when it was written, for a log has no gaps. A bounded
    /// number at a time, so that no commit waits long behind it; answers how many.
    pub(crate) fn prune(&mut self, documents: &[Prunable]) -> Result<usize, SwapError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut pruned = Pruned::default();
        for (document, history) in documents {
            prune(&transaction, document, *history, &mut pruned)?;
        }
        transaction.commit()?;
        Ok(pruned.rows)
    }
}

/// What was deleted at a time.
#[derive(Debug, Default)]
struct Pruned {
    rows: usize,
    bytes: i64,
}

impl Pruned {
    fn is_enough(&self) -> bool {
        self.rows >= PRUNE_ROWS_MAX || self.bytes >= PRUNE_BYTES_MAX
    }
}

fn prune(
    transaction: &Transaction<'_>,
    document: &DocumentName,
    history: History,
    pruned: &mut Pruned,
) -> Result<(), rusqlite::Error> {
    let (since_ms, bytes_max) = (to_sql(history.since_ms)?, limit_in_sql(history.bytes_max));
    let covered: Option<(i64, i64, i64)> = transaction
        .prepare_cached(
            "SELECT id, snapshot.sequence, history_bytes FROM document JOIN snapshot ON snapshot.document = id
             WHERE name = ?1",
        )?
        .query_row([document.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((id, covered, mut history_bytes)) = covered else { return Ok(()) };
    let mut statement = transaction.prepare_cached(
        "SELECT sequence, at_ms, length(update_v1) FROM log WHERE document = ?1 AND sequence <= ?2
         ORDER BY sequence",
    )?;
    let mut found = statement.query((id, covered))?;
    let mut through = None;
    while !pruned.is_enough()
        && let Some(row) = found.next()?
        && (row.get::<_, i64>(1)? < since_ms || history_bytes > bytes_max)
    {
        let bytes: i64 = row.get(2)?;
        through = Some(row.get::<_, i64>(0)?);
        history_bytes -= bytes;
        pruned.rows += 1;
        pruned.bytes += bytes;
    }
    drop(found);
    if let Some(through) = through {
        transaction
            .prepare_cached("DELETE FROM log WHERE document = ?1 AND sequence <= ?2")?
            .execute((id, through))?;
        transaction
            .prepare_cached("UPDATE document SET history_bytes = ?2 WHERE id = ?1")?
            .execute((id, history_bytes))?;
    }
    Ok(())
}
