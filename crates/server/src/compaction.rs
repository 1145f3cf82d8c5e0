//! When a document is compacted, and the steps of it.

use crate::limits::{COMPACT_BUSY_FACTOR, COMPACT_BYTES_MIN, COMPACT_QUIET, COMPACT_ROWS_MIN};
use crate::store::StoredDocument;
use std::time::Duration;

/// How long a document's log is behind its snapshot, and whether it may be compacted.
#[derive(Debug, Clone)]
pub(crate) struct LogSize {
    rows: u64,
    bytes: u64,
    snapshot_bytes: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    /// Being compacted, with what was in the log then.
    Compacting {
        rows: u64,
        bytes: u64,
    },
    /// Not to be compacted.
    Quarantined,
}

/// How a compaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The snapshot is in the store and has this size.
    Done { snapshot_bytes: u64 },
    /// It is tried again later.
    Later,
    /// It is not tried again.
    Quarantined,
}

impl LogSize {
    /// As it was loaded.
    pub(crate) fn of(stored: &StoredDocument) -> Self {
        let size = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        LogSize {
            rows: size(stored.tail.len()),
            bytes: stored.tail.iter().map(|row| size(row.len())).sum(),
            snapshot_bytes: stored.snapshot.as_ref().map_or(0, |snapshot| size(snapshot.len())),
            state: if stored.quarantined { State::Quarantined } else { State::Free },
        }
    }

    /// Of a document that was never written to.
    pub(crate) fn empty() -> Self {
        LogSize { rows: 0, bytes: 0, snapshot_bytes: 0, state: State::Free }
    }

    /// Counts a row.
    pub(crate) fn committed(&mut self, row_bytes: usize) {
        self.rows += 1;
        self.bytes += u64::try_from(row_bytes).unwrap_or(u64::MAX);
    }

    pub(crate) fn is_compacting(&self) -> bool {
        matches!(self.state, State::Compacting { .. })
    }

    /// True, once, when it is time: nothing was committed for `quiet`.
    pub(crate) fn start_compaction(&mut self, quiet: Duration) -> bool {
        let factor = if quiet >= COMPACT_QUIET { 1 } else { COMPACT_BUSY_FACTOR };
        let is_long = self.rows >= COMPACT_ROWS_MIN * factor
            || (self.bytes >= COMPACT_BYTES_MIN * factor && self.bytes > self.snapshot_bytes / 2);
        // A snapshot alone cannot get better.
        let start = self.state == State::Free && is_long && self.rows > 1;
        if start {
            self.state = State::Compacting { rows: self.rows, bytes: self.bytes };
        }
        start
    }

    pub(crate) fn ended(&mut self, end: End) {
        let State::Compacting { rows, bytes } = self.state else { return };
        self.state = if end == End::Quarantined { State::Quarantined } else { State::Free };
        if let End::Done { snapshot_bytes } = end {
            // Commits since the start may or may not be in the snapshot; counting them again is harmless.
            self.rows = self.rows.saturating_sub(rows);
            self.bytes = self.bytes.saturating_sub(bytes);
            self.snapshot_bytes = snapshot_bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_of(rows: u64, row_bytes: usize) -> LogSize {
        let mut log = LogSize::empty();
        (0..rows).for_each(|_| log.committed(row_bytes));
        log
    }

    #[test]
    fn a_document_is_compacted_when_its_log_is_long_and_quiet_or_very_long() {
        assert!(!log_of(COMPACT_ROWS_MIN - 1, 1).start_compaction(COMPACT_QUIET));
        assert!(!log_of(COMPACT_ROWS_MIN, 1).start_compaction(Duration::ZERO));
        assert!(log_of(COMPACT_ROWS_MIN, 1).start_compaction(COMPACT_QUIET));
        assert!(log_of(COMPACT_ROWS_MIN * COMPACT_BUSY_FACTOR, 1).start_compaction(Duration::ZERO));
        assert!(log_of(2, COMPACT_BYTES_MIN as usize).start_compaction(COMPACT_QUIET));
        assert!(!log_of(1, COMPACT_BYTES_MIN as usize).start_compaction(COMPACT_QUIET));
    }

    #[test]
    fn a_large_document_is_not_compacted_for_a_small_tail() {
        let mut log = log_of(COMPACT_ROWS_MIN, 1);
        assert!(log.start_compaction(COMPACT_QUIET));
        assert!(!log.start_compaction(COMPACT_QUIET), "one at a time");
        log.ended(End::Done { snapshot_bytes: COMPACT_BYTES_MIN * 10 });
        (0..10).for_each(|_| log.committed(COMPACT_BYTES_MIN as usize / 10));
        assert!(!log.start_compaction(COMPACT_QUIET));
    }

    #[test]
    fn quarantine_ends_compaction_and_a_passing_failure_does_not() {
        let mut log = log_of(COMPACT_ROWS_MIN, 1);
        assert!(log.start_compaction(COMPACT_QUIET));
        log.ended(End::Later);
        assert!(log.start_compaction(COMPACT_QUIET));
        log.ended(End::Quarantined);
        assert!(!log.start_compaction(COMPACT_QUIET));
    }
}
