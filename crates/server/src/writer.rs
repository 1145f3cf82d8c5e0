//! The writer: one thread that commits for all rooms at once.
//!
//! It takes what waits as soon as the last commit is done, in one transaction, synced to disk; only while
//! many rooms write are commits spaced ([`CommitPace`]). Receipts go back to the rooms only after the sync. A batch whose commit failed
//! stays first in its room's line and is tried again until the disk is back. Where one document is at fault, it alone is
//! set aside for a while, and the others are committed without it.

use crate::commit_pace::CommitPace;
use crate::limits::{
    COMMIT_BYTES_MAX, RETRY_AFTER_MAX, RETRY_AFTER_MIN, SET_ASIDE_FOR, UNCOMMITTED_BYTES_TOTAL_MAX,
};
use crate::metrics::Metrics;
use crate::revocations::Revocation;
use crate::room_handle::RoomHandle;
use crate::store::{CommitError, Prunable, Row, Snapshot, Store, SwapError};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::room::Batch;
use tokio::sync::{Notify, oneshot};

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Something else that the writer's connection does, between commits.
pub(crate) enum Job {
    /// Takes a verified snapshot in.
    Swap { snapshot: Snapshot, done: oneshot::Sender<Result<(), SwapError>> },
    /// Puts a document in quarantine.
    Quarantine { document: DocumentName, reason: String, done: oneshot::Sender<Result<(), CommitError>> },
    /// Ends a document's quarantine.
    Release { document: DocumentName, done: oneshot::Sender<Result<bool, CommitError>> },
    /// Deletes some rows of documents that are not of the history.
    Prune { documents: Vec<Prunable>, done: oneshot::Sender<Result<usize, SwapError>> },
    /// Keeps revocations.
    Revoke(Vec<(Revocation, oneshot::Sender<()>)>),
    /// Moves rows to their places.
    Settle,
    /// Moves what is left in the WAL to the main file.
    EndCheckpoint,
}

#[derive(Default)]
struct Queue {
    /// Rooms with something to commit, each once.
    rooms: VecDeque<Arc<RoomHandle>>,
    jobs: Vec<Job>,
    is_ending: bool,
}

/// The way to the writer.
pub(crate) struct WriterQueue {
    queue: Mutex<Queue>,
    filled: Condvar,
    /// Bytes admitted in all rooms and not yet committed.
    uncommitted_bytes: AtomicUsize,
    /// Connections wait until it is less.
    is_waited_for: AtomicBool,
    /// True while the last commit failed.
    is_failing: AtomicBool,
    /// Something was committed.
    progress: Notify,
    metrics: Arc<Metrics>,
}

impl WriterQueue {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(WriterQueue {
            queue: Mutex::default(),
            filled: Condvar::new(),
            uncommitted_bytes: AtomicUsize::new(0),
            is_waited_for: AtomicBool::new(false),
            is_failing: AtomicBool::new(false),
            progress: Notify::new(),
            metrics,
        })
    }

    /// A room has something to commit. The caller has made sure that it is not in the queue.
    pub(crate) fn enqueue(&self, room: Arc<RoomHandle>) {
        let mut queue = self.queue.lock();
        queue.rooms.push_back(room);
        let was_empty = queue.rooms.len() == 1;
        drop(queue);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Has a revocation stored, with others that wait. The receiver fails where that does.
    pub(crate) fn revoke(&self, revocation: Revocation) -> oneshot::Receiver<()> {
        let (done, stored) = oneshot::channel();
        let mut queue = self.queue.lock();
        let waiting = queue.jobs.iter_mut().find_map(|job| match job {
            Job::Revoke(waiting) => Some(waiting),
            _ => None,
        });
        match waiting {
            Some(waiting) => waiting.push((revocation, done)),
            None => queue.jobs.push(Job::Revoke(vec![(revocation, done)])),
        }
        drop(queue);
        self.filled.notify_one();
        stored
    }

    /// Has the writer do something between commits.
    pub(crate) fn run(&self, job: Job) {
        self.queue.lock().jobs.push(job);
        self.filled.notify_one();
    }

    /// Ends the thread after what is in the queue, or at once if the disk fails.
    pub(crate) fn end(&self) {
        self.queue.lock().is_ending = true;
        self.filled.notify_one();
    }

    /// Counts bytes that were admitted.
    pub(crate) fn admitted(&self, bytes: usize) {
        self.uncommitted_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.metrics.unacknowledged_bytes.increment(float(bytes));
    }

    /// True when connections that have pushed are not to be read. They are nudged when that is over.
    pub(crate) fn is_full(&self) -> bool {
        let is_over_limit = || self.uncommitted_bytes.load(Ordering::SeqCst) > UNCOMMITTED_BYTES_TOTAL_MAX;
        if !is_over_limit() {
            return false;
        }
        self.is_waited_for.store(true, Ordering::SeqCst);
        // It may have ended before anybody could know that it is waited for.
        is_over_limit()
    }

    /// True, once, when those who wait are to be nudged.
    fn takes_again(&self) -> bool {
        let is_over_limit = self.uncommitted_bytes.load(Ordering::SeqCst) > UNCOMMITTED_BYTES_TOTAL_MAX;
        !is_over_limit && self.is_waited_for.swap(false, Ordering::SeqCst)
    }

    /// True while commits fail.
    pub(crate) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    /// Waits until everything that was admitted is on the disk.
    pub(crate) async fn flushed(&self) {
        loop {
            let progress = self.progress.notified();
            if self.uncommitted_bytes.load(Ordering::Acquire) == 0 {
                return;
            }
            progress.await;
        }
    }

    fn committed(&self, bytes: usize) {
        self.uncommitted_bytes.fetch_sub(bytes, Ordering::SeqCst);
        self.metrics.unacknowledged_bytes.decrement(float(bytes));
        self.progress.notify_waiters();
    }
}

