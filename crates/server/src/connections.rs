//! All open connections: their number, by whom they are, and how to reach them all at once.

use crate::connection::End;
use crate::limits::{
    FULL_RETURN_MAX, FULL_RETURN_MIN, READERS_MAX, RETURN_AFTER_MAX, RETURN_AFTER_MIN, RETURNS_PER_MS,
    SHED_BYTES_MIN,
};
use crate::metrics::{Limit, Metrics};
use crate::places::Place;
use crate::token::Session;
use crate::token::claims::Claims;
use crate::wake::Wake;
use parking_lot::Mutex;
use rand::Rng;
use rustc_hash::FxHashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tidewell_sync_core::code::Code;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

/// What connections may be, besides their [places](crate::places).
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    /// Connections of one subject.
    pub(crate) per_subject: usize,
    /// Connections that have not said who they are yet.
    pub(crate) joins: usize,
    /// Bytes that all of them together may make the relay keep.
    pub(crate) held_bytes: usize,
}

/// The open connections. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limits: ConnectionLimits,
    open: Mutex<Open>,
    all_gone: Notify,
    /// What all connections make the relay keep.
    held_bytes: AtomicUsize,
    /// Some wait until it is less.
    is_waited_for: AtomicBool,
    /// For what is read or made for a connection and is not counted yet.
    turns: Semaphore,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    wakes: FxHashMap<u64, Entry>,
    subjects: FxHashMap<String, usize>,
    /// Entries that have not joined.
    joining: usize,
    /// Memory is short: nobody else is let in.
    is_closed: bool,
    /// Set when the relay drains: who comes now is sent away at once.
    is_draining: bool,
}

#[derive(Debug)]
struct Entry {
    wake: Arc<Wake>,
    has_joined: bool,
    /// Whose it is, once that is known.
    session: Option<Arc<Session>>,
}

/// A connection's entry; it ends with this.
#[derive(Debug)]
pub(crate) struct Registered {
    connections: Connections,
    wake: Arc<Wake>,
    id: u64,
    /// Ends with the connection.
    _place: Arc<Place>,
}

/// There are as many connections as there may be.
#[derive(Debug)]
pub(crate) struct Full {
    limit: Limit,
    /// When the client shall come back.
    pub(crate) after_ms: u64,
}

/// Only others' leaving lifts the limit.
impl From<Limit> for Full {
    fn from(limit: Limit) -> Self {
        Full { limit, after_ms: full_return_ms() }
    }
}

impl Full {
    /// Counts it, and ends a connection so.
    pub(crate) fn counted(self, metrics: &Metrics) -> End {
        metrics.hit(self.limit);
        End::Away { code: Code::Overloaded, after_ms: self.after_ms }
    }
}

impl Connections {
    pub(crate) fn new(limits: ConnectionLimits) -> Self {
        let shared = Shared {
            limits,
            open: Mutex::default(),
            all_gone: Notify::new(),
            held_bytes: AtomicUsize::new(0),
            is_waited_for: AtomicBool::new(false),
            turns: Semaphore::new(READERS_MAX),
        };
        Connections { shared: Arc::new(shared) }
    }

    /// Enters a connection, which has not joined yet.
    pub(crate) fn enter(&self, place: Arc<Place>) -> Result<Registered, Full> {
        let mut open = self.shared.open.lock();
        if open.is_closed {
            return Err(Limit::Memory.into());
        }
        if open.joining >= self.shared.limits.joins {
            return Err(Full { limit: Limit::Joins, after_ms: random_return_ms(open.joining) });
        }
        let (id, wake) = (open.next, Arc::new(Wake::default()));
        open.next += 1;
        if open.is_draining {
            wake.send_away(random_return_ms(open.wakes.len()));
        }
        open.joining += 1;
        open.wakes.insert(id, Entry { wake: wake.clone(), has_joined: false, session: None });
        Ok(Registered { connections: self.clone(), wake, id, _place: place })
    }

    /// Has every connection look again at what it waits for.
    pub(crate) fn nudge_all(&self) {
        self.shared.open.lock().wakes.values().for_each(|entry| entry.wake.nudge());
    }

    /// Ends the connections whose tokens' claims are such; answers how many, without those that are ending so already.
    pub(crate) fn kick(&self, such: impl Fn(&Claims) -> bool) -> usize {
        let open = self.shared.open.lock();
        let is_such = |entry: &&Entry| entry.session.as_ref().is_some_and(|session| such(&session.claims));
        open.wakes.values().filter(is_such).filter(|entry| entry.wake.kick()).count()
    }

    /// Lets nobody else in, or somebody again.
    pub(crate) fn set_closed(&self, is_closed: bool) {
        self.shared.open.lock().is_closed = is_closed;
    }

    /// True when nobody is to make the relay keep more.
    fn hold_too_much(&self) -> bool {
        self.shared.held_bytes.load(Ordering::SeqCst) > self.shared.limits.held_bytes
    }

