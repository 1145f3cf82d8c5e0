//! What a program may want to show of a document.

use std::sync::Arc;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::replica::{Link, Unsent};

/// Where the connection stands. All documents of a client share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// The program asked for none.
    Paused,
    /// Waiting until it is tried again, after an error of this code if the relay named one.
    Waiting(Option<Code>),
    /// Being made.
    Connecting,
    /// The relay has said welcome.
    Live,
}

/// Where the device's copy stands.
#[derive(Debug, Clone)]
pub enum Device {
    /// There is no store: everything ends with the client.
    Memory,
    /// Every edit is on disk.
    Saved,
    /// Some edits are on their way to the disk.
    Saving,
    /// Some edits could not be written. They are in memory and are tried again every second.
    Failed(Arc<std::io::Error>),
}

/// A document's status.
#[derive(Debug, Clone)]
pub struct Status {
    /// Where the connection stands.
    pub connection: Connection,
    /// Where the document stands with the relay.
    pub link: Link,
    /// Where the device's copy stands.
    pub device: Device,
    /// What the relay has not acknowledged.
    pub unsent: Unsent,
}
