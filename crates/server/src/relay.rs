//! What all connections and requests share.

use crate::authority::Authority;
use crate::client_address::Network;
use crate::compactor::Compactor;
use crate::connections::{Connections, Full, Registered};
use crate::metrics::Metrics;
use crate::origin::Origins;
use crate::pace::{AddressPace, Rates};
use crate::places::{Places, Standing};
use crate::rooms::Rooms;
use crate::store::Readers;
use crate::tickets::Tickets;
use crate::writer::WriterQueue;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Semaphore;

/// The running relay.
pub(crate) struct Relay {
    pub(crate) rooms: Rooms,
    pub(crate) compactor: Arc<Compactor>,
    pub(crate) readers: Readers,
    pub(crate) writer: Arc<WriterQueue>,
    pub(crate) places: Places,
    pub(crate) connections: Connections,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) origins: Origins,
    /// Who is believed about where a client is.
    pub(crate) trusted_proxies: Vec<Network>,
    pub(crate) authority: Authority,
    pub(crate) tickets: Tickets,
    /// Permits to tell a client, on a socket of its own, when to come back.
    pub(crate) told: Arc<Semaphore>,
    /// Bytes of memory that the relay may take; `None` where the system does not tell what there is.
    pub(crate) memory_max: Option<u64>,
    /// How fast an address may ask.
    pub(crate) requests: AddressPace,
    /// How fast a connection may go.
    pub(crate) rates: Rates,
    /// The name of the store's history.
    pub(crate) lineage: u64,
    pub(crate) is_draining: AtomicBool,
}

impl Relay {
    /// Enters the WebSocket of a client, which has not joined yet.
    pub(crate) fn enter(&self, standing: &Standing, client: IpAddr) -> Result<Registered, Full> {
        self.connections.enter(self.places.of(standing, client)?)
    }

    /// True when new clients are welcome.
    pub(crate) fn is_ready(&self) -> bool {
        !self.is_draining.load(Ordering::Relaxed) && !self.writer.is_failing()
    }
}
