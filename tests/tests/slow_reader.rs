//! A reader that stops reading costs the relay next to nothing, and misses nothing.
//! `TIDEWELL_STALL_UPDATES` sets how much is written meanwhile (of 4 kB each).

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
use tokio::time::timeout;

const PAYLOAD_BYTES: usize = 4096;
/// Pushes on their way at once.
const WINDOW: u64 = 16;
const FAST_READERS: usize = 4;
/// How much the relay may grow for one reader that stalls.
const GROWTH_BYTES_MAX: u64 = 16 << 20;

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
    let mut resident = 0;
    for _ in 0..rounds {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_reading_costs_the_relay_little_and_misses_nothing() {
    let rounds = amount("TIDEWELL_STALL_UPDATES", 4_000).div_ceil(100);
    let data = tempfile::tempdir().unwrap();
    let relay = Relay::start(data.path()).await.unwrap();
    let mut socket = TidewellSocket::connect(relay.address()).await.unwrap();
    socket.open(0, &name()).await.unwrap();
    let client = 4711;
    let mut writer = Writer { socket, doc: new_doc(client), number: 0, sent: Arc::default() };

    let mut readers = Vec::new();
    for _ in 0..=FAST_READERS {
        readers.push(start_reader(&relay, client, writer.sent.clone()).await);
    }
    let slow = readers.pop().unwrap();

    let before = load(&relay, &mut writer, rounds).await;
    let p99_before = take_p99(&readers);
    slow.stall.send_replace(true);
    let start = Instant::now();
    let during = load(&relay, &mut writer, rounds).await;
    let (stalled, p99_during) = (start.elapsed(), take_p99(&readers));
    let goal = u32::try_from(writer.number * PAYLOAD_BYTES as u64).unwrap();
    slow.stall.send_replace(false);
    let start = Instant::now();
    let fetched = fetch(relay.address(), &name()).await.unwrap();
    for reader in std::iter::once(slow).chain(readers) {
        reader.goal.send_replace(goal);
        let known = timeout(PATIENCE, reader.ended).await.expect("everybody gets everything");
        assert_eq!(known.unwrap().unwrap().state_vector(), fetched.admitted.state_vector());
    }
    let megabytes = |bytes: u64| bytes >> 20;
    println!(
        "stalled for {stalled:.1?} and {} MB, caught up in {:.1?}; relay {} MB before, {} MB at most during, {} MB \
         after; p99 of the others {p99_before:.1?} before, {p99_during:.1?} during",
        megabytes(rounds * 100 * PAYLOAD_BYTES as u64),
        start.elapsed(),
        megabytes(before),
        megabytes(during),
        megabytes(relay.resident_bytes().unwrap()),
    );
    let growth = during.saturating_sub(before);
    assert!(growth <= GROWTH_BYTES_MAX, "the relay grew by {growth} bytes");
}
