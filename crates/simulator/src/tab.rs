//! One process of a device: a tab of the browser with the product's client in it, or a native client.
//!
//! What `web/src` and `crates/client` do around the core is done here, on a simulated disk.

mod adoption;
mod branching;
mod check;
mod defect;
mod keeper;
mod merging;
mod shared;
mod siblings;
mod writer;

pub(crate) use shared::Shared;

use crate::disk::{Change, DiskDocument, Row, RowName};
use crate::oracle::Oracle;
use crate::trace::{Trace, of_relay};
use crate::{Mutant, Violation};
use branching::Branching;
use bytes::Bytes;
use check::check_known;
use defect::{by_number, mutated};
use fastrand::Rng;
use merging::Merging;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tidewell_sync_core::client::{Client, Effect, ReplicaId};
use tidewell_sync_core::code::Code;
use tidewell_sync_core::protocol::{Cursor, Reassembly, RelayMessage};
use tidewell_sync_core::replica::{OutboxRow, Persist, Replica, RowId, Stored};
use writer::Group;
use yrs::TransactionMut;

/// What a step of a device may use.
pub(crate) struct Surroundings<'a> {
    pub(crate) rng: &'a mut Rng,
    pub(crate) oracle: &'a mut Oracle,
    pub(crate) trace: &'a mut Trace,
    pub(crate) now_ms: u64,
}

/// One open document.
struct Open {
    id: ReplicaId,
    /// Its outbox, as the replica numbers it and as it is on disk.
    rows: BTreeMap<RowId, Row>,
    stored_cursor: Option<Cursor>,
    /// The stored cursor is of another history, or others stored what came: it needs the whole document.
    owes_whole: bool,
    /// What came from the relay while another tab was to store it: of a part of a catch-up no cursor tells.
    has_unstored: bool,
    /// No cursor came with what came last.
    is_offering: bool,
    /// The replica is replaced once this is done.
    branching: Option<Branching>,
    /// The relay's last commit when it was opened.
    opened_at: u64,
    /// Everything in this lineage up to here was seen to be here.
    checked: (u64, u64),
}

pub(crate) struct Tab {
    pub(crate) id: u64,
    client: Client,
    documents: Vec<Open>,
    /// It stores what comes from the relay.
    is_keeper: bool,
    /// What is not on disk, in its order.
    groups: VecDeque<Group>,
    /// So many of them are in the transaction that runs.
    in_flight: usize,
    /// Frames are held back until so many of them are on disk.
    held_until: usize,
    frames: Vec<Bytes>,
    merging: Vec<Merging>,
    /// Rows that are in a branch or were in one while this tab lived, by document: what others have told before they
    /// heard of it may come late.
    refused: BTreeMap<(usize, RowName), Bytes>,
    /// Another tab has died, which may have stored what it did not live to tell.
    pub(crate) has_lost_sibling: bool,
    /// Of the last row of the outbox.
    last_number: u64,
    /// The connection, and the lineage of the relay that it leads to.
    pub(crate) wire: Option<(u64, u64)>,
    pub(crate) wants_token: bool,
    pub(crate) wants_close: bool,
    reassembly: Reassembly,
}

impl Tab {
    /// Opens every document from disk.
    pub(crate) fn start(
        id: u64,
        shared: &mut Shared,
        around: &mut Surroundings<'_>,
    ) -> Result<Self, Violation> {
        let mut tab = Tab {
            id,
            client: Client::new(),
            documents: Vec::new(),
            is_keeper: false,
            groups: VecDeque::new(),
            in_flight: 0,
            held_until: 0,
            frames: Vec::new(),
            merging: Vec::new(),
            refused: BTreeMap::new(),
            has_lost_sibling: false,
            last_number: 0,
            wire: None,
            wants_token: false,
            wants_close: false,
            reassembly: Reassembly::default(),
        };
        shared.living.insert(id);
        for document in 0..shared.names.len() {
            let disk = shared.disk(document);
            let rows = if shared.is_native { disk.outbox.values().cloned().collect() } else { Vec::new() };
            let (replica, open) = tab.load(document, shared, &disk, rows, None, around)?;
            tab.client.add(replica);
            tab.documents.push(open);
            tab.check_saved(document, shared)?;
            if !shared.is_native {
                tab.ask(document, shared);
            }
        }
        tab.adopt(shared, around)?;
        tab.keep_if_first(shared);
        tab.settle(shared, around)?;
        Ok(tab)
    }

    fn name(&self, shared: &Shared) -> String {
        match shared.is_native {
            true => format!("device {}", shared.index),
            false => format!("device {} tab {}", shared.index, self.id),
        }
    }

