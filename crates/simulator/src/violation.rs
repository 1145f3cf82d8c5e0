//! What must never be.

use std::fmt::Display;
use thiserror::Error;

/// An invariant that a run broke.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Violation {
    /// A device was told that a row is durable, and the store does not have it.
    #[error("device {device}: a row was acknowledged that the store does not have")]
    AcknowledgedNotDurable {
        /// Which device.
        device: usize,
    },
    /// The relay told somebody something that a crash could take back.
    #[error("the relay spoke of something that is not committed: {what}")]
    SpokeEarly {
        /// What it told.
        what: &'static str,
    },
    /// A device's cursor names a commit that the store does not have, or covers rows that are not there.
    #[error("device {device}: the cursor {what}")]
    Cursor {
        /// Which device.
        device: usize,
        /// How it is wrong.
        what: &'static str,
    },
    /// Something was admitted that builds on something missing.
    #[error("{who}: something was admitted that has a gap")]
    Gap {
        /// Where.
        who: String,
    },
    /// An edit that was saved on the device is not there after a crash.
    #[error("device {device}: an edit that was saved on the device is gone")]
    DeviceSavedLost {
        /// Which device.
        device: usize,
    },
    /// Two different edits have the same name.
    #[error("device {device}: client {client} made two edits with clock {clock}")]
    NameReused {
        /// Which device.
        device: usize,
        /// The client ID.
        client: u64,
        /// The clock.
        clock: u32,
    },
    /// A row is in the outbox and in a branch.
    #[error("device {device}: a row is in the outbox and in a branch")]
    TwoPlaces {
        /// Which device.
        device: usize,
    },
    /// Something entered a room that its sender had no right to write.
    #[error("the relay took a push that its token does not grant")]
    Unauthorized,
    /// The relay keeps more and more for somebody who does not read.
    #[error("the relay has {turns} turns waiting for one reader")]
    QueueGrows {
        /// How many.
        turns: u64,
    },
    /// At rest a device still waits for acknowledgements.
    #[error("device {device}: at rest, {rows} edits are not acknowledged (link {link})")]
    NotAcknowledged {
        /// Which device.
        device: usize,
        /// How many.
        rows: u64,
        /// Where it stands with the relay.
        link: String,
    },
    /// At rest an edit that a device saved is neither in the store nor in a branch.
    #[error("device {device}: at rest, an edit that was saved is neither in the store nor in a branch")]
    EditLost {
        /// Which device.
        device: usize,
    },
    /// Something was made once and is in the document twice.
    #[error("at rest, {value} is in a list twice")]
    Twice {
        /// The number, which was added to a list once.
        value: i64,
    },
    /// At rest devices differ.
    #[error("at rest, devices differ")]
    Diverged,
    /// At rest the store's documents differ from the devices'.
    #[error("at rest, the store differs from the devices")]
    StoreDiffers,
    /// Things never came to rest.
    #[error("things never come to rest")]
    Restless,
    /// A machine refused what another made.
    #[error("{who} refused: {code}")]
    Refused {
        /// Who refused.
        who: String,
        /// The code.
        code: String,
    },
}

impl Violation {
    pub(crate) fn gap(who: &str) -> Self {
        Violation::Gap { who: who.to_owned() }
    }

    pub(crate) fn refused(who: impl Display, code: impl Display) -> Self {
        Violation::Refused { who: who.to_string(), code: code.to_string() }
    }
}
