//! One connection's place in a room: a cursor, not a queue.

use super::{Acknowledgement, PushKind};
use crate::admission::Admitted;
use crate::state_vector::StateVector;
use crate::update::Id;
use bytes::Bytes;

/// Names a member of one room; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub(super) u64);

/// What a member is to be told.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// Commits, if it is close enough to the last one.
    pub ready: Option<Ready>,
    /// It is further behind: the caller reads the store, sends, and says so with
    /// [`super::Room::caught_up`].
    pub behind: Option<Behind>,
    /// Its pushes up to here are durable. Sent after `ready`.
    pub ack: Option<Acknowledgement>,
    /// It is asked for what lies beyond this.
    pub need: Option<StateVector>,
}

/// Commits that a member has not had.
#[derive(Debug)]
pub struct Ready {
    /// With these it has everything up to this sequence.
    pub through: u64,
    /// One merged update for each commit; those that only it wrote are left out.
    pub updates: Vec<Bytes>,
}

/// What a member that is far behind has.
#[derive(Debug, PartialEq, Eq)]
pub enum Behind {
    /// Everything up to this sequence.
    After(u64),
    /// Everything below these clocks.
    StateVector(StateVector),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It has everything up to this sequence.
    At(u64),
    /// It named its state vector and has not been served yet.
    Needs(StateVector),
    /// The store is being read for it.
    CatchingUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asking {
    Nothing,
    ToSend,
    Sent,
}

impl Asking {
    /// True when the question is to be sent now.
    pub(super) fn send(&mut self) -> bool {
        let send = *self == Asking::ToSend;
        if send {
            *self = Asking::Sent;
        }
        send
    }
}

/// The members of a room, in the order in which they came, which is that of their IDs. A list and not a
/// `BTreeMap`: the node of a map with a single entry would be a tenth of an idle room's memory.
#[derive(Debug, Default)]
pub(super) struct Members(Vec<(MemberId, Member)>);

impl Members {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, id: &MemberId) -> Option<&Member> {
        let index = self.0.binary_search_by_key(id, |(id, _)| *id).ok()?;
        self.0.get(index).map(|(_, member)| member)
    }

    pub(super) fn get_mut(&mut self, id: &MemberId) -> Option<&mut Member> {
        let index = self.0.binary_search_by_key(id, |(id, _)| *id).ok()?;
        self.0.get_mut(index).map(|(_, member)| member)
    }

    /// Takes in a member whose ID is higher than all before it.
    pub(super) fn push(&mut self, id: MemberId, member: Member) {
        // Most rooms have one member or two; a list that grows by itself would begin with four places.
        if self.0.len() < 2 {
            self.0.reserve_exact(1);
        }
        self.0.push((id, member));
    }

    pub(super) fn remove(&mut self, id: &MemberId) -> Option<Member> {
        let index = self.0.binary_search_by_key(id, |(id, _)| *id).ok()?;
        Some(self.0.remove(index).1)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (MemberId, &mut Member)> {
        self.0.iter_mut().map(|(id, member)| (*id, member))
    }
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) progress: Progress,
    pub(super) ack: Option<Acknowledgement>,
    pub(super) asking: Asking,
    /// A push had a gap: nothing is acknowledged until an answer without one.
    has_gap: bool,
    /// What its last answer lacked. It is asked again once some of it is there.
    awaits: Vec<Id>,
}

impl Member {
    pub(super) fn new(progress: Progress, asking: Asking) -> Self {
        Member { progress, ack: None, asking, has_gap: false, awaits: Vec::new() }
    }

    /// Notes a push that lacked `missing`; answers the number that may be acknowledged for it.
    pub(super) fn pushed(&mut self, kind: PushKind, number: Option<u64>, missing: &[Id]) -> Option<u64> {
        let is_complete = missing.is_empty();
        match (kind, is_complete) {
            (PushKind::Answer, true) => {
                self.asking = Asking::Nothing;
                self.has_gap = false;
                self.awaits.clear();
            }
            (PushKind::Answer, false) => {
                self.asking = Asking::Nothing;
                self.has_gap = true;
                self.awaits = missing.to_vec();
            }
            (PushKind::Edit, true) => {}
            (PushKind::Edit, false) => {
                self.has_gap = true;
                let is_news = !missing.iter().all(|id| self.awaits.contains(id));
                if is_news && self.asking == Asking::Nothing {
                    self.asking = Asking::ToSend;
                }
            }
        }
        number.filter(|_| !self.has_gap)
    }

    /// True, once, when something that its last answer lacked has come from elsewhere.
    pub(super) fn asks_again(&mut self, admitted: &Admitted) -> bool {
        let has_come = self.awaits.iter().any(|id| admitted.knows(*id));
        if has_come {
            self.awaits.clear();
            if self.asking == Asking::Nothing {
                self.asking = Asking::ToSend;
            }
        }
        has_come
    }

    pub(super) fn has_something_to_say(&self) -> bool {
        self.ack.is_some() || self.asking == Asking::ToSend
    }
}
