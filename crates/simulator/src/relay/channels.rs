//! What clients open, push and leave.

use super::writer::Writing;
use super::{End, Relay, Surroundings};
use crate::{Mutant, Violation};
use bytes::Bytes;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::protocol::{Access, Position, RelayMessage, Resume};
use tidewell_sync_core::room::{MemberId, PushKind};
use tidewell_sync_core::state_vector::StateVector;

pub(super) enum Channel {
    Open {
        document: usize,
        member: MemberId,
        access: Access,
        is_refused: bool,
        /// A question of the room that the client may not answer yet.
        unasked: Option<StateVector>,
    },
    /// Refused, or to be opened again: what is still on its way is dropped.
    Waiting,
}

impl Relay {
    pub(super) fn open(
        &mut self,
        id: u64,
        channel: u32,
        name: &DocumentName,
        position: Position,
        around: &mut Surroundings<'_>,
    ) -> Result<(), End> {
        let Some(connection) = self.connections.get(&id) else { return Ok(()) };
        if matches!(connection.channels.get(&channel), Some(Channel::Open { .. })) {
            return Err(Code::ProtocolViolation.into());
        }
        let document = self.names.iter().position(|known| known == name).ok_or(Code::InvalidName)?;
        let token = connection.token.as_deref().unwrap_or_default();
        let entry = match around.authority.access(token, document) {
            None => {
                self.say(id, &RelayMessage::Refused { channel, number: 0, code: Code::Forbidden });
                Channel::Waiting
            }
            Some(_) if self.disk.read_fails() && !self.rooms.contains_key(&document) => {
                self.say(id, &RelayMessage::Refused { channel, number: 0, code: Code::LoadFailed });
                Channel::Waiting
            }
            Some(access) => {
                let room = self.room(document, around.oracle)?;
                let (epoch, sequence) = (room.epoch(), room.sequence());
                let joined = room.join(position);
                let resume = joined.err().unwrap_or(Resume::Continues);
                self.say(id, &RelayMessage::Opened { channel, access, epoch, sequence, resume });
                match joined {
                    Ok(member) => {
                        Channel::Open { document, member, access, is_refused: false, unasked: None }
                    }
                    Err(_) => Channel::Waiting,
                }
            }
        };
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.channels.insert(channel, entry);
        }
        Ok(())
    }

    pub(super) fn push(
        &mut self,
        id: u64,
        channel: u32,
        kind: PushKind,
        number: u64,
        update: &Bytes,
        around: &mut Surroundings<'_>,
    ) -> Result<(), End> {
        let takes_all = self.is(Mutant::WriteWithoutGrant);
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        let token = connection.token.clone().unwrap_or_default();
        let (document, member) = match connection.channels.get_mut(&channel) {
            None => return Err(Code::ProtocolViolation.into()),
            Some(Channel::Open { access, is_refused: is_refused @ false, .. })
                if *access != Access::Write && !takes_all =>
            {
                *is_refused = true;
                self.say(id, &RelayMessage::Refused { channel, number, code: Code::Forbidden });
                return Ok(());
            }
            Some(Channel::Open { document, member, is_refused: false, .. }) => (*document, *member),
            Some(_) => return Ok(()),
        };
        let may_write = around.authority.access(&token, document) == Some(Access::Write)
            && around.authority.look_at(&token, around.now_ms + self.ahead_ms).is_ok();
        if !may_write {
            return Err(Violation::Unauthorized.into());
        }
        let Some(room) = self.rooms.get_mut(&document) else { return Ok(()) };
        let pushed = room.push(member, kind, Some(number), update).map_err(|invalid| invalid.code())?;
        let sequence = room.sequence();
        match self.mutant {
            Some(Mutant::AcknowledgeDuplicateEarly) if !pushed.to_store => {
                self.say(id, &RelayMessage::Ack { channel, number, sequence });
            }
            Some(Mutant::SpeakBeforeCommit) if self.writing.is_none() => {
                if let Some(batch) = room.take_batch() {
                    room.committed(batch.clone().committed());
                    self.writing = Some(Writing { batches: vec![(document, batch)], is_durable: false });
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn leave(&mut self, channel: Channel) {
        if let Channel::Open { document, member, .. } = channel
            && let Some(room) = self.rooms.get_mut(&document)
        {
            room.leave(member);
        }
    }
}
