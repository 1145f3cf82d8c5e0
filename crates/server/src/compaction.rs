//! When a document is compacted, and the steps of it.

use crate::limits::{
    COMPACT_BUSY_FACTOR, COMPACT_BYTES_MIN, COMPACT_PAUSE_MAX, COMPACT_PAUSE_MIN, COMPACT_QUIET,
    COMPACT_ROWS_MIN,
};
use crate::store::StoredDocument;
use std::time::{Duration, Instant};

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
    Compacting,
    /// Not to be compacted.
    Quarantined,
}

/// How a compaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The snapshot is in the store.
    Done {
        /// Its size.
        snapshot_bytes: u64,
        /// Rows that are in it and were not in the one before.
        rows: u64,
        /// Bytes of those.
        bytes: u64,
    },
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

    /// Takes it out of quarantine and begins a compaction, whatever there is to gain; false if it is not in quarantine.
    pub(crate) fn start_released(&mut self) -> bool {
        let is_released = self.state == State::Quarantined;
        if is_released {
            self.state = State::Compacting;
        }
        is_released
    }

    pub(crate) fn is_compacting(&self) -> bool {
        self.state == State::Compacting
    }

    /// Bytes that loading it reads.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.bytes.saturating_add(self.snapshot_bytes)
    }

    /// True, once, when it is time for a document that is full: what was deleted makes room then.
    pub(crate) fn start_to_make_room(&mut self, quiet: Duration) -> bool {
        let start = self.state == State::Free && quiet >= COMPACT_QUIET && self.rows > 0;
        if start {
            self.state = State::Compacting;
        }
        start
    }

    /// True, once, when it is time: nothing was committed for `quiet`.
    pub(crate) fn start_compaction(&mut self, quiet: Duration) -> bool {
        let factor = if quiet >= COMPACT_QUIET { 1 } else { COMPACT_BUSY_FACTOR };
        let is_long = self.rows >= COMPACT_ROWS_MIN * factor
            || (self.bytes >= COMPACT_BYTES_MIN * factor && self.bytes > self.snapshot_bytes / 2);
        // A snapshot alone cannot get better.
        let start = self.state == State::Free && is_long && self.rows > 1;
        if start {
            self.state = State::Compacting;
        }
        start
    }

    pub(crate) fn ended(&mut self, end: End) {
        if self.state != State::Compacting {
            return;
        }
        self.state = if end == End::Quarantined { State::Quarantined } else { State::Free };
        if let End::Done { snapshot_bytes, rows, bytes } = end {
            self.rows = self.rows.saturating_sub(rows);
            self.bytes = self.bytes.saturating_sub(bytes);
            self.snapshot_bytes = snapshot_bytes;
        }
    }
}

/// The pause of all compaction after failures that are no document's.
#[derive(Debug, Default)]
pub(crate) struct Pause {
    until: Option<Instant>,
    /// How long the last one was.
    last: Duration,
}

impl Pause {
    /// True when nothing is to be compacted.
    pub(crate) fn is_on(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Something failed. Answers the new pause, unless there is one already: then it is known.
    pub(crate) fn failed(&mut self, now: Instant) -> Option<Duration> {
        if self.is_on(now) {
            return None;
        }
        self.last = (self.last * 2).clamp(COMPACT_PAUSE_MIN, COMPACT_PAUSE_MAX);
        self.until = Some(now + self.last);
        Some(self.last)
    }

    /// Something succeeded; true when there were failures before it.
    pub(crate) fn succeeded(&mut self) -> bool {
        std::mem::take(self).until.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_pause_compaction_for_longer_and_longer_and_each_pause_is_told_once() {
        let (mut pause, mut now) = (Pause::default(), Instant::now());
        assert!(!pause.is_on(now) && !pause.succeeded());
        let mut pauses = Vec::new();
        for _ in 0..20 {
            let length = pause.failed(now).expect("a new pause");
            assert_eq!(pause.failed(now), None, "the same failure of another document");
            assert!(pause.is_on(now + length - Duration::from_millis(1)));
            now += length;
            assert!(!pause.is_on(now));
            pauses.push(length);
        }
        assert_eq!(
            (pauses[0], pauses[1], pauses[19]),
            (COMPACT_PAUSE_MIN, COMPACT_PAUSE_MIN * 2, COMPACT_PAUSE_MAX)
        );
        assert!(pause.succeeded());
        assert_eq!(pause.failed(now), Some(COMPACT_PAUSE_MIN));
    }

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
        log.ended(End::Done {
            snapshot_bytes: COMPACT_BYTES_MIN * 10,
            rows: COMPACT_ROWS_MIN,
            bytes: COMPACT_ROWS_MIN,
        });
        assert_eq!(log.total_bytes(), COMPACT_BYTES_MIN * 10);
        (0..10).for_each(|_| log.committed(COMPACT_BYTES_MIN as usize / 10));
        assert!(!log.start_compaction(COMPACT_QUIET));
    }

    #[test]
    fn quarantine_ends_compaction_and_a_passing_failure_does_not() {
        let mut log = log_of(COMPACT_ROWS_MIN, 1);
        assert!(log.start_compaction(COMPACT_QUIET));
        log.ended(End::Later);
        assert!(log.start_compaction(COMPACT_QUIET));
        assert!(!log.start_released());
        log.ended(End::Quarantined);
        assert!(!log.start_compaction(COMPACT_QUIET));
        assert!(log.start_released() && log.is_compacting() && !log.start_released());
    }
}
