//! Defects that the invariants must find: each is what a tempting shortcut would do.

/// A defect in the shell around the machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The relay passes updates on when it has admitted them, not when they are durable.
    SpeakBeforeCommit,
    /// A push that adds nothing is acknowledged at once, though the original is still uncommitted.
    AcknowledgeDuplicateEarly,
    /// A device answers the relay's question with its own edits alone, without those that they build on.
    DropForeignDependency,
    /// Compaction on the device folds rows that the relay has not acknowledged.
    ForgetOutboxAtCompaction,
    /// A device goes on with its old client ID after a crash.
    ReuseClientId,
    /// A device stores the cursor before the rows that it covers.
    CursorBeforeRows,
    /// The relay forgets the uncommitted updates of a commit that failed.
    DropFailedBatch,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 7] = [
        Mutant::SpeakBeforeCommit,
        Mutant::AcknowledgeDuplicateEarly,
        Mutant::DropForeignDependency,
        Mutant::ForgetOutboxAtCompaction,
        Mutant::ReuseClientId,
        Mutant::CursorBeforeRows,
        Mutant::DropFailedBatch,
    ];
}
