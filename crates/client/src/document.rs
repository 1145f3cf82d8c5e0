//! A document's handle.

use crate::actor::{Command, Run};
use crate::branch::Branch;
use crate::status::Status;
use crate::store::{LogError, TornTail};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use thiserror::Error;
use tidewell_sync_core::client::ReplicaId;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::replica::LoadReport;
use tokio::sync::{mpsc, oneshot, watch};
use yrs::{GetString, ReadTxn, Text, Transact, Transaction, TransactionMut, WriteTxn};

/// Why a document cannot be opened.
#[derive(Debug, Error)]
pub enum DocumentError {
    /// The name cannot be one.
    #[error("{}", .0.help())]
    Name(Code),
    /// Its log on this device cannot be read. It is left as it is.
    #[error("{0}")]
    Log(Arc<LogError>),
    /// The client was closed.
    #[error("the client was closed")]
    Closed,
}

/// Why an edit or a reading did not take place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EditError {
    /// A position or length lies outside the text.
    #[error("a position or length lies outside the text")]
    Range,
    /// The client was closed.
    #[error("the client was closed")]
    Closed,
}

/// Why it is not known that edits are saved.
#[derive(Debug, Clone, Error)]
pub enum SavedError {
    /// There is no store on this device.
    #[error("the client keeps its documents in memory only")]
    Memory,
    /// The store could not write. The edits are in memory, and it tries again by itself until the client is closed.
    #[error("edits could not be written: {0}")]
    Device(Arc<std::io::Error>),
    /// The relay refused some of them for good. They are kept on this device, in a branch if it has a store.
    #[error("the relay refused: {}", .0.help())]
    Refused(Code),
    /// The client was closed.
    #[error("the client was closed")]
    Closed,
}

impl SavedError {
    /// The code from the list that all of Tidewell shares.
    pub fn code(&self) -> Code {
        match self {
            SavedError::Memory => Code::DeviceUnavailable,
            SavedError::Device(_) => Code::DeviceFailed,
            SavedError::Refused(code) => *code,
            SavedError::Closed => Code::Closed,
        }
    }
}

/// What opening a document found on this device.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Rows that could not be used.
    pub report: LoadReport,
    /// What was cut from the end of its log: a commit that nobody was told to be saved.
    pub torn: Option<TornTail>,
}

/// What the actor hands out.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) replica: ReplicaId,
    pub(crate) name: DocumentName,
    pub(crate) opened: Arc<Opened>,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) changes: watch::Receiver<u64>,
}

/// An open document. Cheap to clone. It stays open until its client closes.
#[derive(Debug, Clone)]
pub struct Document {
    shared: Shared,
    commands: mpsc::Sender<Command>,
}

/// A value, or what it panicked with.
type Caught<T> = Result<T, Box<dyn Any + Send>>;

impl Document {
    pub(crate) fn new(shared: Shared, commands: mpsc::Sender<Command>) -> Self {
        Document { shared, commands }
    }

    /// The document's name.
    pub fn name(&self) -> &str {
        self.shared.name.as_str()
    }

    /// What opening found on this device.
    pub fn opened(&self) -> &Opened {
        &self.shared.opened
    }