    /// A replica of what is on disk. A native client has its `rows` in the outbox; a tab's are adopted afterwards.
    fn load(
        &mut self,
        document: usize,
        shared: &mut Shared,
        disk: &DiskDocument,
        rows: Vec<Row>,
        channel: Option<ReplicaId>,
        around: &mut Surroundings<'_>,
    ) -> Result<(Replica, Open), Violation> {
        self.remember_refused(document, disk.branched());
        let gone = || Violation::gap("a device's documents");
        let name = shared.names.get(document).cloned().ok_or_else(gone)?;
        let id = channel.unwrap_or(self.client.next_id());
        let mut replica = Replica::new(name, id.0, shared.new_client_id(document, around.rng));
        let mut received = disk.received();
        let mut outbox = Vec::new();
        if shared.is_native {
            outbox.extend(rows.iter().zip(0..).map(|(row, number)| OutboxRow {
                id: RowId(number),
                update: row.update.clone(),
                edits: row.edits,
                made_ms: row.made_ms,
            }));
        } else {
            received.extend(disk.outbox.values().map(|row| row.update.clone()));
        }
        let rows = (0..).map(RowId).zip(rows).collect();
        replica.load(Stored { cursor: disk.cursor, received, outbox });
        let open = Open {
            id,
            rows,
            stored_cursor: disk.cursor,
            owes_whole: false,
            has_unstored: false,
            is_offering: false,
            branching: None,
            opened_at: 0,
            checked: (0, 0),
        };
        check_known(shared.index, document, &replica, (0, 0), around.oracle)?;
        Ok((replica, open))
    }

    fn document_of(&self, id: ReplicaId) -> Option<usize> {
        self.documents.iter().position(|open| open.id == id)
    }

    fn replica(&self, document: usize) -> Option<&Replica> {
        self.client.replica(self.documents.get(document)?.id)
    }

    pub(crate) fn replicas(&self) -> impl Iterator<Item = &Replica> {
        self.documents.iter().filter_map(|open| self.client.replica(open.id))
    }

