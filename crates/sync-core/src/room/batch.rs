//! A commit, and the proof that it was made.

use crate::document_name::DocumentName;
use bytes::Bytes;

/// One room's part of a commit: a row for the log.
#[derive(Debug, Clone)]
pub struct Batch {
    document: DocumentName,
    epoch: u64,
    first: u64,
    through: u64,
    update: Bytes,
}

impl Batch {
    pub(super) fn new(document: DocumentName, epoch: u64, first: u64, through: u64, update: Bytes) -> Self {
        Batch { document, epoch, first, through, update }
    }

    /// Whose row it is.
    pub fn document(&self) -> &DocumentName {
        &self.document
    }

    /// The document's incarnation.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Sequence of its first update.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Sequence of its last update: the row's key.
    pub fn through(&self) -> u64 {
        self.through
    }

    /// The updates, merged.
    pub fn update(&self) -> &Bytes {
        &self.update
    }

    /// The proof that this batch is durable. Called once the commit that holds it was synced, by
    /// whoever had the store make it.
    pub fn committed(self) -> Receipt {
        Receipt { through: self.through }
    }
}

/// Proof that everything up to a sequence is durable. Nothing else can make an acknowledgement.
#[derive(Debug)]
pub struct Receipt {
    through: u64,
}

impl Receipt {
    pub(super) fn loaded(through: u64) -> Self {
        Receipt { through }
    }

    /// The last durable sequence.
    pub fn through(&self) -> u64 {
        self.through
    }
}

/// What a pusher is told once its push is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledgement {
    number: u64,
    sequence: u64,
}

impl Acknowledgement {
    pub(super) fn new(receipt: &Receipt, number: u64) -> Self {
        Acknowledgement { number, sequence: receipt.through }
    }

    /// The push, and with it all before it.
    pub fn number(self) -> u64 {
        self.number
    }

    /// A commit by which it was durable.
    pub fn sequence(self) -> u64 {
        self.sequence
    }
}
