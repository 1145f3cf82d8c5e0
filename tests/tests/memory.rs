//! The relay may take little memory, and more is sent than fits: it may die of it, and nothing that was acknowledged does.
//! `TIDEWELL_MEMORY_ROUNDS` sets how often, `TIDEWELL_FLOOD_MB` how much is sent each time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tidewell_client::yrs::{Doc, Text, Transact, WriteTxn};
use tidewell_client::{Client, Document, Options, Store};
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::limits::{FRAME_BYTES_MAX, MESSAGE_BYTES_MAX};
use tidewell_sync_core::protocol::{ClientMessage, RelayMessage, split};
use tidewell_sync_core::replica::new_doc;
use tidewell_tests::proxy::{Fault, Proxy};
use tidewell_tests::raw::{TidewellSocket, fetch};
use tidewell_tests::record::{Promise, Proof, Record};
use tidewell_tests::relay::{PATIENCE, Relay};
use tidewell_tests::seed::amount;
use tidewell_tests::usage::{Usage, megabytes};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

/// Address space of the relay: it runs well in it, with threads and a store, while nobody exaggerates.
const MEMORY_KIB: u64 = 512 << 10;

/// More floods than asked for, at most, until the relay has died of one.
const ROUNDS_MORE: u64 = 10;

/// Those who write large updates, each into a document of its own.
const WRITERS: u64 = 4;
const UPDATE_BYTES: usize = 1 << 20;

fn name(text: &str) -> DocumentName {
    DocumentName::parse(text).unwrap()
}

fn large_update(doc: &Doc) -> Bytes {
    let mut transaction = doc.transact_mut();
    let text = transaction.get_or_insert_text("t");
    text.insert(&mut transaction, 0, &"x".repeat(UPDATE_BYTES));
    transaction.encode_update_v1().into()
}

/// Pushes large updates, and notes each acknowledgement.
async fn write(address: SocketAddr, document: DocumentName, record: Arc<Record>) -> anyhow::Result<()> {
    let doc = new_doc(7);
    let mut socket = TidewellSocket::connect(address).await?;
    socket.open(1, &document).await?;
    for number in 1.. {
        let update = large_update(&doc);
        let mut push = Vec::new();
        ClientMessage::Push { channel: 1, number, update: update.clone() }.write(&mut push);
        for frame in split(push.into(), FRAME_BYTES_MAX) {
            socket.socket().send(Message::Binary(frame)).await?;
        }
        while !matches!(socket.next().await?, RelayMessage::Ack { number: last, .. } if last == number) {}
        record.note(&document, Proof::Acknowledged, Promise::Update(update));
    }
    Ok(())
}

/// Sends the largest message but for its end, and waits.
async fn flood(address: SocketAddr) -> anyhow::Result<()> {
    let mut socket = TidewellSocket::connect(address).await?;
    socket.next().await?;
    let fragment: Bytes = [&[0, 1][..], &vec![7; FRAME_BYTES_MAX - 2]].concat().into();
    for _ in 0..MESSAGE_BYTES_MAX / FRAME_BYTES_MAX {
        socket.socket().send(Message::Binary(fragment.clone())).await?;
    }
    socket.next().await?;
    Ok(())
}

async fn type_and_save(document: &Document, record: &Record, word: &str) {
    document.insert_text("t", 0, word).await.unwrap();
    timeout(PATIENCE, document.saved_relay()).await.expect("the relay is back").unwrap();
    record.note(&name(document.name()), Proof::Acknowledged, Promise::Text(word.to_owned()));
}

/// True when the relay has died, which may take it a while; false when it answers.
async fn dies(relay: &mut Relay) -> bool {
    let told = async {
        while relay.is_running() {
            if relay.figure("tidewell_rooms").await.is_ok() {
                return false;
            }
            sleep(Duration::from_millis(50)).await;
        }
        true
    };
    timeout(PATIENCE, told).await.expect("it dies or answers")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_acknowledged_survives_a_lack_of_memory() {
    let (rounds, megabytes_sent) = (amount("TIDEWELL_MEMORY_ROUNDS", 1), amount("TIDEWELL_FLOOD_MB", 1_000));
    let data = tempfile::tempdir().unwrap();
    let start = async || {
        // Address space that the allocator and idle threads set aside would be most of it where there are many cores.
        let frugal = "export MALLOC_ARENA_MAX=2 TOKIO_WORKER_THREADS=2";
        let limited = format!("{frugal}; ulimit -v {MEMORY_KIB}; ulimit -c 0");
        // It does not know: on a machine that has as little it would send somebody away in time.
        Relay::start_after(&limited, data.path(), &["--memory-max", "1024G"]).await.unwrap()
    };
    let mut relay = start().await;
    let proxy = Proxy::start(Some(relay.address())).await.unwrap();
    let options = Options::new(format!("ws://{}/v1/sync", proxy.address()), Store::Memory);
    let client = Client::open(options).await.unwrap();
    let typed = client.document("memory/typed").await.unwrap();
    let record = Arc::new(Record::default());
    let (mut round, mut deaths, mut looked_for) = (0, 0, 0);
    while round < rounds || deaths == 0 && round < rounds + ROUNDS_MORE {
        type_and_save(&typed, &record, &format!("[before {round}]")).await;
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let document = name(&format!("memory/{round}/{writer}"));
            writers.spawn(write(relay.address(), document, record.clone()));
        }
        let mut more = record.count();
        let until = *more.borrow() + WRITERS;
        timeout(PATIENCE, more.wait_for(|count| *count >= until)).await.expect("they write").unwrap();
        let mut flooding = JoinSet::new();
        for _ in 0..megabytes_sent.div_ceil(MESSAGE_BYTES_MAX as u64 >> 20) {
            let address = relay.address();
            flooding.spawn(async move { timeout(PATIENCE, flood(address)).await });
        }
        typed.insert_text("t", 0, &format!("[meanwhile {round}]")).await.unwrap();
        let peak = Usage::of(&relay).map_or(0, |usage| usage.peak_bytes);
        while flooding.join_next().await.is_some() {}
        let is_dead = dies(&mut relay).await;
        println!(
            "round {round}: {:.0} MB resident when the flood began, it died: {is_dead}",
            megabytes(peak)
        );
        deaths += u64::from(is_dead);
        proxy.apply(Fault::Target { address: None });
        relay.kill().await.unwrap();
        writers.shutdown().await;
        relay = start().await;
        let verified = record.verify(relay.address(), false).await;
        looked_for += verified.unwrap_or_else(|error| panic!("after round {round}: {error:.300}"));
        proxy.apply(Fault::Target { address: Some(relay.address()) });
        timeout(PATIENCE, typed.saved_relay()).await.expect("the relay is back").unwrap();
        record.note(&name(typed.name()), Proof::Acknowledged, Promise::Text(format!("[meanwhile {round}]")));
        round += 1;
    }
    println!("{deaths} deaths in {round} floods; looked for {looked_for} promises");
    assert!(deaths > 0, "it has never died of a lack of memory");
    assert!(looked_for as u64 >= round * WRITERS);
    // All of it at once is more than the limited one has room for.
    relay.kill().await.unwrap();
    let relay = Relay::start(data.path()).await.unwrap();
    record.verify(relay.address(), true).await.unwrap();
    let stored = fetch(relay.address(), &name("memory/typed")).await.unwrap().text().unwrap();
    assert_eq!(typed.text("t").await.unwrap(), stored);
}
