//! The data directory: exists, is ours alone, and says where the store's file lies.
//!
//! Two relays on one store would each believe that they give out a document's sequences. The lock is the
//! operating system's (it ends with the process, also with kill -9), never a file that is left behind.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

const LOCK_FILE: &str = "lock";
const STORE_FILE: &str = "tidewell.db";

/// A data directory that this process has locked.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    path: PathBuf,
    /// Holds the lock for as long as it is open.
    _lock: File,
}

/// Why a data directory cannot be used. Nothing in it was changed.
#[derive(Debug, Error)]
pub enum DataDirectoryError {
    /// It cannot be created.
    #[error("the data directory {} cannot be created: {source}", path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is asked for as it is, and holds no store.
    #[error("{} holds no Tidewell store", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// The path names something else.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// Another process uses it.
    #[error("the data directory {} is in use by another relay", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The lock file cannot be made.
    #[error("the data directory {} cannot be locked: {source}", path.display())]
    Lock {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl DataDirectory {
    /// Makes the directory if it is not there, for its owner alone, and locks it.
    pub(crate) fn create(path: &Path) -> Result<Self, DataDirectoryError> {
        if path.exists() && !path.is_dir() {
            return Err(DataDirectoryError::NotADirectory { path: path.to_owned() });
        }
        // What is in it is everybody's documents.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| DataDirectoryError::Create { path: path.to_owned(), source })?;
        Self::lock(path)
    }

    /// Locks a directory that holds a store already; makes nothing.
    pub(crate) fn existing(path: &Path) -> Result<Self, DataDirectoryError> {
        Self::store_in(path)?;
        Self::lock(path)
    }

    /// Where the store of a directory lies that a relay may have locked.
    pub(crate) fn store_in(path: &Path) -> Result<PathBuf, DataDirectoryError> {
        let store = path.join(STORE_FILE);
        if store.is_file() { Ok(store) } else { Err(DataDirectoryError::Missing { path: path.to_owned() }) }
    }

    fn lock(path: &Path) -> Result<Self, DataDirectoryError> {
        let failed = |source| DataDirectoryError::Lock { path: path.to_owned(), source };
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK_FILE))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(DataDirectory { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataDirectoryError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Waits until the names of the directory and of what is in it are on the disk: a file that is synced is lost all
    /// the same if its name is not.
    pub(crate) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()?;
        for parent in self.path.canonicalize()?.ancestors().skip(1) {
            // What belongs to somebody else may not be readable, and was there before us.
            let Ok(parent) = File::open(parent) else { break };
            let _ = parent.sync_all();
        }
        Ok(())
    }

    /// Where the store's file lies.
    pub(crate) fn store_path(&self) -> PathBuf {
        self.path.join(STORE_FILE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_has_one_owner_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er");
        let first = DataDirectory::create(&path).unwrap();
        assert!(matches!(DataDirectory::create(&path), Err(DataDirectoryError::Locked { .. })));
        drop(first);
        assert!(DataDirectory::create(&path).is_ok());
    }

    #[test]
    fn a_new_data_directory_is_for_its_owners_eyes_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
        DataDirectory::create(&ours).unwrap();
        assert_eq!(mode(&ours), 0o700);
        std::fs::create_dir(&theirs).unwrap();
        let before = mode(&theirs);
        DataDirectory::create(&theirs).unwrap();
        assert_eq!(mode(&theirs), before, "one that is there is as it was");
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(DataDirectory::create(&path), Err(DataDirectoryError::NotADirectory { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn a_directory_without_a_store_is_not_made_into_one_by_looking() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(DataDirectory::existing(folder.path()), Err(DataDirectoryError::Missing { .. })));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
