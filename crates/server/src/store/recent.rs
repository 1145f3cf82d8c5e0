//! Rows that are committed and not yet in the order of their documents.
//!
//! A commit appends its rows to the table `recent`, dozens to a page, whatever documents they are of. In the table
//! `log`, whose index is ordered by document, each would change a page of its own: with 2,000 documents 25 MB of write-ahead
//! log a second for 0.2 MB of rows (2026-11). From time to time the rows move there, document by document, in small
//! transactions between the commits. Until then readers have them from memory: the table `recent` is read only when
//! the store is opened.
//!
//! `log` always holds the beginning of a document's rows, and memory the rest. So a reader that looks at memory first
//! and at the log afterwards sees no gap: what left memory in between is in the log.

use super::append::CommitError;
use super::{Store, to_sql};
use crate::limits::{RECENT_FACTOR_BUSY, RECENT_FACTOR_MAX, SETTLE_BYTES, SETTLE_ROWS, SETTLE_ROWS_AT_ONCE};
use bytes::Bytes;
use parking_lot::Mutex;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use tidewell_sync_core::document_name::DocumentName;

/// One row in memory.
#[derive(Debug, Clone)]
pub(super) struct RecentRow {
    pub(super) first: u64,
    pub(super) sequence: u64,
    pub(super) at_ms: i64,
    pub(super) update: Bytes,
}

/// A document's rows in memory.
#[derive(Debug)]
struct RecentDocument {
    id: i64,
    epoch: u64,
    rows: Vec<RecentRow>,
    /// The log refused them. They are tried again, and until they are there no row joins them.
    is_refused: bool,
}

impl RecentDocument {
    fn bytes(&self) -> usize {
        self.rows.iter().map(|row| row.update.len()).sum()
    }
}

#[derive(Debug, Default)]
struct Inner {
    documents: FxHashMap<DocumentName, RecentDocument>,
    /// Rows and bytes, without those that the log refused: moving cannot make them fewer.
    rows: usize,
    bytes: usize,
}

/// The last row in memory of one document.
pub(super) struct Last {
    /// The document's ID.
    pub(super) document: i64,
    pub(super) sequence: u64,
    /// The log refused this row, or one before it.
    pub(super) is_refused: bool,
}

/// All rows in memory. Only the writer changes them, after the commit that changed the tables alike.
#[derive(Debug, Clone, Default)]
pub(super) struct Recent {
    inner: Arc<Mutex<Inner>>,
}

impl Recent {
    /// A document's rows after `sequence`, and a row that holds it.
    pub(super) fn rows(&self, document: &DocumentName, sequence: u64) -> Vec<RecentRow> {
        let inner = self.inner.lock();
        let Some(found) = inner.documents.get(document) else { return Vec::new() };
        found.rows.iter().filter(|row| row.sequence > sequence).cloned().collect()
    }

    /// The last row of a document that has rows here.
    pub(super) fn last(&self, document: &DocumentName, epoch: u64) -> Option<Last> {
        let inner = self.inner.lock();
        let found = inner.documents.get(document).filter(|found| found.epoch == epoch)?;
        let sequence = found.rows.last()?.sequence;
        Some(Last { document: found.id, sequence, is_refused: found.is_refused })
    }

    /// A row was appended to the table.
    pub(super) fn push(&self, document: &DocumentName, id: i64, epoch: u64, row: RecentRow) {
        let mut inner = self.inner.lock();
        inner.rows += 1;
        inner.bytes += row.update.len();
        match inner.documents.get_mut(document) {
            Some(found) => found.rows.push(row),
            None => {
                let new = RecentDocument { id, epoch, rows: vec![row], is_refused: false };
                inner.documents.insert(document.clone(), new);
            }
        }
    }

    /// So many of a document's rows, the first ones, are in the log; answers whether there are more.
    pub(super) fn moved(&self, document: &DocumentName, count: usize) -> bool {
        let mut inner = self.inner.lock();
        let Inner { documents, rows, bytes } = &mut *inner;
        let Some(found) = documents.get_mut(document) else { return false };
        let count = count.min(found.rows.len());
        let moved_bytes: usize = found.rows.drain(..count).map(|row| row.update.len()).sum();
        if !found.is_refused {
            *rows -= count;
            *bytes -= moved_bytes;
        }
        let has_more = !found.rows.is_empty();
        if !has_more {
            documents.remove(document);
        }
        has_more
    }

    /// The log refuses a document's rows: they stay.
    fn refused(&self, document: &DocumentName) {
        let mut inner = self.inner.lock();
        let Inner { documents, rows, bytes } = &mut *inner;
        if let Some(found) = documents.get_mut(document).filter(|found| !found.is_refused) {
            found.is_refused = true;
            *rows -= found.rows.len();
            *bytes -= found.bytes();
        }
    }

    /// True when there are so many that they are to move.
    fn is_full(&self) -> bool {
        self.exceeds(1)
    }

    /// True when there are so many that no other may join them.
    pub(super) fn is_overfull(&self) -> bool {
        self.exceeds(RECENT_FACTOR_MAX)
    }

