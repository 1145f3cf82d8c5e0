//! A client that any relay of `docs/protocol.md` can be checked with, over the wire alone.
//!
//! Each check makes connections and documents of its own, so that it can be run on a relay that is in use. What it sends
//! below the messages is written byte by byte, because half of it is wrong on purpose.

mod check;
mod checks;
mod device;
mod edit;
mod stock;
pub mod target;
pub mod web_socket;

pub use check::{CHECKS, Check, Failure};
pub use target::{InvalidTarget, Target};