    /// Makes room where connections hold too much together; answers how many are sent away, however little each holds: as
    /// long as it is too much nobody is read on. Those who wait for it go on.
    pub(crate) fn make_room(&self) -> usize {
        let (held, max) = (self.shared.held_bytes.load(Ordering::SeqCst), self.shared.limits.held_bytes);
        if held > max {
            return self.send_away(held - (max - max / 4), 1, Wake::held_bytes);
        }
        if self.shared.is_waited_for.swap(false, Ordering::SeqCst) {
            self.nudge_all();
        }
        0
    }

    /// Sends those away that make the relay keep the most, until `bytes` will be free; answers how many.
    pub(crate) fn shed(&self, bytes: u64) -> usize {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.send_away(bytes, SHED_BYTES_MIN, |wake| wake.held_bytes() + wake.open_bytes())
    }

    /// Sends those away for whom the most is kept, of those for whom it is so much at least. Who is on the way out already
    /// counts.
    fn send_away(&self, bytes: usize, bytes_min: usize, kept: impl Fn(&Wake) -> usize) -> usize {
        let open = self.shared.open.lock();
        let (leaving, mut staying): (Vec<_>, Vec<_>) =
            open.wakes.values().map(|entry| &entry.wake).partition(|wake| wake.sent_away().is_some());
        let mut free: usize = leaving.iter().map(|wake| kept(wake)).sum();
        staying.retain(|wake| kept(wake) >= bytes_min);
        // Read once for each: it changes meanwhile, and a sort that is told two things panics.
        staying.sort_by_cached_key(|wake| std::cmp::Reverse(kept(wake)));
        let mut count = 0;
        for wake in staying {
            if free >= bytes {
                break;
            }
            free = free.saturating_add(kept(wake));
            wake.shed(full_return_ms());
            count += 1;
        }
        count
    }

    /// Tells every connection to end and its client when to come back, each at another time.
    pub(crate) fn send_all_away(&self) {
        let mut open = self.shared.open.lock();
        open.is_draining = true;
        let count = open.wakes.len();
        open.wakes.values().for_each(|entry| entry.wake.send_away(random_return_ms(count)));
    }

    /// Waits until no connection is left.
    pub(crate) async fn all_gone(&self) {
        loop {
            let gone = self.shared.all_gone.notified();
            if self.shared.open.lock().wakes.is_empty() {
                return;
            }
            gone.await;
        }
    }
}

impl Registered {
    /// What the connection is woken by.
    pub(crate) fn wake(&self) -> &Arc<Wake> {
        &self.wake
    }

    /// The relay keeps so many bytes for this connection while they are on their way: what has come and is not taken, and
    /// what leaves.
    pub(crate) fn holds(&self, bytes: usize) {
        let total = &self.connections.shared.held_bytes;
        let before = self.wake.holds(bytes);
        if bytes >= before {
            total.fetch_add(bytes - before, Ordering::SeqCst);
        } else {
            total.fetch_sub(before - bytes, Ordering::SeqCst);
        }
    }

    /// The relay keeps so many bytes more for it than it was last told.
    pub(crate) fn holds_more(&self, bytes: usize) {
        self.holds(self.wake.held_bytes() + bytes);
    }

    /// A turn among those for whom something is read or made. It is told [how much](Self::holds_more) before the turn ends:
    /// whoever is next knows of it. `None` when the connection is [held back](Self::is_held_back).
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        let turn = self.connections.shared.turns.acquire().await.ok()?;
        // Not before that: many would find the same room.
        (!self.is_held_back()).then_some(turn)
    }

    /// True when it is not to make the relay keep more. It is nudged when that is over.
    pub(crate) fn is_held_back(&self) -> bool {
        self.connections.hold_too_much() && {
            self.connections.shared.is_waited_for.store(true, Ordering::SeqCst);
            // It may have ended before anybody could know that it is waited for.
            self.connections.hold_too_much()
        }
    }

    /// The client has been let in.
    pub(crate) fn has_joined(&self) {
        self.connections.shared.open.lock().joined(self.id);
    }

    /// Tells whose connection it is, or is from now on; refused where that subject has too many.
    pub(crate) fn belongs_to(&self, session: Option<&Arc<Session>>) -> Result<(), Full> {
        let mut open = self.connections.shared.open.lock();
        let Open { wakes, subjects, .. } = &mut *open;
        let Some(entry) = wakes.get_mut(&self.id) else { return Ok(()) };
        let before = entry.session.as_ref().map(|session| &session.claims.subject);
        let subject = session.map(|session| &session.claims.subject);
        if subject != before {
            if let Some(subject) = subject {
                let count = subjects.entry(subject.clone()).or_default();
                if *count >= self.connections.shared.limits.per_subject {
                    return Err(Limit::Subject.into());
                }
                *count += 1;
            }
            before.into_iter().for_each(|before| release(subjects, before));
        }
        entry.session = session.cloned();
        Ok(())
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.holds(0);
        let mut open = self.connections.shared.open.lock();
        open.joined(self.id);
        if let Some(Entry { session, .. }) = open.wakes.remove(&self.id) {
            session.iter().for_each(|session| release(&mut open.subjects, &session.claims.subject));
        }
        if open.wakes.is_empty() {
            self.connections.shared.all_gone.notify_waiters();
        }
    }
}

