//! The Tidewell relay: merges, persists and passes on what devices send.
//!
//! A room per document ([`tidewell_sync_core`]'s pure state machine) behind a handle; one writer thread
//! that commits for all rooms at once; one task for each connection. Commit, then speak: what leaves the
//! relay was made from the store's receipt.

pub mod data_directory;
pub mod store;
