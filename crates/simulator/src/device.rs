//! A device: the product's client, and a disk that a crash cuts off at any write.

use crate::{Mutant, Violation, relay::Relay};
use bytes::Bytes;
use fastrand::Rng;
use std::collections::{HashMap, HashSet, VecDeque};
use tidewell_sync_core::client::{Client, Effect, ReplicaId};
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::protocol::{ClientMessage, Cursor, Reassembly};
use tidewell_sync_core::replica::{OutboxRow, Persist, Replica, RowId, Stored};
use tidewell_sync_core::update::{Scan, diff};
use yrs::{Any, GetString, Map, ReadTxn, Text, Transact, TransactionMut, WriteTxn};

/// What is on disk of one document.
#[derive(Debug, Default, Clone)]
struct Disk {
    cursor: Option<Cursor>,
    received: Vec<Bytes>,
    outbox: Vec<OutboxRow>,
}

pub(crate) struct Device {
    index: usize,
    names: Vec<DocumentName>,
    mutant: Option<Mutant>,
    client: Client,
    client_ids: Vec<u64>,
    disks: Vec<Disk>,
    /// Writes in their order; a crash loses all that are not complete.
    writes: VecDeque<(usize, Persist)>,
    frames: Vec<Bytes>,
    /// The updates of rows of this life.
    rows: HashMap<(usize, RowId), Bytes>,
    /// Every update whose write completed: `saved('device')` resolved for it.
    saved: Vec<(usize, Bytes)>,
    /// The first name in each edit of this device, ever.
    named: HashMap<(u64, u32), Bytes>,
    own_clients: HashSet<u64>,
}

impl Device {
    pub(crate) fn new(index: usize, names: &[DocumentName], mutant: Option<Mutant>, rng: &mut Rng) -> Self {
        let mut device = Device {
            index,
            names: names.to_vec(),
            mutant,
            client: Client::new(),
            client_ids: Vec::new(),
            disks: vec![Disk::default(); names.len()],
            writes: VecDeque::new(),
            frames: Vec::new(),
            rows: HashMap::new(),
            saved: Vec::new(),
            named: HashMap::new(),
            own_clients: HashSet::new(),
        };
        device.start(rng);
        device
    }

    /// Opens every document from disk.
    fn start(&mut self, rng: &mut Rng) {
        self.client = Client::new();
        let reuse = self.mutant == Some(Mutant::ReuseClientId);
        if self.client_ids.is_empty() || !reuse {
            self.client_ids = self.names.iter().map(|_| rng.u64(0..1 << 53)).collect();
        }
        self.own_clients.extend(self.client_ids.iter().copied());
        let opened = self.names.iter().zip(&self.client_ids).zip(&self.disks);
        for ((name, client_id), disk) in opened {
            let mut replica = Replica::new(name.clone(), self.client.next_id().0, *client_id);
            let Disk { cursor, received, outbox } = disk.clone();
            replica.load(Stored { cursor, received, outbox });
            self.client.add(replica);
        }
        self.client.drain();
    }

    fn replica(&self, document: usize) -> Option<&Replica> {
        self.client.replica(ReplicaId(document as u32))
    }

