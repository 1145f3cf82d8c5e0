//! Loading a stored document after a restart.

use super::Extent;
use crate::fixture::Fixture;
use crate::link::{Buffer, Link};
use crate::meter::Figures;
use crate::peer::{Peer, Programs, Target};
use crate::protocol::Said;
use crate::replica::Replica;
use crate::typing::units;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const DOCUMENT: &str = "cold";

/// Size of the document as one update.
const DOCUMENT_BYTES: usize = 1_200_000;

/// Clients that come at once.
const STAMPEDE: usize = 50;

/// A client that has not got everything after so long will not.
const LOAD_WITHIN: Duration = Duration::from_secs(60);

/// When nothing has come for so long, what came is looked at.
const AFTER_LAST: Duration = Duration::from_secs(1);

/// Made once for all relays.
static FIXTURE: OnceLock<Arc<Fixture>> = OnceLock::new();

/// Stores the document, then restarts the relay before each measurement.
pub(crate) async fn run(peer: Peer, programs: &Programs, data: &Path, extent: Extent) -> Result<Figures> {
    let fixture = match FIXTURE.get() {
        Some(fixture) => fixture.clone(),
        None => {
            let bytes = extent.choose(DOCUMENT_BYTES, DOCUMENT_BYTES / 10);
            let fixture = Arc::new(Fixture::new(bytes)?);
            println!("  the document: {} bytes, {} updates", fixture.bytes, fixture.updates.len());
            FIXTURE.get_or_init(|| fixture).clone()
        }
    };
    store(peer, programs, data, &fixture).await?;
    let first = stampede(peer, programs, data, &fixture, 1).await?;
    let many = stampede(peer, programs, data, &fixture, STAMPEDE).await?;
    Ok(vec![("first client ms", first), ("50 at once, slowest ms", many)])
}

async fn store(peer: Peer, programs: &Programs, data: &Path, fixture: &Fixture) -> Result<()> {
    let (process, target) = peer.start(programs, data)?;
    let (mut link, _) = Link::open(&target, DOCUMENT, Buffer::Large).await?;
    for update in &fixture.updates {
        link.push(update.clone()).await?;
    }
    link.acknowledged(&target, fixture.updates.len() as u64).await?;
    // A second client sees everything before anything is stopped.
    slowest(&target, fixture, 1).await.context("the document does not reach another client")?;
    sleep(peer.stores_within()).await;
    process.stop()
}

/// What the slowest of clients that come at once to a relay that has just started needs, in milliseconds.
async fn stampede(
    peer: Peer,
    programs: &Programs,
    data: &Path,
    fixture: &Fixture,
    clients: usize,
) -> Result<f64> {
    let (_process, target) = peer.start(programs, data)?;
    Ok(slowest(&target, fixture, clients).await?.as_secs_f64() * 1e3)
}

/// The slowest client's time from connecting to having everything. What came is only looked at when nothing comes any
/// more: with fifty clients on the relay's machine, their looking through it would take time from the relay.
async fn slowest(target: &Target, fixture: &Fixture, clients: usize) -> Result<Duration> {
    let mut loading = JoinSet::new();
    let arrivals: Vec<Arc<Mutex<Arrivals>>> = (0..clients).map(|_| Arc::default()).collect();
    for arrivals in &arrivals {
        loading.spawn(load(*target, arrivals.clone()));
    }
    let began = Instant::now();
    let mut took = vec![None; clients];
    while took.contains(&None) {
        if let Ok(Some(ended)) = timeout(AFTER_LAST, loading.join_next()).await {
            // A client that loads does not end.
            ended??;
        }
        if began.elapsed() > LOAD_WITHIN {
            bail!("a client did not get the whole document");
        }
        let last = arrivals.iter().map(|arrivals| arrivals.lock().last()).max();
        if last.flatten().is_some_and(|last| last.elapsed() >= AFTER_LAST) {
            for (took, arrivals) in took.iter_mut().zip(&arrivals) {
                *took = arrivals.lock().complete_after(fixture)?;
            }
        }
    }
    for arrivals in &arrivals {
        let mut replica = Replica::new();
        replica.apply_all(arrivals.lock().updates.iter().map(|(_, update)| &**update))?;
        if replica.text() != fixture.text {
            bail!("a client has another text than the one that was stored");
        }
    }
    Ok(took.into_iter().flatten().max().unwrap_or_default())
}

/// What came to one client, and when.
#[derive(Default)]
struct Arrivals {
    connecting: Option<Instant>,
    updates: Vec<(Instant, Bytes)>,
}

impl Arrivals {
    fn last(&self) -> Option<Instant> {
        self.updates.last().map(|(at, _)| *at)
    }

    /// How long after connecting every unit was there; `None` if that is still to come. An empty answer first, as
    /// y-websocket gives, does not count.
    fn complete_after(&self, fixture: &Fixture) -> Result<Option<Duration>> {
        let mut missing: BTreeMap<u64, u32> = fixture.clocks.clone();
        for (at, update) in &self.updates {
            units(update, |client, _, to| {
                if missing.get(&client).is_some_and(|end| to >= *end) {
                    missing.remove(&client);
                }
            })?;
            if missing.is_empty() {
                return Ok(self.connecting.map(|connecting| at.duration_since(connecting)));
            }
        }
        Ok(None)
    }
}

/// Connects and keeps what comes, until it is stopped.
async fn load(target: Target, arrivals: Arc<Mutex<Arrivals>>) -> Result<()> {
    arrivals.lock().connecting = Some(Instant::now());
    let mut link = Link::connect(&target, DOCUMENT, Buffer::Large).await?;
    loop {
        link.receive(|said| {
            if let Said::Update(update) = said {
                arrivals.lock().updates.push((Instant::now(), update));
            }
        })
        .await?;
    }
}
