//! The directory: locked for one process, one numbered log for each document.
//!
//! Names of documents are longer than names of files may be, so a log is found by its header, not by its
//! file's name.

use super::log::{Log, LogError, TornTail, read_name};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use thiserror::Error;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::replica::{LoadReport, Replica, Stored};

const LOCK_FILE: &str = "lock";
const LOG_EXTENSION: &str = "log";
/// A log being written, before it takes its place.
const NEW_EXTENSION: &str = "new";

/// Why a directory cannot be used. Nothing in it was changed.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// Another client, here or in another process, uses it.
    #[error("the directory {} is in use by another client", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The system did not open, read or write.
    #[error("the directory {} cannot be used: {source}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A log's header cannot be read, so it is not known which document would be lost.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Two logs name the same document.
    #[error("the document {name} has two logs")]
    TwoLogs {
        /// The document.
        name: DocumentName,
    },
}

/// A directory that this client has locked.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    pub(super) disk: Disk,
    logs: Mutex<Logs>,
    /// Holds the lock for as long as it is open: the system's, which ends with the process.
    _lock: File,
}

#[derive(Debug, Default)]
struct Logs {
    numbers: HashMap<DocumentName, u64>,
    next: u64,
}

/// A document as the device has it.
pub(crate) struct Loaded {
    pub(crate) replica: Replica,
    pub(crate) report: LoadReport,
    pub(crate) torn: Option<TornTail>,
    pub(crate) log: Log,
}

impl Directory {
    /// Locks `path`, which is made if it is not there, and finds its logs.
    pub(crate) fn open(path: &Path) -> Result<Directory, DirectoryError> {
        Directory::open_on(Disk::default(), path)
    }

    pub(super) fn open_on(disk: Disk, path: &Path) -> Result<Directory, DirectoryError> {
        let io = |source| DirectoryError::Io { path: path.to_path_buf(), source };
        disk.create_directory(path).map_err(io)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join(LOCK_FILE));
        let lock = lock.map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DirectoryError::Locked { path: path.to_path_buf() });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let mut logs = Logs::default();
        for entry in std::fs::read_dir(path).map_err(io)? {
            let file = entry.map_err(io)?.path();
            match file.extension().and_then(OsStr::to_str) {
                Some(NEW_EXTENSION) => std::fs::remove_file(&file).map_err(io)?,
                Some(LOG_EXTENSION) => logs.add(&file)?,
                _ => {}
            }
        }
        Ok(Directory { path: path.to_path_buf(), disk, logs: Mutex::new(logs), _lock: lock })
    }

    /// Loads a document with all that is known of it; a new one is empty.
    pub(crate) fn load(&self, name: &DocumentName, channel: u32, client_id: u64) -> Result<Loaded, LogError> {
        let (number, is_new) = self.number_of(name);
        let path = self.path.join(format!("{number:08}.{LOG_EXTENSION}"));
        let mut replica = Replica::new(name.clone(), channel, client_id);
        if is_new {
            let log = Log::create(&self.disk, &path, name, &Stored::default(), &[]);
            // A failure may come after it took its place; a second one for the same document must not.
            if path.exists() {
                let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
                logs.numbers.insert(name.clone(), number);
            }
            return Ok(Loaded { replica, report: LoadReport::default(), torn: None, log: log? });
        }
        let (log, contents) = Log::open(&self.disk, &path)?;
        let report = replica.load(contents.stored);
        Ok(Loaded { replica, report, torn: contents.torn, log })
    }

    /// The number of a document's log, and whether it has yet to be made.
    fn number_of(&self, name: &DocumentName) -> (u64, bool) {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        match logs.numbers.get(name) {
            Some(number) => (*number, false),
            None => {
                logs.next += 1;
                (logs.next, true)
            }
        }
    }
}

impl Logs {
    fn add(&mut self, file: &Path) -> Result<(), DirectoryError> {
        let number = file.file_stem().and_then(OsStr::to_str).and_then(|stem| stem.parse().ok());
        // Whatever else lies here is not ours.
        let Some(number) = number else { return Ok(()) };
        let name = read_name(file)?;
        self.next = self.next.max(number);
        match self.numbers.insert(name.clone(), number) {
            None => Ok(()),
            Some(_) => Err(DirectoryError::TwoLogs { name }),
        }
    }
}

/// Everything that is done to the disk. Each step can be the last one before the power goes.
#[derive(Debug, Default)]
pub(super) struct Disk {
    #[cfg(test)]
    pub(super) power: super::tests::Power,
}

impl Disk {
    /// One step towards the disk; in tests it may be the one that is not taken any more.
    #[cfg(not(test))]
    fn step(&self) -> io::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    fn step(&self) -> io::Result<()> {
        self.power.step()
    }

    fn write(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.step()?;
        #[cfg(test)]
        {
            let (first, _) = bytes.split_at(bytes.len() / 2);
            file.write_all_at(first, offset)?;
            self.step()?;
        }
        file.write_all_at(bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.step()?;
        file.sync_data()
    }

    /// Writes `bytes` at the end, `offset`, and syncs them. After an error the file ends there again, or
    /// will once it is written to or opened again.
    pub(super) fn append(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let written = self.write(file, offset, bytes).and_then(|()| self.sync(file));
        if written.is_err() {
            // A shorter frame written here next must not be followed by the rest of this one: it could
            // hold something that looks like a whole frame.
            self.truncate(file, offset)?;
        }
        written
    }

    /// Cuts a file to `length`, and syncs.
    pub(super) fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        self.step()?;
        file.set_len(length)?;
        self.sync(file)
    }

    /// Puts a file of `bytes` in the place of `path`, as a whole: written beside it, synced, renamed,
    /// and the directory synced.
    pub(super) fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<File> {
        let beside = path.with_extension(NEW_EXTENSION);
        self.step()?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&beside)?;
        self.write(&file, 0, bytes)?;
        self.sync(&file)?;
        self.step()?;
        std::fs::rename(&beside, path)?;
        self.sync_directory_of(path)?;
        Ok(file)
    }

    /// Makes a directory with those above it, and syncs their names: without that it may be gone after a power cut, with
    /// all that is in it. Also when it is there: whoever made it may have been ended before that.
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.is_dir();
        let made = path.ancestors().take_while(is_missing).count();
        self.step()?;
        std::fs::create_dir_all(path)?;
        for (index, path) in path.canonicalize()?.ancestors().enumerate() {
            match self.sync_directory_of(path) {
                Ok(()) => {}
                Err(error) if index < made => return Err(error),
                // What belongs to somebody else may not be readable, and was there before us.
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Syncs the directory that names `path`.
    pub(super) fn sync_directory_of(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()?;
        #[cfg(test)]
        self.power.synced(parent);
        Ok(())
    }
}
