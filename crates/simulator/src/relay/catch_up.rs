//! Members that are behind are brought up to date out of the store, part by part.

use super::channels::Channel;
use super::{Relay, Surroundings};
use crate::store::CatchUp;
use crate::{Mutant, Violation};
use tidewell_sync_core::code::Code;
use tidewell_sync_core::protocol::RelayMessage;
use tidewell_sync_core::room::{Behind, MemberId};

/// A member that is being brought up to date.
pub(super) struct Behindhand {
    pub(super) channel: u32,
    pub(super) member: MemberId,
    pub(super) document: usize,
    pub(super) behind: Behind,
    pub(super) ready: Option<(CatchUp, usize)>,
}

impl Relay {
    /// Sends the first member that is behind its next part. Only the last part brings it further.
    pub(super) fn catch_up(&mut self, id: u64, around: &mut Surroundings<'_>) -> Result<(), Violation> {
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        let Some(mut behindhand) = connection.behind.pop_front() else { return Ok(()) };
        let Behindhand { channel, member, document, .. } = behindhand;
        let is_here = matches!(
            connection.channels.get(&channel),
            Some(Channel::Open { member: here, document: same, .. }) if *here == member && *same == document
        );
        let (Some(room), Some(stored)) = (self.rooms.get_mut(&document), self.store.documents.get(document))
        else {
            return Ok(());
        };
        if !is_here {
            return Ok(());
        }
        let (ready, sent) = match behindhand.ready.take() {
            Some(ready) => ready,
            None if self.disk.read_fails() => {
                around.trace.note("the relay", || format!("cannot read for connection {id}"));
                room.leave(member);
                connection.channels.insert(channel, Channel::Waiting);
                self.say(id, &RelayMessage::Refused { channel, number: 0, code: Code::LoadFailed });
                return Ok(());
            }
            None => (stored.catch_up(&behindhand.behind, self.mutant)?, 0),
        };
        let sent = match self.mutant {
            Some(Mutant::SkipCatchUpParts) => ready.parts.len().saturating_sub(1),
            _ => sent,
        };
        let part = ready.parts.get(sent).cloned();
        let through = if sent + 1 >= ready.parts.len() {
            // The store may be ahead of the room for a moment.
            let through = ready.through.min(room.sequence());
            room.caught_up(member, through);
            through
        } else {
            let known = match &behindhand.behind {
                Behind::After(after) => *after,
                Behind::StateVector(_) => 0,
            };
            behindhand.ready = Some((ready, sent + 1));
            connection.behind.push_back(behindhand);
            known
        };
        let updates = part.into_iter().collect();
        RelayMessage::Updates { channel, through, updates }.write(&mut connection.out);
        Ok(())
    }
}
