//! Presence in one room, for y-websocket clients: the latest state of each client ID, nothing more.
//!
//! A client ID belongs to the connection that first named it, so that nobody speaks for another.
//! Versions take the place of queues: each member is sent what is newer than what it has seen.

use crate::limits::{AWARENESS_GONE_MAX, AWARENESS_ROOM_BYTES_MAX};
use rustc_hash::FxHashMap;
use tidewell_sync_core::awareness::{Entry, encode};
use tidewell_sync_core::limits::{AWARENESS_BYTES_MAX, AWARENESS_ENTRIES_MAX};
use tidewell_sync_core::room::MemberId;

const GONE: &str = "null";

#[derive(Debug, Default)]
pub(crate) struct Awareness {
    /// By client ID.
    states: FxHashMap<u64, State>,
    version: u64,
    /// Bytes of all states.
    bytes: usize,
}

#[derive(Debug)]
struct State {
    entry: Entry,
    /// The connection that it belongs to, while that is here.
    owner: Option<MemberId>,
    version: u64,
}

/// What one connection's clients take.
#[derive(Debug, Default)]
struct Owned {
    entries: usize,
    bytes: usize,
}

impl Awareness {
    /// Takes what a member says of its clients; answers whether there is news. What is beyond a limit is not taken.
    pub(crate) fn take(&mut self, member: MemberId, entries: Vec<Entry>) -> bool {
        let before = self.version;
        let mut owned = self.owned_by(member);
        for entry in entries {
            let (old, is_theirs) = match self.states.get(&entry.client) {
                Some(State { entry: old, owner, .. }) => {
                    let is_newer = entry.clock > old.clock
                        || (entry.clock == old.clock && entry.is_gone() && !old.is_gone());
                    let is_free = owner.is_none() && !entry.is_gone();
                    let is_owner = *owner == Some(member);
                    let is_taken = is_free || (is_owner && is_newer);
                    if !is_taken {
                        continue;
                    }
                    (old.state.len(), is_owner)
                }
                None if entry.is_gone() => continue,
                None => (0, false),
            };
            let (new, old_owned) = (entry.state.len(), if is_theirs { old } else { 0 });
            let is_too_much = owned.entries + usize::from(!is_theirs) > AWARENESS_ENTRIES_MAX
                || owned.bytes - old_owned + new > AWARENESS_BYTES_MAX
                || self.bytes - old + new > AWARENESS_ROOM_BYTES_MAX;
            if is_too_much && !entry.is_gone() {
                continue;
            }
            self.version += 1;
            self.bytes = self.bytes - old + new;
            let owner = (!entry.is_gone()).then_some(member);
            owned.entries = owned.entries + usize::from(owner.is_some()) - usize::from(is_theirs);
            owned.bytes = owned.bytes - old_owned + if owner.is_some() { new } else { 0 };
            self.states.insert(entry.client, State { entry, owner, version: self.version });
        }
        self.bound_gone();
        self.version > before
    }

    fn owned_by(&self, member: MemberId) -> Owned {
        let mut owned = Owned::default();
        for state in self.states.values().filter(|state| state.owner == Some(member)) {
            owned.entries += 1;
            owned.bytes += state.entry.state.len();
        }
        owned
    }

    /// Those who have gone wait for the slowest member to be told. It would take them for gone by itself after 30 s
    /// without news, so the oldest need not be kept.
    fn bound_gone(&mut self) {
        let gone = self.states.values().filter(|state| state.entry.is_gone());
        let mut versions: Vec<u64> = gone.map(|state| state.version).collect();
        if let Some(excess) = versions.len().checked_sub(AWARENESS_GONE_MAX + 1) {
            versions.sort_unstable();
            self.forget_gone(versions.get(excess).copied().unwrap_or(0));
        }
    }

    /// A member's clients have gone with it; answers whether there is news.
    pub(crate) fn left(&mut self, member: MemberId) -> bool {
        let before = self.version;
        for state in self.states.values_mut().filter(|state| state.owner == Some(member)) {
            self.version += 1;
            self.bytes = self.bytes - state.entry.state.len() + GONE.len();
            state.entry.state = GONE.to_owned();
            state.owner = None;
            state.version = self.version;
        }
        self.version > before
    }

    /// The last version.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Awareness updates with what came after a version. Stock clients send back each one that they get, so each is
    /// within the limits. A newcomer (version 0) is not told of those who have gone.
    pub(crate) fn after(&self, seen: u64) -> Vec<Vec<u8>> {
        let news = self.states.values().filter(|state| state.version > seen);
        let mut news: Vec<&State> = news.filter(|state| seen > 0 || !state.entry.is_gone()).collect();
        news.sort_unstable_by_key(|state| state.version);
        let (mut updates, mut open, mut bytes) = (Vec::new(), Vec::new(), 0);
        for State { entry, .. } in news {
            if open.len() == AWARENESS_ENTRIES_MAX || bytes + entry.bytes_max() > AWARENESS_BYTES_MAX {
                updates.push(encode(open.drain(..)));
                bytes = 0;
            }
            bytes += entry.bytes_max();
            open.push(entry);
        }
        if !open.is_empty() {
            updates.push(encode(open.into_iter()));
        }
        updates
    }

    /// True when there are entries of clients that have gone.
    pub(crate) fn has_gone(&self) -> bool {
        self.states.values().any(|state| state.entry.is_gone())
    }

