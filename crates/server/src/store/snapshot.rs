//! Snapshots: what compaction made and the relay has verified.

use super::recent::move_to_log;
use super::{Store, to_sql};
use rusqlite::{OptionalExtension, TransactionBehavior};
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
                "INSERT INTO snapshot (document, sequence, at_ms, update_v1) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (document) DO UPDATE SET
                    sequence = excluded.sequence, at_ms = excluded.at_ms, update_v1 = excluded.update_v1",
            )?
            .execute((id, sequence, to_sql(at_ms)?, snapshot.update.as_ref()))?;
        transaction.commit()?;
        self.recent.moved(&snapshot.document, usize::MAX);
        Ok(())
    }

    /// Deletes rows that snapshots cover and that were written before `delete_before_ms`, of one document
    /// or of all; at most `rows_max`, so that no commit waits long behind it. Answers how many.
    pub(crate) fn prune(
        &mut self,
        document: Option<&DocumentName>,
        delete_before_ms: u64,
        rows_max: usize,
    ) -> Result<usize, SwapError> {
        let rows_max = i64::try_from(rows_max).unwrap_or(i64::MAX);
        let before_ms = to_sql(delete_before_ms)?;
        let deleted = match document {
            Some(document) => {
                let mut statement = self.connection.prepare_cached(
                    "DELETE FROM log WHERE (document, sequence) IN (
                        SELECT log.document, log.sequence FROM document
                        JOIN snapshot ON snapshot.document = document.id
                        JOIN log ON log.document = document.id AND log.sequence <= snapshot.sequence
                        WHERE document.name = ?3 AND log.at_ms < ?1 LIMIT ?2)",
                )?;
                statement.execute((before_ms, rows_max, document.as_str()))?
            }
            None => {
                let mut statement = self.connection.prepare_cached(
                    "DELETE FROM log WHERE (document, sequence) IN (
                        SELECT log.document, log.sequence FROM snapshot
                        JOIN log ON log.document = snapshot.document AND log.sequence <= snapshot.sequence
                        WHERE log.at_ms < ?1 LIMIT ?2)",
                )?;
                statement.execute((before_ms, rows_max))?
            }
        };
        Ok(deleted)
    }
}
