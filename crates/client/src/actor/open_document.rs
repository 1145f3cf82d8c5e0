//! Documents: opened one after the other, then told about.

use super::{Actor, Reply, first_status};
use crate::branch::Branch;
use crate::document::{DocumentError, Opened, SavedError, Shared};
use crate::status::{Connection, Device, Status};
use crate::store::{Loaded, LogError};
use std::io;
use std::sync::Arc;
use tidewell_sync_core::client::{Client, ReplicaId};
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::limits::CLIENT_ID_END;
use tidewell_sync_core::replica::{Link, Replica, RowId, Stored};
use tokio::sync::watch;

/// A document that is asked for and not yet open, and everybody who asked.
pub(super) struct Opening {
    name: DocumentName,
    replies: Vec<Reply<Result<Shared, DocumentError>>>,
}

/// What loading led to.
pub(super) type LoadResult = Result<Loaded, LogError>;

/// A document whose outbox is to be put aside: why, and what its log holds.
pub(super) struct RefusedDocument {
    replica: ReplicaId,
    code: Code,
    log: Result<(Stored, Vec<Branch>), LogError>,
}

type SavedReply = Reply<Result<(), SavedError>>;

/// What the actor keeps beside each replica.
pub(super) struct OpenDocument {
    shared: Shared,
    status: watch::Sender<Status>,
    changes: watch::Sender<u64>,
    /// Numbers of the last write given to the store, and of the last that is on disk.
    written: u64,
    saved: u64,
    is_in_memory: bool,
    failure: Option<Arc<io::Error>>,
    /// The outbox is about to be put aside.
    is_branching: bool,
    waits_for_device: Vec<(u64, SavedReply)>,
    waits_for_relay: Vec<(RowId, SavedReply)>,
}

impl Actor {
    pub(super) fn open(&mut self, name: DocumentName, reply: Reply<Result<Shared, DocumentError>>) {
        if let Some(document) = self.names.get(&name).and_then(|id| self.documents.get(id)) {
            let _ = reply.send(Ok(document.shared.clone()));
            return;
        }
        match self.opening.iter_mut().find(|opening| opening.name == name) {
            Some(opening) => opening.replies.push(reply),
            None => {
                self.opening.push_back(Opening { name, replies: vec![reply] });
                if self.opening.len() == 1 {
                    self.load_first();
                }
            }
        }
    }

    /// Loads the first of the documents to be opened. One at a time: the core names them in order.
    fn load_first(&mut self) {
        while let Some(Opening { name, .. }) = self.opening.front() {
            let (name, channel) = (name.clone(), self.core.next_id().0);
            // Never used before: 53 random bits.
            let client_id = rand::random::<u64>() % CLIENT_ID_END;
            let Some(directory) = self.directory.clone() else {
                self.opened(Replica::new(name, channel, client_id), Opened::default());
                continue;
            };
            let done = self.load_done.clone();
            tokio::task::spawn_blocking(move || {
                // The actor has ended when it does not want it any more.
                let _ = done.blocking_send(directory.load(&name, channel, client_id));
            });
            return;
        }
    }

    pub(super) fn loaded(&mut self, result: LoadResult) {
        match result {
            Ok(Loaded { replica, report, torn, log }) => {
                if let Some(torn) = torn {
                    tracing::warn!(document = %replica.name(), bytes = torn.bytes, "a torn commit was cut off");
                }
                if let Some(writer) = &self.writer {
                    writer.adopt(self.core.next_id(), log);
                }
                self.opened(replica, Opened { report, torn });
            }
            Err(error) => {
                let error = Arc::new(error);
                let replies = self.opening.pop_front().map(|opening| opening.replies).unwrap_or_default();
                for reply in replies {
                    let _ = reply.send(Err(DocumentError::Log(error.clone())));
                }
            }
        }
        self.load_first();
    }

    fn opened(&mut self, replica: Replica, opened: Opened) {
        let name = replica.name().clone();
        let id = self.core.add(replica);
        let first = first_status(&self.options.store, *self.connection.borrow());
        let is_in_memory = matches!(first.device, Device::Memory);
        let (status, status_out) = watch::channel(first);
        let (changes, changes_out) = watch::channel(0);
        let opened = Arc::new(opened);
        let shared =
            Shared { replica: id, name: name.clone(), opened, status: status_out, changes: changes_out };
        for reply in self.opening.pop_front().map(|opening| opening.replies).unwrap_or_default() {
            let _ = reply.send(Ok(shared.clone()));
        }
        let document = OpenDocument {
            shared,
            status,
            changes,
            written: 0,
            saved: 0,
            is_in_memory,
            failure: None,
            is_branching: false,
            waits_for_device: Vec::new(),
            waits_for_relay: Vec::new(),
        };
        self.documents.insert(id, document);
        self.names.insert(name, id);
        self.tell_status(id);
    }

    /// The relay has refused edits for good: the document is read from its log, to go on without them. A document in
    /// memory stays refused; there is nothing that it could be made anew of.
    pub(super) fn begin_branch(&mut self, id: ReplicaId, code: Code) {
        let (Some(writer), Some(document)) = (&self.writer, self.documents.get_mut(&id)) else { return };
        if !std::mem::replace(&mut document.is_branching, true) {
            let done = self.refused_in.clone();
            // The actor has ended when it does not want it any more.
            let send = move |log| drop(done.send(RefusedDocument { replica: id, code, log }));
            writer.read(id, Box::new(send));
        }
    }

