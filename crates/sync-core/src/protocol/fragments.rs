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

/// A message with bytes that many peers are sent: only its beginning is made for each of them. Its frames
/// are made one at a time, so that a large document on its way to many costs a frame for each.
#[derive(Debug, Clone)]
pub struct SharedMessage {
    head: Vec<u8>,
    body: Bytes,
    at: usize,
}

impl SharedMessage {
    /// A message that begins with `head` and ends with `body`.
    pub fn new(head: Vec<u8>, body: Bytes) -> Self {
        SharedMessage { head, body, at: 0 }
    }

    /// What is kept for it: all of it until its last frame.
    pub fn bytes(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// The next frame, of at most `frame_bytes_max` (at least 16), until there is none.
    pub fn next_frame(&mut self, frame_bytes_max: usize) -> Option<Bytes> {
        let bytes = self.bytes();
        let is_whole = self.at == 0 && bytes <= frame_bytes_max;
        let part_bytes = if is_whole { bytes } else { frame_bytes_max.max(16) - HEAD_BYTES };
        let end = bytes.min(self.at + part_bytes);
        if self.at >= end {
            return None;
        }
        let mut out = Vec::with_capacity(end - self.at + HEAD_BYTES);
        if !is_whole {
            write_uint(&mut out, tag::FRAGMENT);
            write_uint(&mut out, u64::from(end < bytes));
        }
        let body_at = |at: usize| at.saturating_sub(self.head.len());
        out.extend_from_slice(self.head.get(self.at..end.min(self.head.len())).unwrap_or(&[]));
        out.extend_from_slice(self.body.get(body_at(self.at)..body_at(end)).unwrap_or(&[]));
        self.at = end;
        Some(out.into())
    }
}

/// Puts fragments together again.
#[derive(Debug, Default)]
pub struct Reassembly {
    parts: Option<BytesMut>,
}

impl Reassembly {
    /// Bytes of the fragments so far.
    pub fn bytes(&self) -> usize {
        self.parts.as_ref().map_or(0, BytesMut::capacity)
    }

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
