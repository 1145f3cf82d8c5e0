//! One document that everybody writes to and reads.

use super::Extent;
use crate::board::Board;
use crate::link::{Buffer, Link, LinkReader, LinkWriter};
use crate::meter::{Figures, Meter, OTHERS};
use crate::peer::Target;
use crate::process::Process;
use crate::protocol::Said;
use crate::replica::Replica;
use crate::typing::typed;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

const DOCUMENT: &str = "fan-out";

const READERS: usize = 50;

/// Readers whose updates are kept, so that what they end up with can be built with yrs.
const WITNESSES: usize = 2;

/// After the writers have stopped.
const DRAIN_WITHIN: Duration = Duration::from_secs(20);

/// How writers write.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// 4 writers: so many updates under way, a new one as soon as one has reached everybody.
    Closed { in_flight: usize },
    /// 10 writers: one update each every so many milliseconds.
    Rate { every_ms: u64 },
}

struct Shared {
    board: Board,
    meter: Meter,
    pace: Pace,
    target: Target,
    kept: Vec<Mutex<Vec<Bytes>>>,
}

/// Measures a relay that runs.
pub(crate) async fn run(process: &Process, target: Target, pace: Pace, extent: Extent) -> Result<Figures> {
    let (writers, in_flight) = match pace {
        Pace::Closed { in_flight } => (4, in_flight),
        Pace::Rate { .. } => (10, 0),
    };
    let reports_each = READERS + usize::from(target.protocol.acknowledges());
    let shared = Arc::new(Shared {
        board: Board::new(writers, in_flight, reports_each),
        meter: Meter::new(READERS),
        pace,
        target,
        kept: (0..WITNESSES).map(|_| Mutex::default()).collect(),
    });
    let mut reading = JoinSet::new();
    for reader in 0..READERS {
        let (link, _) = Link::open(&target, DOCUMENT, Buffer::Large).await?;
        reading.spawn(guard(shared.clone(), read(shared.clone(), reader, link)));
    }
    let mut writing = JoinSet::new();
    for writer in 0..writers {
        let (link, _) = Link::open(&target, DOCUMENT, Buffer::Large).await?;
        let (sender, receiver) = link.split(&target, DOCUMENT);
        reading.spawn(guard(shared.clone(), acknowledge(shared.clone(), writer, receiver)));
        writing.spawn(guard(shared.clone(), write(shared.clone(), writer, sender)));
    }
    let measured = shared.meter.measure(process, extent.warm_up(), extent.measure()).await?;
    shared.board.close();
    // Keeps the writers' sockets open until everybody has everything.
    let senders = timeout(DRAIN_WITHIN, writing.join_all()).await.context("a writer does not end")?;
    drain(&shared).await?;
    check(&shared).await?;
    drop(senders);
    reading.shutdown().await;
    Ok(match pace {
        Pace::Closed { .. } => {
            vec![
                ("D/s", measured.per_second),
                ("CPU µs/D", measured.cpu_us_each),
                ("cores", measured.cores),
                (OTHERS, measured.others_cores),
            ]
        }
        Pace::Rate { .. } => vec![
            ("p50 ms", shared.meter.age_ms(0.5)),
            ("p99 ms", shared.meter.age_ms(0.99)),
            ("CPU µs/D", measured.cpu_us_each),
            (OTHERS, measured.others_cores),
        ],
    })
}

async fn guard<T>(shared: Arc<Shared>, task: impl Future<Output = Result<T>>) -> Option<T> {
    task.await.map_err(|error| shared.meter.fail(error)).ok()
}

async fn read(shared: Arc<Shared>, reader: usize, mut link: Link) -> Result<()> {
    let mut seen = shared.board.seen(None);
    let takes_ages = matches!(shared.pace, Pace::Rate { .. });
    loop {
        let mut failure = None;
        link.receive(|said| {
            let Said::Update(update) = said else { return };
            let delivered = shared.board.deliver(&mut seen, &update, |writer, clock, age| {
                shared.board.report(writer, clock);
                if takes_ages {
                    shared.meter.age(reader, age);
                }
            });
            match delivered {
                Ok(count) => shared.meter.add(reader, count),
                Err(error) => failure = Some(error),
            }
            if let Some(kept) = shared.kept.get(reader) {
                // A copy: a slice would keep the whole read buffer.
                kept.lock().push(Bytes::copy_from_slice(&update));
            }
        })
        .await?;
        if let Some(error) = failure {
            return Err(error);
        }
    }
}

/// A writer's own socket: the others' updates are of no interest here, acknowledgements are.
async fn acknowledge(shared: Arc<Shared>, writer: usize, mut link: LinkReader) -> Result<()> {
    let mut acknowledged = 0;
    loop {
        link.receive(|said| {
            if let Said::Acknowledged(through) = said {
                // Push number n has clock n − 1.
                for clock in acknowledged..through {
                    shared.board.report(writer, u32::try_from(clock)?);
                }
                acknowledged = through.max(acknowledged);
            }
            Ok(())
        })
        .await?;
    }
}

async fn write(shared: Arc<Shared>, writer: usize, mut link: LinkWriter) -> Result<LinkWriter> {
    match shared.pace {
        Pace::Closed { .. } => {
            while let Some(count) = shared.board.slots(writer).await {
                for _ in 0..count {
                    link.feed(letter(&shared.board, writer)).await?;
                }
                link.flush().await?;
            }
        }
        Pace::Rate { every_ms } => {
            let every = Duration::from_millis(every_ms);
            let phase = every.mul_f64(fastrand::f64());
            let mut ticks = interval_at(Instant::now() + phase, every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while !shared.board.is_closed(writer) {
                ticks.tick().await;
                link.feed(letter(&shared.board, writer)).await?;
                link.flush().await?;
            }
        }
    }
    Ok(link)
}

fn letter(board: &Board, writer: usize) -> Vec<u8> {
    let clock = board.sending(writer);
    typed(Board::client(writer), clock, "x")
}

async fn drain(shared: &Shared) -> Result<()> {
    let deadline = Instant::now() + DRAIN_WITHIN;
    let expected = shared.board.sent_all() * READERS as u64;
    while shared.meter.delivered() < expected {
        shared.meter.check()?;
        if Instant::now() > deadline {
            let missing = expected - shared.meter.delivered();
            bail!("{missing} of {expected} deliveries never came");
        }
        sleep(Duration::from_millis(20)).await;
    }
    if shared.board.gaps() > 0 {
        bail!("{} units came behind later ones", shared.board.gaps());
    }
    Ok(())
}

/// What the witnesses built from their updates is what somebody gets who comes now.
async fn check(shared: &Shared) -> Result<()> {
    if !shared.target.peer.has_documents() {
        return Ok(());
    }
    let (_link, updates) = Link::open(&shared.target, DOCUMENT, Buffer::Large).await?;
    let mut newcomer = Replica::new();
    newcomer.apply_all(updates.iter().map(|update| &**update))?;
    let expected = newcomer.text();
    if expected.len() as u64 != shared.board.sent_all() {
        bail!("a newcomer gets {} of {} characters", expected.len(), shared.board.sent_all());
    }
    for kept in &shared.kept {
        let mut witness = Replica::new();
        witness.apply_all(kept.lock().iter().map(|update| &**update))?;
        if witness.text() != expected {
            bail!("two replicas differ");
        }
    }
    Ok(())
}
