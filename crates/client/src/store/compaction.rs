//! Compaction: what came from the relay, and what it has acknowledged, becomes one update.
//!
//! The outbox and the branches are copied row by row: what the relay has not acknowledged keeps its identity, so that it
//! can still be counted, refused, or set aside by itself.

use super::directory::Disk;
use super::log::{Log, LogError};
use tidewell_sync_core::replica::{Replica, Stored};

/// Writes a document's log anew, smaller, and puts it in the place of the old one. Answers `None`, and
/// leaves everything as it is, when there is something in the log that would not come back from it.
pub(super) fn compact(disk: &Disk, log: &Log) -> Result<Option<Log>, LogError> {
    let (old, contents) = Log::open(disk, &log.path)?;
    let mut stored = contents.stored;
    let Some(snapshot) = snapshot(&old, &stored) else { return Ok(None) };
    stored.received = vec![snapshot];
    Log::create(disk, &old.path, &old.name, &stored, &contents.branches).map(Some)
}

/// All that was received as one update, if nothing is lost by it.
fn snapshot(log: &Log, stored: &Stored) -> Option<bytes::Bytes> {
    let load = |received| {
        let mut replica = Replica::new(log.name.clone(), 0, 0);
        let report = replica.load(Stored { cursor: None, received, outbox: Vec::new() });
        (report == Default::default()).then_some(replica)
    };
    let replica = load(stored.received.clone())?;
    let snapshot = replica.encode();
    // Read back: a snapshot that does not say the same is not used.
    let again = load(vec![snapshot.clone()])?;
    let is_same = again.admitted().state_vector() == replica.admitted().state_vector();
    is_same.then_some(snapshot)
}
