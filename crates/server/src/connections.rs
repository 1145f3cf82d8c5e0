//! All open connections: their number, and how to reach them all at once.

use crate::limits::{RETURN_AFTER_MAX, RETURN_AFTER_MIN, RETURNS_PER_MS};
use crate::token::Session;
use crate::token::claims::Claims;
use crate::wake::Wake;
use parking_lot::Mutex;
use rand::Rng;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// The open connections. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connections {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    open: Mutex<Open>,
    all_gone: Notify,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    wakes: FxHashMap<u64, Entry>,
    /// Set when the relay drains: who comes now is sent away at once.
    is_draining: bool,
}

#[derive(Debug)]
struct Entry {
    wake: Arc<Wake>,
    /// Whose it is, once that is known.
    session: Option<Arc<Session>>,
}

/// A connection's entry; it ends with this.
#[derive(Debug)]
pub(crate) struct Registered {
    connections: Connections,
    id: u64,
}

impl Connections {
    /// Enters a connection.
    pub(crate) fn register(&self, wake: Arc<Wake>) -> Registered {
        let mut open = self.shared.open.lock();
        let id = open.next;
        open.next += 1;
        if open.is_draining {
            wake.send_away(random_return_ms(open.wakes.len()));
        }
        open.wakes.insert(id, Entry { wake, session: None });
        Registered { connections: self.clone(), id }
    }

    /// Has every connection look again at what it waits for.
    pub(crate) fn nudge_all(&self) {
        self.shared.open.lock().wakes.values().for_each(|entry| entry.wake.nudge());
    }

    /// Ends the connections whose tokens' claims are such; answers how many.
    pub(crate) fn kick(&self, such: impl Fn(&Claims) -> bool) -> usize {
        let open = self.shared.open.lock();
        let is_such = |entry: &&Entry| entry.session.as_ref().is_some_and(|session| such(&session.claims));
        open.wakes.values().filter(is_such).inspect(|entry| entry.wake.kick()).count()
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
    /// Tells whose connection it is.
    pub(crate) fn belongs_to(&self, session: Option<&Arc<Session>>) {
        if let Some(entry) = self.connections.shared.open.lock().wakes.get_mut(&self.id) {
            entry.session = session.cloned();
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut open = self.connections.shared.open.lock();
        open.wakes.remove(&self.id);
        if open.wakes.is_empty() {
            self.connections.shared.all_gone.notify_waiters();
        }
    }
}

/// Spreads the return of `count` clients so that the next relay can take them.
fn random_return_ms(count: usize) -> u64 {
    let spread = Duration::from_millis(u64::try_from(count / RETURNS_PER_MS).unwrap_or(u64::MAX));
    let latest = (RETURN_AFTER_MIN * 2).saturating_add(spread).min(RETURN_AFTER_MAX);
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    rand::rng().random_range(ms(RETURN_AFTER_MIN)..=ms(latest))
}
