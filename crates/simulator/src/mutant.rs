//! Defects that the invariants must find: each is what a tempting shortcut would do.

macro_rules! mutants {
    ($($mutant:ident $what:literal,)*) => {
        /// A defect in the shells around the machines, or in what passes between them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mutant {
            $(#[doc = $what] $mutant,)*
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &'static [Mutant] = &[$(Mutant::$mutant,)*];

            /// What it does, in a sentence.
            pub const fn what(self) -> &'static str {
                match self { $(Mutant::$mutant => $what,)* }
            }
        }
    };
}

mutants! {
    SpeakBeforeCommit "The relay passes updates on when it has admitted them, not when they are durable.",
    AcknowledgeDuplicateEarly "A push that adds nothing is acknowledged at once, though the original is still uncommitted.",
    AcknowledgeTooMuch "The relay acknowledges one push more than is durable.",
    AskFromUncommitted "The relay asks for what lies beyond what it has admitted, not beyond what it has committed.",
    DropFailedBatch "The relay forgets the uncommitted updates of a commit that failed.",
    DropForSlowReader "What a slow reader cannot take is dropped, and counts as told.",
    QueueForSlowReader "What a slow reader cannot take is kept for it.",
    ServePrunedLog "A member that is behind is served from a log whose beginning was pruned, as if it were whole.",
    SkipCatchUpParts "Of a catch-up in several parts the last one is sent alone.",
    DropLastFragment "The last fragment of a long message is not sent.",
    SnapshotWithoutLastRow "A snapshot is stored for one commit more than it was made of.",
    RestoreInSilence "A relay that was restored from a backup goes on under its old lineage.",
    TokenNeverExpires "A connection goes on when its token has expired or was revoked.",
    WriteWithoutGrant "Pushes are taken on a channel that may only be read.",
    DropForeignDependency "A device answers the relay's question with its own edits alone, without those that they build on.",
    ForgetOutboxAtCompaction "Compaction on the device folds rows that the relay has not acknowledged.",
    ReuseClientId "A device goes on with its old client ID after a crash.",
    CursorBeforeRows "A device stores the cursor before the rows that it covers.",
    CursorWhileOffering "A device stores a cursor while what it has offered to a restored relay is not durable.",
    SavedTooEarly "An edit counts as saved when its transaction is asked for, not when it is complete.",
    DropAbortedWrite "A write that the device's disk has aborted is not tried again.",
    AcknowledgeByNumber "An acknowledged row takes those of other tabs with it that have its number.",
    LeaveDeadTabsRows "Nobody takes over the rows of a tab that died.",
    AdoptRowsOfBranches "Rows of a dead tab are taken over though they build on a branch.",
    KeeperStoresNoMore "A tab that begins to store what comes from the relay leaves out what came before.",
    KeeperTrustsCursor "A tab that begins to store in the midst of a catch-up leaves out the parts that came before.",
    KeeperIgnoresLineage "A tab that begins to store leaves that out when the stored cursor, of an older lineage, has a higher sequence.",
    IgnoreRefusal "Refused rows stay in the outbox.",
    LoseRefusedRows "Refused rows leave the outbox, and no branch has them.",
    GoOnWithRefusedRows "Refused rows become a branch, and the document goes on with them in it.",
    KeepCursorAtBranch "Rows become a branch, and the cursor stays, though it may cover those of them that the relay has.",
    StoreWhatMayBeRefused "The whole document is stored as received while rows in it may still be refused.",
    HearRefusedEdits "A tab takes from another one what was refused, after it has put it aside itself.",
    ForgetEndedBranches "A tab takes from another one what was refused, after it was merged.",
    AnswerWithRefusedEdits "A tab answers another one's question out of a document in which refused edits still are.",
    EndBranchFirst "A branch ends before the edits that were made anew are stored.",
    SendBeforeBranchEnds "The edits that were made anew leave for the relay before the branch's end is stored.",
    NeverTick "Nobody tells the client that time has passed: a half-open link is not noticed.",
}

impl Mutant {
    /// Those that no seed is known to bring about: tests of the run (`simulation/tests.rs`) take the steps that do.
    pub const SCRIPTED: &'static [Mutant] = &[Mutant::KeeperIgnoresLineage, Mutant::SendBeforeBranchEnds];
}
