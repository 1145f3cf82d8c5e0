//! Reading documents and parts of their logs.

use super::append::CommitError;
use super::recent::{Recent, RecentRow};
use super::snapshot::limit_in_sql;
use super::{History, Prunable, Store, open_read_only, to_sql};
use bytes::Bytes;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension};
use std::path::PathBuf;
use std::sync::Arc;
use thiserror::Error;
use tidewell_sync_core::document_name::DocumentName;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Why something cannot be read. It is there, perhaps; it is never taken for empty.
#[derive(Debug, Error)]
pub(crate) enum ReadError {
    /// SQLite or the disk failed.
    #[error("the store cannot be read: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Rows do not follow each other.
    #[error("the log has a gap after sequence {after}")]
    Gap {
        /// The last sequence before the gap.
        after: u64,
    },
    /// A number in the store is negative.
    #[error("the store holds an impossible number")]
    Number,
    /// The relay is ending.
    #[error("the relay is ending")]
    Ending,
}

/// All that the store has of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredDocument {
    /// Its incarnation.
    pub epoch: u64,
    /// Its last commit.
    pub sequence: u64,
    /// The last verified snapshot.
    pub snapshot: Option<Bytes>,
    /// Everything up to this sequence is in the snapshot; 0 without one.
    pub snapshot_sequence: u64,
    /// The rows after the snapshot.
    pub tail: Vec<Bytes>,
    /// True when compaction is not to be tried.
    pub quarantined: bool,
}

impl StoredDocument {
    /// The snapshot and then the tail.
    pub(crate) fn updates(&self) -> impl Iterator<Item = &Bytes> {
        self.snapshot.iter().chain(&self.tail)
    }
}

/// What follows a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Since {
    /// Rows, through this sequence.
    Rows {
        /// The last row's sequence, or the one asked for when nothing follows.
        through: u64,
        /// The rows' updates.
        updates: Vec<Bytes>,
    },
    /// The log does not reach back so far any more.
    Pruned,
}

/// Read-only connections, opened when first needed.
#[derive(Debug, Clone)]
pub(crate) struct Readers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    recent: Recent,
    idle: Mutex<Vec<Connection>>,
    /// Bounds how many are open, and how many work on what they have read.
    permits: Semaphore,
}

impl Readers {
    pub(super) fn new(path: PathBuf, recent: Recent, count: usize) -> Self {
        let shared = Shared { path, recent, idle: Mutex::new(Vec::new()), permits: Semaphore::new(count) };
        Readers { shared: Arc::new(shared) }
    }

    /// Documents whose first row is one that their snapshot covers and that is not of the history. Those of a tenant whose
    /// documents have longer histories together than `tenant_bytes_max` are to have shorter ones, each in proportion.
    pub(crate) async fn prunable(
        &self,
        history: History,
        tenant_bytes_max: Option<u64>,
    ) -> Result<Vec<Prunable>, ReadError> {
        self.read(move |connection, _| Ok(prunable(connection, history, tenant_bytes_max)?)).await
    }

    /// Reads a document. `None`: it was never written to.
    pub(crate) async fn document(&self, name: DocumentName) -> Result<Option<StoredDocument>, ReadError> {
        self.read(move |connection, recent| {
            // Memory first: what leaves it from now on is in the log by then.
            let recent = recent.rows(&name, 0);
            document(connection, &name, recent)
        })
        .await
    }

    /// Reads a document's rows after a sequence: the first of them, up to about `bytes_max`.
    pub(crate) async fn since(
        &self,
        name: DocumentName,
        after: u64,
        bytes_max: usize,
    ) -> Result<Since, ReadError> {
        self.read(move |connection, recent| {
            let recent = recent.rows(&name, after);
            since(connection, &name, recent, after, bytes_max)
        })
        .await
    }

    /// A turn among those who read.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, ReadError> {
        self.shared.permits.acquire().await.map_err(|_| ReadError::Ending)
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Connection, &Recent) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let _turn = self.turn().await?;
        let shared = self.shared.clone();
        let run = move || {
            let idle = shared.idle.lock().pop();
            let mut connection = match idle {
                Some(connection) => connection,
                None => open_read_only(&shared.path)?,
            };
            let answer = read(&mut connection, &shared.recent)?;
            // A connection that failed is closed instead: the next read starts with a fresh one.
            shared.idle.lock().push(connection);
            Ok(answer)
        };
        tokio::task::spawn_blocking(run).await.map_err(|_| ReadError::Ending)?
    }
}

