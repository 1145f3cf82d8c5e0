//! When the writer may make its next commit.
//!
//! A commit costs a sync of the disk and several thread switches, whatever it holds. While many rooms
//! write, commits that follow each other at once hold a few rows each, and keeping the log is half of the
//! relay's work. So a busy writer spaces its commits; one that is not busy never waits.

use crate::limits::{COMMIT_BUSY_ROOMS, COMMIT_SPACING};
use std::time::Instant;

/// What was committed within the last [`COMMIT_SPACING`].
#[derive(Debug)]
pub(crate) struct CommitPace {
    since: Instant,
    rooms: usize,
    is_busy: bool,
}

impl CommitPace {
    pub(crate) fn new(now: Instant) -> Self {
        CommitPace { since: now, rooms: 0, is_busy: false }
    }

    /// When the next commit may be made; often this is past.
    pub(crate) fn next(&self) -> Instant {
        if self.is_busy { self.since + COMMIT_SPACING } else { self.since }
    }

    /// A commit of so many rooms' updates is made now.
    pub(crate) fn commits(&mut self, rooms: usize, now: Instant) {
        if now.duration_since(self.since) >= COMMIT_SPACING {
            // A commit after a long pause is a beginning, even if many rooms wrote.
            let is_recent = now.duration_since(self.since) < 2 * COMMIT_SPACING;
            self.is_busy = is_recent && self.rooms >= COMMIT_BUSY_ROOMS;
            (self.since, self.rooms) = (now, 0);
        }
        self.rooms += rooms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn commits_are_spaced_only_while_many_rooms_write() {
        let start = Instant::now();
        let mut pace = CommitPace::new(start);
        let (mut now, each) = (start, COMMIT_SPACING / 4);
        for _ in 0..20 {
            pace.commits(1, now);
            assert!(pace.next() <= now, "one room that writes all the time is not many");
            now += each;
        }
        for _ in 0..8 {
            pace.commits(COMMIT_BUSY_ROOMS, now);
            now += each;
        }
        assert!(pace.next() > now - each, "many rooms wait for each other");
        now += Duration::from_secs(1);
        assert!(pace.next() <= now);
        pace.commits(COMMIT_BUSY_ROOMS, now);
        assert!(pace.next() <= now, "the first commit after a pause keeps nobody waiting");
    }
}
