//! The client's handle and how it is opened.

use crate::actor::{Actor, Command};
use crate::document::{Document, DocumentError, SavedError};
use crate::status::Connection;
use crate::store::{Directory, DirectoryError};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::fmt::Display;
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
    /// The relay's address, `wss://host/path`, or `ws://host:port/path` without encryption.
    pub url: String,
    /// Where documents are kept.
    pub store: Store,
    /// What the relay is shown to prove who this is; empty for relays without keys.
    pub token: String,
    /// Certificates in PEM, of authorities that are trusted for `wss` besides those that this system trusts.
    pub certificates: Vec<u8>,
    /// Begin without a connection, until [`Client::resume`].
    pub paused: bool,
}

impl Options {
    /// Options with everything else at its default: no token, the system's authorities, connecting at once.
    pub fn new(url: impl Into<String>, store: Store) -> Self {
        Options { url: url.into(), store, token: String::new(), certificates: Vec::new(), paused: false }
    }
}

/// Why a client cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The address is none that this client can connect to.
    #[error("{0:?} is no address of the form wss://host/path or ws://host:port/path")]
    Url(String),
    /// The [`Options::certificates`] cannot be used.
    #[error("the certificates cannot be used: {0}")]
    Certificates(String),
    /// Its directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The store's thread could not be started.
    #[error("the store's thread could not be started: {0}")]
    Thread(std::io::Error),
}

/// A client: many documents on one connection. Cheap to clone. When the last handle (of it and of its
/// documents) is dropped, it writes what it has to disk and ends; nobody is told when that fails.
#[derive(Debug, Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    connection: watch::Receiver<Connection>,
}

impl Client {
    /// Opens a client. It connects in the background, and again whenever the connection is lost; that the
    /// relay cannot be reached is no error.
    pub async fn open(options: Options) -> Result<Client, OpenError> {
        let Some(has_tls) = has_tls(&options.url) else { return Err(OpenError::Url(options.url)) };
        let certificates = options.certificates.clone();
        // The system's certificates are in files.
        let tls = if has_tls { Some(blocking(move || trusting(&certificates)).await?) } else { None };
        let directory = match options.store.clone() {
            Store::Memory => None,
            Store::Directory(path) => Some(Arc::new(blocking(move || Directory::open(&path)).await?)),
        };
        Client::start(options, tls, directory)
    }

    fn start(
        options: Options,
        tls: Option<Arc<ClientConfig>>,
        directory: Option<Arc<Directory>>,
    ) -> Result<Client, OpenError> {
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let (actor, connection) = Actor::new(options, tls, directory, inbox).map_err(OpenError::Thread)?;
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
    ///
    /// Fails with [`SavedError::Device`] when the disk does, and has ended all the same: what could not be
    /// written is lost. [`Document::saved_device`] before it keeps the client then. Fails with
    /// [`SavedError::Closed`] when it was closed before.
    pub async fn close(self) -> Result<(), SavedError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Close { reply }).await.map_err(|_| SavedError::Closed)?;
        answer.await.map_err(|_| SavedError::Closed)?
    }
}

/// A panic of the blocking task is passed on.
async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(run).await;
    done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// TLS that trusts the system's authorities, and those whose certificates are given.
fn trusting(certificates: &[u8]) -> Result<Arc<ClientConfig>, OpenError> {
    let wrong = |error: &dyn Display| OpenError::Certificates(error.to_string());
    let mut roots = RootCertStore::empty();
    // Some systems have some that nobody can read; without them their relays are not believed, and nothing else.
    let found = rustls_native_certs::load_native_certs();
    found.errors.iter().for_each(|error| tracing::warn!(%error, "a certificate of the system is left out"));
    roots.add_parsable_certificates(found.certs);
    for certificate in CertificateDer::pem_slice_iter(certificates) {
        roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&error))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// True for an address with TLS, and for none that this client can connect to `None`: otherwise the mistake would look
/// like a relay that is never there.
fn has_tls(url: &str) -> Option<bool> {
    let url = url.parse::<Uri>().ok()?;
    url.host()?;
    match url.scheme_str() {
        Some("wss") => Some(true),
        Some("ws") => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
