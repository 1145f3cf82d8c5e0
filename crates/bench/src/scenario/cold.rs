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
    load(target, fixture).await.context("the document does not reach another client")?;
    sleep(peer.stores_within()).await;
    process.stop()
}

/// The slowest client's time from connecting to having everything, in milliseconds.
async fn stampede(
    peer: Peer,
    programs: &Programs,
    data: &Path,
    fixture: &Arc<Fixture>,
    clients: usize,
) -> Result<f64> {
    let (_process, target) = peer.start(programs, data)?;
    let mut loading = JoinSet::new();
    for _ in 0..clients {
        let fixture = fixture.clone();
        loading.spawn(async move { load(target, &fixture).await });
    }
    let mut slowest = Duration::ZERO;
    let mut contents = Vec::new();
    for loaded in loading.join_all().await {
        let (_link, took, updates) = loaded?;
        slowest = slowest.max(took);
        contents.push(updates);
    }
    // After the clock has stopped: this takes longer than loading.
    for updates in contents {
        let mut replica = Replica::new();
        replica.apply_all(updates.iter().map(|update| &**update))?;
        if replica.text() != fixture.text {
            bail!("a client has another text than the one that was stored");
        }
    }
    Ok(slowest.as_secs_f64() * 1e3)
}

/// Connects and waits until every unit is there: an empty answer first, as y-websocket gives, does not count.
async fn load(target: Target, fixture: &Fixture) -> Result<(Link, Duration, Vec<Bytes>)> {
    let started = Instant::now();
    let loading = async {
        let mut link = Link::connect(&target, DOCUMENT, Buffer::Large).await?;
        let mut updates: Vec<Bytes> = Vec::new();
        let mut missing: BTreeMap<u64, u32> = fixture.clocks.clone();
        while !missing.is_empty() {
            let from = updates.len();
            link.receive(|said| {
                if let Said::Update(update) = said {
                    updates.push(update);
                }
            })
            .await?;
            for update in updates.iter().skip(from) {
                units(update, |client, _, to| {
                    if missing.get(&client).is_some_and(|end| to >= *end) {
                        missing.remove(&client);
                    }
                })?;
            }
        }
        Ok((link, updates))
    };
    let loaded: Result<(Link, Vec<Bytes>)> =
        timeout(LOAD_WITHIN, loading).await.context("a client did not get the whole document")?;
    let (link, updates) = loaded?;
    Ok((link, started.elapsed(), updates))
}
