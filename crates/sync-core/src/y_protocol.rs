//! The codec of the y-websocket protocol (y-protocols: sync and awareness), as stock clients speak it.

use crate::code::Code;
use crate::lib0::{ReadError, Reader, take_first, write_buffer, write_uint};
use crate::state_vector::StateVector;
use bytes::Bytes;

const SYNC: u64 = 0;
const AWARENESS: u64 = 1;
const AUTH: u64 = 2;
const QUERY_AWARENESS: u64 = 3;

const STEP_1: u64 = 0;
const STEP_2: u64 = 1;
const UPDATE: u64 = 2;

/// One message of a stock client, or to one. Each travels in a frame of its own: stock clients read only
/// the first message of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum YMessage {
    /// Asks for everything beyond a state vector.
    SyncStep1(StateVector),
    /// The answer.
    SyncStep2(Bytes),
    /// New edits.
    Update(Bytes),
    /// Presence, opaque but for its envelope.
    Awareness(Bytes),
    /// Asks for everybody's presence.
    QueryAwareness,
    /// Permission denied, with a reason. Sent by relays only.
    Auth(String),
}

impl YMessage {
    /// Reads the messages of a frame.
    pub fn read_all(frame: &Bytes) -> Result<Vec<YMessage>, Code> {
        let mut rest = frame.clone();
        std::iter::from_fn(|| YMessage::take_first(&mut rest)).collect()
    }

    /// Takes the first message from the front of `messages`; `None` when there are no more. Each is to be done with before
    /// the next is taken: a message may be a single byte, and a list of them take many times what came. After an error
    /// nothing more is to be taken.
    pub fn take_first(messages: &mut Bytes) -> Option<Result<YMessage, Code>> {
        take_first(messages, read)
    }

    /// Bytes of the update, presence or reason that it holds.
    pub fn bytes(&self) -> usize {
        match self {
            YMessage::SyncStep2(bytes) | YMessage::Update(bytes) | YMessage::Awareness(bytes) => bytes.len(),
            YMessage::Auth(reason) => reason.len(),
            YMessage::SyncStep1(_) | YMessage::QueryAwareness => 0,
        }
    }

    /// The message as a frame.
    pub fn to_frame(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            YMessage::SyncStep1(vector) => write_sync(&mut out, STEP_1, &vector.encode()),
            YMessage::SyncStep2(update) => write_sync(&mut out, STEP_2, update),
            YMessage::Update(update) => write_sync(&mut out, UPDATE, update),
            YMessage::Awareness(update) => {
                write_uint(&mut out, AWARENESS);
                write_buffer(&mut out, update);
            }
            YMessage::QueryAwareness => write_uint(&mut out, QUERY_AWARENESS),
            YMessage::Auth(reason) => {
                write_uint(&mut out, AUTH);
                write_uint(&mut out, 0);
                write_buffer(&mut out, reason.as_bytes());
            }
        }
        out.into()
    }
}

fn write_sync(out: &mut Vec<u8>, kind: u64, bytes: &[u8]) {
    out.reserve(bytes.len() + 7);
    write_uint(out, SYNC);
    write_uint(out, kind);
    write_buffer(out, bytes);
}

fn read(reader: &mut Reader<'_>, frame: &Bytes) -> Result<YMessage, Code> {
    match reader.uint()? {
        SYNC => match reader.uint()? {
            STEP_1 => {
                let vector = StateVector::decode(reader.buffer()?).map_err(|_| Code::InvalidStateVector)?;
                Ok(YMessage::SyncStep1(vector))
            }
            STEP_2 => Ok(YMessage::SyncStep2(shared(reader, frame)?)),
            UPDATE => Ok(YMessage::Update(shared(reader, frame)?)),
            _ => Err(Code::InvalidFrame),
        },
        AWARENESS => Ok(YMessage::Awareness(shared(reader, frame)?)),
        AUTH => {
            reader.uint()?;
            Ok(YMessage::Auth(reader.string()?.to_owned()))
        }
        QUERY_AWARENESS => Ok(YMessage::QueryAwareness),
        _ => Err(Code::InvalidFrame),
    }
}

fn shared(reader: &mut Reader<'_>, frame: &Bytes) -> Result<Bytes, ReadError> {
    let len = reader.buffer()?.len();
    let end = reader.position();
    Ok(frame.slice(end - len..end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn yw1_each_message_reads_back() {
        let vector: StateVector = [(7, 3), (1 << 40, 1)].into_iter().collect();
        for message in [
            YMessage::SyncStep1(vector),
            YMessage::SyncStep2(Bytes::from_static(&[0, 0])),
            YMessage::Update(Bytes::from_static(&[1, 2, 3])),
            YMessage::Awareness(Bytes::from_static(&[0])),
            YMessage::QueryAwareness,
            YMessage::Auth("no".into()),
        ] {
            assert_eq!(YMessage::read_all(&message.to_frame()), Ok(vec![message]));
        }
    }

    proptest! {
        #[test]
        fn yw2_no_frame_makes_the_decoder_panic(frame in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = YMessage::read_all(&frame.into());
        }
    }
}
