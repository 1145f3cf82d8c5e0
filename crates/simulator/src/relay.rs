//! The relay: the product's rooms, and around them what `crates/server` does with connections, tokens and the store.

mod catch_up;
mod channels;
mod speaking;
mod tokens;
mod writer;

use crate::authority::Authority;
use crate::oracle::{History, Oracle};
use crate::store::{Store, StoredDocument};
use crate::trace::{Trace, of_client};
use crate::wire::Wire;
use crate::{Mutant, Violation};
use bytes::Bytes;
use catch_up::Behindhand;
use channels::Channel;
use std::collections::{BTreeMap, VecDeque};
use tidewell_sync_core::admission::Admitted;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::protocol::{ClientMessage, Reassembly, RelayMessage, VERSION, split};
use tidewell_sync_core::room::{PushKind, Room};
use writer::{Disk, Writing};

pub(crate) type Wires = BTreeMap<u64, Wire>;

#[derive(Default)]
struct Connection {
    reassembly: Reassembly,
    channels: BTreeMap<u32, Channel>,
    /// What it is told in the relay's next turn.
    out: Vec<u8>,
    /// Its members that are behind, each of which gets one part in a turn.
    behind: VecDeque<Behindhand>,
    /// `None` until it has said who it is.
    token: Option<String>,
    heard_ms: u64,
}

pub(crate) struct Relay {
    pub(crate) store: Store,
    /// The last one, and what had been committed by then.
    backup: Option<(Store, Vec<History>)>,
    names: Vec<DocumentName>,
    /// By document: those that are in memory.
    rooms: BTreeMap<usize, Room>,
    connections: BTreeMap<u64, Connection>,
    writing: Option<Writing>,
    disk: Disk,
    /// Its clock, in milliseconds beyond the true time.
    pub(crate) ahead_ms: u64,
    mutant: Option<Mutant>,
    frame_bytes_max: usize,
    unread_turns_max: u64,
}

/// What a step of the relay may use.
pub(crate) struct Surroundings<'a> {
    pub(crate) wires: &'a mut Wires,
    pub(crate) authority: &'a Authority,
    pub(crate) oracle: &'a mut Oracle,
    pub(crate) trace: &'a mut Trace,
    pub(crate) now_ms: u64,
}

/// Why a connection ends, or the run.
enum End {
    Code(Code),
    Violation(Violation),
}

impl From<Violation> for End {
    fn from(violation: Violation) -> Self {
        End::Violation(violation)
    }
}

impl From<Code> for End {
    fn from(code: Code) -> Self {
        End::Code(code)
    }
}

/// No document is ever begun anew here.
const EPOCH: u64 = 1;