fn float(bytes: usize) -> f64 {
    u32::try_from(bytes).map_or(f64::from(u32::MAX), f64::from)
}

/// The thread's own half.
pub(crate) struct Writer {
    store: Store,
    queue: Arc<WriterQueue>,
    metrics: Arc<Metrics>,
    /// Called after each commit that made room in a full relay.
    relieved: Box<dyn Fn() + Send>,
    retry_after: Duration,
    /// Rooms whose rows the store refused, and when each is tried again. They count as queued.
    set_aside: VecDeque<(Instant, Arc<RoomHandle>)>,
    pace: CommitPace,
    /// Rows are moved to their places from then on.
    settle_from: Instant,
}

/// One room's part of a commit on its way.
struct Part {
    room: Arc<RoomHandle>,
    batch: Batch,
}

impl Writer {
    pub(crate) fn new(
        store: Store,
        queue: Arc<WriterQueue>,
        metrics: Arc<Metrics>,
        relieved: Box<dyn Fn() + Send>,
    ) -> Self {
        let now = Instant::now();
        let (pace, retry_after) = (CommitPace::new(now), RETRY_AFTER_MIN);
        let set_aside = VecDeque::new();
        Writer { store, queue, metrics, relieved, retry_after, set_aside, pace, settle_from: now }
    }

    /// Commits until the queue is told to end.
    pub(crate) fn run(mut self) {
        loop {
            let (parts, jobs) = match self.next_work() {
                Some(work) => work,
                None => break,
            };
            if !parts.is_empty() {
                self.commit(parts);
            }
            jobs.into_iter().for_each(|job| self.run_job(job));
            if self.settles() {
                self.settle();
            }
        }
        if let Err(error) = self.store.close() {
            tracing::warn!(%error, "the store's last checkpoint failed; the next start makes up for it");
        }
    }

    /// Waits for work; `None` when the thread is to end.
    fn next_work(&mut self) -> Option<(Vec<Part>, Vec<Job>)> {
        let mut parts: Vec<Part> = Vec::new();
        let mut bytes = 0;
        let mut queue = self.queue.queue.lock();
        loop {
            let now = Instant::now();
            while let Some((_, room)) = self.set_aside.pop_front_if(|(until, _)| *until <= now) {
                queue.rooms.push_back(room);
            }
            let next = self.pace.next();
            while !queue.rooms.is_empty() && !queue.is_ending && Instant::now() < next {
                self.queue.filled.wait_until(&mut queue, next);
            }
            while bytes < COMMIT_BYTES_MAX {
                let Some(room) = queue.rooms.pop_front() else { break };
                // The room's own lock is taken without holding the queue's: pushes of other rooms go on.
                let batch = parking_lot::MutexGuard::unlocked(&mut queue, || room.take_batch());
                if let Some(batch) = batch {
                    bytes += batch.update().len();
                    parts.push(Part { room, batch });
                }
            }
            if !parts.is_empty() || !queue.jobs.is_empty() || self.settles() {
                return Some((parts, std::mem::take(&mut queue.jobs)));
            }
            if queue.is_ending {
                return None;
            }
            let settle = self.store.is_settling().then_some(self.settle_from);
            let try_again = self.set_aside.front().map(|(until, _)| *until);
            match settle.into_iter().chain(try_again).min() {
                Some(until) => drop(self.queue.filled.wait_until(&mut queue, until)),
                None => self.queue.filled.wait(&mut queue),
            }
        }
    }