    /// The status, now and whenever it changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.shared.status.clone()
    }

    /// Counts up whenever the content changes, by whomever.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.clone()
    }

    /// Runs `edit` in one transaction and puts what it changed into the outbox. yrs cannot roll back: what
    /// a panicking `edit` has changed stays changed, and the panic is passed on to the caller.
    pub async fn edit<T: Send + 'static>(
        &self,
        edit: impl FnOnce(&mut TransactionMut<'_>) -> T + Send + 'static,
    ) -> Result<T, EditError> {
        self.run(move |client, now_ms, id| {
            let edit =
                |transaction: &mut TransactionMut<'_>| catch_unwind(AssertUnwindSafe(|| edit(transaction)));
            client.with(id, |replica| replica.edit(now_ms, 1, edit))
        })
        .await
    }

    /// Runs `read` on the document as it is now, with all edits that were made before.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Transaction<'_>) -> T + Send + 'static,
    ) -> Result<T, EditError> {
        self.run(move |client, _, id| {
            let transaction = client.replica(id)?.doc().transact();
            Some(catch_unwind(AssertUnwindSafe(|| read(&transaction))))
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut tidewell_sync_core::client::Client, u64, ReplicaId) -> Option<Caught<T>>
        + Send
        + 'static,
    ) -> Result<T, EditError> {
        let (reply, answer) = oneshot::channel();
        let id = self.shared.replica;
        let run: Run = Box::new(move |client, now_ms| {
            if let Some(result) = run(client, now_ms, id) {
                // The caller may have gone; what it asked for is done all the same.
                let _ = reply.send(result);
            }
        });
        self.commands.send(Command::Run(run)).await.map_err(|_| EditError::Closed)?;
        answer.await.map_err(|_| EditError::Closed)?.map_err(|panic| resume_unwind(panic))
    }

    /// The text of the root type `root`; empty when it is not there.
    pub async fn text(&self, root: &str) -> Result<String, EditError> {
        let root = root.to_owned();
        self.read(move |transaction| {
            transaction.get_text(root.as_str()).map(|text| text.get_string(transaction)).unwrap_or_default()
        })
        .await
    }

    /// Inserts into the text of the root type `root`. Positions count UTF-16 units, as in JavaScript.
    pub async fn insert_text(&self, root: &str, position: u32, content: &str) -> Result<(), EditError> {
        self.replace_text(root, position, 0, content).await
    }

    /// Deletes from the text of the root type `root`.
    pub async fn delete_text(&self, root: &str, position: u32, length: u32) -> Result<(), EditError> {
        self.replace_text(root, position, length, "").await
    }

    /// Replaces a part of the text of the root type `root`, in one edit.
    pub async fn replace_text(
        &self,
        root: &str,
        position: u32,
        length: u32,
        content: &str,
    ) -> Result<(), EditError> {
        let (root, content) = (root.to_owned(), content.to_owned());
        self.edit(move |transaction| {
            let text = transaction.get_or_insert_text(root.as_str());
            // yrs panics on what lies outside.
            let end = position.checked_add(length).filter(|end| *end <= text.len(transaction));
            end.ok_or(EditError::Range)?;
            if length > 0 {
                text.remove_range(transaction, position, length);
            }
            if !content.is_empty() {
                text.insert(transaction, position, &content);
            }
            Ok(())
        })
        .await?
    }

    /// Waits until every edit made before this call is on this device's disk.
    pub async fn saved_device(&self) -> Result<(), SavedError> {
        self.saved(|replica, reply| Command::SavedDevice { replica, reply }).await
    }

    /// Waits until every edit made before this call is on the relay's disk, for as long as that takes;
    /// whoever has waited long enough drops the future. Fails when the relay refuses for good.
    pub async fn saved_relay(&self) -> Result<(), SavedError> {
        self.saved(|replica, reply| Command::SavedRelay { replica, reply }).await
    }

    /// The branches of this document: edits that the relay refused, with those that build on them. They are in the
    /// document's log; without a store there are none, and the document stays refused.
    pub async fn branches(&self) -> Result<Vec<Branch>, DocumentError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Branches { replica: self.shared.replica, reply };
        self.commands.send(command).await.map_err(|_| DocumentError::Closed)?;
        let read = answer.await.map_err(|_| DocumentError::Closed)?;
        read.map_err(|error| DocumentError::Log(Arc::new(error)))
    }

    async fn saved(
        &self,
        command: impl FnOnce(ReplicaId, oneshot::Sender<Result<(), SavedError>>) -> Command,
    ) -> Result<(), SavedError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(self.shared.replica, reply)).await.map_err(|_| SavedError::Closed)?;
        answer.await.map_err(|_| SavedError::Closed)?
    }
}
