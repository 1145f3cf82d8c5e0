//! Appending to the log.

use super::{Store, to_sql};
use rusqlite::TransactionBehavior;
use thiserror::Error;
use tidewell_sync_core::document_name::DocumentName;

/// Consecutive updates of one document in one commit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    /// Which document. It is made when it is not there and `first` is 1.
    pub document: &'a DocumentName,
    /// Its incarnation.
    pub epoch: u64,
    /// Sequence of the first update.
    pub first: u64,
    /// Sequence of the last update.
    pub through: u64,
    /// The updates, merged into one.
    pub update: &'a [u8],
}

/// Why a commit failed. Nothing of it is in the store.
#[derive(Debug, Error)]
pub enum CommitError {
    /// SQLite or the disk failed.
    #[error("the store cannot write: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A row's document is not in the store in this incarnation.
    #[error("document {document:?} is not in the store in epoch {epoch}")]
    Document {
        /// Which.
        document: DocumentName,
        /// The incarnation that was written for.
        epoch: u64,
    },
}

impl Store {
    /// Writes all rows in one transaction. When this answers `Ok`, all are on the disk; when it answers
    /// an error, none is.
    pub(crate) fn append<'a>(
        &mut self,
        rows: impl IntoIterator<Item = Row<'a>>,
        at_ms: u64,
    ) -> Result<(), CommitError> {
        let at_ms = to_sql(at_ms)?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut make = transaction.prepare_cached(
                "INSERT INTO document (name, epoch) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING",
            )?;
            let mut insert = transaction.prepare_cached(
                "INSERT INTO log (document, sequence, first, at_ms, update_v1)
                 SELECT id, ?3, ?4, ?5, ?6 FROM document WHERE name = ?1 AND epoch = ?2",
            )?;
            for row in rows {
                let (name, epoch) = (row.document.as_str(), to_sql(row.epoch)?);
                if row.first == 1 {
                    make.execute((name, epoch))?;
                }
                let through = to_sql(row.through)?;
                let inserted =
                    insert.execute((name, epoch, through, to_sql(row.first)?, at_ms, row.update))?;
                if inserted != 1 {
                    return Err(CommitError::Document { document: row.document.clone(), epoch: row.epoch });
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }
}
