//! A handle to one room. Nobody else sees the lock: callers get short methods.
//!
//! Lock order: a room's lock is never held while another room's is taken, nor across an await.

use crate::awareness::Awareness;
use crate::catch_up::SharedCatchUp;
use crate::compaction::LogSize;
use crate::quotas::{Quota, Quotas, Tenant};
use crate::wake::Wake;
use crate::writer::WriterQueue;
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::protocol::{Position, Resume};
use tidewell_sync_core::room::{Batch, MemberId, Outgoing, PushKind, Receipt, Room};
use tidewell_sync_core::state_vector::StateVector;
use tidewell_sync_core::update::InvalidUpdate;

/// One room, shared by its connections, the writer and the registry.
pub(crate) struct RoomHandle {
    document: DocumentName,
    /// `None` where tenants may write as fast as they like.
    tenant: Option<Arc<Tenant>>,
    inner: Mutex<Inner>,
    /// The shared catch-up; whoever computes it holds the lock, so that it is computed once.
    pub(crate) catch_up: tokio::sync::Mutex<SharedCatchUp>,
    writer: Arc<WriterQueue>,
}

struct Inner {
    room: Room,
    seats: Vec<Seat>,
    /// Presence of the y-websocket door.
    awareness: Option<Box<Awareness>>,
    /// In the writer's queue, or in its hands.
    is_queued: bool,
    /// Out of the registry: nobody may join any more.
    is_evicted: bool,
    /// Bytes that the writer's queue counts for this room.
    counted_bytes: usize,
    log: LogSize,
    quota: Quota,
    last_commit: Instant,
    empty_since: Instant,
}

/// Where a member is to be woken.
struct Seat {
    member: MemberId,
    wake: Arc<Wake>,
    channel: u32,
    is_marked: bool,
    /// The last version of the awareness that it was sent; `None` when it is told of none.
    awareness_seen: Option<u64>,
}

/// Why nobody can join.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum JoinError {
    /// The room has just left memory: open it again.
    Evicted,
    /// The position is of another history.
    NeedsStateVector { epoch: u64, sequence: u64 },
}

/// Why an update is not taken. Nothing of it was.
#[derive(Debug, Error)]
pub(crate) enum PushError {
    #[error(transparent)]
    Invalid(#[from] InvalidUpdate),
    #[error("{}", .0.help())]
    Full(Code),
}

impl PushError {
    pub(crate) fn code(&self) -> Code {
        match self {
            PushError::Invalid(invalid) => invalid.code(),
            PushError::Full(code) => *code,
        }
    }
}

/// A place in a room.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) member: MemberId,
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
}

impl RoomHandle {
    pub(crate) fn new(
        room: Room,
        log: LogSize,
        catch_up: SharedCatchUp,
        writer: Arc<WriterQueue>,
        quotas: &Quotas,
    ) -> Arc<Self> {
        let now = Instant::now();
        let quota = quotas.of(room.document(), log.total_bytes());
        let inner = Inner {
            room,
            seats: Vec::new(),
            awareness: None,
            is_queued: false,
            is_evicted: false,
            counted_bytes: 0,
            log,
            quota,
            last_commit: now,
            empty_since: now,
        };
        let (document, tenant) = (inner.room.document().clone(), inner.quota.paced_tenant());
        let (inner, catch_up) = (Mutex::new(inner), tokio::sync::Mutex::new(catch_up));
        Arc::new(RoomHandle { document, tenant, inner, catch_up, writer })
    }

    pub(crate) fn document(&self) -> &DocumentName {
        &self.document
    }

    /// The last commit.
    pub(crate) fn sequence(&self) -> u64 {
        self.inner.lock().room.sequence()
    }

    /// Takes a `tidewell.v1` client in.
    pub(crate) fn join(
        &self,
        position: Position,
        wake: Arc<Wake>,
        channel: u32,
    ) -> Result<Joined, JoinError> {
        let mut inner = self.inner.lock();
        if inner.is_evicted {
            return Err(JoinError::Evicted);
        }
        let (epoch, sequence) = (inner.room.epoch(), inner.room.sequence());
        match inner.room.join(position) {
            Ok(member) => Ok(inner.seat(member, wake, channel, None)),
            Err(Resume::NeedsStateVector | Resume::Continues) => {
                Err(JoinError::NeedsStateVector { epoch, sequence })
            }
        }
    }

    /// Takes a y-websocket client in.
    pub(crate) fn join_stock(&self, wake: Arc<Wake>, channel: u32) -> Result<Joined, JoinError> {
        let mut inner = self.inner.lock();
        if inner.is_evicted {
            return Err(JoinError::Evicted);
        }
        let member = inner.room.join_stock();
        Ok(inner.seat(member, wake, channel, Some(0)))
    }

    /// A y-websocket client asks for what lies beyond `vector`.
    pub(crate) fn asked(&self, member: MemberId, vector: StateVector) {
        let mut inner = self.inner.lock();
        inner.room.asked(member, vector);
        inner.mark(&[member]);
    }

