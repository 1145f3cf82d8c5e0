//! Who has seen what: every writer has a lane, every reader reports to it.

use crate::typing::{FIRST_CLIENT, units};
use anyhow::Result;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Updates of one writer that can be under way; more than any scenario sends within the time of a delivery.
const LANE_UPDATES_MAX: usize = 256;

/// All writers of a run.
pub(crate) struct Board {
    lanes: Vec<Lane>,
    /// Reports that complete an update.
    reports_each: u32,
    started: Instant,
    gaps: AtomicU64,
}

/// One writer.
struct Lane {
    reports: Vec<AtomicU32>,
    sent_ns: Vec<AtomicU64>,
    sent: AtomicU32,
    slots: Semaphore,
}

/// What one reader has seen.
pub(crate) struct Seen {
    clocks: Vec<u32>,
    /// The reader is this writer: a relay may send its own updates back, or only some of them.
    own: Option<usize>,
}

impl Board {
    /// For writers that may each have `in_flight_max` updates under way, each complete when it was reported
    /// `reports_each` times.
    pub(crate) fn new(writers: usize, in_flight_max: usize, reports_each: usize) -> Self {
        let lane = || Lane {
            reports: (0..LANE_UPDATES_MAX).map(|_| AtomicU32::new(0)).collect(),
            sent_ns: (0..LANE_UPDATES_MAX).map(|_| AtomicU64::new(0)).collect(),
            sent: AtomicU32::new(0),
            slots: Semaphore::new(in_flight_max),
        };
        Board {
            lanes: (0..writers).map(|_| lane()).collect(),
            reports_each: u32::try_from(reports_each).unwrap_or(u32::MAX),
            started: Instant::now(),
            gaps: AtomicU64::new(0),
        }
    }

    /// The client ID of a writer.
    pub(crate) fn client(writer: usize) -> u64 {
        FIRST_CLIENT + writer as u64
    }

    /// Waits until a writer may send; answers with how many updates. `None` after [`Board::close`].
    pub(crate) async fn slots(&self, writer: usize) -> Option<usize> {
        let lane = self.lanes.get(writer)?;
        lane.slots.acquire().await.ok()?.forget();
        let mut count = 1;
        while let Ok(permit) = lane.slots.try_acquire() {
            permit.forget();
            count += 1;
        }
        Some(count)
    }

    /// No more updates are to be sent.
    pub(crate) fn close(&self) {
        self.lanes.iter().for_each(|lane| lane.slots.close());
    }

    /// True after [`Board::close`].
    pub(crate) fn is_closed(&self, writer: usize) -> bool {
        self.lanes.get(writer).is_none_or(|lane| lane.slots.is_closed())
    }

    /// Notes that a writer is about to send an update; answers with its clock.
    pub(crate) fn sending(&self, writer: usize) -> u32 {
        let Some(lane) = self.lanes.get(writer) else { return 0 };
        let clock = lane.sent.fetch_add(1, Ordering::Relaxed);
        if let Some(sent) = lane.sent_ns.get(clock as usize % LANE_UPDATES_MAX) {
            sent.store(self.now_ns(), Ordering::Release);
        }
        clock
    }

    /// Notes that somebody has, or has acknowledged, one update.
    pub(crate) fn report(&self, writer: usize, clock: u32) {
        let Some(lane) = self.lanes.get(writer) else { return };
        let Some(reports) = lane.reports.get(clock as usize % LANE_UPDATES_MAX) else { return };
        if reports.fetch_add(1, Ordering::AcqRel) + 1 == self.reports_each {
            reports.store(0, Ordering::Release);
            lane.slots.add_permits(1);
        }
    }

    /// Reads an update that a reader received; answers with the number of new units and tells each one's age.
    pub(crate) fn deliver(
        &self,
        seen: &mut Seen,
        update: &[u8],
        mut each: impl FnMut(usize, u32, Duration),
    ) -> Result<u64> {
        let now = self.now_ns();
        let mut count = 0;
        units(update, |client, from, to| {
            let Some(writer) = client.checked_sub(FIRST_CLIENT).and_then(|index| usize::try_from(index).ok())
            else {
                return;
            };
            let (Some(lane), Some(known)) = (self.lanes.get(writer), seen.clocks.get_mut(writer)) else {
                return;
            };
            if from > *known && seen.own != Some(writer) {
                self.gaps.fetch_add(u64::from(from - *known), Ordering::Relaxed);
            }
            for clock in from.max(*known)..to {
                let sent = lane.sent_ns.get(clock as usize % LANE_UPDATES_MAX);
                let sent = sent.map_or(now, |sent| sent.load(Ordering::Acquire));
                each(writer, clock, Duration::from_nanos(now.saturating_sub(sent)));
                count += 1;
            }
            *known = to.max(*known);
        })?;
        Ok(count)
    }

    /// What a new reader has seen, who may be one of the writers.
    pub(crate) fn seen(&self, own: Option<usize>) -> Seen {
        Seen { clocks: vec![0; self.lanes.len()], own }
    }

    /// Updates sent by all writers.
    pub(crate) fn sent_all(&self) -> u64 {
        self.lanes.iter().map(|lane| u64::from(lane.sent.load(Ordering::Relaxed))).sum()
    }

    /// Updates that a reader did not get before a later one of the same writer.
    pub(crate) fn gaps(&self) -> u64 {
        self.gaps.load(Ordering::Relaxed)
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
