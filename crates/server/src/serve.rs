//! The relay's life: checks everything, serves, drains.

use crate::assets::{Assets, AssetsError};
use crate::authority::{Authority, KeysFile};
use crate::compactor::{Compactor, HistoryLimits};
use crate::connections::{ConnectionLimits, Connections};
use crate::data_directory::{DataDirectory, DataDirectoryError};
use crate::door::{self, Door};
use crate::housekeeping::keep_house;
use crate::http::router;
use crate::limits::{
    CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS, DRAIN_CLOSE, DRAIN_FLUSH, DRAIN_LAST_FLUSH, DRAIN_WITHIN,
    FILES_RESERVED, PRESENCE_BURST, RATE_BURST, READERS_MAX, REFRESH_BURST, REFRESHES_PER_SECOND,
    REQUESTS_PER_SECOND, TOLD_AT_ONCE_MAX,
};
use crate::materializer::{Pool, Program};
use crate::memory::{self, allocator};
use crate::metrics::Metrics;
use crate::options::ServeOptions;
use crate::origin::{InvalidOrigin, Origins};
use crate::pace::{AddressPace, Rate, Rates};
use crate::places::{PlaceLimits, Places};
use crate::quotas::Quotas;
use crate::relay::Relay;
use crate::rooms::Rooms;
use crate::store::{Checkpointer, CommitError, OpenError, Store};
use crate::tickets::Tickets;
use crate::tls::{Certificate, CertificateError, TlsDoor};
use crate::token::Expected;
use crate::token::keys::KeysError;
use crate::writer::{Writer, WriterQueue};
use rand::Rng;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use thiserror::Error;
use tidewell_sync_core::limits::CLIENT_ID_END;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::{timeout, timeout_at};

