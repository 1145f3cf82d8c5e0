//! One socket, one task.

mod catch_ups;
mod inbox;
mod pace;
pub(crate) mod socket;
pub(crate) mod tidewell;
pub(crate) mod yjs;

use crate::limits::{READ_BUFFER_BYTES, WRITE_BUFFER_BYTES};
use crate::token::InvalidToken;
use axum::extract::ws::WebSocketUpgrade;
use bytes::Bytes;
use std::borrow::Cow;
use tidewell_sync_core::code::Code;

/// Why a connection ends.
#[derive(Debug)]
pub(crate) enum End {
    /// The peer has gone, or its socket has failed.
    Gone,
    /// The relay ends it with a code.
    Code(Code, Cow<'static, str>),
    /// The client is to come back later: the relay is ending, or has too much to do.
    Away {
        /// Which of the two.
        code: Code,
        /// When the client shall come back.
        after_ms: u64,
    },
}

impl From<Code> for End {
    fn from(code: Code) -> Self {
        End::Code(code, Cow::Borrowed(code.help()))
    }
}

impl From<InvalidToken> for End {
    fn from(error: InvalidToken) -> Self {
        End::Code(error.code(), error.to_string().into())
    }
}

/// The buffers and limits of every socket.
pub(crate) fn configured(upgrade: WebSocketUpgrade, frame_bytes_max: usize) -> WebSocketUpgrade {
    upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_frame_size(frame_bytes_max)
        .max_message_size(frame_bytes_max)
}

/// Updates below this size are copied out of what was read with them: a slice would keep the whole read
/// buffer alive for as long as somebody has not had the update.
const COPY_BELOW: usize = 64 << 10;

fn unshared(update: Bytes) -> Bytes {
    if update.len() < COPY_BELOW { Bytes::copy_from_slice(&update) } else { update }
}

#[cfg(test)]
mod tests;
