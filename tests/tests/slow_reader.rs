//! A reader that stops reading costs the relay next to nothing, and misses nothing.
//! `TIDEWELL_STALL_UPDATES` sets how much is written meanwhile (of 4 kB each), `TIDEWELL_STALL_SECONDS` over how long;
//! otherwise it is as fast as it can be.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

use anyhow::bail;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tidewell_client::yrs::{Doc, Text, Transact, WriteTxn};
use tidewell_sync_core::admission::Admitted;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::protocol::{ClientMessage, RelayMessage};
use tidewell_sync_core::replica::new_doc;
use tidewell_tests::raw::{TidewellSocket, fetch};
use tidewell_tests::relay::{PATIENCE, Relay};
use tidewell_tests::seed::amount;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep, timeout};

const PAYLOAD_BYTES: usize = 4096;
/// Pushes on their way at once.
const WINDOW: u64 = 16;
const FAST_READERS: usize = 4;
/// Readers that stall. Several, so that what they cost stands out.
const SLOW_READERS: usize = 8;
/// Who reads nothing for longer is taken for gone after 100 s: on a busy machine the load takes longer than that.
const STALL_MAX: Duration = Duration::from_secs(75);
/// How much the relay may grow for one reader that stalls: less than half of what it leaves unread.
const COST_BYTES_MAX: u64 = 6 << 20;

/// When each update was sent: readers see them in the same order, as bytes of the log.
#[derive(Default)]
struct Sent(Mutex<HashMap<u32, Instant>>);

fn name() -> DocumentName {
    DocumentName::parse("acme/busy").unwrap()
}

/// Pushes `count` updates, as fast as the relay acknowledges them.
async fn write(
    socket: &mut TidewellSocket,
    doc: &Doc,
    number: &mut u64,
    count: u64,
    sent: &Sent,
) -> anyhow::Result<()> {
    let last = *number + count;
    let mut acknowledged = *number;
    while acknowledged < last {
        if *number < last && *number - acknowledged < WINDOW {
            *number += 1;
            let (update, clock) = push_text(doc);
            sent.0.lock().unwrap().insert(clock, Instant::now());
            socket.say(&ClientMessage::Push { channel: 0, number: *number, update }).await?;
        } else if let RelayMessage::Ack { number, .. } = socket.next().await? {
            acknowledged = number;
        }
    }
    Ok(())
}

/// An update of one item, and the clock after it.
fn push_text(doc: &Doc) -> (Bytes, u32) {
    let mut transaction = doc.transact_mut();
    let text = transaction.get_or_insert_text("t");
    let payload = "x".repeat(PAYLOAD_BYTES);
    text.insert(&mut transaction, 0, &payload);
    let clock = text.len(&transaction);
    (transaction.encode_update_v1().into(), clock)
}

/// A reader, and how it is told what to do.
struct Reader {
    /// Reads nothing while this is true.
    stall: watch::Sender<bool>,
    /// It ends once it has so much.
    goal: watch::Sender<u32>,
    /// How long each commit took to arrive.
    latencies: Arc<Mutex<Vec<Duration>>>,
    ended: JoinHandle<anyhow::Result<Admitted>>,
}

async fn start_reader(relay: &Relay, client: u64, sent: Arc<Sent>) -> Reader {
    let mut socket = TidewellSocket::connect(relay.address()).await.unwrap();
    socket.open(0, &name()).await.unwrap();
    while !matches!(socket.next().await.unwrap(), RelayMessage::Opened { .. }) {}
    let (stall, stalled) = watch::channel(false);
    let (goal, until) = watch::channel(u32::MAX);
    let latencies = Arc::new(Mutex::new(Vec::new()));
    let noted = latencies.clone();
    let ended = tokio::spawn(async move {
        let note = |clock| {
            let at = sent.0.lock().unwrap().get(&clock).copied();
            noted.lock().unwrap().extend(at.map(|at| at.elapsed()));
        };
        read_to_end(socket, client, stalled, until, note).await
    });
    Reader { stall, goal, latencies, ended }
}

/// Reads until everything up to the goal is there, except while it is to stall.
async fn read_to_end(
    mut socket: TidewellSocket,
    client: u64,
    mut stalled: watch::Receiver<bool>,
    mut goal: watch::Receiver<u32>,
    note: impl Fn(u32),
) -> anyhow::Result<Admitted> {
    let mut admitted = Admitted::new();
    while admitted.clock(client) < *goal.borrow_and_update() {
        stalled.wait_for(|stalled| !stalled).await?;
        let message = tokio::select! {
            biased;
            _ = stalled.changed() => continue,
            _ = goal.changed() => continue,
            message = socket.next() => message?,
        };
        match message {
            RelayMessage::Updates { updates, .. } => {
                for update in updates {
                    if !admitted.admit(&update)?.is_complete() {
                        bail!("an update was skipped");
                    }
                }
                note(admitted.clock(client));
            }
            RelayMessage::Refused { code, .. } | RelayMessage::Error { code, .. } => bail!("{code}"),
            _ => {}
        }
    }
    Ok(admitted)
}