impl Open {
    fn joined(&mut self, id: u64) {
        if let Some(entry) = self.wakes.get_mut(&id)
            && !std::mem::replace(&mut entry.has_joined, true)
        {
            self.joining -= 1;
        }
    }
}

/// One less of somebody.
fn release<K: Hash + Eq>(counts: &mut FxHashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// Spreads the return of those who wait for others to leave.
fn full_return_ms() -> u64 {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    rand::rng().random_range(ms(FULL_RETURN_MIN)..=ms(FULL_RETURN_MAX))
}

/// Spreads the return of `count` clients so that the next relay can take them.
pub(crate) fn random_return_ms(count: usize) -> u64 {
    let spread = Duration::from_millis(u64::try_from(count / RETURNS_PER_MS).unwrap_or(u64::MAX));
    let latest = (RETURN_AFTER_MIN * 2).saturating_add(spread).min(RETURN_AFTER_MAX);
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    rand::rng().random_range(ms(RETURN_AFTER_MIN)..=ms(latest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places::{PlaceLimits, Places, Standing};
    use rand::SeedableRng;

    const NONE: ConnectionLimits =
        ConnectionLimits { per_subject: usize::MAX, joins: usize::MAX, held_bytes: usize::MAX };

    fn place() -> Arc<Place> {
        let limits = PlaceLimits { total: 1, per_address: 1, per_loopback: 1 };
        match Places::new(limits).arrive([192, 0, 2, 1].into()) {
            Some(Standing::Inside(place)) => place,
            standing => panic!("{standing:?}"),
        }
    }

    #[test]
    fn those_who_hold_the_most_are_sent_away_first_and_no_more_than_needed() {
        let connections = Connections::new(NONE);
        let held = [100 << 10, 900 << 10, 10 << 10, 500 << 10];
        let all = held.map(|bytes| {
            let registered = connections.enter(place()).unwrap();
            registered.holds(bytes);
            registered
        });
        let leaving = || [0, 1, 2, 3].map(|index: usize| all[index].wake().sent_away().is_some());
        assert_eq!(connections.shed(1 << 20), 2);
        assert_eq!(leaving(), [false, true, false, true]);
        assert_eq!(all[1].wake().sent_away().unwrap().0, Code::Overloaded);
        assert_eq!(connections.shed(1 << 20), 0, "they are on their way");
        assert_eq!(connections.shed(1 << 30), 1, "who holds little stays");
        connections.set_closed(true);
        assert_eq!(connections.enter(place()).unwrap_err().limit, Limit::Memory);
        connections.set_closed(false);
        assert!(connections.enter(place()).is_ok());
    }

    #[test]
    fn where_many_hold_a_little_some_are_sent_away_and_what_is_open_holds_up_nobody() {
        const LITTLE: usize = SHED_BYTES_MIN / 2;
        let connections = Connections::new(ConnectionLimits { held_bytes: 4 * LITTLE, ..NONE });
        let all = [0; 6].map(|_| connections.enter(place()).unwrap());
        all.iter().for_each(|registered| registered.wake().opens(LITTLE));
        assert!(!all[0].is_held_back());
        assert_eq!(connections.make_room(), 0);
        all[..5].iter().for_each(|registered| registered.holds(LITTLE));
        assert!(all[5].is_held_back());
        assert_eq!(connections.make_room(), 2, "down to three quarters");
        assert_eq!(connections.make_room(), 0, "they are on their way");
        let leaving = |registered: &&Registered| registered.wake().sent_away().is_some();
        assert_eq!(all.iter().filter(leaving).count(), 2);
        all.iter().filter(leaving).for_each(|registered| registered.holds(0));
        assert_eq!(connections.make_room(), 0);
        assert!(all[5].wake().take_nudge() && !all[5].is_held_back());
        assert_eq!(connections.shed(2 * LITTLE as u64), 0, "as much will be free");
        assert_eq!(connections.shed(2 * LITTLE as u64 + 1), 1, "what is open counts where memory is short");
    }

    #[test]
    fn some_are_sent_away_although_what_they_hold_changes_meanwhile() {
        let connections = Connections::new(NONE);
        let all: Vec<_> = (0..256).map(|_| connections.enter(place()).unwrap()).collect();
        let random = std::cell::RefCell::new(rand::rngs::SmallRng::seed_from_u64(7));
        let changing = |_: &Wake| random.borrow_mut().random_range(1..1 << 20);
        assert!(connections.send_away(1 << 20, 1, changing) > 0);
        drop(all);
    }

    #[test]
    fn nothing_is_left_of_those_who_have_gone() {
        let connections = Connections::new(NONE);
        let registered = connections.enter(place()).unwrap();
        registered.has_joined();
        registered.has_joined();
        drop(registered);
        drop(connections.enter(place()).unwrap());
        let open = connections.shared.open.lock();
        assert!(open.wakes.is_empty() && open.subjects.is_empty());
        assert_eq!(open.joining, 0);
    }
}
