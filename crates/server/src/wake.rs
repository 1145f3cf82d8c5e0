//! How rooms wake a connection: a list of its channels with something to collect.
//!
//! A room marks a channel at most once until it is collected, so that the list is never longer than the
//! connection has channels, however slow it is.

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Context;
use tidewell_sync_core::code::Code;

/// Belongs to one connection; shared with the rooms it is in.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    marked: Mutex<Vec<u32>>,
    task: AtomicWaker,
    /// Milliseconds after which the client shall come back, plus one; 0 while it may stay.
    return_after: AtomicU64,
    /// It is sent away because there is too much to do, not because the relay ends.
    is_shed: AtomicBool,
    /// Bytes that the relay keeps for this connection alone while they are on their way, about.
    held_bytes: AtomicUsize,
    /// What its open documents take besides.
    open_bytes: AtomicUsize,
    is_nudged: AtomicBool,
    is_kicked: AtomicBool,
}

impl Wake {
    /// A channel has something to collect.
    pub(crate) fn mark(&self, channel: u32) {
        let mut marked = self.marked.lock();
        marked.push(channel);
        let is_first = marked.len() == 1;
        drop(marked);
        if is_first {
            self.task.wake();
        }
    }

    /// Something that the connection waits for may have changed.
    pub(crate) fn nudge(&self) {
        self.is_nudged.store(true, Ordering::Release);
        self.task.wake();
    }

    /// True, once, after a nudge.
    pub(crate) fn take_nudge(&self) -> bool {
        self.is_nudged.swap(false, Ordering::AcqRel)
    }

    /// The connection is to end, by an administrator's word; false when that was said already.
    pub(crate) fn kick(&self) -> bool {
        let was_kicked = self.is_kicked.swap(true, Ordering::AcqRel);
        self.task.wake();
        !was_kicked
    }

    /// True once it is to end so.
    pub(crate) fn is_kicked(&self) -> bool {
        self.is_kicked.load(Ordering::Acquire)
    }

    /// The connection is to end, and its client to come back after so many milliseconds.
    pub(crate) fn send_away(&self, after_ms: u64) {
        self.return_after.store(after_ms.saturating_add(1), Ordering::Release);
        self.task.wake();
    }

    /// The connection is to end because there is too much to do.
    pub(crate) fn shed(&self, after_ms: u64) {
        self.is_shed.store(true, Ordering::Release);
        self.send_away(after_ms);
    }

    /// The relay keeps so many bytes for this connection now; answers how many it was before.
    pub(crate) fn holds(&self, bytes: usize) -> usize {
        self.held_bytes.swap(bytes, Ordering::Relaxed)
    }

    /// Its open documents take so many bytes now.
    pub(crate) fn opens(&self, bytes: usize) {
        self.open_bytes.store(bytes, Ordering::Relaxed);
    }

    /// What its open documents take.
    pub(crate) fn open_bytes(&self) -> usize {
        self.open_bytes.load(Ordering::Relaxed)
    }

    /// Bytes that the relay keeps for this connection while they are on their way.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Why the connection is to end and when its client shall come back, if it is.
    pub(crate) fn sent_away(&self) -> Option<(Code, u64)> {
        let after_ms = self.return_after.load(Ordering::Acquire).checked_sub(1)?;
        let is_shed = self.is_shed.load(Ordering::Acquire);
        Some((if is_shed { Code::Overloaded } else { Code::ShuttingDown }, after_ms))
    }

    /// The marked channels; the list is empty afterwards.
    pub(crate) fn take(&self) -> Vec<u32> {
        std::mem::take(&mut *self.marked.lock())
    }

    /// Marks channels again that were taken and could not be served yet.
    pub(crate) fn put_back(&self, channels: impl IntoIterator<Item = u32>) {
        self.marked.lock().extend(channels);
    }

    /// Has the task polled again when something happens from now on.
    pub(crate) fn register(&self, context: &mut Context<'_>) {
        self.task.register(context.waker());
    }

    /// True when there is something to collect.
    pub(crate) fn is_marked(&self) -> bool {
        !self.marked.lock().is_empty()
    }
}
