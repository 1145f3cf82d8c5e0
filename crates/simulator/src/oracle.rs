//! What is known from outside: everything that was ever committed, which the machines are held against.

use crate::Violation;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use tidewell_sync_core::admission::Admitted;
use tidewell_sync_core::update::Scan;

/// The commits of one document in one lineage.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    pub(crate) admitted: Admitted,
    rows: Vec<(u64, Bytes)>,
}

impl History {
    /// The last commit.
    pub(crate) fn sequence(&self) -> u64 {
        self.rows.last().map_or(0, |(through, _)| *through)
    }

    /// The rows with commits after one and up to another.
    pub(crate) fn between(&self, after: u64, through: u64) -> impl Iterator<Item = &Bytes> {
        let from = self.rows.partition_point(|(row, _)| *row <= after);
        let rows = self.rows.get(from..).unwrap_or_default();
        rows.iter().take_while(move |(row, _)| *row <= through).map(|(_, update)| update)
    }

    pub(crate) fn covers(&self, update: &[u8]) -> bool {
        self.admitted.covers(update).unwrap_or(false)
    }

    /// Takes a commit; answers false when it does not follow the last one or has a gap.
    pub(crate) fn append(&mut self, first: u64, through: u64, update: &Bytes) -> bool {
        let follows = first == self.sequence() + 1;
        let whole = self.admitted.admit(update).is_ok_and(|admission| admission.is_complete());
        self.rows.push((through, update.clone()));
        follows && whole
    }
}

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// By lineage, by document.
    histories: BTreeMap<u64, Vec<History>>,
    /// The update that first named each edit.
    named: HashMap<(u64, u32), Bytes>,
    /// Numbers in lists, each made once.
    pub(crate) next_value: i64,
    /// Channels and sequences of the `Updates` in the frame that is being read.
    pub(crate) throughs: Vec<(u32, u64)>,
}

impl Oracle {
    pub(crate) fn begin(&mut self, lineage: u64, histories: Vec<History>) {
        self.histories.insert(lineage, histories);
    }

    pub(crate) fn history(&self, lineage: u64, document: usize) -> Option<&History> {
        self.histories.get(&lineage)?.get(document)
    }

    pub(crate) fn history_mut(&mut self, lineage: u64, document: usize) -> Option<&mut History> {
        self.histories.get_mut(&lineage)?.get_mut(document)
    }

    pub(crate) fn of_lineage(&self, lineage: u64) -> Vec<History> {
        self.histories.get(&lineage).cloned().unwrap_or_default()
    }

    /// No two different edits have the same name.
    pub(crate) fn check_names(&mut self, device: usize, update: &Bytes) -> Result<(), Violation> {
        let scan = Scan::new(update)
            .map_err(|invalid| Violation::refused(format!("device {device}"), invalid.code()))?;
        for section in &scan.sections {
            let (client, clock) = (section.client, section.clock);
            let before = self.named.insert((client, clock), update.clone());
            if before.is_some_and(|before| before != *update) {
                return Err(Violation::NameReused { device, client, clock });
            }
        }
        Ok(())
    }
}