    fn commit(&mut self, mut parts: Vec<Part>) {
        let start = Instant::now();
        self.pace.commits(parts.len(), start);
        while let Err(error) = self.append(&parts) {
            self.metrics.commits_failed.increment(1);
            let at_fault = error.document();
            match parts.iter().position(|part| at_fault == Some(part.batch.document())) {
                Some(index) => self.set_aside(&error, parts.remove(index)),
                None => return self.failed(&error, parts),
            }
        }
        if !parts.is_empty() {
            self.metrics.commit_seconds.record(start.elapsed().as_secs_f64());
            self.metrics.commits.increment(1);
            self.publish(parts);
        }
    }

    fn append(&mut self, parts: &[Part]) -> Result<(), CommitError> {
        let rows = parts.iter().map(|Part { batch, .. }| Row {
            document: batch.document(),
            epoch: batch.epoch(),
            first: batch.first(),
            through: batch.through(),
            update: batch.update(),
        });
        self.store.append(rows, now_ms())
    }

    /// The store refuses a room's row, whatever the others hold: it waits, and they go on.
    fn set_aside(&mut self, error: &CommitError, Part { room, .. }: Part) {
        let document = room.document();
        tracing::error!(%document, %error, "a document's updates cannot be committed: they are not acknowledged");
        room.returned();
        self.set_aside.push_back((Instant::now() + SET_ASIDE_FOR, room));
    }

    /// The transaction is on the disk: now it may be spoken about.
    fn publish(&mut self, parts: Vec<Part>) {
        if self.queue.is_failing.swap(false, Ordering::Relaxed) {
            tracing::info!("the store can write again");
            self.retry_after = RETRY_AFTER_MIN;
        }
        for Part { room, batch } in parts {
            let row_bytes = batch.update().len();
            let freed = room.committed(batch.committed(), row_bytes);
            self.queue.committed(freed);
        }
        if self.queue.takes_again() {
            (self.relieved)();
        }
    }

    fn failed(&mut self, error: &CommitError, parts: Vec<Part>) {
        if !self.queue.is_failing.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "the store cannot write: nothing is acknowledged until it can");
        }
        // Stays first in line: this thread's queue and each room keep their order.
        let mut queue = self.queue.queue.lock();
        for Part { room, .. } in parts.into_iter().rev() {
            parking_lot::MutexGuard::unlocked(&mut queue, || room.returned());
            queue.rooms.push_front(room);
        }
        if queue.is_ending {
            queue.rooms.clear();
            return;
        }
        let until = Instant::now() + self.retry_after;
        while !queue.is_ending && !self.queue.filled.wait_until(&mut queue, until).timed_out() {}
        self.retry_after = (self.retry_after * 2).min(RETRY_AFTER_MAX);
    }

    /// Moves some rows to their places, between commits.
    fn settle(&mut self) {
        if let Err(error) = self.store.settle() {
            // They stay where they are, in memory and on the disk.
            tracing::warn!(%error, "rows could not be moved to their places; it is tried again");
            self.settle_from = Instant::now() + RETRY_AFTER_MAX;
        }
    }

    /// True when rows are to be moved to their places now.
    fn settles(&self) -> bool {
        self.store.is_settling() && Instant::now() >= self.settle_from
    }

    fn run_job(&mut self, job: Job) {
        // Whoever asked may have gone; the work is done all the same.
        match job {
            Job::Swap { snapshot, done } => {
                let _ = done.send(self.store.swap_snapshot(&snapshot, now_ms()));
            }
            Job::Quarantine { document, reason, done } => {
                let _ = done.send(self.store.quarantine(&document, &reason, now_ms()));
            }
            Job::Release { document, done } => {
                let _ = done.send(self.store.release(&document));
            }
            Job::Revoke(waiting) => {
                let (revocations, waiting): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
                match self.store.revoke(&revocations) {
                    Ok(()) => waiting.into_iter().for_each(|done| {
                        let _ = done.send(());
                    }),
                    Err(error) => tracing::error!(%error, "revoked tokens could not be stored"),
                }
            }
            Job::Settle => self.store.start_settling(),
            Job::EndCheckpoint => {
                if let Err(error) = self.store.checkpoint() {
                    tracing::warn!(%error, "a checkpoint failed; it is tried again");
                }
            }
            Job::Prune { documents, done } => {
                let _ = done.send(self.store.prune(&documents));
            }
        }
    }
}
