//! Presence in one room, for y-websocket clients: the latest state of each client ID, nothing more.
//!
//! A client ID belongs to the connection that first named it, so that nobody speaks for another.
//! Versions take the place of queues: each member is sent what is newer than what it has seen.

use crate::limits::AWARENESS_GONE_MAX;
use tidewell_sync_core::awareness::{Entry, encode};
use tidewell_sync_core::limits::AWARENESS_ENTRIES_MAX;
use tidewell_sync_core::room::MemberId;

const GONE: &str = "null";

#[derive(Debug, Default)]
pub(crate) struct Awareness {
    states: Vec<State>,
    version: u64,
}

#[derive(Debug)]
struct State {
    entry: Entry,
    /// The connection that it belongs to, while that is here.
    owner: Option<MemberId>,
    version: u64,
}

impl Awareness {
    /// Takes what a member says of its clients; answers whether there is news.
    pub(crate) fn take(&mut self, member: MemberId, entries: Vec<Entry>) -> bool {
        let before = self.version;
        for entry in entries {
            let owned = self.states.iter().filter(|state| state.owner == Some(member)).count();
            match self.states.iter_mut().find(|state| state.entry.client == entry.client) {
                Some(state) => {
                    let is_free = state.owner.is_none();
                    let is_owner = state.owner == Some(member);
                    let is_newer = entry.clock > state.entry.clock
                        || (entry.clock == state.entry.clock && entry.is_gone() && !state.entry.is_gone());
                    if (is_free && !entry.is_gone()) || (is_owner && is_newer) {
                        self.version += 1;
                        let owner = (!entry.is_gone()).then_some(member);
                        *state = State { entry, owner, version: self.version };
                    }
                }
                None if !entry.is_gone() && owned < AWARENESS_ENTRIES_MAX => {
                    self.version += 1;
                    self.states.push(State { entry, owner: Some(member), version: self.version });
                }
                None => {}
            }
        }
        self.bound_gone();
        self.version > before
    }

    /// Those who have gone wait for the slowest member to be told. It would take them for gone by itself after 30 s
    /// without news, so the oldest need not be kept.
    fn bound_gone(&mut self) {
        let gone = self.states.iter().filter(|state| state.entry.is_gone());
        let mut versions: Vec<u64> = gone.map(|state| state.version).collect();
        if let Some(excess) = versions.len().checked_sub(AWARENESS_GONE_MAX + 1) {
            versions.sort_unstable();
            self.forget_gone(versions.get(excess).copied().unwrap_or(0));
        }
    }

    /// A member's clients have gone with it; answers whether there is news.
    pub(crate) fn left(&mut self, member: MemberId) -> bool {
        let before = self.version;
        for state in self.states.iter_mut().filter(|state| state.owner == Some(member)) {
            self.version += 1;
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

    /// An awareness update with what came after a version, if anything did. A newcomer (version 0) is
    /// not told of those who have gone.
    pub(crate) fn after(&self, seen: u64) -> Option<Vec<u8>> {
        let news = self.states.iter().filter(|state| state.version > seen);
        let news: Vec<&Entry> =
            news.map(|state| &state.entry).filter(|entry| seen > 0 || !entry.is_gone()).collect();
        (!news.is_empty()).then(|| encode(news.into_iter()))
    }

    /// True when there are entries of clients that have gone.
    pub(crate) fn has_gone(&self) -> bool {
        self.states.iter().any(|state| state.entry.is_gone())
    }

    /// Forgets clients that have gone once everybody has been told.
    pub(crate) fn forget_gone(&mut self, seen_by_all: u64) {
        self.states.retain(|state| !state.entry.is_gone() || state.version > seen_by_all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidewell_sync_core::awareness::decode;
    use tidewell_sync_core::document_name::DocumentName;
    use tidewell_sync_core::room::Room;

    fn members() -> (MemberId, MemberId) {
        let mut room = Room::load(DocumentName::parse("a").unwrap(), 1, 1, 0, []).unwrap();
        (room.join_stock(), room.join_stock())
    }

    fn says(client: u64, clock: u32, state: &str) -> Vec<Entry> {
        vec![Entry { client, clock, state: state.to_owned() }]
    }

    fn heard(awareness: &Awareness, seen: u64) -> Vec<Entry> {
        awareness.after(seen).map(|update| decode(&update).unwrap()).unwrap_or_default()
    }

    #[test]
    fn an_id_belongs_to_the_connection_that_first_named_it_for_as_long_as_it_is_here() {
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
        assert!(awareness.after(awareness.version()).is_none());
    }

    #[test]
    fn those_who_leave_are_reported_gone_to_those_who_knew_them_only() {
        let (first, _) = members();
        let mut awareness = Awareness::default();
        awareness.take(first, says(7, 3, "{}"));
        let seen = awareness.version();
        assert!(awareness.left(first));
        assert_eq!(heard(&awareness, seen), says(7, 3, GONE));
        assert!(awareness.after(0).is_none());
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
        let last = awareness.states.last().map(|state| state.entry.client);
        assert_eq!(last, Some(2 * AWARENESS_GONE_MAX as u64 - 1), "the oldest were forgotten");
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
