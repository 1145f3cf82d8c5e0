//! The device's store: one directory, one append-only log for each document.
//!
//! What it promises: a commit that was answered for is on disk, whole, whatever happens next. What it
//! must never do: throw away an edit that the relay has not acknowledged, or give out a document with a
//! hole where there was damage.

mod compaction;
mod directory;
mod entry;
mod frame;
mod log;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod writer;

pub use directory::DirectoryError;
pub(crate) use directory::{Directory, Loaded};
pub use log::{LogError, TornTail};
