//! Reading messages: strict, without allocation beyond the bytes that came.

use super::{Access, ClientMessage, Cursor, Position, RelayMessage, Resume, tag};
use crate::code::Code;
use crate::document_name::DocumentName;
use crate::lib0::{ReadError, Reader, take_first};
use crate::state_vector::StateVector;
use bytes::Bytes;

/// Why a message cannot be read, as a code for the peer.
type Read<T> = Result<T, Code>;

impl From<ReadError> for Code {
    fn from(_: ReadError) -> Self {
        Code::InvalidFrame
    }
}

impl ClientMessage {
    /// Reads all messages of a frame that holds no fragments.
    pub fn read_all(frame: &Bytes) -> Read<Vec<ClientMessage>> {
        let mut rest = frame.clone();
        std::iter::from_fn(|| ClientMessage::take_first(&mut rest)).collect()
    }

    /// Takes the first message from the front of `messages`; `None` when there are no more. Each is to be done with before
    /// the next is taken: a message may be as short as two bytes, and a list of them take many times what came. After an
    /// error nothing more is to be taken.
    pub fn take_first(messages: &mut Bytes) -> Option<Read<ClientMessage>> {
        take_first(messages, read_client)
    }
}

impl RelayMessage {
    /// Reads all messages of a frame that holds no fragments.
    pub fn read_all(frame: &Bytes) -> Read<Vec<RelayMessage>> {
        let mut rest = frame.clone();
        std::iter::from_fn(|| take_first(&mut rest, read_relay)).collect()
    }
}

fn read_client(reader: &mut Reader<'_>, frame: &Bytes) -> Read<ClientMessage> {
    Ok(match reader.uint()? {
        tag::HELLO => ClientMessage::Hello { version: reader.uint()?, token: reader.string()?.to_owned() },
        tag::OPEN => ClientMessage::Open {
            channel: reader.uint32()?,
            document: DocumentName::parse(reader.string()?)?,
            position: read_position(reader)?,
        },
        tag::CLOSE => ClientMessage::Close { channel: reader.uint32()? },
        tag::PUSH => ClientMessage::Push {
            channel: reader.uint32()?,
            number: reader.uint()?,
            update: read_bytes(reader, frame)?,
        },
        tag::HAVE => ClientMessage::Have {
            channel: reader.uint32()?,
            number: reader.uint()?,
            update: read_bytes(reader, frame)?,
        },
        tag::PING => ClientMessage::Ping { nonce: reader.uint()? },
        tag::REFRESH => ClientMessage::Refresh { token: reader.string()?.to_owned() },
        _ => return Err(Code::InvalidFrame),
    })
}

fn read_relay(reader: &mut Reader<'_>, frame: &Bytes) -> Read<RelayMessage> {
    Ok(match reader.uint()? {
        tag::WELCOME => RelayMessage::Welcome {
            lineage: reader.uint()?,
            time_ms: reader.uint()?,
            frame_bytes_max: reader.uint()?,
            update_bytes_max: reader.uint()?,
        },
        tag::OPENED => RelayMessage::Opened {
            channel: reader.uint32()?,
            access: read_access(reader)?,
            epoch: reader.uint()?,
            sequence: reader.uint()?,
            resume: read_resume(reader)?,
        },
        tag::UPDATES => {
            let channel = reader.uint32()?;
            let through = reader.uint()?;
            let count = reader.count(1)?;
            let updates: Read<Vec<Bytes>> = (0..count).map(|_| read_bytes(reader, frame)).collect();
            RelayMessage::Updates { channel, through, updates: updates? }
        }
        tag::ACK => {
            RelayMessage::Ack { channel: reader.uint32()?, number: reader.uint()?, sequence: reader.uint()? }
        }
        tag::NEED => {
            RelayMessage::Need { channel: reader.uint32()?, state_vector: read_state_vector(reader)? }
        }
        tag::REFUSED => RelayMessage::Refused {
            channel: reader.uint32()?,
            number: reader.uint()?,
            code: read_code(reader)?,
        },
        tag::GO_AWAY => RelayMessage::GoAway { after_ms: reader.uint()? },
        tag::ERROR => RelayMessage::Error { code: read_code(reader)?, message: reader.string()?.to_owned() },
        tag::PONG => RelayMessage::Pong { nonce: reader.uint()? },
        tag::GRANTED => RelayMessage::Granted { channel: reader.uint32()?, access: read_access(reader)? },
        _ => return Err(Code::InvalidFrame),
    })
}

/// Bytes behind their length, shared with the frame.
fn read_bytes(reader: &mut Reader<'_>, frame: &Bytes) -> Read<Bytes> {
    let len = reader.buffer()?.len();
    let end = reader.position();
    Ok(frame.slice(end - len..end))
}

fn read_state_vector(reader: &mut Reader<'_>) -> Read<StateVector> {
    StateVector::decode(reader.buffer()?).map_err(|_| Code::InvalidStateVector)
}

fn read_position(reader: &mut Reader<'_>) -> Read<Position> {
    match reader.uint()? {
        0 => Ok(Position::StateVector(read_state_vector(reader)?)),
        1 => Ok(Position::Cursor(Cursor {
            epoch: reader.uint()?,
            lineage: reader.uint()?,
            sequence: reader.uint()?,
        })),
        _ => Err(Code::InvalidFrame),
    }
}

fn read_access(reader: &mut Reader<'_>) -> Read<Access> {
    match reader.uint()? {
        0 => Ok(Access::Read),
        1 => Ok(Access::Comment),
        2 => Ok(Access::Write),
        _ => Err(Code::InvalidFrame),
    }
}

fn read_resume(reader: &mut Reader<'_>) -> Read<Resume> {
    match reader.uint()? {
        0 => Ok(Resume::Continues),
        1 => Ok(Resume::NeedsStateVector),
        _ => Err(Code::InvalidFrame),
    }
}

/// A code that a newer relay knows and this client does not is a violation it can name.
fn read_code(reader: &mut Reader<'_>) -> Read<Code> {
    Ok(Code::from_number(reader.uint()?).unwrap_or(Code::ProtocolViolation))
}