fn p99(mut latencies: Vec<Duration>) -> Duration {
    latencies.sort_unstable();
    latencies.get(latencies.len() * 99 / 100).copied().unwrap_or_default()
}

/// Writes; answers the largest size of the relay meanwhile.
async fn load(relay: &Relay, writer: &mut Writer, rounds: u64) -> u64 {
    let seconds = amount("TIDEWELL_STALL_SECONDS", 0);
    let round = Duration::from_secs(seconds).div_f64(rounds as f64);
    let mut pace = interval(round.max(Duration::from_nanos(1)));
    let mut resident = 0;
    for _ in 0..rounds {
        pace.tick().await;
        let Writer { socket, doc, number, sent, .. } = writer;
        timeout(PATIENCE, write(socket, doc, number, 100, sent)).await.expect("the relay goes on").unwrap();
        resident = resident.max(relay.resident_bytes().unwrap());
    }
    resident
}

fn take_p99(readers: &[Reader]) -> Duration {
    p99(readers.iter().flat_map(|reader| std::mem::take(&mut *reader.latencies.lock().unwrap())).collect())
}

struct Writer {
    socket: TidewellSocket,
    doc: Doc,
    number: u64,
    sent: Arc<Sent>,
}

/// Whether some of the readers stop reading in the second half of the load.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stall {
    Yes,
    No,
}

struct Figures {
    /// How much the relay's largest resident memory grew from the first half of the load to the second.
    growth: u64,
    stalled: Duration,
    p99_before: Duration,
    p99_during: Duration,
}

/// Loads a new relay twice with the same amount; everybody must have everything in the end.
async fn measure(rounds: u64, stall: Stall) -> Figures {
    let data = tempfile::tempdir().unwrap();
    // A materializer that dies has the document quarantined at the first try. Compaction reads the whole
    // document, which takes far more than what is measured here, and at any time.
    let relay = Relay::start_with(data.path(), &["--materializer", "false"]).await.unwrap();
    let mut socket = TidewellSocket::connect(relay.address()).await.unwrap();
    socket.open(0, &name()).await.unwrap();
    let client = 4711;
    let mut writer = Writer { socket, doc: new_doc(client), number: 0, sent: Arc::default() };

    let mut readers = Vec::new();
    for _ in 0..FAST_READERS + SLOW_READERS {
        readers.push(start_reader(&relay, client, writer.sent.clone()).await);
    }
    let slow = readers.split_off(FAST_READERS);

    let before = load(&relay, &mut writer, rounds).await;
    let p99_before = take_p99(&readers);
    for reader in &slow {
        reader.stall.send_replace(stall == Stall::Yes);
    }
    let start = Instant::now();
    let stalls: Vec<_> = slow.iter().map(|reader| reader.stall.clone()).collect();
    let release = tokio::spawn(async move {
        sleep(STALL_MAX).await;
        for stall in stalls {
            stall.send_replace(false);
        }
    });
    let during = load(&relay, &mut writer, rounds).await;
    let (stalled, p99_during) = (start.elapsed().min(STALL_MAX), take_p99(&readers));
    let goal = u32::try_from(writer.number * PAYLOAD_BYTES as u64).unwrap();
    release.abort();
    for reader in &slow {
        reader.stall.send_replace(false);
    }
    let fetched = fetch(relay.address(), &name()).await.unwrap();
    for reader in slow.into_iter().chain(readers) {
        reader.goal.send_replace(goal);
        let known = timeout(PATIENCE, reader.ended).await.expect("everybody gets everything");
        assert_eq!(known.unwrap().unwrap().state_vector(), fetched.admitted.state_vector());
    }
    Figures { growth: during.saturating_sub(before), stalled, p99_before, p99_during }
}

/// The relay's memory grows with the load too, so what the readers cost is the difference to the same load
/// without a stall.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_stop_reading_cost_the_relay_little_and_miss_nothing() {
    let rounds = amount("TIDEWELL_STALL_UPDATES", 4_000).div_ceil(100);
    let control = measure(rounds, Stall::No).await;
    let Figures { growth, stalled, p99_before, p99_during } = measure(rounds, Stall::Yes).await;
    let megabytes = |bytes: u64| bytes >> 20;
    println!(
        "{SLOW_READERS} stalled for {stalled:.1?} and {} MB each; the relay grew by {} MB, without a stall by {} MB; p99 of the others \
         {p99_before:.1?} before, {p99_during:.1?} during",
        megabytes(rounds * 100 * PAYLOAD_BYTES as u64),
        megabytes(growth),
        megabytes(control.growth),
    );
    let cost = growth.saturating_sub(control.growth) / SLOW_READERS as u64;
    assert!(cost <= COST_BYTES_MAX, "a reader cost the relay {cost} bytes");
}