    fn exceeds(&self, factor: usize) -> bool {
        let inner = self.inner.lock();
        inner.rows >= factor * SETTLE_ROWS || inner.bytes >= factor * SETTLE_BYTES
    }

    /// All documents, the one with the highest ID first.
    fn documents(&self) -> Vec<DocumentName> {
        let inner = self.inner.lock();
        let mut documents: Vec<_> =
            inner.documents.iter().map(|(name, found)| (found.id, name.clone())).collect();
        documents.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(*id));
        documents.into_iter().map(|(_, name)| name).collect()
    }
}

/// Rows on their way from `recent` to `log`.
#[derive(Debug)]
pub(super) struct Settling {
    /// Documents whose rows are still to be moved, the next one last.
    documents: Vec<DocumentName>,
    /// Rows of the table up to this ID are in the log when no document is left, and can be deleted.
    through: i64,
    /// The log refused some, which are left out: the table is not to be emptied.
    has_refused: bool,
}

impl Store {
    /// True when rows are to move to the log, or are on their way.
    pub(crate) fn is_settling(&self) -> bool {
        self.settling.is_some() || self.recent.is_full()
    }

    /// Has all rows that are recent now move to the log.
    pub(crate) fn start_settling(&mut self) {
        if self.settling.is_none() && self.recent_id > self.settled_id {
            let (documents, through) = (self.recent.documents(), self.recent_id);
            self.settling = Some(Settling { documents, through, has_refused: false });
        }
    }

    /// Moves some rows to the log, between commits; more where commits bring more than that.
    pub(crate) fn settle(&mut self) -> Result<(), CommitError> {
        self.settle_some()?;
        while self.recent.exceeds(RECENT_FACTOR_BUSY) {
            self.settle_some()?;
        }
        Ok(())
    }

    /// Moves some rows to the log: a bounded number, so that no commit waits long behind it. When it fails nothing was
    /// moved. If it was one document's fault, the next call goes on without that one.
    pub(super) fn settle_some(&mut self) -> Result<(), CommitError> {
        if self.recent.is_full() {
            self.start_settling();
        }
        let Some(settling) = &mut self.settling else { return Ok(()) };
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (mut moved, mut rows_left) = (Vec::new(), SETTLE_ROWS_AT_ONCE);
        for (index, document) in settling.documents.iter().enumerate().rev() {
            if rows_left == 0 {
                break;
            }
            match move_to_log(&transaction, &self.recent, document, rows_left) {
                Ok(rows) => {
                    moved.push(rows);
                    rows_left -= rows;
                }
                Err(error) => {
                    let error = CommitError::of(document, error);
                    if error.document().is_some() {
                        self.recent.refused(document);
                        settling.documents.remove(index);
                        settling.has_refused = true;
                    }
                    return Err(error);
                }
            }
        }
        let mut settled_id = self.settled_id;
        if rows_left > 0 && !settling.has_refused {
            settled_id = settling.through.min(settled_id + to_sql(SETTLE_ROWS_AT_ONCE as u64)?);
            transaction.prepare_cached("DELETE FROM recent WHERE id <= ?1")?.execute([settled_id])?;
        }
        transaction.commit()?;
        self.settled_id = settled_id;
        for rows in moved {
            if let Some(document) = settling.documents.pop()
                && self.recent.moved(&document, rows)
            {
                settling.documents.push(document);
            }
        }
        if settled_id >= settling.through || (settling.has_refused && settling.documents.is_empty()) {
            self.settling = None;
        }
        Ok(())
    }
}

/// Copies a document's first rows from memory to the log; answers how many. When that is committed, the caller has them
/// forgotten with [`Recent::moved`].
pub(super) fn move_to_log(
    transaction: &Transaction<'_>,
    recent: &Recent,
    document: &DocumentName,
    rows_max: usize,
) -> Result<usize, rusqlite::Error> {
    let inner = recent.inner.lock();
    let Some(found) = inner.documents.get(document) else { return Ok(0) };
    let count = found.rows.len().min(rows_max);
    for row in found.rows.iter().take(count) {
        insert_into_log(transaction, found.id, row)?;
    }
    Ok(count)
}

/// Writes a row to its place.
pub(super) fn insert_into_log(
    transaction: &Transaction<'_>,
    document: i64,
    row: &RecentRow,
) -> Result<(), rusqlite::Error> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO log (document, sequence, first, at_ms, update_v1) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    insert.execute((document, to_sql(row.sequence)?, to_sql(row.first)?, row.at_ms, row.update.as_ref()))?;
    Ok(())
}

/// Moves what a relay left behind that did not end by itself. Some of it may be in the log already, and what is in a
/// snapshot was there when the snapshot was taken: it may have been deleted since.
pub(super) fn recover(connection: &mut Connection) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(
        "INSERT OR IGNORE INTO log (document, sequence, first, at_ms, update_v1)
            SELECT document, sequence, first, at_ms, update_v1 FROM recent
            WHERE sequence > coalesce((SELECT s.sequence FROM snapshot s WHERE s.document = recent.document), 0)
            ORDER BY document, sequence;
         DELETE FROM recent;",
    )?;
    transaction.commit()
}
