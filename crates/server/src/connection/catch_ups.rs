//! What the members of one connection lack, on its way to them part by part.

use crate::catch_up::{CatchUp, CatchUpError, Owner, catch_up};
use crate::connections::Registered;
use crate::limits::OUTGOING_BYTES_MAX;
use crate::room_handle::RoomHandle;
use crate::store::Readers;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use tidewell_sync_core::room::{Behind, MemberId};

/// All catch-ups of a connection.
#[derive(Default)]
pub(super) struct CatchUps {
    /// Members that are behind, and are read for when the catch-ups before them have left.
    behind: VecDeque<(LeftBehind, Behind)>,
    /// Catch-ups that are at hand, which leave by turns.
    ready: VecDeque<Ready>,
    /// Of the parts that were read and are not sent.
    bytes: usize,
}

/// A member that is to be brought up to date.
pub(super) struct LeftBehind {
    pub(super) channel: u32,
    pub(super) room: Arc<RoomHandle>,
    pub(super) member: MemberId,
}

/// A message of a catch-up.
pub(super) struct Part {
    pub(super) channel: u32,
    /// What the member knows when it has this. Only the last part brings it further.
    pub(super) through: u64,
    /// `None` where nothing is lacking.
    pub(super) update: Option<Bytes>,
    pub(super) owner: Owner,
}

impl Part {
    pub(super) fn bytes(&self) -> usize {
        self.update.as_ref().map_or(0, Bytes::len)
    }
}

/// A catch-up of which some parts are not sent.
struct Ready {
    left: LeftBehind,
    /// What the member knows until it has the last part.
    known: u64,
    /// What it knows then.
    through: u64,
    /// Those that are not sent. The others are given up: not all who share them are as slow.
    parts: VecDeque<Bytes>,
    owner: Owner,
}

impl CatchUps {
    /// There is something to send, or to read. What nobody may make the relay keep is not read; the connection is nudged
    /// when it may.
    pub(super) fn has_next(&self, registered: &Registered) -> bool {
        !self.ready.is_empty() || (!self.behind.is_empty() && !registered.is_held_back())
    }

    /// What is kept for the client.
    pub(super) fn held_bytes(&self) -> usize {
        self.ready.iter().map(|ready| ready.owner.share(ready.bytes_left())).sum()
    }

    /// Others share some of it: when they have gone it counts for more.
    pub(super) fn is_shared(&self) -> bool {
        self.ready.iter().any(|ready| matches!(ready.owner, Owner::Holders(_)))
    }

    pub(super) fn push(&mut self, left: LeftBehind, behind: Behind) {
        self.behind.push_back((left, behind));
    }

    /// The next part for a member that is still there; or a member that cannot be brought up to date.
    pub(super) async fn next(
        &mut self,
        readers: &Readers,
        registered: &Registered,
        is_here: impl Fn(&LeftBehind) -> bool,
    ) -> Option<Result<Part, LeftBehind>> {
        if let Err(left) = self.read_ahead(readers, registered, &is_here).await {
            return Some(Err(left));
        }
        while let Some(mut ready) = self.ready.pop_front() {
            if !is_here(&ready.left) {
                self.bytes -= ready.bytes_left();
                continue;
            }
            let part = ready.next_part();
            self.bytes -= part.bytes();
            if !ready.parts.is_empty() {
                self.ready.push_back(ready);
            }
            return Some(Ok(part));
        }
        None
    }

    /// Reads until there is enough to send: what all lack together may be more than fits into memory.
    async fn read_ahead(
        &mut self,
        readers: &Readers,
        registered: &Registered,
        is_here: impl Fn(&LeftBehind) -> bool,
    ) -> Result<(), LeftBehind> {
        while self.bytes < OUTGOING_BYTES_MAX
            && !registered.is_held_back()
            && let Some((left, behind)) = self.behind.pop_front()
        {
            if !is_here(&left) {
                continue;
            }
            let known = match &behind {
                Behind::After(sequence) => *sequence,
                Behind::StateVector(_) => 0,
            };
            match Box::pin(catch_up(&left.room, readers, registered, &behind)).await {
                Ok(CatchUp { through, parts, owner }) => {
                    let parts = parts.iter().cloned().collect();
                    let ready = Ready { left, known, through, parts, owner };
                    self.bytes += ready.bytes_left();
                    self.ready.push_back(ready);
                }
                Err(CatchUpError::HeldBack) => {
                    self.behind.push_front((left, behind));
                    break;
                }
                Err(error) => {
                    tracing::error!(document = %left.room.document(), %error, "a catch-up failed");
                    return Err(left);
                }
            }
        }
        Ok(())
    }
}

impl Ready {
    fn bytes_left(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    fn next_part(&mut self) -> Part {
        let update = self.parts.pop_front();
        let LeftBehind { channel, room, member } = &self.left;
        let is_last = self.parts.is_empty();
        let through = if is_last { room.caught_up(*member, self.through) } else { self.known };
        Part { channel: *channel, through, update, owner: self.owner.clone() }
    }
}
