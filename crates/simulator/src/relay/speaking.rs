//! What the relay says on its own: only what is on disk, and only to those who read.

use super::catch_up::Behindhand;
use super::channels::Channel;
use super::{Relay, Surroundings, Wires};
use crate::oracle::History;
use crate::{Mutant, Violation};
use bytes::Bytes;
use tidewell_sync_core::protocol::{Access, RelayMessage, split};
use tidewell_sync_core::room::Outgoing;

impl Relay {
    /// Tells each member what it is to be told now, unless its connection has too much unread: it keeps its place.
    pub(crate) fn speak(&mut self, around: &mut Surroundings<'_>) -> Result<(), Violation> {
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        for id in ids {
            let Some(wire) = around.wires.get(&id) else { continue };
            let is_slow = wire.unread_turns() >= self.unread_turns_max;
            if is_slow && !self.is(Mutant::QueueForSlowReader) {
                if self.is(Mutant::DropForSlowReader) {
                    self.collect(id, around)?;
                    self.connections.get_mut(&id).into_iter().for_each(|connection| connection.out.clear());
                }
                continue;
            }
            self.collect(id, around)?;
            self.catch_up(id, around)?;
            self.write(id, around.wires);
        }
        Ok(())
    }

    fn write(&mut self, id: u64, wires: &mut Wires) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.out.is_empty() {
            return;
        }
        let mut frames = split(Bytes::from(std::mem::take(&mut connection.out)), self.frame_bytes_max);
        if self.is(Mutant::DropLastFragment) && frames.len() > 1 {
            frames.pop();
        }
        wires.get_mut(&id).into_iter().for_each(|wire| wire.send_down(std::mem::take(&mut frames)));
    }

    fn collect(&mut self, id: u64, around: &mut Surroundings<'_>) -> Result<(), Violation> {
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        for (channel, entry) in &mut connection.channels {
            let Channel::Open { document, member, access, unasked, .. } = entry else { continue };
            let Some(room) = self.rooms.get_mut(document) else { continue };
            let mut outgoing = room.collect(*member);
            if self.mutant == Some(Mutant::AskFromUncommitted) && outgoing.need.is_some() {
                outgoing.need = Some(room.admitted().state_vector());
            }
            if let Some(history) = around.oracle.history(self.store.lineage, *document) {
                check_spoken(history, &outgoing)?;
            }
            let channel = *channel;
            if let Some(ready) = outgoing.ready {
                let (through, updates) = (ready.through, ready.updates);
                RelayMessage::Updates { channel, through, updates }.write(&mut connection.out);
            }
            if let Some(behind) = outgoing.behind {
                let (member, document) = (*member, *document);
                connection.behind.push_back(Behindhand { channel, member, document, behind, ready: None });
            }
            if let Some(ack) = outgoing.ack {
                let further = u64::from(self.mutant == Some(Mutant::AcknowledgeTooMuch));
                let (number, sequence) = (ack.number() + further, ack.sequence());
                RelayMessage::Ack { channel, number, sequence }.write(&mut connection.out);
            }
            match outgoing.need {
                Some(state_vector) if *access == Access::Write => {
                    RelayMessage::Need { channel, state_vector }.write(&mut connection.out);
                }
                // The answer would be refused.
                Some(state_vector) => *unasked = Some(state_vector),
                None => {}
            }
        }
        Ok(())
    }
}

/// Commit, then speak: whatever is said must be on disk.
fn check_spoken(history: &History, outgoing: &Outgoing) -> Result<(), Violation> {
    let early = |what| Err(Violation::SpokeEarly { what });
    if let Some(ready) = &outgoing.ready {
        let is_durable = ready.updates.iter().all(|update| history.covers(update));
        if ready.through > history.sequence() || !is_durable {
            return early("an update");
        }
    }
    if outgoing.ack.is_some_and(|ack| ack.sequence() > history.sequence()) {
        return early("an acknowledgement");
    }
    if outgoing.need.as_ref().is_some_and(|need| need.exceeds(&history.admitted.state_vector())) {
        return early("a state vector");
    }
    Ok(())
}