    /// A random edit, in words.
    pub(crate) fn edit(&mut self, now_ms: u64, rng: &mut Rng) -> String {
        let document = rng.usize(0..self.names.len());
        let choice = rng.u32(0..10);
        let letters: String = (0..rng.usize(1..5)).map(|_| rng.lowercase()).collect();
        let (position, count) = (rng.f64(), rng.u32(1..4));
        let key = format!("k{}", rng.u32(0..3));
        let run = |transaction: &mut TransactionMut<'_>| match choice {
            0..6 => {
                let text = transaction.get_or_insert_text("text");
                let at = (position * f64::from(text.len(transaction) + 1)) as u32;
                text.insert(transaction, at, &letters);
                format!("insert {letters:?} at {at}")
            }
            6..8 => {
                let text = transaction.get_or_insert_text("text");
                let len = text.len(transaction);
                let at = (position * f64::from(len + 1)) as u32;
                let count = count.min(len.saturating_sub(at));
                text.remove_range(transaction, at, count);
                format!("delete {count} at {at}")
            }
            _ => {
                let map = transaction.get_or_insert_map("map");
                map.insert(transaction, key.as_str(), letters.as_str());
                format!("set {key} to {letters:?}")
            }
        };
        let what = self.client.with(ReplicaId(document as u32), |replica| replica.edit(now_ms, 1, run));
        // An edit cannot break a rule of its own device.
        let _ = self.settle(None);
        what.unwrap_or_default()
    }

    pub(crate) fn connected(&mut self, now_ms: u64) {
        self.client.connected(String::new(), now_ms);
        let _ = self.settle(None);
    }

    pub(crate) fn disconnected(&mut self) {
        self.client.disconnected();
        self.frames.clear();
        let _ = self.settle(None);
    }

    pub(crate) fn take_frames(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.frames)
    }

    /// A frame from the relay; answers how many rows it acknowledged.
    pub(crate) fn frame(&mut self, frame: Bytes, now_ms: u64, relay: &Relay) -> Result<u64, Violation> {
        self.client.frame(frame, now_ms);
        self.settle(Some(relay))
    }

    /// Takes up what the client asks for.
    fn settle(&mut self, relay: Option<&Relay>) -> Result<u64, Violation> {
        let mut acknowledged = 0;
        for effect in self.client.drain() {
            match effect {
                Effect::Persist(id, persist) => {
                    let document = id.0 as usize;
                    match &persist {
                        Persist::Edit(row) => self.check_names(document, row)?,
                        Persist::Acknowledged { rows, .. } => {
                            acknowledged += rows.len() as u64;
                            self.check_durable(document, rows, relay)?;
                        }
                        Persist::Received { cursor, .. } => self.note_cursor(document, *cursor),
                    }
                    self.writes.push_back((document, persist));
                }
                Effect::Send(frame) => {
                    let frame = self.mutate(frame);
                    self.frames.push(frame);
                }
                Effect::Close(Some(code)) | Effect::Branch(_, code) => {
                    return Err(self.refused(&code.to_string()));
                }
                Effect::Changed(_) | Effect::Status(_) | Effect::Token | Effect::Close(None) => {}
            }
        }
        Ok(acknowledged)
    }

    fn refused(&self, code: &str) -> Violation {
        Violation::Refused { who: format!("device {}", self.index), code: code.to_owned() }
    }

    /// The mutant that stores a cursor before its rows.
    fn note_cursor(&mut self, document: usize, cursor: Option<Cursor>) {
        if let (Some(Mutant::CursorBeforeRows), Some(disk)) = (self.mutant, self.disks.get_mut(document)) {
            disk.cursor = cursor.or(disk.cursor);
        }
    }

    fn check_names(&mut self, document: usize, row: &OutboxRow) -> Result<(), Violation> {
        self.rows.insert((document, row.id), row.update.clone());
        let scan = Scan::new(&row.update).map_err(|invalid| self.refused(invalid.code().name()))?;
        for section in &scan.sections {
            let name = (section.client, section.clock);
            let before = self.named.insert(name, row.update.clone());
            if before.is_some_and(|before| before != row.update) {
                let device = self.index;
                return Err(Violation::NameReused { device, client: name.0, clock: name.1 });
            }
        }
        Ok(())
    }

    fn check_durable(&self, document: usize, rows: &[RowId], relay: Option<&Relay>) -> Result<(), Violation> {
        let (Some(relay), Some(name)) = (relay, self.names.get(document)) else { return Ok(()) };
        let updates = rows.iter().filter_map(|row| self.rows.get(&(document, *row)));
        for update in updates {
            if !relay.store_covers(name, update) {
                return Err(Violation::AcknowledgedNotDurable { device: self.index });
            }
        }
        Ok(())
    }

    /// Answers to the relay's question lose what others wrote, if that is the mutant.
    fn mutate(&self, frame: Bytes) -> Bytes {
        if self.mutant != Some(Mutant::DropForeignDependency) {
            return frame;
        }
        let Ok(Some(whole)) = Reassembly::default().take(frame.clone()) else { return frame };
        let Ok(messages) = ClientMessage::read_all(&whole) else { return frame };
        let mut out = Vec::new();
        for mut message in messages {
            if let ClientMessage::Have { update, .. } = &mut message
                && let Ok(scan) = Scan::new(update)
            {
                let others: Vec<_> = scan
                    .sections
                    .iter()
                    .filter(|section| !self.own_clients.contains(&section.client))
                    .collect();
                let known = others.iter().map(|section| (section.client, (1 << 31) - 1)).collect();
                *update = diff(update, &known).ok().flatten().unwrap_or_else(|| Bytes::from_static(&[0, 0]));
            }
            message.write(&mut out);
        }
        out.into()
    }

    /// The disk completes the next writes.
    pub(crate) fn complete_writes(&mut self, count: usize, relay: &Relay) -> Result<(), Violation> {
        for _ in 0..count.min(self.writes.len()) {
            let Some((document, persist)) = self.writes.pop_front() else { break };
            let Some(disk) = self.disks.get_mut(document) else { break };
            match persist {
                Persist::Edit(row) => {
                    self.saved.push((document, row.update.clone()));
                    disk.outbox.push(row);
                }
                Persist::Received { updates, cursor } => {
                    disk.received.extend(updates);
                    disk.cursor = cursor.or(disk.cursor);
                }
                Persist::Acknowledged { rows, .. } => {
                    let (durable, kept) =
                        std::mem::take(&mut disk.outbox).into_iter().partition(|row| rows.contains(&row.id));
                    disk.outbox = kept;
                    let durable: Vec<OutboxRow> = durable;
                    disk.received.extend(durable.into_iter().map(|row| row.update));
                }
            }
            self.check_cursor(document, relay)?;
        }
        Ok(())
    }

    fn check_cursor(&self, document: usize, relay: &Relay) -> Result<(), Violation> {
        let (Some(disk), Some(name)) = (self.disks.get(document), self.names.get(document)) else {
            return Ok(());
        };
        let Some(cursor) = disk.cursor.filter(|cursor| cursor.lineage == relay.lineage()) else {
            return Ok(());
        };
        if cursor.sequence > relay.sequence(name) {
            return Err(Violation::Cursor { device: self.index, what: "passes the last commit" });
        }
        Ok(())
    }

    /// Everything that is not on disk is gone; the device comes back at once.
    pub(crate) fn crash(&mut self, relay: &Relay, rng: &mut Rng) -> Result<(), Violation> {
        self.writes.clear();
        self.frames.clear();
        self.rows.clear();
        self.start(rng);
        for (document, disk) in self.disks.iter().enumerate() {
            self.rows.extend(disk.outbox.iter().map(|row| ((document, row.id), row.update.clone())));
        }
        for (document, update) in &self.saved {
            let known = self.replica(*document).is_some_and(|replica| is_covered(replica, update));
            if !known {
                return Err(Violation::DeviceSavedLost { device: self.index });
            }
        }
        for (document, name) in self.names.iter().enumerate() {
            let Some(replica) = self.replica(document) else { continue };
            let Some(cursor) = replica.cursor().filter(|cursor| cursor.lineage == relay.lineage()) else {
                continue;
            };
            if !relay.history(name, cursor.sequence).all(|update| is_covered(replica, update)) {
                return Err(Violation::Cursor { device: self.index, what: "covers rows that are not there" });
            }
        }
        Ok(())
    }

    /// Folds what was received into one snapshot: of exactly the rows that are read.
    pub(crate) fn compact(&mut self) -> Result<(), Violation> {
        for (name, disk) in self.names.iter().zip(&mut self.disks) {
            let mut replica = Replica::new(name.clone(), 0, 0);
            let forget = self.mutant == Some(Mutant::ForgetOutboxAtCompaction);
            let outbox = if forget { std::mem::take(&mut disk.outbox) } else { Vec::new() };
            let stored = Stored { cursor: None, received: disk.received.clone(), outbox };
            if !replica.load(stored).has_gap {
                disk.received = vec![replica.encode()];
            }
        }
        Ok(())
    }

    /// Nothing in memory has a gap: yrs has exactly what was admitted.
    pub(crate) fn check(&self) -> Result<(), Violation> {
        for (_, replica) in self.client.replicas() {
            let known = replica.doc().transact().state_vector();
            let admitted = replica.admitted().state_vector();
            let same = admitted.iter().count() == known.len()
                && admitted
                    .iter()
                    .all(|(client, clock)| known.get(&yrs::block::ClientID::new(client)) == clock);
            if !same {
                return Err(Violation::Gap { who: format!("device {}", self.index) });
            }
        }
        Ok(())
    }

    /// Everything this device saved is in the store, and it knows.
    pub(crate) fn check_at_rest(&self, relay: &Relay) -> Result<(), Violation> {
        for (_, replica) in self.client.replicas() {
            let rows = replica.unsent().edits;
            if rows > 0 {
                let link = format!("{:?}", replica.link());
                return Err(Violation::NotAcknowledged { device: self.index, rows, link });
            }
        }
        for (document, update) in &self.saved {
            let in_store = self.names.get(*document).is_some_and(|name| relay.store_covers(name, update));
            if !in_store {
                return Err(Violation::EditLost { device: self.index });
            }
        }
        Ok(())
    }

    /// Every document as text.
    pub(crate) fn contents(&self) -> Vec<String> {
        self.client.replicas().map(|(_, replica)| contents_of(replica.doc())).collect()
    }
}

fn is_covered(replica: &Replica, update: &Bytes) -> bool {
    replica.admitted().covers(update).unwrap_or(false)
}

/// A document's text and map, as text.
pub(crate) fn contents_of(doc: &yrs::Doc) -> String {
    let (text, map) = (doc.get_or_insert_text("text"), doc.get_or_insert_map("map"));
    let transaction = doc.transact();
    let mut entries: Vec<String> = map
        .iter(&transaction)
        .map(|(key, value)| match value {
            yrs::Out::Any(Any::String(value)) => format!("{key}={value}"),
            other => format!("{key}={other:?}"),
        })
        .collect();
    entries.sort();
    format!("{} {}", text.get_string(&transaction), entries.join(" "))
}
