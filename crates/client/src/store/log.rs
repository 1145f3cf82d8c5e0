//! One document's log: a header, then frames.
//!
//! `header = "tidewell" version:4 salt:4 name_length:4 name checksum:4`. A log appears under its name with
//! its header already synced, so a header is never torn.

use super::directory::Disk;
use super::{entry, frame};
use crate::branch::Branch;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use thiserror::Error;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::replica::Stored;

const MAGIC: &[u8; 8] = b"tidewell";
const VERSION: u32 = 1;
/// Bytes of a header besides the name.
const HEADER_BYTES: usize = 24;

/// Why a document's log cannot be used. Its file was not changed.
#[derive(Debug, Error)]
pub enum LogError {
    /// Bytes before the end are damaged, with whole commits behind them. Going on without them could
    /// lose edits, so a person has to decide; a copy of the file is to be kept.
    #[error("the log {} is damaged at byte {offset}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Offset of the first damaged byte's frame.
        offset: u64,
    },
    /// The system did not read or write.
    #[error("the log {} cannot be used: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// What was cut from a log's end on opening: a commit that was being written when the process or the
/// machine stopped, and that nobody was told to be saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TornTail {
    /// Where the last whole commit ends.
    pub offset: u64,
    /// Bytes that were cut.
    pub bytes: u64,
}

/// An open log, for appending.
#[derive(Debug)]
pub(crate) struct Log {
    pub(super) path: PathBuf,
    pub(super) name: DocumentName,
    file: File,
    salt: [u8; 4],
    /// Where the last commit ends.
    length: u64,
    /// Length after the last compaction.
    compacted_length: u64,
}

/// What a log held when it was opened.
pub(super) struct Contents {
    pub(super) stored: Stored,
    pub(super) branches: Vec<Branch>,
    pub(super) torn: Option<TornTail>,
}

impl Log {
    /// A new log under `path` that holds `stored`. It is there as a whole or not at all.
    pub(super) fn create(
        disk: &Disk,
        path: &Path,
        name: &DocumentName,
        stored: &Stored,
        branches: &[Branch],
    ) -> Result<Log, LogError> {
        let io = |source| LogError::Io { path: path.to_path_buf(), source };
        let salt: [u8; 4] = rand::random();
        let mut bytes = write_header(name, salt);
        let is_empty = stored.cursor.is_none() && stored.received.is_empty() && stored.outbox.is_empty();
        if !is_empty || !branches.is_empty() {
            let mut payload = Vec::new();
            entry::write_stored(&mut payload, stored, branches);
            bytes.extend_from_slice(&frame::write(salt, &payload).ok_or_else(too_large).map_err(io)?);
        }
        let file = disk.replace(path, &bytes).map_err(io)?;
        let length = bytes.len() as u64;
        Ok(Log { path: path.to_path_buf(), name: name.clone(), file, salt, length, compacted_length: length })
    }

    /// Opens an existing log and reads what it holds. A torn end is cut off.
    pub(super) fn open(disk: &Disk, path: &Path) -> Result<(Log, Contents), LogError> {
        let io = |source| LogError::Io { path: path.to_path_buf(), source };
        // It may have taken its place without having been told that it stays there.
        disk.sync_directory_of(path).map_err(io)?;
        let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(io)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        let damaged = |offset: usize| LogError::Damaged { path: path.to_path_buf(), offset: offset as u64 };
        let (name, salt, mut at) = read_header(&bytes).ok_or_else(|| damaged(0))?;
        let (mut stored, mut branches) = (Stored::default(), Vec::new());
        let mut first_length = None;
        while let Some(payload) = frame::read(&bytes, at, salt) {
            entry::read_all(payload, &mut stored, &mut branches).map_err(|_| damaged(at))?;
            at += frame::HEAD_BYTES + payload.len();
            first_length.get_or_insert(at as u64);
        }
        let mut torn = None;
        if at < bytes.len() {
            if frame::any_after(&bytes, at, salt) {
                return Err(damaged(at));
            }
            torn = Some(TornTail { offset: at as u64, bytes: (bytes.len() - at) as u64 });
            disk.truncate(&file, at as u64).map_err(io)?;
        }
        let length = at as u64;
        let compacted_length = first_length.unwrap_or(length);
        let log = Log { path: path.to_path_buf(), name, file, salt, length, compacted_length };
        Ok((log, Contents { stored, branches, torn }))
    }

    /// Appends a commit and syncs it to disk. After an error nothing of it is in the log, and it can be
    /// tried again.
    pub(super) fn append(&mut self, disk: &Disk, payload: &[u8]) -> io::Result<()> {
        let bytes = frame::write(self.salt, payload).ok_or_else(too_large)?;
        // What a failed attempt left behind must not stand between this frame and the last.
        disk.append(&self.file, self.length, &bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// True when the log has grown enough since its last compaction to be worth another.
    pub(super) fn is_worth_compacting(&self) -> bool {
        const BYTES_MIN: u64 = 4 << 20;
        self.length > BYTES_MIN.max(self.compacted_length.saturating_mul(4))
    }

    /// Compaction would lose something: it is not asked for again before the log has grown as much again.
    pub(super) fn compaction_declined(&mut self) {
        self.compacted_length = self.length;
    }

    #[cfg(test)]
    pub(super) fn length(&self) -> u64 {
        self.length
    }
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, "a commit is too large for a frame")
}

fn write_header(name: &DocumentName, salt: [u8; 4]) -> Vec<u8> {
    let name = name.as_str().as_bytes();
    let mut out = Vec::with_capacity(HEADER_BYTES + name.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&salt);
    // A name has 512 bytes at most.
    out.extend_from_slice(&u32::try_from(name.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(name);
    let sum = crc32fast::hash(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

/// The name, the salt, and where the first frame begins.
fn read_header(bytes: &[u8]) -> Option<(DocumentName, [u8; 4], usize)> {
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (version, rest) = rest.split_first_chunk::<4>()?;
    let (salt, rest) = rest.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let name = rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    let end = HEADER_BYTES - 4 + name.len();
    let sum = bytes.get(end..)?.first_chunk::<4>()?;
    let is_whole = magic == MAGIC
        && u32::from_le_bytes(*version) == VERSION
        && u32::from_le_bytes(*sum) == crc32fast::hash(bytes.get(..end)?);
    let name = DocumentName::parse(std::str::from_utf8(name).ok()?).ok()?;
    is_whole.then_some((name, *salt, end + 4))
}

/// The name of the document whose log this is.
pub(super) fn read_name(path: &Path) -> Result<DocumentName, LogError> {
    let io = |source| LogError::Io { path: path.to_path_buf(), source };
    let mut bytes = Vec::new();
    let most = HEADER_BYTES + tidewell_sync_core::limits::DOCUMENT_NAME_BYTES_MAX;
    File::open(path).and_then(|file| file.take(most as u64).read_to_end(&mut bytes)).map_err(io)?;
    match read_header(&bytes) {
        Some((name, ..)) => Ok(name),
        None => Err(LogError::Damaged { path: path.to_path_buf(), offset: 0 }),
    }
}
