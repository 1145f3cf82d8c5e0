//! Local branches: edits that the relay refused. They stay in the document's log on this device.

use bytes::Bytes;
use tidewell_sync_core::branch::as_one_update;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::replica::OutboxRow;

/// Edits that were put aside together, because the relay refused one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Why the relay refused.
    pub code: Code,
    /// The edits, in the order of their making.
    pub rows: Vec<OutboxRow>,
}

impl Branch {
    /// How many edits it holds.
    pub fn edits(&self) -> u64 {
        self.rows.iter().map(|row| u64::from(row.edits)).sum()
    }

    /// A Yjs update (v1) with its edits: applied to the document, it makes the branch's content.
    pub fn export(&self) -> Result<Bytes, Code> {
        let updates: Vec<Bytes> = self.rows.iter().map(|row| row.update.clone()).collect();
        as_one_update(&updates)
    }
}