    /// Forgets clients that have gone once everybody has been told.
    pub(crate) fn forget_gone(&mut self, seen_by_all: u64) {
        let bytes = &mut self.bytes;
        self.states.retain(|_, state| {
            let stays = !state.entry.is_gone() || state.version > seen_by_all;
            if !stays {
                *bytes -= state.entry.state.len();
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidewell_sync_core::admission::Admitted;
    use tidewell_sync_core::awareness::decode;
    use tidewell_sync_core::document_name::DocumentName;
    use tidewell_sync_core::room::Room;

    fn members() -> (MemberId, MemberId) {
        let mut room = Room::new(DocumentName::parse("a").unwrap(), 1, 1, 0, Admitted::new());
        (room.join_stock(), room.join_stock())
    }

    fn says(client: u64, clock: u32, state: &str) -> Vec<Entry> {
        vec![Entry { client, clock, state: state.to_owned() }]
    }

    fn heard(awareness: &Awareness, seen: u64) -> Vec<Entry> {
        awareness.after(seen).iter().flat_map(|update| decode(update).unwrap()).collect()
    }

    #[test]
    fn a_newcomer_is_told_of_a_crowd_in_updates_that_it_may_send_back() {
        let mut room = Room::new(DocumentName::parse("a").unwrap(), 1, 1, 0, Admitted::new());
        let mut awareness = Awareness::default();
        for client in 0..200 {
            let state = format!("\"{}\"", "x".repeat(if client < 3 { 40_000 } else { 10 }));
            assert!(awareness.take(room.join_stock(), says(client, 1, &state)));
        }
        let (updates, echo) = (awareness.after(0), room.join_stock());
        assert!(updates.len() > 4);
        let mut told = 0;
        for update in updates {
            let entries = decode(&update).unwrap();
            told += entries.len();
            assert!(!awareness.take(echo, entries), "an echo is no news");
        }
        assert_eq!(told, 200);
    }

    #[test]
    fn what_a_connection_and_what_a_room_keep_is_bounded() {
        let mut room = Room::new(DocumentName::parse("a").unwrap(), 1, 1, 0, Admitted::new());
        let mut awareness = Awareness::default();
        let state = format!("\"{}\"", "x".repeat(30_000));
        for connection in 0..400u64 {
            let member = room.join_stock();
            for client in 0..10 {
                awareness.take(member, says(connection * 10 + client, 1, &state));
            }
            let owned = awareness.owned_by(member);
            assert!(owned.bytes <= AWARENESS_BYTES_MAX && owned.entries <= 2);
            assert!(awareness.bytes <= AWARENESS_ROOM_BYTES_MAX);
        }
        let sum: usize = awareness.states.values().map(|state| state.entry.state.len()).sum();
        assert_eq!(awareness.bytes, sum);
        let count = awareness.states.len();
        assert!(count > 100);
        let (first, late) = (awareness.states[&0].owner.unwrap(), room.join_stock());
        assert!(awareness.left(first), "who leaves makes room");
        assert!(awareness.take(late, says(9_999, 1, &state)));
    }

    #[test]
    fn aw3_an_id_belongs_to_the_connection_that_first_named_it_for_as_long_as_it_is_here() {
        let (first, second) = members();
        let mut awareness = Awareness::default();
        assert!(awareness.take(first, says(7, 1, "{}")));
        assert!(!awareness.take(second, says(7, 9, "{\"forged\":1}")));
        assert!(!awareness.take(second, says(7, 9, GONE)));
        assert_eq!(heard(&awareness, 0), says(7, 1, "{}"));
        assert!(awareness.left(first));
        assert!(awareness.take(second, says(7, 1, "{\"back\":1}")));
        assert_eq!(heard(&awareness, 0), says(7, 1, "{\"back\":1}"));
    }

    #[test]
    fn only_the_latest_state_is_kept_and_sent_once() {
        let (first, _) = members();
        let mut awareness = Awareness::default();
        for clock in 1..=5 {
            assert!(awareness.take(first, says(7, clock, "{}")));
        }
        assert!(!awareness.take(first, says(7, 4, "{}")), "an older clock is no news");
        assert_eq!(heard(&awareness, 0).len(), 1);
        assert!(awareness.after(awareness.version()).is_empty());
    }

    #[test]
    fn those_who_leave_are_reported_gone_to_those_who_knew_them_only() {
        let (first, _) = members();
        let mut awareness = Awareness::default();
        awareness.take(first, says(7, 3, "{}"));
        let seen = awareness.version();
        assert!(awareness.left(first));
        assert_eq!(heard(&awareness, seen), says(7, 3, GONE));
        assert!(awareness.after(0).is_empty());
        awareness.forget_gone(seen);
        assert!(awareness.has_gone(), "somebody has not been told");
        awareness.forget_gone(awareness.version());
        assert!(!awareness.has_gone());
    }

    #[test]
    fn those_who_have_gone_are_a_bounded_number_however_slow_a_member_is() {
        let (first, _) = members();
        let mut awareness = Awareness::default();
        for client in 0..2 * AWARENESS_GONE_MAX as u64 {
            awareness.take(first, says(client, 1, "{}"));
            awareness.take(first, says(client, 2, GONE));
        }
        assert_eq!(awareness.states.len(), AWARENESS_GONE_MAX);
        let oldest = awareness.states.keys().min();
        assert_eq!(oldest, Some(&(AWARENESS_GONE_MAX as u64)), "the oldest were forgotten");
    }

    #[test]
    fn one_connection_owns_a_bounded_number_of_ids() {
        let (first, second) = members();
        let mut awareness = Awareness::default();
        for client in 0..=AWARENESS_ENTRIES_MAX as u64 {
            awareness.take(first, says(client, 1, "{}"));
        }
        assert_eq!(heard(&awareness, 0).len(), AWARENESS_ENTRIES_MAX);
        assert!(awareness.take(second, says(10_000, 1, "{}")));
    }
}