    /// Puts the outbox aside in one write, and the document goes on without it, under another client ID.
    pub(super) fn branch_off(&mut self, refused: RefusedDocument) {
        let RefusedDocument { replica: id, code, log } = refused;
        let Some(document) = self.documents.get_mut(&id) else { return };
        document.is_branching = false;
        let (Ok((mut stored, _)), Some(old), Some(writer)) = (log, self.core.replica(id), &self.writer)
        else {
            tracing::warn!(document = %document.shared.name, "refused edits stay where they are");
            self.tell_status(id);
            return;
        };
        // Edits were made, and perhaps acknowledged, since the log was read.
        let rows: Vec<RowId> = old.outbox().collect();
        let acknowledged =
            std::mem::take(&mut stored.outbox).into_iter().filter(|row| !rows.contains(&row.id));
        stored.received.extend(acknowledged.map(|row| row.update));
        // It may cover rows that leave: those that the relay has.
        stored.cursor = None;
        self.written += 1;
        self.unsaved += 1;
        document.writing(self.written);
        writer.branch(id, self.written, code, rows);

        let client_id = rand::random::<u64>() % CLIENT_ID_END;
        let mut replica = Replica::new(old.name().clone(), id.0, client_id);
        replica.load(stored);
        self.core.replace(id, replica);
        document.refused(code);
    }
}

impl OpenDocument {
    /// A write was given to the store.
    pub(super) fn writing(&mut self, number: u64) {
        self.written = number;
    }

    /// True when the last attempt to write failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// The store says how far it has come.
    pub(super) fn reported(&mut self, outcome: Result<u64, Arc<io::Error>>) {
        match outcome {
            Ok(through) => {
                self.saved = through;
                self.failure = None;
                let (done, waiting) = std::mem::take(&mut self.waits_for_device)
                    .into_iter()
                    .partition(|(number, _)| *number <= through);
                self.waits_for_device = waiting;
                answer_all(done, &Ok(()));
            }
            Err(error) => {
                answer_all(
                    std::mem::take(&mut self.waits_for_device),
                    &Err(SavedError::Device(error.clone())),
                );
                self.failure = Some(error);
            }
        }
    }

    pub(super) fn saved_device(&mut self, reply: SavedReply) {
        if self.is_in_memory {
            let _ = reply.send(Err(SavedError::Memory));
        } else if self.saved == self.written {
            let _ = reply.send(Ok(()));
        } else {
            self.waits_for_device.push((self.written, reply));
        }
    }

    /// What the last reports said, when there will be no other.
    pub(super) fn at_its_end(&self) -> Result<(), SavedError> {
        match self.device() {
            Device::Memory | Device::Saved => Ok(()),
            Device::Failed(error) => Err(SavedError::Device(error)),
            // The store's thread is gone without a word of them.
            Device::Saving => Err(SavedError::Closed),
        }
    }

    /// What was waited for is in a branch.
    fn refused(&mut self, code: Code) {
        answer_all(std::mem::take(&mut self.waits_for_relay), &Err(SavedError::Refused(code)));
    }

    pub(super) fn saved_relay(&mut self, replica: &Replica, reply: SavedReply) {
        match (replica.link(), replica.last_row()) {
            (_, None) => {
                let _ = reply.send(Ok(()));
            }
            (Link::Refused(code), _) if !code.is_transient() && !self.is_branching => {
                let _ = reply.send(Err(SavedError::Refused(code)));
            }
            (_, Some(row)) => self.waits_for_relay.push((row, reply)),
        }
    }

    /// Drops the waits whose callers have gone.
    pub(super) fn forget_who_has_gone(&mut self) {
        self.waits_for_device.retain(|(_, reply)| !reply.is_closed());
        self.waits_for_relay.retain(|(_, reply)| !reply.is_closed());
    }

    pub(super) fn tell_change(&mut self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Where the device's copy stands.
    fn device(&self) -> Device {
        match &self.failure {
            _ if self.is_in_memory => Device::Memory,
            Some(error) => Device::Failed(error.clone()),
            None if self.saved == self.written => Device::Saved,
            None => Device::Saving,
        }
    }

    /// Tells how things stand, and those who wait for the relay if it is there.
    pub(super) fn tell_status(&mut self, core: &Client, id: ReplicaId, connection: Connection) {
        let Some(replica) = core.replica(id) else { return };
        let (device, link, unsent) = (self.device(), replica.link(), replica.unsent());
        self.status.send_replace(Status { connection, link, device, unsent });
        let waiting = std::mem::take(&mut self.waits_for_relay);
        let (done, waiting): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(row, _)| replica.is_acknowledged(*row));
        answer_all(done, &Ok(()));
        match link {
            Link::Refused(code) if !code.is_transient() && !self.is_branching => {
                answer_all(waiting, &Err(SavedError::Refused(code)));
            }
            _ => self.waits_for_relay = waiting,
        }
    }
}

fn answer_all<T>(waits: Vec<(T, SavedReply)>, outcome: &Result<(), SavedError>) {
    for (_, reply) in waits {
        let _ = reply.send(outcome.clone());
    }
}
