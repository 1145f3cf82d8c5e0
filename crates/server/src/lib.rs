//! The Tidewell relay: merges, persists and passes on what devices send.
//!
//! A room for each document ([`tidewell_sync_core`]'s pure state machine) behind a handle; one writer
//! thread that commits for all rooms at once; one task for each connection. Commit, then speak: what
//! leaves the relay was made from the store's receipt.

// As the targets of `fuzz/` name them, which are modules of the tests.
#[cfg(test)]
extern crate self as libfuzzer_sys;
#[cfg(test)]
extern crate self as tidewell_server;

mod assets;
mod authority;
mod awareness;
mod backup;
mod catch_up;
mod client_address;
mod commit_pace;
mod compaction;
mod compactor;
mod conformance;
mod connection;
mod connections;
mod data_directory;
mod door;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod housekeeping;
mod http;
mod limits;
mod materializer;
mod memory;
mod meter;
mod metrics;
mod options;
mod origin;
mod pace;
mod places;
mod quarantine;
mod quotas;
mod relay;
mod revocations;
mod room_handle;
mod rooms;
mod serve;
mod store;
mod tickets;
mod tls;
mod token;
mod wake;
mod writer;

pub use assets::AssetsError;
pub use backup::{Report, Subject, ToolError, backup, restore, verify};
pub use client_address::{InvalidNetwork, Network};
pub use conformance::{ConformanceError, run as run_conformance};
pub use data_directory::DataDirectoryError;
pub use materializer::{MaterializeError, materialize};
pub use options::{
    AccessTo, BackupOptions, Command, CommandLine, ConformanceOptions, InvalidBytes, InvalidDuration,
    LogForm, MintOptions, QuarantineCommand, QuarantineOptions, RestoreOptions, ServeOptions, TokenCommand,
    TokenOptions, VerifyOptions, parse_bytes, parse_duration,
};
pub use origin::InvalidOrigin;
pub use quarantine::{QuarantineError, quarantined, release};
pub use serve::{Prepared, ServeError, StartError, run};
pub use store::{BackupError, CommitError, Copied, OpenError, Quarantined};
pub use tls::CertificateError;
pub use token::command::{TokenCommandError, run as run_token_command};
pub use token::keys::KeysError;
pub use token::mint::{KeyKind, MintError};
