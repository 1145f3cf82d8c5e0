//! The relay: the product's rooms, on a store whose commits can fail and whose process can die.

use crate::{Mutant, Violation, device::contents_of};
use bytes::Bytes;
use std::collections::BTreeMap;
use tidewell_sync_core::admission::Admitted;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::protocol::{Access, ClientMessage, Reassembly, RelayMessage, Resume};
use tidewell_sync_core::replica::new_doc;
use tidewell_sync_core::room::{Batch, Behind, MemberId, Outgoing, PushKind, Room};
use tidewell_sync_core::update::{diff, merge};
use yrs::updates::decoder::Decode;
use yrs::{ReadTxn, Transact};

/// One document on disk.
#[derive(Debug, Clone, Default)]
struct StoredDocument {
    snapshot: Option<(u64, Bytes)>,
    rows: Vec<(u64, Bytes)>,
    sequence: u64,
    /// Everything in it, as an oracle.
    admitted: Admitted,
    /// Every row ever committed in this lineage, as an oracle.
    history: Vec<(u64, Bytes)>,
}

#[derive(Debug, Clone, Default)]
struct Store {
    lineage: u64,
    documents: BTreeMap<DocumentName, StoredDocument>,
}

#[derive(Default)]
struct Connection {
    reassembly: Reassembly,
    channels: BTreeMap<u32, (DocumentName, MemberId)>,
    outgoing: Vec<u8>,
}

pub(crate) struct Relay {
    store: Store,
    backup: Option<Store>,
    rooms: BTreeMap<DocumentName, Room>,
    connections: BTreeMap<usize, Connection>,
    fails_next: bool,
    mutant: Option<Mutant>,
    /// Batches that a mutant spoke about before writing them.
    unwritten: Vec<Batch>,
}

const EPOCH: u64 = 1;

impl Relay {
    pub(crate) fn new(lineage: u64, mutant: Option<Mutant>) -> Self {
        Relay {
            store: Store { lineage, documents: BTreeMap::new() },
            backup: None,
            rooms: BTreeMap::new(),
            connections: BTreeMap::new(),
            fails_next: false,
            mutant,
            unwritten: Vec::new(),
        }
    }

    pub(crate) fn lineage(&self) -> u64 {
        self.store.lineage
    }

    /// The last commit of a document.
    pub(crate) fn sequence(&self, name: &DocumentName) -> u64 {
        self.store.documents.get(name).map_or(0, |document| document.sequence)
    }

    pub(crate) fn sequences(&self) -> Vec<u64> {
        self.store.documents.values().map(|document| document.sequence).collect()
    }

    /// True when the disk has everything in `update`.
    pub(crate) fn store_covers(&self, name: &DocumentName, update: &Bytes) -> bool {
        let document = self.store.documents.get(name);
        document.is_some_and(|document| document.admitted.covers(update).unwrap_or(false))
    }

    /// Every row committed up to a sequence in this lineage.
    pub(crate) fn history(&self, name: &DocumentName, through: u64) -> impl Iterator<Item = &Bytes> {
        let document = self.store.documents.get(name);
        let rows = document.map_or(&[][..], |document| &document.history);
        rows.iter().filter(move |(sequence, _)| *sequence <= through).map(|(_, update)| update)
    }

    pub(crate) fn connected(&mut self, device: usize) {
        self.connections.insert(device, Connection::default());
    }

    pub(crate) fn disconnected(&mut self, device: usize) {
        let Some(connection) = self.connections.remove(&device) else { return };
        for (name, member) in connection.channels.into_values() {
            if let Some(room) = self.rooms.get_mut(&name) {
                room.leave(member);
            }
        }
    }

    /// A frame from a device.
    pub(crate) fn frame(&mut self, device: usize, frame: Bytes) -> Result<(), Violation> {
        let refused = |code: &dyn std::fmt::Display| Violation::Refused {
            who: "the relay".to_owned(),
            code: code.to_string(),
        };
        let Some(connection) = self.connections.get_mut(&device) else { return Ok(()) };
        let Some(whole) = connection.reassembly.take(frame).map_err(|code| refused(&code))? else {
            return Ok(());
        };
        for message in ClientMessage::read_all(&whole).map_err(|code| refused(&code))? {
            self.message(device, message)?;
        }
        Ok(())
    }

