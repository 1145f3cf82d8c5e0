//! Appending to the log.

use super::recent::{Recent, RecentRow, insert_into_log, move_to_log};
use super::{Store, to_sql};
use crate::limits::RECENT_ROW_BYTES_MAX;
use bytes::Bytes;
use rusqlite::{ErrorCode, OptionalExtension, Transaction, TransactionBehavior};
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
    pub update: &'a Bytes,
}

/// Why a commit failed. Nothing of it is in the store.
#[derive(Debug, Error)]
pub enum CommitError {
    /// SQLite or the disk failed.
    #[error("the store cannot write: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Rows cannot be moved to their places in the log, and there are as many of them as may be.
    #[error("the store cannot write: earlier rows cannot be moved to their places")]
    Behind,
    /// SQLite refuses a document's row for a reason of its own.
    #[error("the store refuses a row of document {document:?}: {error}")]
    Row {
        /// Which.
        document: DocumentName,
        /// Why.
        error: rusqlite::Error,
    },
    /// A row's document is not in the store in this incarnation.
    #[error("document {document:?} is not in the store in epoch {epoch}")]
    Document {
        /// Which.
        document: DocumentName,
        /// The incarnation that was written for.
        epoch: u64,
    },
    /// A row does not follow the last one of its document.
    #[error("row {first} of document {document:?} does not follow the last one")]
    Order {
        /// Which.
        document: DocumentName,
        /// Sequence of the row's first update.
        first: u64,
    },
}

impl CommitError {
    /// The document that is at fault: without it the others can be committed. `None`: the store is.
    pub(crate) fn document(&self) -> Option<&DocumentName> {
        match self {
            CommitError::Sqlite(_) | CommitError::Behind => None,
            CommitError::Row { document, .. }
            | CommitError::Document { document, .. }
            | CommitError::Order { document, .. } => Some(document),
        }
    }

    /// What happened while a document's rows were written.
    pub(super) fn of(document: &DocumentName, error: rusqlite::Error) -> Self {
        let is_of_the_row = matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch)
        ) || matches!(error, rusqlite::Error::ToSqlConversionFailure(_));
        // Anything else, a full disk or a damaged file, would meet the next document too.
        if is_of_the_row {
            CommitError::Row { document: document.clone(), error }
        } else {
            CommitError::Sqlite(error)
        }
    }
}

/// What memory is told after the commit.
enum Appended {
    /// A row was added to those that are recent.
    Recent(i64, RecentRow),
    /// All rows of the document are in the log.
    Moved,
}

impl Store {
    /// Writes all rows in one transaction. When this answers `Ok`, all are on the disk; when it answers
    /// an error, none is. No two rows are of one document.
    pub(crate) fn append<'a>(
        &mut self,
        rows: impl IntoIterator<Item = Row<'a>>,
        at_ms: u64,
    ) -> Result<(), CommitError> {
        let at_ms = to_sql(at_ms)?;
        if self.recent.is_overfull() {
            return Err(CommitError::Behind);
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (mut done, mut recent_id) = (Vec::new(), self.recent_id);
        for row in rows {
            done.push((row, append_row(&transaction, &self.recent, &mut recent_id, row, at_ms)?));
        }
        transaction.commit()?;
        self.recent_id = recent_id;
        for (Row { document, epoch, .. }, appended) in done {
            match appended {
                Appended::Recent(id, row) => self.recent.push(document, id, epoch, row),
                Appended::Moved => drop(self.recent.moved(document, usize::MAX)),
            }
        }
        Ok(())
    }
}

fn append_row(
    transaction: &Transaction<'_>,
    recent: &Recent,
    recent_id: &mut i64,
    Row { document, epoch, first, through: sequence, update }: Row<'_>,
    at_ms: i64,
) -> Result<Appended, CommitError> {
    let (id, is_refused) = match recent.last(document, epoch) {
        Some(last) if first == last.sequence + 1 => (last.document, last.is_refused),
        Some(_) => return Err(CommitError::Order { document: document.clone(), first }),
        None => (document_id(transaction, document, epoch, first)?, false),
    };
    let row = RecentRow { first, sequence, at_ms, update: update.clone() };
    let insert = || {
        if row.update.len() < RECENT_ROW_BYTES_MAX && !is_refused {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO recent (id, document, sequence, first, at_ms, update_v1)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            *recent_id += 1;
            let update = row.update.as_ref();
            insert.execute((*recent_id, id, to_sql(sequence)?, to_sql(first)?, at_ms, update))?;
            Ok(Appended::Recent(id, row))
        } else {
            move_to_log(transaction, recent, document, usize::MAX)?;
            insert_into_log(transaction, id, &row)?;
            Ok(Appended::Moved)
        }
    };
    insert().map_err(|error| CommitError::of(document, error))
}

/// The ID of a document, which is made if this is its first row.
fn document_id(
    transaction: &Transaction<'_>,
    document: &DocumentName,
    epoch: u64,
    first: u64,
) -> Result<i64, CommitError> {
    let find = || {
        let (name, epoch) = (document.as_str(), to_sql(epoch)?);
        if first == 1 {
            transaction
                .prepare_cached(
                    "INSERT INTO document (name, epoch) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING",
                )?
                .execute((name, epoch))?;
        }
        transaction
            .prepare_cached("SELECT id FROM document WHERE name = ?1 AND epoch = ?2")?
            .query_row((name, epoch), |row| row.get(0))
            .optional()
    };
    find()
        .map_err(|error| CommitError::of(document, error))?
        .ok_or_else(|| CommitError::Document { document: document.clone(), epoch })
}