impl Relay {
    pub(crate) fn new(
        lineage: u64,
        names: &[DocumentName],
        mutant: Option<Mutant>,
        frame_bytes_max: usize,
        unread_turns_max: u64,
    ) -> Self {
        Relay {
            store: Store { lineage, documents: vec![StoredDocument::default(); names.len()] },
            backup: None,
            names: names.to_vec(),
            rooms: BTreeMap::new(),
            connections: BTreeMap::new(),
            writing: None,
            disk: Disk::default(),
            ahead_ms: 0,
            mutant,
            frame_bytes_max,
            unread_turns_max,
        }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    pub(crate) fn sequences(&self) -> Vec<u64> {
        self.store.documents.iter().map(|document| document.sequence).collect()
    }

    pub(crate) fn connected(&mut self, id: u64, now_ms: u64) {
        self.connections.insert(id, Connection { heard_ms: now_ms, ..Connection::default() });
    }

    /// The connection is over.
    pub(crate) fn disconnected(&mut self, id: u64) {
        let Some(connection) = self.connections.remove(&id) else { return };
        for channel in connection.channels.into_values() {
            self.leave(channel);
        }
    }

    /// A frame from a device.
    pub(crate) fn frame(
        &mut self,
        id: u64,
        frame: Bytes,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Violation> {
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        connection.heard_ms = around.now_ms;
        let outcome = self.take_frame(id, frame, around);
        self.end_if_needed(id, outcome, around)
    }

    fn take_frame(&mut self, id: u64, frame: Bytes, around: &mut Surroundings<'_>) -> Result<(), End> {
        self.look_at_token(id, around)?;
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        let Some(whole) = connection.reassembly.take(frame)? else { return Ok(()) };
        for message in ClientMessage::read_all(&whole)? {
            around.trace.note("the relay", || format!("reads from connection {id}: {}", of_client(&message)));
            self.message(id, message, around)?;
        }
        Ok(())
    }

    fn message(&mut self, id: u64, message: ClientMessage, around: &mut Surroundings<'_>) -> Result<(), End> {
        let has_token = self.connections.get(&id).is_some_and(|connection| connection.token.is_some());
        match message {
            ClientMessage::Hello { version, token } => {
                if has_token || version != VERSION {
                    return Err(Code::ProtocolViolation.into());
                }
                self.admit(id, token, around)?;
                let welcome = RelayMessage::Welcome {
                    lineage: self.store.lineage,
                    time_ms: around.now_ms + self.ahead_ms,
                    frame_bytes_max: self.frame_bytes_max as u64,
                    update_bytes_max: 16 << 20,
                };
                self.say(id, &welcome);
                Ok(())
            }
            _ if !has_token => Err(Code::ProtocolViolation.into()),
            ClientMessage::Open { channel, document, position } => {
                self.open(id, channel, &document, position, around)
            }
            ClientMessage::Close { channel } => {
                let connection = self.connections.get_mut(&id);
                let closed = connection.and_then(|connection| connection.channels.remove(&channel));
                closed.into_iter().for_each(|closed| self.leave(closed));
                Ok(())
            }
            ClientMessage::Push { channel, number, update } => {
                self.push(id, channel, PushKind::Edit, number, &update, around)
            }
            ClientMessage::Have { channel, number, update } => {
                self.push(id, channel, PushKind::Answer, number, &update, around)
            }
            ClientMessage::Ping { nonce } => {
                self.say(id, &RelayMessage::Pong { nonce });
                Ok(())
            }
            ClientMessage::Refresh { token } => {
                self.admit(id, token, around)?;
                self.grant_anew(id, around);
                Ok(())
            }
        }
    }

    fn say(&mut self, id: u64, message: &RelayMessage) {
        if let Some(connection) = self.connections.get_mut(&id) {
            message.write(&mut connection.out);
        }
    }

    /// Ends the connection for reasons of its token; whatever else is wrong is a defect.
    fn end_if_needed(
        &mut self,
        id: u64,
        outcome: Result<(), End>,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Violation> {
        let code = match outcome {
            Ok(()) => return Ok(()),
            Err(End::Violation(violation)) => return Err(violation),
            Err(End::Code(code @ (Code::TokenExpired | Code::TokenRevoked))) => code,
            Err(End::Code(code)) => return Err(Violation::refused("the relay", code)),
        };
        around.trace.note("the relay", || format!("ends connection {id}: {code}"));
        self.say(id, &RelayMessage::Error { code, message: String::new() });
        self.close(id, around.wires);
        Ok(())
    }

    /// What was said leaves, and then the connection is closed.
    fn close(&mut self, id: u64, wires: &mut Wires) {
        if let (Some(connection), Some(wire)) = (self.connections.get_mut(&id), wires.get_mut(&id)) {
            let out = Bytes::from(std::mem::take(&mut connection.out));
            if !out.is_empty() {
                wire.send_down(split(out, self.frame_bytes_max));
            }
            wire.close_relay();
        }
        self.disconnected(id);
    }

    /// Ends all connections in order, as a relay that is stopped does.
    pub(crate) fn stop(&mut self, wires: &mut Wires) {
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        for id in ids {
            self.say(id, &RelayMessage::GoAway { after_ms: 1_000 });
            self.close(id, wires);
        }
    }

    /// The room of a document, loaded from disk if it is not in memory.
    fn room(&mut self, document: usize, oracle: &Oracle) -> Result<&mut Room, Violation> {
        let gap = || Violation::gap("the store");
        if !self.rooms.contains_key(&document) {
            let stored = self.store.documents.get(document).ok_or_else(gap)?;
            let (admitted, _) = Admitted::load(stored.updates()).map_err(|_| gap())?;
            let known = oracle.history(self.store.lineage, document).ok_or_else(gap)?;
            if admitted.state_vector() != known.admitted.state_vector() {
                return Err(gap());
            }
            let name = self.names.get(document).cloned().ok_or_else(gap)?;
            let room = Room::new(name, EPOCH, self.store.lineage, stored.sequence, admitted);
            self.rooms.insert(document, room);
        }
        self.rooms.get_mut(&document).ok_or_else(gap)
    }

    /// Rooms that nobody is in leave memory.
    pub(crate) fn evict_idle(&mut self) {
        self.rooms.retain(|_, room| !room.is_idle());
    }

    /// Only the disk is left. What was sent may still arrive.
    pub(crate) fn crash(&mut self, around: &mut Surroundings<'_>) -> Result<(), Violation> {
        self.rooms.clear();
        self.writing = None;
        for id in std::mem::take(&mut self.connections).into_keys() {
            around.wires.get_mut(&id).into_iter().for_each(Wire::close_relay);
        }
        (0..self.names.len()).try_for_each(|document| self.room(document, around.oracle).map(drop))
    }

    pub(crate) fn back_up(&mut self, oracle: &Oracle) {
        self.backup = Some((self.store.clone(), oracle.of_lineage(self.store.lineage)));
    }

    /// The backup becomes the store, under a new lineage. Answers false when there is none.
    pub(crate) fn restore(&mut self, lineage: u64, around: &mut Surroundings<'_>) -> Result<bool, Violation> {
        let Some((backup, histories)) = self.backup.clone() else { return Ok(false) };
        let lineage = if self.is(Mutant::RestoreInSilence) { self.store.lineage } else { lineage };
        self.store = Store { lineage, ..backup };
        around.oracle.begin(lineage, histories);
        self.crash(around)?;
        Ok(true)
    }

    /// Nobody has more unread than was allowed, and nothing of two turns is kept.
    pub(crate) fn check_queues(&self, wires: &Wires) -> Result<(), Violation> {
        let longest = wires.values().map(Wire::unread_turns).max().unwrap_or(0);
        // The last word before a close is said in any case.
        if longest > self.unread_turns_max + 1 {
            return Err(Violation::QueueGrows { turns: longest });
        }
        Ok(())
    }
}