    fn message(&mut self, device: usize, message: ClientMessage) -> Result<(), Violation> {
        match message {
            ClientMessage::Hello { .. } => {
                let (frame_bytes_max, update_bytes_max) = (1 << 16, 1 << 20);
                let lineage = self.store.lineage;
                let welcome =
                    RelayMessage::Welcome { lineage, time_ms: 0, frame_bytes_max, update_bytes_max };
                self.say(device, &welcome);
            }
            ClientMessage::Open { channel, document, position } => {
                let room = self.room(&document)?;
                let joined = room.join(position);
                let (epoch, sequence) = (room.epoch(), room.sequence());
                let resume = joined.err().unwrap_or(Resume::Continues);
                let access = Access::Write;
                if let (Ok(member), Some(connection)) = (joined, self.connections.get_mut(&device)) {
                    connection.channels.insert(channel, (document, member));
                }
                self.say(device, &RelayMessage::Opened { channel, access, epoch, sequence, resume });
            }
            ClientMessage::Close { channel } => {
                let closed =
                    self.connections.get_mut(&device).and_then(|open| open.channels.remove(&channel));
                if let Some((name, member)) = closed
                    && let Some(room) = self.rooms.get_mut(&name)
                {
                    room.leave(member);
                }
            }
            ClientMessage::Push { channel, number, update } => {
                self.push(device, channel, PushKind::Edit, number, &update)?;
            }
            ClientMessage::Have { channel, number, update } => {
                self.push(device, channel, PushKind::Answer, number, &update)?;
            }
            ClientMessage::Ping { nonce } => self.say(device, &RelayMessage::Pong { nonce }),
            ClientMessage::Refresh { .. } => {}
        }
        Ok(())
    }

