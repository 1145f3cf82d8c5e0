//! Messages larger than a frame.
//!
//! `fragment = 0 more:uint bytes`: takes a frame of its own. The bytes of consecutive fragments, up to one
//! with `more = 0`, are a frame's worth of messages. Nothing else comes in between.

use super::tag;
use crate::code::Code;
use crate::lib0::{Reader, write_uint};
use crate::limits::MESSAGE_BYTES_MAX;
use bytes::{Bytes, BytesMut};

/// Bytes that a fragment's own head takes.
const HEAD_BYTES: usize = 2;

/// Cuts a frame's worth of messages into frames of at most `frame_bytes_max` (at least 16).
pub fn split(messages: Bytes, frame_bytes_max: usize) -> Vec<Bytes> {
    if messages.len() <= frame_bytes_max {
        return vec![messages];
    }
    let part_bytes = frame_bytes_max.max(16) - HEAD_BYTES;
    let parts = messages.chunks(part_bytes);
    let last = parts.len() - 1;
    let frame = |(index, part): (usize, &[u8])| {
        let mut out = Vec::with_capacity(part.len() + HEAD_BYTES);
        write_uint(&mut out, tag::FRAGMENT);
        write_uint(&mut out, u64::from(index < last));
        out.extend_from_slice(part);
        Bytes::from(out)
    };
    parts.enumerate().map(frame).collect()
}

/// Puts fragments together again.
#[derive(Debug, Default)]
pub struct Reassembly {
    parts: Option<BytesMut>,
}

impl Reassembly {
    /// Takes a frame; answers with a frame's worth of whole messages when there is one.
    pub fn take(&mut self, frame: Bytes) -> Result<Option<Bytes>, Code> {
        let mut reader = Reader::new(&frame);
        let is_fragment = reader.uint()? == tag::FRAGMENT;
        if !is_fragment {
            return if self.parts.is_some() { Err(Code::InvalidFrame) } else { Ok(Some(frame)) };
        }
        let more = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Code::InvalidFrame),
        };
        let parts = self.parts.get_or_insert_default();
        if parts.len() + reader.remaining() > MESSAGE_BYTES_MAX {
            return Err(Code::FrameTooLarge);
        }
        parts.extend_from_slice(reader.take(reader.remaining())?);
        if more { Ok(None) } else { Ok(self.parts.take().map(BytesMut::freeze)) }
    }
}
