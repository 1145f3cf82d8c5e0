//! The codec of `tidewell.v1`: the wire is known to this file and its submodules only.
//!
//! A frame holds messages one after the other; a message is a tag and its fields, in lib0's encoding.
//! `docs/protocol.md` lists them as equations.

mod fragments;
mod read;
mod write;

pub use fragments::{Reassembly, SharedMessage, split};

use crate::code::Code;
use crate::document_name::DocumentName;
use crate::state_vector::StateVector;
use bytes::Bytes;

/// The WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "tidewell.v1";

/// The version in `Hello`.
pub const VERSION: u64 = 1;

/// Where a device's knowledge of a document ends. Sequences count the relay's commits of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// Identity of this incarnation of the document.
    pub epoch: u64,
    /// Identity of the store's history.
    pub lineage: u64,
    /// Everything up to this commit is known; 0 is nothing.
    pub sequence: u64,
}

/// What a client says it knows when it opens a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// Everything up to a commit of the relay.
    Cursor(Cursor),
    /// Everything below these clocks.
    StateVector(StateVector),
}

/// What a connection may do with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Receive updates.
    Read,
    /// Receive updates and send presence.
    Comment,
    /// Send updates too.
    Write,
}

/// How the relay answers a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// What follows the position comes as updates.
    Continues,
    /// The cursor is of another history: the client opens again with its state vector.
    NeedsStateVector,
}

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientMessage {
    /// First message of a connection.
    Hello {
        /// [`VERSION`].
        version: u64,
        /// A JWT; empty for a relay that has no keys.
        token: String,
    },
    /// Takes the place of the connection's token; see `docs/protocol.md`.
    Refresh {
        /// A JWT with the subject of the one before it.
        token: String,
    },
    /// Opens a document on a channel that the client chooses.
    Open {
        /// Number of the channel on this connection.
        channel: u32,
        /// Which document.
        document: DocumentName,
        /// What the client knows of it.
        position: Position,
    },
    /// Ends a channel.
    Close {
        /// Number of the channel.
        channel: u32,
    },
    /// New edits.
    Push {
        /// Number of the channel.
        channel: u32,
        /// Counts up on each channel, from 1 on each connection; shared with `Have`.
        number: u64,
        /// A v1 update.
        update: Bytes,
    },
    /// The answer to `Need`.
    Have {
        /// Number of the channel.
        channel: u32,
        /// As in `Push`.
        number: u64,
        /// Everything of the document that the state vector in `Need` lacks, whoever made it.
        update: Bytes,
    },
    /// Asks for a `Pong`.
    Ping {
        /// Comes back.
        nonce: u64,
    },
}

/// What the relay sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayMessage {
    /// The answer to `Hello`.
    Welcome {
        /// Identity of the store's history.
        lineage: u64,
        /// The relay's clock, in milliseconds since 1970.
        time_ms: u64,
        /// Largest frame the relay reads.
        frame_bytes_max: u64,
        /// Largest update the relay takes.
        update_bytes_max: u64,
    },
    /// The answer to `Open`.
    Opened {
        /// Number of the channel.
        channel: u32,
        /// What the connection may do.
        access: Access,
        /// Identity of the document's incarnation.
        epoch: u64,
        /// The relay's last commit of the document when this was sent.
        sequence: u64,
        /// How it goes on.
        resume: Resume,
    },
    /// Commits, in order and without a gap.
    Updates {
        /// Number of the channel.
        channel: u32,
        /// With these the client knows everything up to this commit.
        through: u64,
        /// v1 updates.
        updates: Vec<Bytes>,
    },
    /// Pushes up to `number` are durable at the relay.
    Ack {
        /// Number of the channel.
        channel: u32,
        /// The last of the numbers.
        number: u64,
        /// The commit with the last of them.
        sequence: u64,
    },
    /// A push had a gap: asks for what lies beyond this state vector.
    Need {
        /// Number of the channel.
        channel: u32,
        /// What the relay has committed.
        state_vector: StateVector,
    },
    /// A push will not be taken. The channel takes no more pushes.
    Refused {
        /// Number of the channel.
        channel: u32,
        /// Number of the push; 0 refuses the channel as a whole.
        number: u64,
        /// Why.
        code: Code,
    },
    /// A channel may do more or less than before.
    Granted {
        /// Number of the channel.
        channel: u32,
        /// What the connection may do from now on.
        access: Access,
    },
    /// The relay is about to close the connection.
    GoAway {
        /// Come back after this many milliseconds, jittered for each connection.
        after_ms: u64,
    },
    /// Something is wrong with the connection; it is closed after this.
    Error {
        /// What.
        code: Code,
        /// For people.
        message: String,
    },
    /// The answer to `Ping`.
    Pong {
        /// As it came.
        nonce: u64,
    },
}

mod tag {
    pub(super) const FRAGMENT: u64 = 0;
    pub(super) const HELLO: u64 = 1;
    pub(super) const OPEN: u64 = 2;
    pub(super) const CLOSE: u64 = 3;
    pub(super) const PUSH: u64 = 4;
    pub(super) const HAVE: u64 = 5;
    pub(super) const PING: u64 = 6;
    pub(super) const REFRESH: u64 = 7;
    pub(super) const WELCOME: u64 = 33;
    pub(super) const OPENED: u64 = 34;
    pub(super) const UPDATES: u64 = 35;
    pub(super) const ACK: u64 = 36;
    pub(super) const NEED: u64 = 37;
    pub(super) const REFUSED: u64 = 38;
    pub(super) const GO_AWAY: u64 = 39;
    pub(super) const ERROR: u64 = 40;
    pub(super) const PONG: u64 = 41;
    pub(super) const GRANTED: u64 = 42;
}

#[cfg(test)]
mod tests;
