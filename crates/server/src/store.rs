//! The SQLite store: the log of updates, and snapshots of it as a verified cache.
//!
//! [`Store`] owns the one connection that writes; it is used by one thread. [`Readers`] lend read-only
//! connections. A commit has reached the disk when it returns (`synchronous=FULL`).
//! Nothing here ever answers with less than was asked for: a row that is missing is an error.

mod append;
mod backup;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;
mod quarantine;
mod read;
mod recent;
mod revocation;
mod schema;
mod snapshot;

pub use append::CommitError;
pub(crate) use append::Row;
pub use backup::{BackupError, Copied};
pub(crate) use backup::{check_pages, copy_from, copy_to, document_names, open_backup};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzzing::{StoredRow, stored_document};
pub use quarantine::Quarantined;
pub(crate) use quarantine::quarantined_in;
pub(crate) use read::{ReadError, Readers, Since, StoredDocument, covered_rows, document_at_rest};
pub(crate) use snapshot::{History, Prunable, Snapshot, SwapError};

use crate::data_directory::DataDirectory;
use recent::{Recent, Settling};
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// The epoch of a document that was never deleted.
pub(crate) const FIRST_EPOCH: u64 = 1;

/// How long a connection waits for another one's lock. Only checkpoints and migrations hold one that
/// readers or the writer can meet, and only for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The WAL file shrinks to this when it starts anew, so that one burst does not keep the disk for ever.
const WAL_BYTES_KEPT: i64 = 64 << 20;

/// Why a store cannot be opened. Nothing in it was changed.
#[derive(Debug, Error)]
pub enum OpenError {
    /// SQLite cannot open or read the file.
    #[error("the store cannot be opened: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The names of its files cannot be made durable.
    #[error("the data directory cannot be synced: {0}")]
    Directory(#[from] std::io::Error),
    /// The file is a database of another program.
    #[error("the file is a database, but not a Tidewell store")]
    NotOurs,
    /// A newer relay has written it.
    #[error(
        "the store has schema version {found}, this relay knows versions up to {known}: use a newer relay"
    )]
    TooNew {
        /// Version of the file.
        found: i64,
        /// Newest version that this program knows.
        known: i64,
    },
}

/// The store's one writer.
#[derive(Debug)]
pub(crate) struct Store {
    connection: Connection,
    path: PathBuf,
    lineage: u64,
    recent: Recent,
    /// ID of the last row in the table `recent`.
    recent_id: i64,
    /// Rows of it up to this ID are deleted.
    settled_id: i64,
    settling: Option<Settling>,
}

fn is_half_written(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_READONLY_ROLLBACK)
}

impl Store {
    /// Opens the store of a data directory, or makes it with `new_lineage` as the name of its history.
    pub(crate) fn open(directory: &DataDirectory, new_lineage: u64) -> Result<Self, OpenError> {
        let path = directory.store_path();
        if path.exists() {
            // A look without a pen first: what is not ours or too new stays as it is, to the byte.
            match schema::check(&open_read_only(&path)?) {
                // The power failed while the store was made: SQLite has to undo the half of it.
                Err(OpenError::Sqlite(error)) if is_half_written(&error) => {}
                checked => {
                    checked?;
                }
            }
        }
        let mut connection = Connection::open(&path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let version = schema::check(&connection)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        // Checkpoints run on a timer and on a connection of their own: no commit waits for one.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)?;
        schema::migrate(&mut connection, version, new_lineage)?;
        let lineage: i64 =
            connection.query_row("SELECT value FROM meta WHERE key = 'lineage'", [], |row| row.get(0))?;
        let lineage = u64::try_from(lineage).map_err(|_| OpenError::NotOurs)?;
        recent::recover(&mut connection)?;
        directory.sync()?;
        let recent = Recent::default();
        Ok(Store { connection, path, lineage, recent, recent_id: 0, settled_id: 0, settling: None })
    }

    /// Names the history anew: devices that know commits beyond a restored backup must not resume by their cursors.
    pub(crate) fn rename_history(&mut self, lineage: u64) -> Result<(), OpenError> {
        let in_sql = i64::try_from(lineage).map_err(|_| OpenError::NotOurs)?;
        self.connection.execute("UPDATE meta SET value = ?1 WHERE key = 'lineage'", [in_sql])?;
        self.lineage = lineage;
        Ok(())
    }

    /// The name of this store's history; see [`Store::rename_history`].
    pub(crate) fn lineage(&self) -> u64 {
        self.lineage
    }

    /// Connections for reading, at most `count` at a time.
    pub(crate) fn readers(&self, count: usize) -> Readers {
        Readers::new(self.path.clone(), self.recent.clone(), count)
    }

    /// Moves everything to its place in the main file, so that a stopped relay's store is one file.
    pub(crate) fn close(mut self) -> Result<(), CommitError> {
        loop {
            // Rows that came while others moved are not among those that move.
            self.start_settling();
            if self.settling.is_none() {
                break;
            }
            self.settle_some()?;
        }
        Ok(self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
    }

    /// Moves what the [`Checkpointer`] left; commits wait for it. While commits follow each other it never reaches the last one, and only a
    /// WAL of which all is moved starts anew.
    pub(crate) fn checkpoint(&mut self) -> Result<(), CommitError> {
        Ok(self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?)
    }

    /// A connection for checkpoints.
    pub(crate) fn checkpointer(&self) -> Result<Checkpointer, OpenError> {
        let connection = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        Ok(Checkpointer { connection })
    }
}

fn open_read_only(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// Moves what is in the WAL into the main file, without holding up reads or commits.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    connection: Connection,
}

impl Checkpointer {
    /// Moves what can be moved now; answers how many pages the WAL has.
    pub(crate) fn run(&mut self) -> Result<u64, rusqlite::Error> {
        let pages: i64 = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))?;
        Ok(u64::try_from(pages).unwrap_or(0))
    }
}

/// A number for SQLite, which has signed ones. Ours are all below 2^53.
fn to_sql(number: u64) -> Result<i64, rusqlite::Error> {
    i64::try_from(number).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

#[cfg(test)]
mod tests;
