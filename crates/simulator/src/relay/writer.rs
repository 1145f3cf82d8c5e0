//! The relay's one writer, and a disk that is full or fails.

use super::{Relay, Surroundings};
use crate::{Mutant, Violation};
use tidewell_sync_core::room::{Batch, Room};

/// A commit on its way.
pub(super) struct Writing {
    pub(super) batches: Vec<(usize, Batch)>,
    /// On disk, and nobody has been told.
    pub(super) is_durable: bool,
}

/// How the disk is.
#[derive(Debug, Default)]
pub(super) struct Disk {
    fails_next_commit: bool,
    full_until_ms: u64,
    reads_that_fail: u32,
}

impl Disk {
    pub(super) fn read_fails(&mut self) -> bool {
        let fails = self.reads_that_fail > 0;
        self.reads_that_fail = self.reads_that_fail.saturating_sub(1);
        fails
    }
}

impl Relay {
    /// True when something is on its way to the disk, or back.
    pub(crate) fn is_writing(&self) -> bool {
        self.writing.is_some() || self.rooms.values().any(Room::has_batch)
    }

    pub(crate) fn fail_next_commit(&mut self) {
        self.disk.fails_next_commit = true;
    }

    pub(crate) fn fill_disk(&mut self, until_ms: u64) {
        self.disk.full_until_ms = until_ms;
    }

    pub(crate) fn fail_reads(&mut self, count: u32) {
        self.disk.reads_that_fail = count;
    }

    /// The disk works again.
    pub(crate) fn mend(&mut self) {
        self.disk = Disk::default();
    }

    /// The writer's next step: it takes a batch of every room, commits them together, and only then has the rooms know.
    /// A crash may come in between. Answers how many rows are on disk now that were not.
    pub(crate) fn work_on_commit(&mut self, around: &mut Surroundings<'_>) -> Result<u64, Violation> {
        match self.writing.take() {
            None => {
                let batches: Vec<_> = self
                    .rooms
                    .iter_mut()
                    .filter_map(|(document, room)| Some((*document, room.take_batch()?)))
                    .collect();
                if !batches.is_empty() {
                    self.writing = Some(Writing { batches, is_durable: false });
                }
                Ok(0)
            }
            Some(Writing { batches, is_durable: false }) => self.commit(batches, around),
            Some(Writing { batches, is_durable: true }) => {
                for (document, batch) in batches {
                    let room = self.rooms.get_mut(&document);
                    room.into_iter().for_each(|room| room.committed(batch.clone().committed()));
                }
                Ok(0)
            }
        }
    }

    fn commit(
        &mut self,
        batches: Vec<(usize, Batch)>,
        around: &mut Surroundings<'_>,
    ) -> Result<u64, Violation> {
        let fails =
            std::mem::take(&mut self.disk.fails_next_commit) || around.now_ms < self.disk.full_until_ms;
        if fails {
            around.trace.note("the relay", || "cannot commit".to_owned());
            for (document, batch) in batches {
                let Some(room) = self.rooms.get_mut(&document) else { continue };
                match self.mutant {
                    Some(Mutant::DropFailedBatch) => room.committed(batch.committed()),
                    _ => room.returned(),
                }
            }
            return Ok(0);
        }
        for (document, batch) in &batches {
            self.store.append(*document, batch, around.oracle)?;
        }
        let rows = batches.len() as u64;
        self.writing = Some(Writing { batches, is_durable: true });
        let sequences = self.sequences();
        around.trace.note("the relay", || format!("commits {rows} rows, the logs end at {sequences:?}"));
        Ok(rows)
    }
}
