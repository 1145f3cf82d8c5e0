//! TLS: the certificate of now, and a listener that answers with it.

use crate::door::{Arrivals, Door, Visitor};
use crate::limits::{CERTIFICATE_FILE_BYTES_MAX, TLS_HANDSHAKE_WITHIN, TLS_HANDSHAKES_MAX};
use crate::metrics::Metrics;
use parking_lot::{Mutex, RwLock};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Why a certificate and its key cannot be used.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file is larger than any certificate.
    #[error("{0}: it is larger than 1 MiB")]
    TooLarge(PathBuf),
    /// The certificates are not in PEM, or there is none.
    #[error("{path} is no certificate in PEM: {error}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: pem::Error,
    },
    /// The key is not in PEM.
    #[error("{path} is no private key in PEM: {error}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: pem::Error,
    },
    /// They do not belong together, or are of a kind that is not known.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// A certificate and its key, read again when their files change.
pub(crate) struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    config: RwLock<Arc<ServerConfig>>,
    /// What was read last, or why it could not be: a fault is told once.
    seen: Mutex<Result<Pem, String>>,
    metrics: Arc<Metrics>,
}

/// What the two files hold.
#[derive(PartialEq, Eq)]
pub(crate) struct Pem {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Pem {
    pub(crate) fn read(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        Ok(Pem { certificate: read_bounded(certificate)?, key: read_bounded(key)? })
    }
}

impl Certificate {
    pub(crate) fn new(
        certificate: &Path,
        key: &Path,
        metrics: Arc<Metrics>,
    ) -> Result<Self, CertificateError> {
        let pem = Pem::read(certificate, key)?;
        let config = config(&pem, certificate, key)?;
        Ok(Certificate {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            config: RwLock::new(config),
            seen: Mutex::new(Ok(pem)),
            metrics,
        })
    }

    /// Reads the files again, all of them as the keys' file is. Connections that are open stay as they are. Files that are
    /// damaged, or of which only one is new yet, leave what is there.
    pub(crate) fn reload(&self) {
        let read = Pem::read(&self.certificate, &self.key).map_err(|error| error.to_string());
        let mut seen = self.seen.lock();
        if *seen == read {
            return;
        }
        let made = match &read {
            Ok(pem) => config(pem, &self.certificate, &self.key).map_err(|error| error.to_string()),
            Err(error) => Err(error.clone()),
        };
        *seen = read;
        match made {
            Ok(config) => {
                *self.config.write() = config;
                tracing::info!(path = %self.certificate.display(), "there is a new certificate");
            }
            Err(error) => {
                self.metrics.certificate_failed.increment(1);
                tracing::error!(%error, "the certificate stays as it was");
            }
        }
    }

    fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.read().clone())
    }
}

fn config(pem: &Pem, certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, CertificateError> {
    let wrong = |error| CertificateError::Certificate { path: certificate.to_owned(), error };
    let chain =
        CertificateDer::pem_slice_iter(&pem.certificate).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    if chain.is_empty() {
        return Err(wrong(pem::Error::NoItemsFound));
    }
    let private = PrivateKeyDer::from_pem_slice(&pem.key)
        .map_err(|error| CertificateError::Key { path: key.to_owned(), error })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)?;
    // WebSockets begin in HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let failed = |error| CertificateError::Io { path: path.to_owned(), error };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(CERTIFICATE_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > CERTIFICATE_FILE_BYTES_MAX {
        return Err(CertificateError::TooLarge(path.to_owned()));
    }
    Ok(bytes)
}

/// Hands on connections whose handshake is done. None waits for another's.
pub(crate) struct TlsDoor {
    door: Door,
    certificate: Arc<Certificate>,
    handshakes: JoinSet<Option<(TlsStream<TcpStream>, Visitor)>>,
}

impl TlsDoor {
    pub(crate) fn new(door: Door, certificate: Arc<Certificate>) -> Self {
        TlsDoor { door, certificate, handshakes: JoinSet::new() }
    }
}

impl Arrivals for TlsDoor {
    type Io = TlsStream<TcpStream>;

    async fn accept(&mut self) -> (Self::Io, Visitor) {
        loop {
            tokio::select! {
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = done {
                        return connection;
                    }
                }
                (socket, visitor) = self.door.accept(), if self.handshakes.len() < TLS_HANDSHAKES_MAX => {
                    self.handshakes.spawn(shake_hands(self.certificate.clone(), socket, visitor));
                }
            }
        }
    }
}

/// `None` when the client gives up, takes too long, or speaks something else.
async fn shake_hands(
    certificate: Arc<Certificate>,
    socket: TcpStream,
    visitor: Visitor,
) -> Option<(TlsStream<TcpStream>, Visitor)> {
    let shaken = timeout(TLS_HANDSHAKE_WITHIN, certificate.acceptor().accept(socket)).await;
    match shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => Some((stream, visitor)),
        Err(error) => {
            certificate.metrics.handshakes_failed.increment(1);
            tracing::debug!(peer = %visitor.address, %error, "a TLS handshake failed");
            None
        }
    }
}