/// Why the relay does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Without tokens anybody who can connect can read and write everything.
    #[error(
        "{0} is not a loopback address, and without keys anybody who reaches it reads and changes everything: \
         give the keys of your tokens with --keys, or say --anyone-may-read-and-write"
    )]
    NotLoopback(SocketAddr),
    /// The `--keys` cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// Nobody would know which tokens were revoked.
    #[error("the revoked tokens cannot be read: {0}")]
    Revocations(CommitError),
    /// Nobody would know how much the tenants have.
    #[error("the sizes of the documents cannot be read: {0}")]
    Sizes(CommitError),
    /// The `--tls-certificate` or its key cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// An `--allow-origin` cannot be one.
    #[error(transparent)]
    Origin(#[from] InvalidOrigin),
    /// The `--assets` folder cannot be served.
    #[error(transparent)]
    Assets(#[from] AssetsError),
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDirectory(#[from] DataDirectoryError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The metrics cannot be set up.
    #[error("metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// The writer's thread cannot be started.
    #[error("cannot start the writer: {0}")]
    Thread(io::Error),
}

/// Why the relay ended early.
#[derive(Debug, Error)]
pub enum ServeError {
    /// See [`StartError`].
    #[error(transparent)]
    Start(#[from] StartError),
    /// The listener failed.
    #[error("cannot accept connections: {0}")]
    Listen(#[from] io::Error),
    /// The writer's thread has ended, which only a fault in this program can make it do. What was not acknowledged is
    /// with the clients; a relay that is started again takes it.
    #[error("the writer has ended: nothing could be committed any more")]
    Writer,
    /// What happens on a timer has ended, likewise: nobody would look at the memory or for revoked keys.
    #[error("the housekeeping has ended: {0}")]
    Housekeeping(tokio::task::JoinError),
}

/// A relay that has everything it needs: data directory locked, store open.
pub struct Prepared {
    pub(crate) relay: Arc<Relay>,
    /// Without it the relay speaks no TLS.
    certificate: Option<Arc<Certificate>>,
    assets: Option<Assets>,
    checkpointer: Checkpointer,
    store: Store,
    directory: DataDirectory,
    /// Other addresses than loopback may be served.
    is_open: bool,
}

/// Serves on `listener` until `shutdown` is ready, then drains.
pub async fn run(
    listener: TcpListener,
    options: &ServeOptions,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    Prepared::new(options)?.run(listener, shutdown).await
}

impl Prepared {
    /// Checks the options and opens the store. On an error nothing was changed.
    pub fn new(options: &ServeOptions) -> Result<Self, StartError> {
        let is_open = options.keys.is_some() || options.anyone_may_read_and_write;
        if !is_open && !options.listen.ip().is_loopback() {
            return Err(StartError::NotLoopback(options.listen));
        }
        let origins = Origins::new(&options.allow_origin)?;
        let assets = options.assets.as_deref().map(Assets::new).transpose()?;
        let metrics = Arc::new(Metrics::new()?);
        let expected = Expected { issuer: options.issuer.clone(), audience: options.audience.clone() };
        // Before anything is made: a keys file that cannot be used leaves no data directory behind.
        let keys = options.keys.as_deref().map(KeysFile::read).transpose()?;
        let certificate = certificate(options, &metrics)?;
        let directory = DataDirectory::create(&options.data)?;
        let store = open_store(&directory, options)?;
        let authority = match keys {
            None => Authority::Anyone,
            Some(keys) => {
                let revocations = store.revocations().map_err(StartError::Revocations)?;
                Authority::new(keys, expected, revocations, metrics.clone())
            }
        };
        let (lineage, readers) = (store.lineage(), store.readers(READERS_MAX));
        let checkpointer = store.checkpointer()?;
        let quarantined = store.quarantined().map_or(0, |documents| documents.len());
        metrics.quarantined.set(u32::try_from(quarantined).map_or(f64::MAX, f64::from));
        let writer = WriterQueue::new(metrics.clone());
        let connections = Connections::new(connection_limits(options));
        let quotas = Quotas::new(
            options.document_bytes_max,
            options.tenant_bytes_max,
            options.tenant_bytes_per_second,
            |count| store.sizes(count),
        )
        .map_err(StartError::Sizes)?;
        let rooms = Rooms::new(
            readers.clone(),
            writer.clone(),
            quotas,
            size(options.joins_max),
            lineage,
            metrics.clone(),
        );
        let pool = Pool::new(Program::new(options.materializer.as_deref()), metrics.clone());
        let history = history_limits(options);
        let compactor = Compactor::new(pool, readers.clone(), writer.clone(), metrics.clone(), history);
        let is_draining = AtomicBool::new(false);
        let tickets = Tickets::default();
        let relay = Relay {
            rooms,
            compactor: Arc::new(compactor),
            readers,
            writer,
            places: Places::new(place_limits(options)),
            connections,
            metrics,
            origins,
            trusted_proxies: options.trusted_proxy.clone(),
            authority,
            tickets,
            requests: AddressPace::new(
                Rate::new(options.requests_per_second.unwrap_or(REQUESTS_PER_SECOND), RATE_BURST),
                options.requests_per_second.is_some(),
            ),
            rates: rates(options),
            memory_max: memory_max(options),
            told: Arc::new(Semaphore::new(TOLD_AT_ONCE_MAX)),
            lineage,
            is_draining,
        };
        Ok(Prepared { relay: Arc::new(relay), certificate, assets, checkpointer, store, directory, is_open })
    }

    /// Serves until `shutdown` is ready, then drains: flushes while serving, tells clients when to come
    /// back, and ends within 8 s whatever happens.
    pub async fn run(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServeError> {
        let address = listener.local_addr()?;
        if !self.is_open && !address.ip().is_loopback() {
            return Err(StartError::NotLoopback(address).into());
        }
        allocator::keep_little();
        let Prepared { relay, certificate, assets, checkpointer, store, directory, is_open: _ } = self;
        let (writer, writer_ended) = start_writer(directory, store, &relay).map_err(StartError::Thread)?;
        let mut housekeeping = tokio::spawn(keep_house(relay.clone(), certificate.clone(), checkpointer));
        let door = Door::new(listener, relay.clone());
        let stop_accepting = Arc::new(Notify::new());
        let (app, metrics) = (router(relay.clone(), assets), relay.metrics.clone());
        let mut serving = match certificate {
            None => tokio::spawn(door::serve(door, app, metrics, stop_accepting.clone())),
            Some(certificate) => {
                let door = TlsDoor::new(door, certificate);
                tokio::spawn(door::serve(door, app, metrics, stop_accepting.clone()))
            }
        };
        let ended = tokio::select! {
            () = shutdown => Ok(()),
            ended = &mut serving => ended.map_err(|error| ServeError::Listen(error.into())),
            _ = writer_ended => Err(ServeError::Writer),
            // It ends by a panic alone.
            Err(error) = &mut housekeeping => Err(ServeError::Housekeeping(error)),
        };
        let drained_at = tokio::time::Instant::now() + DRAIN_WITHIN;
        if ended.is_ok() {
            drain(&relay, &stop_accepting).await;
        }
        housekeeping.abort();
        serving.abort();
        relay.writer.end();
        // The thread ends after its last commit, or at once if the disk fails.
        let joined = tokio::task::spawn_blocking(move || writer.join());
        let _ = timeout_at(drained_at, joined).await;
        ended
    }
}

/// Each connection is an open file.
fn place_limits(options: &ServeOptions) -> PlaceLimits {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let by_files = files.map_or(CONNECTIONS_MAX, |files| {
        usize::try_from(files.saturating_sub(FILES_RESERVED).max(files / 2)).unwrap_or(usize::MAX)
    });
    PlaceLimits {
        total: options.connections_max.map_or(by_files.min(CONNECTIONS_MAX), size),
        per_address: size(options.connections_per_address.unwrap_or(CONNECTIONS_PER_ADDRESS)),
        per_loopback: options.connections_per_address.map_or(usize::MAX, size),
    }
}

fn connection_limits(options: &ServeOptions) -> ConnectionLimits {
    ConnectionLimits {
        per_subject: size(options.connections_per_subject),
        joins: size(options.joins_max),
        // The other half is for rooms and for what is not counted.
        held_bytes: memory_max(options)
            .map_or(usize::MAX, |max| usize::try_from(max / 2).unwrap_or(usize::MAX)),
    }
}

fn size(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn memory_max(options: &ServeOptions) -> Option<u64> {
    options.memory_max.or_else(memory::default_max)
}

fn certificate(
    options: &ServeOptions,
    metrics: &Arc<Metrics>,
) -> Result<Option<Arc<Certificate>>, CertificateError> {
    // The command line takes both or none.
    let (Some(certificate), Some(key)) = (&options.tls_certificate, &options.tls_key) else {
        return Ok(None);
    };
    Ok(Some(Arc::new(Certificate::new(certificate, key, metrics.clone())?)))
}

fn open_store(directory: &DataDirectory, options: &ServeOptions) -> Result<Store, OpenError> {
    let lineage = rand::rng().random_range(1..CLIENT_ID_END);
    let mut store = Store::open(directory, lineage)?;
    if options.restored {
        store.rename_history(lineage)?;
        tracing::info!(
            "the history has a new name: devices that are ahead of this store hand over what they have"
        );
    }
    Ok(store)
}

fn history_limits(options: &ServeOptions) -> HistoryLimits {
    HistoryLimits {
        kept_for: options.history,
        document_bytes_max: options.document_bytes_max,
        tenant_bytes_max: options.tenant_bytes_max,
    }
}

fn rates(options: &ServeOptions) -> Rates {
    Rates {
        updates: Rate::new(options.updates_per_second, RATE_BURST),
        bytes: Rate::new(options.bytes_per_second, RATE_BURST),
        presence: Rate::new(options.presence_per_second, PRESENCE_BURST),
        refreshes: Rate::new(REFRESHES_PER_SECOND, REFRESH_BURST),
    }
}

/// The thread keeps the directory's lock until it has ended, however long the disk makes it wait. The receiver is ready
/// when it has, also by a panic.
fn start_writer(
    directory: DataDirectory,
    store: Store,
    relay: &Relay,
) -> io::Result<(thread::JoinHandle<()>, oneshot::Receiver<()>)> {
    let (running, ended) = oneshot::channel();
    let connections = relay.connections.clone();
    let relieved = Box::new(move || connections.nudge_all());
    let writer = Writer::new(store, relay.writer.clone(), relay.metrics.clone(), relieved);
    let thread = thread::Builder::new().name("writer".to_owned()).spawn(move || {
        let _held = (running, directory);
        writer.run();
    })?;
    Ok((thread, ended))
}

async fn drain(relay: &Arc<Relay>, stop_accepting: &Notify) {
    tracing::info!("draining");
    relay.is_draining.store(true, Ordering::Relaxed);
    stop_accepting.notify_one();
    if timeout(DRAIN_FLUSH, relay.writer.flushed()).await.is_err() {
        tracing::warn!("not everything could be committed; clients keep what was not acknowledged");
    }
    relay.connections.send_all_away();
    if timeout(DRAIN_CLOSE, relay.connections.all_gone()).await.is_err() {
        tracing::warn!("some connections did not close in time");
    }
    // What came while the connections were told: committed too, so that it need not be sent again.
    let _ = timeout(DRAIN_LAST_FLUSH, relay.writer.flushed()).await;
    tracing::info!("drained");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Command, CommandLine};
    use crate::places::Standing;
    use clap::Parser;

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_in_time_although_the_disk_and_a_client_do_not_answer() {
        let data = tempfile::tempdir().unwrap();
        let arguments = ["tidewell", "serve", "--data", data.path().to_str().unwrap()];
        let Command::Serve(options) = CommandLine::parse_from(arguments).command else { panic!() };
        let relay = Prepared::new(&options).unwrap().relay;
        relay.writer.admitted(1);
        let _stays = relay.enter(&Standing::Proxy, [127, 0, 0, 1].into()).unwrap();
        let began = tokio::time::Instant::now();
        drain(&relay, &Notify::new()).await;
        assert!(began.elapsed() >= DRAIN_FLUSH + DRAIN_CLOSE + DRAIN_LAST_FLUSH, "{:?}", began.elapsed());
        assert!(began.elapsed() < DRAIN_WITHIN, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_relay_without_its_writer_ends() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = ["tidewell", "serve", "--listen", "127.0.0.1:0", "--data"].map(Into::into);
        let arguments = arguments.into_iter().chain([folder.path().as_os_str().to_owned()]);
        let Command::Serve(options) = CommandLine::parse_from(arguments).command else { panic!("not serve") };
        let prepared = Prepared::new(&options).unwrap();
        let listener = TcpListener::bind(options.listen).await.unwrap();
        // The thread ends, as a panic would make it.
        prepared.relay.writer.end();
        let ended = prepared.run(listener, std::future::pending()).await;
        assert!(matches!(ended, Err(ServeError::Writer)));
    }
}