    fn push(
        &mut self,
        device: usize,
        channel: u32,
        kind: PushKind,
        number: u64,
        update: &Bytes,
    ) -> Result<(), Violation> {
        let open = self.connections.get(&device).and_then(|connection| connection.channels.get(&channel));
        let Some((name, member)) = open.cloned() else { return Ok(()) };
        let Some(room) = self.rooms.get_mut(&name) else { return Ok(()) };
        let pushed = room.push(member, kind, Some(number), update);
        let pushed = pushed.map_err(|invalid| Violation::Refused {
            who: "the relay".to_owned(),
            code: invalid.to_string(),
        })?;
        let sequence = room.sequence();
        match self.mutant {
            Some(Mutant::AcknowledgeDuplicateEarly) if !pushed.to_store => {
                self.say(device, &RelayMessage::Ack { channel, number, sequence });
            }
            Some(Mutant::SpeakBeforeCommit) => {
                if let Some(batch) = room.take_batch() {
                    self.unwritten.push(batch.clone());
                    room.committed(batch.committed());
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn say(&mut self, device: usize, message: &RelayMessage) {
        if let Some(connection) = self.connections.get_mut(&device) {
            message.write(&mut connection.outgoing);
        }
    }

    /// The room of a document, loaded from disk if it is not in memory.
    fn room(&mut self, name: &DocumentName) -> Result<&mut Room, Violation> {
        if !self.rooms.contains_key(name) {
            let stored = self.store.documents.get(name).cloned().unwrap_or_default();
            let gap = || Violation::Gap { who: "the store".to_owned() };
            let (admitted, _) = Admitted::load(stored.updates()).map_err(|_| gap())?;
            if admitted.state_vector() != stored.admitted.state_vector() {
                return Err(gap());
            }
            let room = Room::new(name.clone(), EPOCH, self.store.lineage, stored.sequence, admitted);
            self.rooms.insert(name.clone(), room);
        }
        self.rooms.get_mut(name).ok_or(Violation::Gap { who: "the rooms".to_owned() })
    }

    pub(crate) fn has_batch(&self) -> bool {
        !self.unwritten.is_empty() || self.rooms.values().any(Room::has_batch)
    }

    pub(crate) fn fail_next_commit(&mut self) {
        self.fails_next = true;
    }

    /// The disk works again.
    pub(crate) fn mend(&mut self) {
        self.fails_next = false;
    }

    /// One transaction for all rooms' batches; answers how many rows it wrote.
    pub(crate) fn commit(&mut self) -> Result<u64, Violation> {
        let mut rows = 0;
        for batch in std::mem::take(&mut self.unwritten) {
            self.store.append(&batch)?;
            rows += 1;
        }
        let fails = std::mem::take(&mut self.fails_next);
        for room in self.rooms.values_mut() {
            let Some(batch) = room.take_batch() else { continue };
            match (fails, self.mutant) {
                (true, Some(Mutant::DropFailedBatch)) => room.committed(batch.committed()),
                (true, _) => room.returned(),
                (false, _) => {
                    self.store.append(&batch)?;
                    room.committed(batch.committed());
                    rows += 1;
                }
            }
        }
        Ok(rows)
    }

    /// Everything that members are to be told now, as frames; each word is held against the disk.
    pub(crate) fn collect(&mut self) -> Result<Vec<(usize, Bytes)>, Violation> {
        let mut frames = Vec::new();
        for (device, connection) in &mut self.connections {
            for (channel, (name, member)) in &connection.channels {
                let Some(room) = self.rooms.get_mut(name) else { continue };
                loop {
                    let outgoing = room.collect(*member);
                    let stored = self.store.documents.get(name).cloned().unwrap_or_default();
                    stored.check_spoken(&outgoing)?;
                    let more = outgoing.behind.is_some();
                    write(&mut connection.outgoing, *channel, outgoing, &stored, |through| {
                        room.caught_up(*member, through);
                    })?;
                    if !more {
                        break;
                    }
                }
            }
            if !connection.outgoing.is_empty() {
                frames.push((*device, Bytes::from(std::mem::take(&mut connection.outgoing))));
            }
        }
        Ok(frames)
    }

    /// Rooms that nobody is in leave memory.
    pub(crate) fn evict_idle(&mut self) {
        self.rooms.retain(|_, room| !room.is_idle());
    }

    /// Only the disk is left.
    pub(crate) fn crash(&mut self) -> Result<(), Violation> {
        self.rooms.clear();
        self.connections.clear();
        self.unwritten.clear();
        let names: Vec<DocumentName> = self.store.documents.keys().cloned().collect();
        names.iter().try_for_each(|name| self.room(name).map(drop))
    }

    /// Each document's log becomes a snapshot, the newest rows stay.
    pub(crate) fn compact(&mut self) -> Result<(), Violation> {
        for document in self.store.documents.values_mut() {
            let doc = build(document.updates())?;
            let snapshot = Bytes::from(doc.transact().encode_diff_v1(&yrs::StateVector::default()));
            let mut again = Admitted::new();
            let whole = again.admit(&snapshot).is_ok_and(|admission| admission.is_complete());
            let same = again.state_vector() == document.admitted.state_vector();
            if !whole || !same || !again.covers_deletes_of(&document.admitted) {
                return Err(Violation::Gap { who: "a snapshot".to_owned() });
            }
            document.snapshot = Some((document.sequence, snapshot));
            // Building a document makes deletions that no update carries; now they are durable.
            document.admitted = again;
            let kept_after = document.sequence.saturating_sub(5);
            document.rows.retain(|(through, _)| *through > kept_after);
        }
        Ok(())
    }

    pub(crate) fn back_up(&mut self) {
        self.backup = Some(self.store.clone());
    }

    pub(crate) fn has_backup(&self) -> bool {
        self.backup.is_some()
    }

    /// The backup becomes the store, under a new lineage.
    pub(crate) fn restore(&mut self, lineage: u64) -> Result<(), Violation> {
        if let Some(backup) = &self.backup {
            self.store = Store { lineage, ..backup.clone() };
        }
        self.crash()
    }

    /// Every document as text.
    pub(crate) fn contents(&self, names: &[DocumentName]) -> Result<Vec<String>, Violation> {
        let updates = |name| self.store.documents.get(name).map(StoredDocument::updates).unwrap_or_default();
        names.iter().map(|name| Ok(contents_of(&build(updates(name))?))).collect()
    }
}

impl Store {
    fn append(&mut self, batch: &Batch) -> Result<(), Violation> {
        let document = self.documents.entry(batch.document().clone()).or_default();
        let gap = Violation::Gap { who: "the log".to_owned() };
        let follows = batch.first() == document.sequence + 1;
        let whole = document.admitted.admit(batch.update()).is_ok_and(|admission| admission.is_complete());
        if !follows || !whole {
            return Err(gap);
        }
        document.sequence = batch.through();
        document.rows.push((batch.through(), batch.update().clone()));
        document.history.push((batch.through(), batch.update().clone()));
        Ok(())
    }
}

impl StoredDocument {
    /// Snapshot, then the rows behind it.
    fn updates(&self) -> Vec<Bytes> {
        let after = self.snapshot.as_ref().map_or(0, |(through, _)| *through);
        let rows = self.rows.iter().filter(|(through, _)| *through > after).map(|(_, update)| update.clone());
        self.snapshot.iter().map(|(_, snapshot)| snapshot.clone()).chain(rows).collect()
    }

    /// What a member that is behind is sent.
    fn catch_up(&self, behind: &Behind) -> Result<Vec<Bytes>, Violation> {
        let failed = |_| Violation::Gap { who: "a catch-up".to_owned() };
        match behind {
            Behind::After(after) => {
                let kept: Vec<_> = self.rows.iter().filter(|(through, _)| through > after).collect();
                let merged = merge(kept.iter().map(|(_, update)| update));
                let reaches =
                    self.history.iter().filter(|(through, _)| through > after).count() == kept.len();
                if reaches { Ok(vec![merged.map_err(failed)?]) } else { Ok(self.updates()) }
            }
            Behind::StateVector(known) => {
                let parts = self.updates().into_iter().map(|update| diff(&update, known));
                let parts: Result<Vec<Option<Bytes>>, _> = parts.collect();
                let parts = parts.map_err(|_| Violation::Gap { who: "a catch-up".to_owned() })?;
                Ok(parts.into_iter().flatten().collect())
            }
        }
    }

    /// Commit, then speak: whatever is said must be on disk.
    fn check_spoken(&self, outgoing: &Outgoing) -> Result<(), Violation> {
        let early = |what| Err(Violation::SpokeEarly { what });
        if let Some(ready) = &outgoing.ready {
            let durable = |update: &Bytes| self.admitted.covers(update).unwrap_or(false);
            if ready.through > self.sequence || !ready.updates.iter().all(durable) {
                return early("an update");
            }
        }
        if outgoing.ack.is_some_and(|ack| ack.sequence() > self.sequence) {
            return early("an acknowledgement");
        }
        if outgoing.need.as_ref().is_some_and(|need| need.exceeds(&self.admitted.state_vector())) {
            return early("a state vector");
        }
        Ok(())
    }
}

fn write(
    out: &mut Vec<u8>,
    channel: u32,
    outgoing: Outgoing,
    stored: &StoredDocument,
    caught_up: impl FnOnce(u64),
) -> Result<(), Violation> {
    if let Some(ready) = outgoing.ready {
        RelayMessage::Updates { channel, through: ready.through, updates: ready.updates }.write(out);
    }
    if let Some(behind) = outgoing.behind {
        let updates = stored.catch_up(&behind)?;
        RelayMessage::Updates { channel, through: stored.sequence, updates }.write(out);
        caught_up(stored.sequence);
    }
    if let Some(ack) = outgoing.ack {
        let (number, sequence) = (ack.number(), ack.sequence());
        RelayMessage::Ack { channel, number, sequence }.write(out);
    }
    if let Some(state_vector) = outgoing.need {
        RelayMessage::Need { channel, state_vector }.write(out);
    }
    Ok(())
}

/// A document out of updates; each must apply at once.
fn build(updates: Vec<Bytes>) -> Result<yrs::Doc, Violation> {
    let doc = new_doc(0);
    for update in updates {
        let decoded = yrs::Update::decode_v1(&update).map(|update| doc.transact_mut().apply_update(update));
        if !matches!(decoded, Ok(Ok(()))) {
            return Err(Violation::Gap { who: "a document".to_owned() });
        }
    }
    Ok(doc)
}
