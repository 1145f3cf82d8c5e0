//! A native Tidewell client: documents on this device, kept in step with a relay.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use tidewell_client::{Client, Options, Store};
//!
//! let store = Store::Directory("notes".into());
//! let client = Client::open(Options::new("ws://127.0.0.1:7700/v1/sync", store)).await?;
//! let document = client.document("acme/list/42").await?;
//! document.insert_text("notes", 0, "Milk").await?;
//! document.saved_device().await?; // on this disk, whatever happens to the relay
//! document.saved_relay().await?; // on the relay's disk, whatever happens to this device
//! client.close().await?;
//! # Ok(()) }
//! ```
//!
//! One task owns the core's state machine and all documents; [`Client`] and [`Document`] are handles that
//! are cheap to clone. Everything works without a connection: edits are kept in the store's directory,
//! and go to the relay when it can be reached.

mod actor;
mod branch;
mod client;
mod connection;
mod document;
mod status;
mod store;

pub use branch::Branch;
pub use client::{Client, OpenError, Options, Store};
pub use document::{Document, DocumentError, EditError, Opened, SavedError};
pub use status::{Connection, Device, Status};
pub use store::{DirectoryError, LogError, TornTail};
pub use tidewell_sync_core::code::Code;
pub use tidewell_sync_core::replica::{Link, LoadReport, Unsent};
pub use yrs;
