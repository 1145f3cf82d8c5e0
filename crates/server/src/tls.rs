//! TLS: the certificate of now, and a listener that answers with it.

use crate::door::{Arrivals, Visitor};
use crate::limits::{
    CERTIFICATE_FILE_BYTES_MAX, TLS_HANDSHAKE_SHARE, TLS_HANDSHAKE_WITHIN, TLS_HANDSHAKES_MAX,
};
use crate::metrics::{Limit, Metrics};
use crate::places::{Place, PlaceLimits, Places, Standing};
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

/// Hands on connections whose handshake is done. None waits for another's, nor for those that never end: who finds no slot is
/// closed.
pub(crate) struct TlsDoor<A> {
    arrivals: A,
    certificate: Arc<Certificate>,
    strangers: Places,
    trusted: Places,
    handshakes: JoinSet<Option<(TlsStream<TcpStream>, Visitor)>>,
}

impl<A: Arrivals<Io = TcpStream>> TlsDoor<A> {
    pub(crate) fn new(arrivals: A, certificate: Arc<Certificate>) -> Self {
        TlsDoor::with_slots(arrivals, certificate, TLS_HANDSHAKES_MAX)
    }

    fn with_slots(arrivals: A, certificate: Arc<Certificate>, slots: usize) -> Self {
        let all = PlaceLimits { total: slots, per_address: slots, per_loopback: slots };
        let shared = PlaceLimits { per_address: slots.div_ceil(TLS_HANDSHAKE_SHARE), ..all };
        let (strangers, trusted) = (Places::new(shared), Places::new(all));
        TlsDoor { arrivals, certificate, strangers, trusted, handshakes: JoinSet::new() }
    }

    /// A slot for a visitor's handshake. Trusted proxies and this machine have their own, which nobody else can take: whoever
    /// asks whether the relay is alive is to be answered.
    fn slot(&self, visitor: &Visitor) -> Result<Arc<Place>, Limit> {
        let address = visitor.address.ip().to_canonical();
        let is_trusted = address.is_loopback() || matches!(visitor.standing, Standing::Proxy);
        let slots = if is_trusted { &self.trusted } else { &self.strangers };
        slots.take(address)
    }
}

impl<A: Arrivals<Io = TcpStream>> Arrivals for TlsDoor<A> {
    type Io = TlsStream<TcpStream>;

    async fn accept(&mut self) -> (Self::Io, Visitor) {
        loop {
            tokio::select! {
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = done {
                        return connection;
                    }
                }
                (socket, visitor) = self.arrivals.accept() => match self.slot(&visitor) {
                    Ok(slot) => {
                        let shaking = shake_hands(self.certificate.clone(), socket, visitor);
                        self.handshakes.spawn(async move {
                            let _slot = slot;
                            shaking.await
                        });
                    }
                    Err(_) => self.certificate.metrics.hit(Limit::Handshakes),
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

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::{ClientConfig, RootCertStore};
    use std::net::{IpAddr, SocketAddr};
    use std::sync::mpsc;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsConnector;

    /// Connections that come from where the test says.
    struct Street {
        listener: TcpListener,
        addresses: mpsc::Receiver<IpAddr>,
    }

    impl Arrivals for Street {
        type Io = TcpStream;

        async fn accept(&mut self) -> (TcpStream, Visitor) {
            let (socket, _) = self.listener.accept().await.unwrap();
            let address = (self.addresses.try_recv().expect("it is told first"), 7).into();
            (socket, Visitor { address, standing: Standing::Spare })
        }
    }

    /// Clients of a door.
    struct Clients {
        door: SocketAddr,
        addresses: mpsc::Sender<IpAddr>,
        connector: TlsConnector,
        metrics: Arc<Metrics>,
    }

    impl Clients {
        async fn of_a_door_with(slots: usize) -> Clients {
            let CertifiedKey { cert, signing_key } =
                generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.path().join(name));
            std::fs::write(&certificate, cert.pem()).unwrap();
            std::fs::write(&key, signing_key.serialize_pem()).unwrap();
            let metrics = Arc::new(Metrics::new().unwrap());
            let certificate = Arc::new(Certificate::new(&certificate, &key, metrics.clone()).unwrap());
            let mut roots = RootCertStore::empty();
            roots.add(cert.der().clone()).unwrap();
            let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
            let config = config.with_safe_default_protocol_versions().unwrap();
            let config = config.with_root_certificates(roots).with_no_client_auth();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (door, (addresses, told)) = (listener.local_addr().unwrap(), mpsc::channel());
            let street = Street { listener, addresses: told };
            let mut tls = TlsDoor::with_slots(street, certificate, slots);
            tokio::spawn(async move {
                loop {
                    drop(tls.accept().await);
                }
            });
            Clients { door, addresses, connector: TlsConnector::from(Arc::new(config)), metrics }
        }

        /// One that says nothing yet.
        async fn comes(&self, address: &str) -> TcpStream {
            self.addresses.send(address.parse().unwrap()).unwrap();
            TcpStream::connect(self.door).await.unwrap()
        }

        /// Begins and, if it may, ends a handshake. Then its slot is free again.
        async fn shakes_hands(&self, address: &str) -> bool {
            let socket = self.comes(address).await;
            let shaken = self.connector.connect("localhost".try_into().unwrap(), socket).await;
            let Ok(mut stream) = shaken else { return false };
            let _ = stream.read(&mut [0]).await;
            true
        }

        fn turned_away(&self, count: u64) -> bool {
            let line = format!("tidewell_limits_hit_total{{limit=\"tls_handshakes\"}} {count}\n");
            self.metrics.render().contains(&line)
        }
    }

    #[tokio::test]
    async fn handshakes_that_never_end_keep_out_neither_other_addresses_nor_operators() {
        let clients = Clients::of_a_door_with(8).await;
        let mut silent = Vec::new();
        for _ in 0..2 {
            silent.push(clients.comes("192.0.2.1").await);
            silent.push(clients.comes("2001:db8::1").await);
        }
        // Two of eight slots are all that an address gets, or a network of IPv6.
        for address in ["192.0.2.1", "2001:db8::2"] {
            assert_eq!(clients.comes(address).await.read(&mut [0]).await.unwrap(), 0, "it is closed at once");
        }
        assert!(clients.turned_away(2));
        assert!(clients.shakes_hands("192.0.2.2").await);
        for address in ["192.0.2.3", "192.0.2.4"] {
            silent.push(clients.comes(address).await);
            silent.push(clients.comes(address).await);
        }
        assert!(!clients.shakes_hands("192.0.2.2").await, "all slots are taken");
        assert!(clients.turned_away(3));
        for _ in 0..8 {
            silent.push(clients.comes("127.0.0.1").await);
        }
        assert!(!clients.shakes_hands("127.0.0.1").await);
        drop(silent);
        while !clients.shakes_hands("192.0.2.1").await {}
        while !clients.shakes_hands("127.0.0.1").await {}
    }

    #[tokio::test]
    async fn who_asks_on_this_machine_is_answered_while_others_take_all_slots() {
        let clients = Clients::of_a_door_with(1).await;
        let _silent = clients.comes("192.0.2.1").await;
        assert!(!clients.shakes_hands("192.0.2.2").await);
        assert!(clients.shakes_hands("127.0.0.1").await);
        assert!(clients.shakes_hands("::ffff:127.0.0.1").await);
    }
}