struct Row {
    first: u64,
    sequence: u64,
    update: Bytes,
}

/// The rows that the snapshot of a document covers, if none of them was pruned.
pub(crate) fn covered_rows(
    connection: &Connection,
    name: &DocumentName,
    through: u64,
) -> Result<Option<Vec<Bytes>>, ReadError> {
    let mut statement = connection.prepare_cached(
        "SELECT first, sequence, update_v1 FROM log JOIN document ON document.id = log.document
         WHERE document.name = ?1 AND sequence <= ?2 ORDER BY sequence",
    )?;
    let mut found = statement.query((name.as_str(), to_sql(through)?))?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        let (first, sequence): (i64, i64) = (row.get(0)?, row.get(1)?);
        rows.push(Row { first: unsigned(first)?, sequence: unsigned(sequence)?, update: bytes(row, 2)? });
    }
    // Rows are pruned from the beginning. They once were in the middle, too, after the clock had been ahead.
    match contiguous(&rows, 0) {
        Ok(last) if last == through => Ok(Some(rows.into_iter().map(|row| row.update).collect())),
        _ => Ok(None),
    }
}

/// Reads a document of a store that nobody writes, whose rows are all in the log. `None`: it was never written to.
pub(crate) fn document_at_rest(
    connection: &mut Connection,
    name: &DocumentName,
) -> Result<Option<StoredDocument>, ReadError> {
    document(connection, name, Vec::new())
}

impl Store {
    /// Tells the size of each document, as a relay that has just started would load it: its snapshot, and the rows after
    /// that.
    pub(crate) fn sizes(&self, tell: &mut dyn FnMut(&str, u64)) -> Result<(), CommitError> {
        let mut statement = self.connection.prepare(
            "SELECT name, coalesce(length(snapshot.update_v1), 0) + coalesce((
                SELECT sum(length(update_v1)) FROM log
                WHERE log.document = document.id AND sequence > coalesce(snapshot.sequence, 0)), 0)
             FROM document LEFT JOIN snapshot ON snapshot.document = document.id",
        )?;
        let mut found = statement.query(())?;
        while let Some(row) = found.next()? {
            let name = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
            tell(name, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0));
        }
        Ok(())
    }
}

fn document(
    connection: &mut Connection,
    name: &DocumentName,
    recent: Vec<RecentRow>,
) -> Result<Option<StoredDocument>, ReadError> {
    // One transaction: a compaction between the statements would otherwise show a gap.
    let transaction = connection.transaction()?;
    let head = transaction
        .prepare_cached("SELECT id, epoch, quarantined IS NOT NULL FROM document WHERE name = ?1")?
        .query_row([name.as_str()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get(2)?)))
        .optional()?;
    let Some((id, epoch, quarantined)) = head else { return Ok(None) };
    let snapshot = transaction
        .prepare_cached("SELECT sequence, update_v1 FROM snapshot WHERE document = ?1")?
        .query_row([id], |row| Ok((row.get::<_, i64>(0)?, bytes(row, 1)?)))
        .optional()?;
    let (snapshot_sequence, snapshot) = match snapshot {
        Some((sequence, update)) => (unsigned(sequence)?, Some(update)),
        None => (0, None),
    };
    let rows = rows_after(&transaction, id, recent, snapshot_sequence, usize::MAX)?;
    let sequence = contiguous(&rows, snapshot_sequence)?;
    Ok(Some(StoredDocument {
        epoch: unsigned(epoch)?,
        sequence,
        snapshot,
        snapshot_sequence,
        tail: rows.into_iter().map(|row| row.update).collect(),
        quarantined,
    }))
}

fn since(
    connection: &mut Connection,
    name: &DocumentName,
    recent: Vec<RecentRow>,
    after: u64,
    bytes_max: usize,
) -> Result<Since, ReadError> {
    let transaction = connection.transaction()?;
    let id: Option<i64> = transaction
        .prepare_cached("SELECT id FROM document WHERE name = ?1")?
        .query_row([name.as_str()], |row| row.get(0))
        .optional()?;
    let Some(id) = id else { return Ok(Since::Rows { through: after, updates: Vec::new() }) };
    let rows = rows_after(&transaction, id, recent, after, bytes_max)?;
    // A row may hold several sequences: the first one may begin at or before `after`, never behind it.
    if rows.first().is_some_and(|row| row.first > after + 1) {
        return Ok(Since::Pruned);
    }
    let through = match rows.first() {
        Some(row) => match contiguous(&rows, row.first.saturating_sub(1)) {
            // Rows in the middle were pruned once, after the clock had been ahead.
            Err(ReadError::Gap { after }) if after < snapshot_sequence(&transaction, id)? => {
                return Ok(Since::Pruned);
            }
            through => through?,
        },
        None if snapshot_sequence(&transaction, id)? > after => return Ok(Since::Pruned),
        None => after,
    };
    Ok(Since::Rows { through, updates: rows.into_iter().map(|row| row.update).collect() })
}