    /// Runs an edit, with the numbers that it adds to lists.
    pub(crate) fn edit(
        &mut self,
        document: usize,
        values: Vec<i64>,
        run: impl FnOnce(&mut TransactionMut<'_>),
        shared: &mut Shared,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Violation> {
        let Some(open) = self.documents.get(document) else { return Ok(()) };
        let before: BTreeSet<RowId> = open.rows.keys().copied().collect();
        self.client.with(open.id, |replica| replica.edit(around.now_ms, 1, run));
        self.settle(shared, around)?;
        if let Some(open) = self.documents.get(document)
            && let Some((_, row)) = open.rows.iter().find(|(id, _)| !before.contains(id))
        {
            shared.values.insert((document, row.name), values);
        }
        Ok(())
    }

    pub(crate) fn connected(
        &mut self,
        wire: (u64, u64),
        token: String,
        shared: &mut Shared,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Violation> {
        // Making a connection takes longer than a word between two tabs.
        while self.hear(shared, around)? {}
        self.wire = Some(wire);
        self.wants_token = false;
        self.reassembly = Reassembly::default();
        self.client.connected(token, around.now_ms);
        self.settle(shared, around).map(drop)
    }

    /// The connection is over, whoever says so.
    pub(crate) fn disconnected(
        &mut self,
        shared: &mut Shared,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Violation> {
        self.wire = None;
        self.wants_close = false;
        self.frames.clear();
        self.client.disconnected();
        self.settle(shared, around).map(drop)
    }

    pub(crate) fn return_ms(&self) -> u64 {
        self.client.return_ms()
    }

    /// Frames to be sent now.
    pub(crate) fn take_frames(&mut self) -> Vec<Bytes> {
        if self.held_until > 0 { Vec::new() } else { std::mem::take(&mut self.frames) }
    }

    pub(crate) fn refresh(
        &mut self,
        token: String,
        shared: &mut Shared,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Violation> {
        self.wants_token = false;
        self.client.refresh(token, around.now_ms);
        self.settle(shared, around).map(drop)
    }

    pub(crate) fn tick(
        &mut self,
        shared: &mut Shared,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Violation> {
        self.client.tick(around.now_ms);
        self.settle(shared, around).map(drop)
    }

    /// A frame from the relay; answers how many rows it acknowledged.
    pub(crate) fn frame(
        &mut self,
        frame: Bytes,
        shared: &mut Shared,
        around: &mut Surroundings<'_>,
    ) -> Result<u64, Violation> {
        self.note_messages(&frame, shared, around);
        let throughs = std::mem::take(&mut around.oracle.throughs);
        self.client.frame(frame, around.now_ms);
        let acknowledged = self.settle(shared, around)?;
        for (document, open) in self.documents.iter_mut().enumerate() {
            let Some(replica) = self.client.replica(open.id) else { continue };
            open.checked = check_known(shared.index, document, replica, open.checked, around.oracle)?;
        }
        if shared.is(Mutant::CursorWhileOffering) {
            self.store_cursors(&throughs, shared);
        }
        Ok(acknowledged)
    }

    /// What a whole message says goes into the trace.
    fn note_messages(&mut self, frame: &Bytes, shared: &Shared, around: &mut Surroundings<'_>) {
        let whole = self.reassembly.take(frame.clone());
        let Ok(Some(whole)) = whole else { return };
        for message in RelayMessage::read_all(&whole).unwrap_or_default() {
            if let RelayMessage::Updates { channel, through, .. } = &message {
                around.oracle.throughs.push((*channel, *through));
            }
            if let RelayMessage::Opened { channel, sequence, .. } = &message {
                let opened = self.documents.iter_mut().filter(|open| open.id.0 == *channel);
                opened.for_each(|open| open.opened_at = *sequence);
            }
            around.trace.note(self.name(shared), || format!("hears {}", of_relay(&message)));
        }
    }

    /// Takes up what the client asks for; answers how many rows were acknowledged.
    fn settle(&mut self, shared: &mut Shared, around: &mut Surroundings<'_>) -> Result<u64, Violation> {
        let mut acknowledged = 0;
        loop {
            let effects = self.client.drain();
            if effects.is_empty() {
                return Ok(acknowledged);
            }
            for effect in effects {
                acknowledged += self.carry_out(effect, shared, around)?;
            }
        }
    }

    fn carry_out(
        &mut self,
        effect: Effect,
        shared: &mut Shared,
        around: &mut Surroundings<'_>,
    ) -> Result<u64, Violation> {
        match effect {
            Effect::Persist(id, persist) => {
                let document = self.document_of(id);
                return document.map_or(Ok(0), |document| self.persist(document, persist, shared, around));
            }
            Effect::Send(frame) => self.frames.push(mutated(frame, shared)),
            Effect::Branch(id, code) => {
                if code != Code::Forbidden {
                    return Err(Violation::refused(self.name(shared), code));
                }
                let document = self.document_of(id);
                if let Some(document) = document.filter(|_| !shared.is(Mutant::IgnoreRefusal)) {
                    around
                        .trace
                        .note(self.name(shared), || format!("document {document} is refused: {code}"));
                    self.branch_off(document, Some(code), shared);
                }
            }
            Effect::Token => self.wants_token = true,
            Effect::Close(Some(
                code @ (Code::InvalidToken
                | Code::InvalidFrame
                | Code::ProtocolViolation
                | Code::FrameTooLarge),
            )) => return Err(Violation::refused(self.name(shared), code)),
            Effect::Close(_) => self.wants_close = true,
            Effect::Changed(_) | Effect::Status(_) => {}
        }
        Ok(0)
    }

    fn persist(
        &mut self,
        document: usize,
        persist: Persist,
        shared: &mut Shared,
        around: &mut Surroundings<'_>,
    ) -> Result<u64, Violation> {
        match persist {
            Persist::Edit(row) => {
                around.oracle.check_names(shared.index, &row.update)?;
                self.last_number += 1;
                let name = RowName { tab: self.id, number: self.last_number };
                let stored = Row { name, update: row.update, edits: row.edits, made_ms: row.made_ms };
                if let Some(open) = self.documents.get_mut(document) {
                    open.rows.insert(row.id, stored.clone());
                }
                if shared.is(Mutant::SavedTooEarly) {
                    shared.saved.push((document, stored.clone()));
                }
                self.push(document, Change::Edit(stored));
                Ok(0)
            }
            Persist::Received { updates, cursor } => {
                if let (Some(cursor), true) = (cursor, shared.is(Mutant::CursorBeforeRows)) {
                    shared.disks.get_mut(document).into_iter().for_each(|disk| disk.cursor = Some(cursor));
                }
                self.keep(document, updates, cursor, shared);
                Ok(0)
            }
            Persist::Acknowledged { rows, .. } => {
                let Some(open) = self.documents.get_mut(document) else { return Ok(0) };
                let rows: Vec<Row> = rows.iter().filter_map(|id| open.rows.remove(id)).collect();
                let lineage = self.wire.map_or(0, |(_, lineage)| lineage);
                let history = around.oracle.history(lineage, document);
                if !rows.iter().all(|row| history.is_some_and(|history| history.covers(&row.update))) {
                    return Err(Violation::AcknowledgedNotDurable { device: shared.index });
                }
                let count = rows.len();
                let who = self.name(shared);
                around.trace.note(who, || format!("document {document}: {count} rows are acknowledged"));
                let rows = if shared.is(Mutant::AcknowledgeByNumber) {
                    by_number(&rows, shared, document)
                } else {
                    rows
                };
                let key = shared.next_key();
                self.push(document, Change::Acknowledged { key, rows });
                Ok(count as u64)
            }
        }
    }

    /// The process dies. A transaction that runs is complete or never was.
    pub(crate) fn die(mut self, shared: &mut Shared, around: &mut Surroundings<'_>) -> Result<(), Violation> {
        if self.in_flight > 0 && around.rng.bool() {
            self.work_on_disk(false, shared, around)?;
        }
        shared.living.remove(&self.id);
        shared.told.remove(&self.id);
        shared.adopters.retain(|_, adopter| *adopter != self.id);
        shared.merging.retain(|_, tab| *tab != self.id);
        shared.branching.retain(|(_, tab)| *tab != self.id);
        Ok(())
    }

    /// True when something waits to be written, sent, put aside or asked for.
    pub(crate) fn is_busy(&self, shared: &Shared) -> bool {
        !self.groups.is_empty()
            || !self.frames.is_empty()
            || self.wants_token
            || self.wants_close
            || self.is_branching()
            || shared.told.get(&self.id).is_some_and(|told| !told.is_empty())
    }
}
