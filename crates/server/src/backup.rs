//! What operators do with copies of a store: make one of a running relay, begin a new data directory with one, and
//! have every document of a store looked at.

use crate::catch_up::{CatchUp, CatchUpError};
use crate::compactor::{Unfaithful, compare};
use crate::data_directory::{DataDirectory, DataDirectoryError};
use crate::materializer::{CompactError, Pool, Program};
use crate::metrics::Metrics;
use crate::store::{
    BackupError, CommitError, Copied, ReadError, Store, check_pages, copy_from, copy_to, covered_rows,
    document_at_rest, document_names, open_backup,
};
use bytes::Bytes;
use rand::Rng;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use tidewell_sync_core::admission::{Admitted, LoadError};
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::limits::CLIENT_ID_END;

/// Why nothing was copied or looked at.
#[derive(Debug, Error)]
pub enum ToolError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDirectory(#[from] DataDirectoryError),
    /// The copy failed.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The store of a relay that is stopped cannot be opened.
    #[error(transparent)]
    Open(#[from] crate::store::OpenError),
    /// What a crash left in it cannot be put in its place.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store cannot be read.
    #[error("the store cannot be read: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Materializer processes cannot be started.
    #[error("metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// No materializer process can be started: nothing would be known of any document.
    #[error("{0}")]
    Materializer(String),
}

/// Copies the store of a data directory to a new file, while the relay runs or not.
pub fn backup(data: &Path, to: &Path) -> Result<Copied, ToolError> {
    Ok(copy_to(&DataDirectory::store_in(data)?, to)?)
}

/// Begins a data directory with a backup. Devices that are ahead of it hand over what they have when they come.
pub fn restore(from: &Path, data: &Path) -> Result<Copied, ToolError> {
    // Nothing is made for a backup that cannot be used.
    drop(open_backup(from)?);
    let directory = DataDirectory::create(data)?;
    let lineage = rand::rng().random_range(1..CLIENT_ID_END);
    Ok(copy_from(from, &directory, lineage)?)
}

/// What is to be looked at.
#[derive(Debug, Clone)]
pub enum Subject {
    /// The data directory of a relay that is stopped.
    Data(PathBuf),
    /// A backup.
    Backup(PathBuf),
}

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// Documents looked at.
    pub documents: u64,
    /// Their updates, snapshots among them.
    pub updates: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Documents whose snapshot was compared with all the rows that it was made of; the others' are gone.
    pub compared: u64,
    /// What is wrong, with the document's name.
    pub problems: Vec<(String, String)>,
}

/// What is wrong with one document.
#[derive(Debug, Error)]
enum Problem {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    CatchUp(#[from] CatchUpError),
    #[error("the rows that the snapshot covers: {0}")]
    Log(#[from] LoadError),
    #[error("the stored snapshot: {0}")]
    Snapshot(Unfaithful),
    #[error("{0}")]
    Materializer(CompactError),
    #[error("built anew, it differs: {0}")]
    Built(Unfaithful),
}

/// Admits and builds every document of a store, and compares each snapshot with what it was made of. Changes nothing
/// but what every start of a relay does.
pub async fn verify(subject: &Subject) -> Result<Report, ToolError> {
    let (mut connection, _directory) = match subject {
        Subject::Backup(path) => (open_backup(path)?, None),
        Subject::Data(path) => {
            let directory = DataDirectory::existing(path)?;
            // Whatever a crash left is put in its place.
            Store::open(&directory, 1)?.close()?;
            let connection = Connection::open(directory.store_path())?;
            check_pages(&connection, &directory.store_path())?;
            (connection, Some(directory))
        }
    };
    let pool = Pool::new(Program::new(None), Arc::new(Metrics::new()?));
    let (names, impossible) = document_names(&connection)?;
    let mut report = Report::default();
    let impossible = impossible.into_iter().map(|name| (name, "no document can have this name".to_owned()));
    report.problems.extend(impossible);
    for name in names {
        report.documents += 1;
        match look_at(&mut connection, &pool, &name, &mut report).await {
            Ok(()) => {}
            Err(Problem::Materializer(error)) if error.quarantine().is_none() => {
                return Err(ToolError::Materializer(error.to_string()));
            }
            Err(problem) => report.problems.push((name.as_str().to_owned(), problem.to_string())),
        }
    }
    Ok(report)
}

async fn look_at(
    connection: &mut Connection,
    pool: &Pool,
    name: &DocumentName,
    report: &mut Report,
) -> Result<(), Problem> {
    let Some(stored) = document_at_rest(connection, name)? else { return Ok(()) };
    let updates: Vec<Bytes> = stored.updates().cloned().collect();
    report.updates += updates.len() as u64;
    report.bytes += updates.iter().map(|update| update.len() as u64).sum::<u64>();
    if let Some(snapshot) = &stored.snapshot
        && let Some(rows) = covered_rows(connection, name, stored.snapshot_sequence)?
    {
        let (log, _) = Admitted::load(rows)?;
        compare(&log, snapshot).map_err(Problem::Snapshot)?;
        report.compared += 1;
    }
    let (admitted, _) = CatchUp::load(stored)?;
    if updates.is_empty() {
        return Ok(());
    }
    let turn = pool.turn().await.map_err(Problem::Materializer)?;
    let built = pool.compact(&turn, &updates).await.map_err(Problem::Materializer)?;
    compare(&admitted, &built).map_err(Problem::Built)
}
