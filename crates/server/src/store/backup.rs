//! Copies of a store as one file, and stores made of such copies.

use super::{OpenError, open_read_only, recent, schema};
use crate::data_directory::DataDirectory;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use thiserror::Error;
use tidewell_sync_core::document_name::DocumentName;

/// Pages of 4 KiB that are copied at a time.
const PAGES_AT_ONCE: i32 = 256;

/// Pause where SQLite is busy.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// What SQLite keeps beside a database while it is in use, and after its process was killed.
const SIDE_FILES: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Why there is no copy. What was there before is as it was.
#[derive(Debug, Error)]
pub enum BackupError {
    /// One of the two stores cannot be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// SQLite cannot read or write one of the files.
    #[error("the copy failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The system cannot read or write a file.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Nothing is overwritten.
    #[error("{} is there already", path.display())]
    Exists {
        /// What is there.
        path: PathBuf,
    },
    /// SQLite would take it for a part of the copy.
    #[error(
        "{} belongs to a database that was here before, and would be taken for a part of the copy: move it away with \
         that database's file",
        path.display()
    )]
    LeftOver {
        /// What is there.
        path: PathBuf,
    },
    /// A relay's live store is more than one file.
    #[error("{} is a store in use, not a backup: copy it with `tidewell backup`", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// SQLite finds the file damaged.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says first.
        what: String,
    },
    /// The file is an empty database.
    #[error("{} holds no Tidewell store", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// What a copy holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Documents.
    pub documents: u64,
    /// Size of the file.
    pub bytes: u64,
}

/// Copies the store at `from`, of a relay that may be running, as it is at one moment. The copy is on the disk, and has
/// its name, when this returns.
pub(crate) fn copy_to(from: &Path, to: &Path) -> Result<Copied, BackupError> {
    refuse_existing(to)?;
    let partial = Partial::new(to)?;
    {
        let source = open_read_only(from)?;
        if schema::check(&source)? == 0 {
            return Err(BackupError::Empty { path: from.to_owned() });
        }
        // Held until the end, or each commit of the relay would have the copy begin anew.
        let moment = source.unchecked_transaction()?;
        moment.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        let mut copy = Connection::open(&partial.path)?;
        copy_pages(&source, &mut copy)?;
        drop(moment);
        finish(&mut copy)?;
    }
    partial.keep(to)
}

/// Makes the store of a data directory of a backup. Its history gets a new name: devices that know more than the backup
/// hand it over when they come.
pub(crate) fn copy_from(from: &Path, directory: &DataDirectory, lineage: u64) -> Result<Copied, BackupError> {
    let to = directory.store_path();
    refuse_existing(&to)?;
    let source = open_backup(from)?;
    let partial = Partial::new(&to)?;
    {
        let mut copy = Connection::open(&partial.path)?;
        copy_pages(&source, &mut copy)?;
        let version = schema::check(&copy)?;
        schema::migrate(&mut copy, version, lineage)?;
        let lineage = i64::try_from(lineage).map_err(|_| OpenError::NotOurs)?;
        copy.execute("UPDATE meta SET value = ?1 WHERE key = 'lineage'", [lineage])?;
        finish(&mut copy)?;
    }
    let copied = partial.keep(&to)?;
    directory.sync().map_err(|source| BackupError::File { path: to, source })?;
    Ok(copied)
}

/// Opens a backup for reading. That it is whole was looked at.
pub(crate) fn open_backup(path: &Path) -> Result<Connection, BackupError> {
    if !path.is_file() {
        let source = io::ErrorKind::NotFound.into();
        return Err(BackupError::File { path: path.to_owned(), source });
    }
    if beside(path, "-wal").exists() {
        return Err(BackupError::InUse { path: path.to_owned() });
    }
    let connection = open_read_only(path)?;
    if schema::check(&connection)? == 0 {
        return Err(BackupError::Empty { path: path.to_owned() });
    }
    check_pages(&connection, path)?;
    Ok(connection)
}

/// Has SQLite look at every page.
pub(crate) fn check_pages(connection: &Connection, path: &Path) -> Result<(), BackupError> {
    let said: Option<String> =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).optional()?;
    match said {
        Some(said) if said == "ok" => Ok(()),
        said => Err(BackupError::Damaged { path: path.to_owned(), what: said.unwrap_or_default() }),
    }
}

/// The documents of a store, and names in it that no document can have.
pub(crate) fn document_names(
    connection: &Connection,
) -> Result<(Vec<DocumentName>, Vec<String>), rusqlite::Error> {
    let mut statement = connection.prepare("SELECT name FROM document ORDER BY name")?;
    let (mut names, mut impossible) = (Vec::new(), Vec::new());
    for name in statement.query_map([], |row| row.get::<_, String>(0))? {
        let name = name?;
        match DocumentName::parse(&name) {
            Ok(name) => names.push(name),
            Err(_) => impossible.push(name),
        }
    }
    Ok((names, impossible))
}

fn copy_pages(source: &Connection, copy: &mut Connection) -> Result<(), BackupError> {
    let backup = Backup::new(source, copy)?;
    loop {
        match backup.step(PAGES_AT_ONCE)? {
            StepResult::Done => return Ok(()),
            StepResult::Busy | StepResult::Locked => thread::sleep(BUSY_PAUSE),
            _ => {}
        }
    }
}

/// Moves all rows to their places and leaves one file.
fn finish(copy: &mut Connection) -> Result<(), BackupError> {
    copy.pragma_update(None, "synchronous", "FULL")?;
    copy.pragma_update(None, "journal_mode", "DELETE")?;
    if schema::check(copy)? == schema::newest_version() {
        recent::recover(copy)?;
    }
    Ok(())
}

/// Refuses where a file has the copy's name, or one that SQLite reads together with it.
fn refuse_existing(path: &Path) -> Result<(), BackupError> {
    if is_there(path) {
        return Err(BackupError::Exists { path: path.to_owned() });
    }
    match SIDE_FILES.map(|suffix| beside(path, suffix)).into_iter().find(|path| is_there(path)) {
        Some(path) => Err(BackupError::LeftOver { path }),
        None => Ok(()),
    }
}

/// True also of a link that leads nowhere.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A file on its way: it gets its name when it is whole, and is deleted if it never is.
struct Partial {
    path: PathBuf,
}

impl Partial {
    /// One that an earlier run left is made anew.
    fn new(to: &Path) -> Result<Self, BackupError> {
        let path = beside(to, ".partial");
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(BackupError::File { path, source })
            }
            _ => Ok(Partial { path }),
        }
    }

    fn keep(self, to: &Path) -> Result<Copied, BackupError> {
        let connection = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        check_pages(&connection, &self.path)?;
        let documents: i64 = connection.query_row("SELECT count(*) FROM document", [], |row| row.get(0))?;
        drop(connection);
        refuse_existing(to)?;
        let named = || -> io::Result<u64> {
            let file = File::open(&self.path)?;
            file.sync_all()?;
            fs::rename(&self.path, to)?;
            let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
            Ok(file.metadata()?.len())
        };
        let bytes = named().map_err(|source| BackupError::File { path: to.to_owned(), source })?;
        Ok(Copied { documents: u64::try_from(documents).unwrap_or(0), bytes })
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Under this name it is of use to nobody; when it was kept, it has another.
        let _ = fs::remove_file(&self.path);
    }
}