    /// Its tenant, if an update has to wait for that. One that adds no content does not: what others know they say again
    /// when they come back.
    pub(crate) fn waiting_tenant(&self, update: &[u8]) -> Option<&Arc<Tenant>> {
        let tenant = self.tenant.as_ref().filter(|tenant| tenant.has_to_wait())?;
        let adds = matches!(self.inner.lock().room.knows_structs_of(update), Ok(false));
        adds.then_some(tenant)
    }

    /// Admits an update and has it committed.
    pub(crate) fn push(
        self: &Arc<Self>,
        member: MemberId,
        kind: PushKind,
        number: Option<u64>,
        update: &Bytes,
    ) -> Result<(), PushError> {
        let mut inner = self.inner.lock();
        // Deletions are taken always: they make room. So is what is here already.
        if let Some(code) = inner.quota.is_over()
            && !inner.room.knows_structs_of(update)?
        {
            return Err(PushError::Full(code));
        }
        let pushed = inner.room.push(member, kind, number, update)?;
        if pushed.to_store {
            inner.quota.takes(update.len());
        }
        inner.mark(&pushed.wake);
        let bytes = inner.room.uncommitted_bytes();
        if bytes > inner.counted_bytes {
            self.writer.admitted(bytes - inner.counted_bytes);
            inner.counted_bytes = bytes;
        }
        inner.weigh();
        let enqueue = pushed.to_store && !std::mem::replace(&mut inner.is_queued, true);
        drop(inner);
        if enqueue {
            self.writer.enqueue(self.clone());
        }
        Ok(())
    }

    /// True when those who pushed are not to be read until the store has caught up.
    pub(crate) fn is_full(&self) -> bool {
        self.inner.lock().room.is_full()
    }

    /// What a member is to be told now.
    pub(crate) fn collect(&self, member: MemberId) -> Outgoing {
        let mut inner = self.inner.lock();
        if let Some(seat) = inner.seat_of(member) {
            seat.is_marked = false;
        }
        inner.room.collect(member)
    }

    /// A member was sent everything up to `through`. Answers what it may be told: the store may be ahead
    /// of the room for a moment, and then the member gets those commits again.
    pub(crate) fn caught_up(&self, member: MemberId, through: u64) -> u64 {
        let mut inner = self.inner.lock();
        let through = through.min(inner.room.sequence());
        inner.room.caught_up(member, through);
        if through < inner.room.sequence() {
            inner.mark(&[member]);
        }
        through
    }

    /// Lets a member go.
    pub(crate) fn leave(&self, member: MemberId) {
        let mut inner = self.inner.lock();
        inner.seats.retain(|seat| seat.member != member);
        inner.room.leave(member);
        if inner.seats.is_empty() {
            inner.empty_since = Instant::now();
        }
        if inner.seats.iter().all(|seat| seat.awareness_seen.is_none()) {
            // Nobody is here who would be told.
            inner.awareness = None;
        } else if inner.awareness.as_mut().is_some_and(|awareness| awareness.left(member)) {
            inner.mark_for_awareness();
        }
    }

    /// Ends the connections of all members; answers how many. One may have several channels here, or be ending already.
    pub(crate) fn kick(&self) -> usize {
        let inner = self.inner.lock();
        inner.seats.iter().filter(|seat| seat.wake.kick()).count()
    }

    /// Has all members' connections look again at what they wait for.
    pub(crate) fn nudge(&self) {
        self.inner.lock().seats.iter().for_each(|seat| seat.wake.nudge());
    }

    /// The writer asks for the next commit.
    pub(crate) fn take_batch(&self) -> Option<Batch> {
        let mut inner = self.inner.lock();
        let batch = inner.room.take_batch();
        inner.is_queued = batch.is_some();
        batch
    }

    /// The commit failed.
    pub(crate) fn returned(&self) {
        self.inner.lock().room.returned();
    }

    /// The batch is durable: its members are told. Answers the bytes that need not be counted any more.
    pub(crate) fn committed(self: &Arc<Self>, receipt: Receipt, row_bytes: usize) -> usize {
        let mut inner = self.inner.lock();
        inner.room.committed(receipt);
        inner.log.committed(row_bytes);
        inner.weigh();
        inner.last_commit = Instant::now();
        let bytes = inner.room.uncommitted_bytes();
        let freed = inner.counted_bytes.saturating_sub(bytes);
        // What is not counted yet is counted with the next push: never is more taken back than was counted.
        inner.counted_bytes -= freed;
        inner.is_queued = inner.room.has_batch();
        let again = inner.is_queued;
        inner.mark_all();
        drop(inner);
        if again {
            self.writer.enqueue(self.clone());
        }
        freed
    }

