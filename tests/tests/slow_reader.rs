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
use tokio::sync::{oneshot, watch};
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

/// A reader that joins, then (if it is told to stall) reads nothing until it may go on.
struct Reader {
    until: watch::Sender<u32>,
    ended: JoinHandle<anyhow::Result<(Admitted, Vec<Duration>)>>,
}

async fn read(relay: &Relay, client: u64, sent: Arc<Sent>, go_on: Option<oneshot::Receiver<()>>) -> Reader {
    let mut socket = TidewellSocket::connect(relay.address()).await.unwrap();
    socket.open(0, &name()).await.unwrap();
    while !matches!(socket.next().await.unwrap(), RelayMessage::Opened { .. }) {}
    let (until, goal) = watch::channel(u32::MAX);
    let ended = tokio::spawn(async move {
        if let Some(go_on) = go_on {
            go_on.await?;
        }
        read_to_end(socket, client, &sent, goal).await
    });
    Reader { until, ended }
}

/// Reads until everything up to the goal is there; answers how long each commit took to arrive.
async fn read_to_end(
    mut socket: TidewellSocket,
    client: u64,
    sent: &Sent,
    mut goal: watch::Receiver<u32>,
) -> anyhow::Result<(Admitted, Vec<Duration>)> {
    let (mut admitted, mut latencies) = (Admitted::new(), Vec::new());
    loop {
        let known = admitted.clock(client);
        if known >= *goal.borrow_and_update() {
            return Ok((admitted, latencies));
        }
        let message = tokio::select! {
            message = socket.next() => message?,
            _ = goal.changed() => continue,
        };
        match message {
            RelayMessage::Updates { updates, .. } => {
                for update in updates {
                    if !admitted.admit(&update)?.is_complete() {
                        bail!("an update was skipped");
                    }
                }
                let at = sent.0.lock().unwrap().get(&admitted.clock(client)).copied();
                latencies.extend(at.map(|at| at.elapsed()));
            }
            RelayMessage::Refused { code, .. } | RelayMessage::Error { code, .. } => bail!("{code}"),
            _ => {}
        }
    }
}

fn p99(mut latencies: Vec<Duration>) -> Duration {
    latencies.sort_unstable();
    latencies.get(latencies.len() * 99 / 100).copied().unwrap_or_default()
}

/// Writes under the eyes of fast readers; answers the largest size of the relay and the readers' p99.
async fn load(relay: &Relay, writer: &mut Writer, rounds: u64) -> (u64, Duration) {
    let mut readers = Vec::new();
    for _ in 0..FAST_READERS {
        readers.push(read(relay, writer.client, writer.sent.clone(), None).await);
    }
    let mut resident = 0;
    for _ in 0..rounds {
        let Writer { socket, doc, number, sent, .. } = writer;
        timeout(PATIENCE, write(socket, doc, number, 100, sent)).await.expect("the relay goes on").unwrap();
        resident = resident.max(relay.resident_bytes().unwrap());
    }
    let goal = u32::try_from(writer.number * PAYLOAD_BYTES as u64).unwrap();
    let mut latencies = Vec::new();
    for reader in readers {
        reader.until.send_replace(goal);
        let ended = timeout(PATIENCE, reader.ended).await.expect("a fast reader gets everything");
        latencies.extend(ended.unwrap().unwrap().1);
    }
    (resident, p99(latencies))
}

struct Writer {
    socket: TidewellSocket,
    doc: Doc,
    client: u64,
    number: u64,
    sent: Arc<Sent>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_reading_costs_the_relay_little_and_misses_nothing() {
    let rounds = amount("TIDEWELL_STALL_UPDATES", 8_000).div_ceil(100);
    let data = tempfile::tempdir().unwrap();
    let relay = Relay::start(data.path()).await.unwrap();
    let mut socket = TidewellSocket::connect(relay.address()).await.unwrap();
    socket.open(0, &name()).await.unwrap();
    let client = 4711;
    let mut writer = Writer { socket, doc: new_doc(client), client, number: 0, sent: Arc::default() };

    let (before, p99_before) = load(&relay, &mut writer, rounds).await;
    let (go_on, told) = oneshot::channel();
    let slow = read(&relay, client, writer.sent.clone(), Some(told)).await;
    let start = Instant::now();
    let (during, p99_during) = load(&relay, &mut writer, rounds).await;
    let stalled = start.elapsed();
    let goal = u32::try_from(writer.number * PAYLOAD_BYTES as u64).unwrap();
    slow.until.send_replace(goal);
    go_on.send(()).unwrap();
    let (known, _) =
        timeout(PATIENCE, slow.ended).await.expect("the slow reader catches up").unwrap().unwrap();
    let fetched = fetch(relay.address(), &name()).await.unwrap();
    assert_eq!(known.state_vector(), fetched.admitted.state_vector());
    println!(
        "stalled for {stalled:.1?} and {} MB; relay {} MB before, {} MB at most during; p99 {p99_before:.1?} before, \
         {p99_during:.1?} during",
        (rounds * 100 * PAYLOAD_BYTES as u64) >> 20,
        before >> 20,
        during >> 20,
    );
    let growth = during.saturating_sub(before);
    assert!(growth <= GROWTH_BYTES_MAX, "the relay grew by {growth} bytes");
}
