//! What operators do about documents in quarantine: see which they are, and release one while the relay is stopped.

use crate::data_directory::{DataDirectory, DataDirectoryError};
use crate::store::{CommitError, OpenError, Quarantined, Store, quarantined_in};
use std::path::Path;
use thiserror::Error;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;

/// Why nothing was done.
#[derive(Debug, Error)]
pub enum QuarantineError {
    /// The data directory cannot be used; perhaps the relay is running.
    #[error(transparent)]
    DataDirectory(#[from] DataDirectoryError),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] CommitError),
    /// No document can have this name.
    #[error("{name:?}: {}", Code::InvalidName.help())]
    Name {
        /// As it was given.
        name: String,
    },
    /// The document is not in quarantine.
    #[error("{name:?} is not in quarantine")]
    NotQuarantined {
        /// As it was given.
        name: String,
    },
}

/// The documents in quarantine, by name, while the relay runs or not.
pub fn quarantined(data: &Path) -> Result<Vec<Quarantined>, QuarantineError> {
    Ok(quarantined_in(&DataDirectory::store_in(data)?)?)
}

/// Has a document compacted again.
pub fn release(data: &Path, name: &str) -> Result<(), QuarantineError> {
    let given = || name.to_owned();
    let document = DocumentName::parse(name).map_err(|_| QuarantineError::Name { name: given() })?;
    let directory = DataDirectory::existing(data)?;
    if Store::open(&directory, 1)?.release(&document)? {
        Ok(())
    } else {
        Err(QuarantineError::NotQuarantined { name: given() })
    }
}