    /// Takes the room out of use if nobody needs it; answers whether it did.
    pub(crate) fn evict(&self, now: Instant, idle_after: Duration) -> bool {
        // The registry waits for this: a room that is busy now is not idle.
        let Some(mut inner) = self.inner.try_lock() else { return false };
        let is_old = now.duration_since(inner.empty_since) >= idle_after;
        if inner.room.is_idle() && !inner.is_queued && is_old && !inner.log.is_compacting() {
            inner.is_evicted = true;
        }
        inner.is_evicted
    }

    /// Forgets the commits that some members have not had: they are read from the log.
    pub(crate) fn forget_recent(&self) {
        if let Some(mut inner) = self.inner.try_lock() {
            inner.room.forget_recent();
        }
    }

    /// Forgets the shared catch-up when nobody has used it for a while.
    pub(crate) fn drop_old_catch_up(&self, now: Instant, kept: Duration) {
        if let Ok(mut shared) = self.catch_up.try_lock() {
            shared.take_if(|(_, used_at)| now.duration_since(*used_at) >= kept);
        }
    }

    /// True, once, when the document is to be compacted now.
    pub(crate) fn start_compaction(&self, now: Instant) -> bool {
        let Some(mut inner) = self.inner.try_lock() else { return false };
        let quiet = now.duration_since(inner.last_commit);
        let is_full = inner.quota.is_over().is_some();
        inner.log.start_compaction(quiet) || (is_full && inner.log.start_to_make_room(quiet))
    }

    /// Takes the document out of quarantine and begins a compaction; answers whether it was in one.
    pub(crate) fn start_released(&self) -> Result<bool, JoinError> {
        let mut inner = self.inner.lock();
        if inner.is_evicted { Err(JoinError::Evicted) } else { Ok(inner.log.start_released()) }
    }

    /// How a compaction ended.
    pub(crate) fn compacted(&self, end: crate::compaction::End) {
        let mut inner = self.inner.lock();
        inner.log.ended(end);
        inner.weigh();
    }

    /// Takes an awareness update from a y-websocket client; answers whether it is news. Others are told by
    /// [`Self::tell_awareness`], or with somebody else's news.
    pub(crate) fn awareness(
        &self,
        member: MemberId,
        entries: Vec<tidewell_sync_core::awareness::Entry>,
    ) -> bool {
        self.inner.lock().awareness.get_or_insert_default().take(member, entries)
    }

    /// Has everybody told the news of presence.
    pub(crate) fn tell_awareness(&self) {
        self.inner.lock().mark_for_awareness();
    }

    /// Has a y-websocket client told everybody's presence.
    pub(crate) fn query_awareness(&self, member: MemberId) {
        let mut inner = self.inner.lock();
        if let Some(seat) = inner.seat_of(member) {
            seat.awareness_seen = Some(0);
        }
        inner.mark(&[member]);
    }

    /// The presence that a y-websocket client has not been sent.
    pub(crate) fn collect_awareness(&self, member: MemberId) -> Vec<Vec<u8>> {
        let mut inner = self.inner.lock();
        let Inner { awareness: Some(awareness), seats, .. } = &mut *inner else { return Vec::new() };
        let Some(seat) = seats.iter_mut().find(|seat| seat.member == member) else { return Vec::new() };
        let Some(seen) = &mut seat.awareness_seen else { return Vec::new() };
        let news = awareness.after(*seen);
        *seen = awareness.version();
        if awareness.has_gone() {
            let seen_by_all = seats.iter().filter_map(|seat| seat.awareness_seen).min().unwrap_or(0);
            awareness.forget_gone(seen_by_all);
        }
        news
    }
}

impl Inner {
    fn seat(
        &mut self,
        member: MemberId,
        wake: Arc<Wake>,
        channel: u32,
        awareness_seen: Option<u64>,
    ) -> Joined {
        self.seats.push(Seat { member, wake, channel, is_marked: false, awareness_seen });
        self.mark(&[member]);
        Joined { member, epoch: self.room.epoch(), sequence: self.room.sequence() }
    }

    /// Tells its quota what the document has, committed or not.
    fn weigh(&mut self) {
        let uncommitted = u64::try_from(self.room.uncommitted_bytes()).unwrap_or(u64::MAX);
        self.quota.weighs(self.log.total_bytes().saturating_add(uncommitted));
    }

    /// Members are numbered in the order in which they came, and so are the seats.
    fn seat_of(&mut self, member: MemberId) -> Option<&mut Seat> {
        let index = self.seats.binary_search_by_key(&member, |seat| seat.member).ok()?;
        self.seats.get_mut(index)
    }

    fn mark(&mut self, members: &[MemberId]) {
        for member in members {
            if let Some(seat) = self.seat_of(*member) {
                seat.mark();
            }
        }
    }

    fn mark_all(&mut self) {
        self.seats.iter_mut().for_each(Seat::mark);
    }

    fn mark_for_awareness(&mut self) {
        self.seats.iter_mut().filter(|seat| seat.awareness_seen.is_some()).for_each(Seat::mark);
    }
}

impl Seat {
    fn mark(&mut self) {
        if !std::mem::replace(&mut self.is_marked, true) {
            self.wake.mark(self.channel);
        }
    }
}
