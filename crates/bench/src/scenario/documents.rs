//! Many documents with little traffic each.

use super::Extent;
use crate::board::{Board, Seen};
use crate::link::{Buffer, Link};
use crate::meter::{Figures, Meter, OTHERS};
use crate::peer::Target;
use crate::process::Process;
use crate::protocol::Said;
use crate::replica::Replica;
use crate::typing::typed;
use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use futures_util::stream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

/// Clients of a document.
const CLIENTS: usize = 2;

/// Time between two updates of a client.
const EVERY: Duration = Duration::from_millis(500);

/// Connections that are opened at once.
const OPENING_MAX: usize = 32;

/// Documents that are looked at at the end.
const CHECKED: usize = 10;

/// After the writers have stopped. Hocuspocus stores all documents then.
const DRAIN_WITHIN: Duration = Duration::from_secs(30);

struct Shared {
    boards: Vec<Board>,
    meter: Meter,
    is_writing: AtomicBool,
}

/// Measures a relay that runs.
pub(crate) async fn run(process: &Process, target: Target, extent: Extent) -> Result<Figures> {
    let documents = extent.choose(2_000, 200);
    let shared = Arc::new(Shared {
        boards: (0..documents).map(|_| Board::new(CLIENTS, 0, usize::MAX)).collect(),
        meter: Meter::new(documents * CLIENTS),
        is_writing: AtomicBool::new(true),
    });
    let mut clients = JoinSet::new();
    for (document, client, link) in open_all(target, documents).await? {
        let shared = shared.clone();
        clients.spawn(async move {
            if let Err(error) = take_part(&shared, document, client, link).await {
                shared.meter.fail(error);
            }
        });
    }
    let measured = shared.meter.measure(process, extent.warm_up() + EVERY, extent.measure()).await?;
    shared.is_writing.store(false, Ordering::Relaxed);
    drain(&shared).await?;
    check(&shared, &target).await?;
    clients.shutdown().await;
    Ok(vec![
        ("p50 ms", shared.meter.age_ms(0.5)),
        ("p99 ms", shared.meter.age_ms(0.99)),
        ("CPU µs/D", measured.cpu_us_each),
        ("RSS MB", measured.resident_mb),
        (OTHERS, measured.others_cores),
    ])
}

fn name(document: usize) -> String {
    format!("document-{document}")
}

/// A document's clients come one after the other: y-sweet refuses one of two that come first together.
async fn open_all(target: Target, documents: usize) -> Result<Vec<(usize, usize, Link)>> {
    let opening = stream::iter(0..documents).map(|document| async move {
        let mut links = Vec::with_capacity(CLIENTS);
        for client in 0..CLIENTS {
            let (link, _) = Link::open(&target, &name(document), Buffer::Small)
                .await
                .with_context(|| format!("opening document {document}"))?;
            links.push((document, client, link));
        }
        Ok(links)
    });
    let opened: Vec<Result<Vec<_>>> = opening.buffer_unordered(OPENING_MAX).collect().await;
    Ok(opened.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

async fn take_part(shared: &Shared, document: usize, client: usize, mut link: Link) -> Result<()> {
    let Some(board) = shared.boards.get(document) else { return Ok(()) };
    let mut seen = board.seen(Some(client));
    let mut ticks = interval_at(Instant::now() + EVERY.mul_f64(fastrand::f64()), EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut failure = None;
        tokio::select! {
            _ = ticks.tick(), if shared.is_writing.load(Ordering::Relaxed) => {
                // It may have ended while this waited, and the others may have counted what was sent.
                if !shared.is_writing.load(Ordering::Relaxed) {
                    continue;
                }
                let clock = board.sending(client);
                link.push(typed(Board::client(client), clock, "x")).await?;
            }
            received = link.receive(|said| {
                if let Said::Update(update) = said
                    && let Err(error) = take(shared, board, &mut seen, (document, client), &update)
                {
                    failure = Some(error);
                }
            }) => received?,
        }
        if let Some(error) = failure {
            return Err(error);
        }
    }
}

/// y-websocket sends a writer its own updates, too: they do not count.
fn take(
    shared: &Shared,
    board: &Board,
    seen: &mut Seen,
    (document, client): (usize, usize),
    update: &[u8],
) -> Result<()> {
    let reader = document * CLIENTS + client;
    let mut others = 0;
    board.deliver(seen, update, |writer, _, age| {
        if writer != client {
            others += 1;
            shared.meter.age(reader, age);
        }
    })?;
    shared.meter.add(reader, others);
    Ok(())
}

async fn drain(shared: &Shared) -> Result<()> {
    let deadline = Instant::now() + DRAIN_WITHIN;
    loop {
        shared.meter.check()?;
        let expected: u64 = shared.boards.iter().map(Board::sent_all).sum();
        let missing = expected.saturating_sub(shared.meter.delivered());
        if missing == 0 {
            break;
        }
        if Instant::now() > deadline {
            bail!("{missing} of {expected} deliveries never came");
        }
        sleep(Duration::from_millis(50)).await;
    }
    let gaps: u64 = shared.boards.iter().map(Board::gaps).sum();
    if gaps > 0 {
        bail!("{gaps} units came behind later ones");
    }
    Ok(())
}

/// Somebody who comes now gets what was sent.
async fn check(shared: &Shared, target: &Target) -> Result<()> {
    if !target.peer.has_documents() {
        return Ok(());
    }
    for (document, board) in shared.boards.iter().enumerate().take(CHECKED) {
        let (_link, updates) = Link::open(target, &name(document), Buffer::Small).await?;
        let mut newcomer = Replica::new();
        newcomer.apply_all(updates.iter().map(|update| &**update))?;
        let (got, sent) = (newcomer.text().len() as u64, board.sent_all());
        if got != sent {
            bail!("a newcomer to document {document} gets {got} of {sent} characters");
        }
    }
    Ok(())
}
