//! The client's handle and how it is opened.

use crate::actor::{Actor, Command};
use crate::document::{Document, DocumentError};
use crate::status::Connection;
use crate::store::{Directory, DirectoryError};
use std::path::PathBuf;
use std::sync::Arc;
use thiserror::Error;
use tidewell_sync_core::document_name::DocumentName;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_tungstenite::tungstenite::http::Uri;

/// Commands that wait for the actor; whoever sends more waits.
const COMMANDS_MAX: usize = 1024;

/// Where documents are kept on this device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// Nowhere: they end with the client.
    Memory,
    /// In a directory, which one client at a time may use. It is made if it is not there.
    Directory(PathBuf),
}

/// How a client is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// The relay's address, `ws://host:port/path`.
    pub url: String,
    /// Where documents are kept.
    pub store: Store,
    /// What the relay is shown to prove who this is; empty for relays without keys.
    pub token: String,
    /// Begin without a connection, until [`Client::resume`].
    pub paused: bool,
}

impl Options {
    /// Options with everything else at its default: no token, connecting at once.
    pub fn new(url: impl Into<String>, store: Store) -> Self {
        Options { url: url.into(), store, token: String::new(), paused: false }
    }
}

/// Why a client cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The address is none that this client can connect to.
    #[error("{0:?} is no address of the form ws://host:port/path")]
    Url(String),
    /// Its directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The store's thread could not be started.
    #[error("the store's thread could not be started: {0}")]
    Thread(std::io::Error),
}

/// A client: many documents on one connection. Cheap to clone. When the last handle (of it and of its
/// documents) is dropped, it writes what it has to disk and ends.
#[derive(Debug, Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    connection: watch::Receiver<Connection>,
}

impl Client {
    /// Opens a client. It connects in the background, and again whenever the connection is lost; that the
    /// relay cannot be reached is no error.
    pub async fn open(options: Options) -> Result<Client, OpenError> {
        if !is_address(&options.url) {
            return Err(OpenError::Url(options.url));
        }
        let directory = match options.store.clone() {
            Store::Memory => None,
            Store::Directory(path) => {
                // A panic of the blocking task is passed on.
                let opened = tokio::task::spawn_blocking(move || Directory::open(&path)).await;
                Some(Arc::new(opened.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?))
            }
        };
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let (actor, connection) = Actor::new(options, directory, inbox).map_err(OpenError::Thread)?;
        tokio::spawn(actor.run());
        Ok(Client { commands, connection })
    }

    /// Opens a document from this device's copy alone; offline is fine. Asked again, it answers with the
    /// same document.
    pub async fn document(&self, name: &str) -> Result<Document, DocumentError> {
        let name = DocumentName::parse(name).map_err(DocumentError::Name)?;
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Open { name, reply }).await.map_err(|_| DocumentError::Closed)?;
        let opened = answer.await.map_err(|_| DocumentError::Closed)??;
        Ok(Document::new(opened, self.commands.clone()))
    }

    /// Where the connection stands.
    pub fn connection(&self) -> watch::Receiver<Connection> {
        self.connection.clone()
    }

    /// Closes the connection and makes none until [`Client::resume`]. Edits go on.
    pub async fn pause(&self) {
        // A client that is closed has no connection either.
        let _ = self.commands.send(Command::Pause).await;
    }

    /// Connects, at once.
    pub async fn resume(&self) {
        let _ = self.commands.send(Command::Resume).await;
    }

    /// Writes everything to disk and ends; afterwards every handle answers that it is closed. Does not
    /// wait for the relay: what it has not acknowledged is sent when the directory is opened again.
    pub async fn close(self) {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::Close { reply }).await.is_ok() {
            let _ = answer.await;
        }
    }
}

/// Otherwise the mistake would look like a relay that is never there. There is no TLS here: a client that
/// is not on the relay's machine goes through a proxy that has it.
fn is_address(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|url| url.scheme_str() == Some("ws") && url.host().is_some())
}
