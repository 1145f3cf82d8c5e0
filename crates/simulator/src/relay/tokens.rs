//! What a connection may do by its token, for how long, and when it is taken for gone.

use super::channels::Channel;
use super::{End, Relay, Surroundings};
use crate::wire::Wire;
use crate::{Mutant, Violation};
use tidewell_sync_core::code::Code;
use tidewell_sync_core::protocol::{Access, RelayMessage};

/// A client that has been silent for so long is taken for gone (`SILENCE_MAX` of the server).
const SILENCE_MS_MAX: u64 = 100_000;

impl Relay {
    pub(super) fn look_at_token(&self, id: u64, around: &Surroundings<'_>) -> Result<(), Code> {
        let token = self.connections.get(&id).and_then(|connection| connection.token.as_ref());
        match token {
            Some(_) if self.is(Mutant::TokenNeverExpires) => Ok(()),
            Some(token) => around.authority.look_at(token, around.now_ms + self.ahead_ms),
            None => Ok(()),
        }
    }

    /// Time has passed: tokens end, and those who were silent for too long have gone. A browser answers pings by itself.
    pub(crate) fn tick(&mut self, around: &mut Surroundings<'_>) -> Result<(), Violation> {
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        for id in ids {
            let is_whole = around.wires.get(&id).is_some_and(Wire::is_whole);
            if let Some(connection) = self.connections.get_mut(&id) {
                if is_whole {
                    connection.heard_ms = around.now_ms;
                }
                if around.now_ms.saturating_sub(connection.heard_ms) >= SILENCE_MS_MAX {
                    around.trace.note("the relay", || format!("takes connection {id} for gone"));
                    self.close(id, around.wires);
                    continue;
                }
            }
            let outcome = self.look_at_token(id, around).map_err(End::Code);
            self.end_if_needed(id, outcome, around)?;
        }
        Ok(())
    }

    pub(super) fn admit(&mut self, id: u64, token: String, around: &Surroundings<'_>) -> Result<(), Code> {
        around.authority.look_at(&token, around.now_ms + self.ahead_ms)?;
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.token = Some(token);
        }
        Ok(())
    }

    /// What is open may do more or less with another token.
    pub(super) fn grant_anew(&mut self, id: u64, around: &Surroundings<'_>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let token = connection.token.clone().unwrap_or_default();
        let mut left = Vec::new();
        for (number, channel) in &mut connection.channels {
            let Channel::Open { document, access, unasked, .. } = channel else { continue };
            let granted = around.authority.access(&token, *document);
            if granted == Some(*access) {
                continue;
            }
            let Some(granted) = granted else {
                left.push(std::mem::replace(channel, Channel::Waiting));
                let (channel, number, code) = (*number, 0, Code::Forbidden);
                RelayMessage::Refused { channel, number, code }.write(&mut connection.out);
                continue;
            };
            *access = granted;
            RelayMessage::Granted { channel: *number, access: granted }.write(&mut connection.out);
            if granted == Access::Write
                && let Some(state_vector) = unasked.take()
            {
                RelayMessage::Need { channel: *number, state_vector }.write(&mut connection.out);
            }
        }
        left.into_iter().for_each(|channel| self.leave(channel));
    }
}
