//! Writing messages.

use super::{Access, ClientMessage, Cursor, Position, RelayMessage, Resume, SharedMessage, tag};
use crate::lib0::{write_buffer, write_uint};
use bytes::Bytes;

impl ClientMessage {
    /// Appends the message to a frame.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            ClientMessage::Hello { version, token } => {
                write_uint(out, tag::HELLO);
                write_uint(out, *version);
                write_buffer(out, token.as_bytes());
            }
            ClientMessage::Open { channel, document, position } => {
                write_head(out, tag::OPEN, *channel);
                write_buffer(out, document.as_str().as_bytes());
                write_position(out, position);
            }
            ClientMessage::Close { channel } => write_head(out, tag::CLOSE, *channel),
            ClientMessage::Push { channel, number, update } => {
                write_head(out, tag::PUSH, *channel);
                write_uint(out, *number);
                write_buffer(out, update);
            }
            ClientMessage::Have { channel, number, update } => {
                write_head(out, tag::HAVE, *channel);
                write_uint(out, *number);
                write_buffer(out, update);
            }
            ClientMessage::Ping { nonce } => {
                write_uint(out, tag::PING);
                write_uint(out, *nonce);
            }
            ClientMessage::Refresh { token } => {
                write_uint(out, tag::REFRESH);
                write_buffer(out, token.as_bytes());
            }
        }
    }
}

impl RelayMessage {
    /// [`RelayMessage::Updates`] with one update, which is shared with whoever else gets it.
    pub fn shared_update(channel: u32, through: u64, update: Bytes) -> SharedMessage {
        let mut head = Vec::new();
        write_head(&mut head, tag::UPDATES, channel);
        write_uint(&mut head, through);
        write_uint(&mut head, 1);
        write_uint(&mut head, update.len() as u64);
        SharedMessage::new(head, update)
    }

    /// Appends the message to a frame.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            RelayMessage::Welcome { lineage, time_ms, frame_bytes_max, update_bytes_max } => {
                write_uint(out, tag::WELCOME);
                [*lineage, *time_ms, *frame_bytes_max, *update_bytes_max]
                    .into_iter()
                    .for_each(|number| write_uint(out, number));
            }
            RelayMessage::Opened { channel, access, epoch, sequence, resume } => {
                write_head(out, tag::OPENED, *channel);
                write_uint(out, access_number(*access));
                write_uint(out, *epoch);
                write_uint(out, *sequence);
                write_uint(out, matches!(resume, Resume::NeedsStateVector).into());
            }
            RelayMessage::Updates { channel, through, updates } => {
                write_head(out, tag::UPDATES, *channel);
                write_uint(out, *through);
                write_uint(out, updates.len() as u64);
                updates.iter().for_each(|update| write_buffer(out, update));
            }
            RelayMessage::Ack { channel, number, sequence } => {
                write_head(out, tag::ACK, *channel);
                write_uint(out, *number);
                write_uint(out, *sequence);
            }
            RelayMessage::Need { channel, state_vector } => {
                write_head(out, tag::NEED, *channel);
                write_buffer(out, &state_vector.encode());
            }
            RelayMessage::Refused { channel, number, code } => {
                write_head(out, tag::REFUSED, *channel);
                write_uint(out, *number);
                write_uint(out, u64::from(code.number()));
            }
            RelayMessage::GoAway { after_ms } => {
                write_uint(out, tag::GO_AWAY);
                write_uint(out, *after_ms);
            }
            RelayMessage::Error { code, message } => {
                write_uint(out, tag::ERROR);
                write_uint(out, u64::from(code.number()));
                write_buffer(out, message.as_bytes());
            }
            RelayMessage::Pong { nonce } => {
                write_uint(out, tag::PONG);
                write_uint(out, *nonce);
            }
            RelayMessage::Granted { channel, access } => {
                write_head(out, tag::GRANTED, *channel);
                write_uint(out, access_number(*access));
            }
        }
    }
}

fn write_head(out: &mut Vec<u8>, tag: u64, channel: u32) {
    write_uint(out, tag);
    write_uint(out, u64::from(channel));
}

fn write_position(out: &mut Vec<u8>, position: &Position) {
    match position {
        Position::Cursor(Cursor { epoch, lineage, sequence }) => {
            write_uint(out, 1);
            [*epoch, *lineage, *sequence].into_iter().for_each(|number| write_uint(out, number));
        }
        Position::StateVector(vector) => {
            write_uint(out, 0);
            write_buffer(out, &vector.encode());
        }
    }
}

fn access_number(access: Access) -> u64 {
    match access {
        Access::Read => 0,
        Access::Comment => 1,
        Access::Write => 2,
    }
}
