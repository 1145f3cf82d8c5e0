//! The pure core of Tidewell, the same code on both ends of the wire.
//!
//! No I/O, no clock, no randomness: bytes, time and random numbers come in as arguments, effects go out
//! as values. What a peer sends passes, in this order: a codec ([`protocol`] or [`y_protocol`]), then
//! [`admission`], and only then the yrs library or the log.
//!
//! `docs/protocol.md` is the contract for everything here; its rule IDs are quoted by the tests.

pub mod admission;
pub mod awareness;
pub mod branch;
mod caret;
pub mod client;
pub mod client_map;
pub mod code;
pub mod counter;
pub mod document_map;
pub mod document_name;
pub mod draft;
pub mod lib0;
pub mod limits;
pub mod path;
pub mod protocol;
pub mod replica;
pub mod room;
pub mod state_vector;
pub mod token;
pub mod update;
pub mod value;
pub mod y_protocol;