fn prunable(
    connection: &Connection,
    history: History,
    tenant_bytes_max: Option<u64>,
) -> Result<Vec<Prunable>, rusqlite::Error> {
    // Ten times as much work as without tenants: 5 s for 500,000 documents (2026-11). As a real number, which a product of
    // two sizes does not overflow.
    let bytes_max = match tenant_bytes_max {
        Some(_) => {
            "iif(sum(history_bytes) OVER tenant <= ?3, ?2,
                min(?2, CAST(1.0 * history_bytes * ?3 / (sum(history_bytes) OVER tenant) AS INTEGER)))"
        }
        None => "min(?2, ?3)",
    };
    let mut statement = connection.prepare_cached(&format!(
        "WITH bounded AS (
            SELECT id, name, history_bytes, snapshot.sequence AS covered, {bytes_max} AS bytes_max
            FROM document JOIN snapshot ON snapshot.document = id
            WINDOW tenant AS (PARTITION BY substr(name, 1, instr(name || '/', '/') - 1))
         )
         SELECT name, bytes_max FROM bounded
         WHERE history_bytes > bytes_max
            OR (SELECT at_ms FROM log WHERE log.document = id AND log.sequence <= covered
                ORDER BY log.sequence LIMIT 1) < ?1"
    ))?;
    let tenant_bytes_max = limit_in_sql(tenant_bytes_max.unwrap_or(u64::MAX));
    let bounds = (to_sql(history.since_ms)?, limit_in_sql(history.bytes_max), tenant_bytes_max);
    let found = statement.query_map(bounds, |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
    // A name that no document can have is what `tidewell verify` tells of.
    let prunable = |(name, bytes_max): (String, i64)| {
        let history = History { bytes_max: u64::try_from(bytes_max).unwrap_or(0), ..history };
        Some((DocumentName::parse(&name).ok()?, history))
    };
    found.filter_map(|found| found.map(prunable).transpose()).collect()
}

fn snapshot_sequence(connection: &Connection, id: i64) -> Result<u64, ReadError> {
    let sequence: Option<i64> = connection
        .prepare_cached("SELECT sequence FROM snapshot WHERE document = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    unsigned(sequence.unwrap_or(0))
}

/// Rows after a sequence: those in the log, then those that were recent.
fn rows_after(
    connection: &Connection,
    id: i64,
    recent: Vec<RecentRow>,
    after: u64,
    bytes_max: usize,
) -> Result<Vec<Row>, ReadError> {
    let mut statement = connection.prepare_cached(
        "SELECT first, sequence, update_v1 FROM log WHERE document = ?1 AND sequence > ?2 ORDER BY sequence",
    )?;
    let mut found = statement.query((id, to_sql(after)?))?;
    let (mut rows, mut read, mut last) = (Vec::new(), 0, after);
    while read < bytes_max
        && let Some(row) = found.next()?
    {
        let (first, sequence): (i64, i64) = (row.get(0)?, row.get(1)?);
        let row = Row { first: unsigned(first)?, sequence: unsigned(sequence)?, update: bytes(row, 2)? };
        (read, last) = (read + row.update.len(), row.sequence);
        rows.push(row);
    }
    for RecentRow { first, sequence, update, .. } in recent {
        if sequence > last && read < bytes_max {
            read += update.len();
            rows.push(Row { first, sequence, update });
        }
    }
    Ok(rows)
}

/// Checks that rows follow `after` and each other without a gap; answers with the last sequence.
fn contiguous(rows: &[Row], after: u64) -> Result<u64, ReadError> {
    rows.iter().try_fold(after, |after, row| {
        if row.first == after + 1 && row.sequence >= row.first {
            Ok(row.sequence)
        } else {
            Err(ReadError::Gap { after })
        }
    })
}

fn bytes(row: &rusqlite::Row<'_>, index: usize) -> Result<Bytes, rusqlite::Error> {
    Ok(Bytes::copy_from_slice(row.get_ref(index)?.as_blob()?))
}

fn unsigned(number: i64) -> Result<u64, ReadError> {
    u64::try_from(number).map_err(|_| ReadError::Number)
}
