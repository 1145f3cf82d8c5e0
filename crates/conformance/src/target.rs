//! The relay that is checked, and how it is reached.

use crate::Failure;
use crate::web_socket::{Socket, Stream, Upgrade};
use rand::Rng;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use thiserror::Error;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::protocol::SUBPROTOCOL;

/// A relay to be checked.
pub struct Target {
    host: String,
    port: u16,
    /// What its paths begin with, without a slash at the end.
    base: String,
    tls: Option<Arc<ClientConfig>>,
    /// What is shown to it; empty for relays without keys.
    pub token: String,
    /// How long it may take for one answer.
    pub within: Duration,
    /// What the names of this run's documents begin with.
    prefix: String,
    next_document: AtomicU64,
}

/// Why a relay cannot be checked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidTarget {
    /// It has no address of this form.
    #[error("{0:?} is no address of the form ws://host:port or wss://host")]
    Url(String),
    /// The documents have no such names.
    #[error("no document's name can begin with {0:?}")]
    Documents(String),
    /// The certificates cannot be used.
    #[error("the certificates cannot be used: {0}")]
    Certificates(String),
}

impl Target {
    /// A relay at `url`, which is where its doors are: `ws://host:port` or `wss://host`. The documents that are made have
    /// names below `documents`. For `wss` the system's authorities are trusted, and those in `certificates` (PEM).
    pub fn new(url: &str, documents: &str, certificates: &[u8]) -> Result<Self, InvalidTarget> {
        let invalid = || InvalidTarget::Url(url.to_owned());
        let (scheme, rest) = url.split_once("://").ok_or_else(invalid)?;
        let (tls, port) = match scheme {
            "ws" => (None, 80),
            "wss" => (Some(trusting(certificates)?), 443),
            _ => return Err(invalid()),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let has_port =
            |(_, port): &(&str, &str)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let (host, port) = match authority.rsplit_once(':').filter(has_port) {
            Some((host, port)) => (host, port.parse().map_err(|_| invalid())?),
            None => (authority, port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let path = path.trim_end_matches('/');
        if host.is_empty() || path.contains(['?', '#', ' ']) {
            return Err(invalid());
        }
        let base = if path.is_empty() { String::new() } else { format!("/{path}") };
        let prefix = format!("{documents}/{:016x}", rand::rng().random::<u64>());
        // The longest name that a check makes has as many bytes as a name can have; this is to leave room for it.
        if DocumentName::parse(&prefix).is_err() || prefix.len() > 256 {
            return Err(InvalidTarget::Documents(documents.to_owned()));
        }
        let (token, within) = (String::new(), Duration::from_secs(10));
        Ok(Target { host, port, base, tls, token, within, prefix, next_document: AtomicU64::new(0) })
    }

    /// The name of a document that nobody has.
    pub(crate) fn document(&self) -> Result<DocumentName, Failure> {
        let number = self.next_document.fetch_add(1, Ordering::Relaxed);
        DocumentName::parse(&format!("{}/{number}", self.prefix)).map_err(|code| Failure(code.to_string()))
    }

    /// A connection to `path` on which nothing was said.
    pub(crate) fn stream(&self) -> Result<Box<dyn Stream>, Failure> {
        let mut last = Failure(format!("{} has no address", self.host));
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, self.within) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(self.within))?;
                    stream.set_write_timeout(Some(self.within))?;
                    stream.set_nodelay(true)?;
                    let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
                    let host = ServerName::try_from(self.host.clone());
                    let host = host.map_err(|error| Failure(error.to_string()))?;
                    let connection = ClientConnection::new(tls.clone(), host);
                    let connection = connection.map_err(|error| Failure(error.to_string()))?;
                    return Ok(Box::new(StreamOwned::new(connection, stream)));
                }
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }

    /// What the request for a WebSocket at `path` looks like.
    pub(crate) fn upgrade(&self, path: &str) -> Upgrade {
        Upgrade::new(format!("{}{path}", self.base), format!("{}:{}", self.host, self.port))
    }

    /// A WebSocket at `path`.
    pub fn open(&self, path: &str) -> Result<Socket, Failure> {
        self.upgrade(path).open(self.stream()?, self.within)
    }

    /// A socket of `tidewell.v1` on which nothing was said.
    pub(crate) fn sync(&self) -> Result<Socket, Failure> {
        let upgrade = self.upgrade("/v1/sync").header("Sec-WebSocket-Protocol", SUBPROTOCOL);
        upgrade.open(self.stream()?, self.within)
    }

    /// A socket at the y-websocket door, with a ticket where there is a token.
    pub(crate) fn stock(&self, document: &DocumentName) -> Result<Socket, Failure> {
        let document = document.as_str();
        if self.token.is_empty() {
            return self.open(&format!("/yjs/{document}"));
        }
        let ticket = self.ticket(document)?;
        self.open(&format!("/yjs/{document}?ticket={ticket}"))
    }

    fn ticket(&self, document: &str) -> Result<String, Failure> {
        let mut stream = self.stream()?;
        let request = format!(
            "POST {}/v1/ticket/{document} HTTP/1.1\r\nHost: {}:{}\r\nAuthorization: Bearer {}\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n",
            self.base, self.host, self.port, self.token
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let ticket = answer.split_once("\"ticket\":\"").and_then(|(_, rest)| rest.split_once('"'));
        let ticket = ticket.map(|(ticket, _)| ticket.to_owned());
        ticket.ok_or_else(|| Failure(format!("no ticket: {}", answer.lines().next_back().unwrap_or(""))))
    }
}

fn trusting(certificates: &[u8]) -> Result<Arc<ClientConfig>, InvalidTarget> {
    let wrong = |error: &dyn std::fmt::Display| InvalidTarget::Certificates(error.to_string());
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for certificate in CertificateDer::pem_slice_iter(certificates) {
        roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&error))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}
