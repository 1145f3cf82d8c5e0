//! Those mutants of a device that are more than a condition where they are put in.

use super::{Shared, Tab};
use crate::Mutant;
use crate::disk::Row;
use bytes::Bytes;
use std::collections::BTreeSet;
use tidewell_sync_core::client::ReplicaId;
use tidewell_sync_core::protocol::{ClientMessage, Cursor, Reassembly};
use tidewell_sync_core::update::{Scan, diff};

impl Tab {
    /// The mutant that stores a cursor for what the relay says, though what the device offered is not durable.
    pub(super) fn store_cursors(&mut self, throughs: &[(u32, u64)], shared: &mut Shared) {
        let Some((_, lineage)) = self.wire else { return };
        for (channel, sequence) in throughs {
            let document = self.document_of(ReplicaId(*channel));
            let disk = document.and_then(|document| shared.disks.get_mut(document));
            if let Some(disk) = disk.filter(|_| *sequence > 0) {
                disk.cursor = Some(Cursor { epoch: 1, lineage, sequence: *sequence });
            }
        }
    }
}

/// The mutant that takes the rows of all tabs for those with the same numbers.
pub(super) fn by_number(rows: &[Row], shared: &Shared, document: usize) -> Vec<Row> {
    let numbers: BTreeSet<u64> = rows.iter().map(|row| row.name.number).collect();
    let others = shared.disks.get(document).into_iter().flat_map(|disk| disk.outbox.values());
    let others = others
        .filter(|row| numbers.contains(&row.name.number))
        .map(|row| Row { update: Bytes::from_static(&[0, 0]), ..row.clone() });
    rows.iter().cloned().chain(others.filter(|row| !rows.iter().any(|own| own.name == row.name))).collect()
}

/// Answers to the relay's question lose what others wrote, if that is the mutant.
pub(super) fn mutated(frame: Bytes, shared: &Shared) -> Bytes {
    if !shared.is(Mutant::DropForeignDependency) {
        return frame;
    }
    let Ok(Some(whole)) = Reassembly::default().take(frame.clone()) else { return frame };
    let Ok(messages) = ClientMessage::read_all(&whole) else { return frame };
    let mut out = Vec::new();
    for mut message in messages {
        if let ClientMessage::Have { update, .. } = &mut message
            && let Ok(scan) = Scan::new(update)
        {
            let others = scan.sections.iter().filter(|section| !shared.own_clients.contains(&section.client));
            let known = others.map(|section| (section.client, (1 << 31) - 1)).collect();
            *update = diff(update, &known).ok().flatten().unwrap_or_else(|| Bytes::from_static(&[0, 0]));
        }
        message.write(&mut out);
    }
    out.into()
}
