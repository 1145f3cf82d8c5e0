//! The relay is killed with -9, again and again, while many write and read. `TIDEWELL_KILLS` and
//! `TIDEWELL_LARGE_KILLS` set how often.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use tidewell_client::yrs::{Array, Doc, Map, Text, Transact, WriteTxn};
use tidewell_client::{Client, Document, Options, Store};
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::protocol::{ClientMessage, RelayMessage};
use tidewell_sync_core::replica::new_doc;
use tidewell_sync_core::y_protocol::YMessage;
use tidewell_tests::proxy::{Fault, Proxy};
use tidewell_tests::raw::{StockSocket, TidewellSocket, fetch};
use tidewell_tests::record::{Promise, Proof, Record};
use tidewell_tests::relay::{PATIENCE, Relay};
use tidewell_tests::seed::{amount, generator, seed};
use tokio::sync::{Barrier, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

const DOCUMENTS: usize = 3;
const NATIVE_WRITERS: u64 = 3;
const RAW_WRITERS: u64 = 2;
/// Of the large updates, each in a document of its own: they share commits.
const LARGE_WRITERS: usize = 6;
const LARGE_BYTES: usize = 900 << 10;

fn documents() -> Vec<DocumentName> {
    (0..DOCUMENTS).map(|index| DocumentName::parse(&format!("acme/{index}")).unwrap()).collect()
}

/// What every participant of a run has.
#[derive(Clone)]
struct Run {
    record: Arc<Record>,
    stop: watch::Receiver<bool>,
    proxy: Arc<Proxy>,
}

impl Run {
    fn is_over(&self) -> bool {
        *self.stop.borrow()
    }

    /// Does `work` unless the run ends first.
    async fn unless_over<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut stop = self.stop.clone();
        tokio::select! {
            result = work => Some(result),
            _ = stop.wait_for(|stop| *stop) => None,
        }
    }
}

/// A native client when the run is over.
struct Native {
    documents: Vec<Document>,
    /// What it inserted, and into which document.
    made: Vec<(usize, String)>,
}

/// A native client that types, waits for the relay, and notes what it was promised.
async fn native_writer(run: Run, number: u64, mut random: StdRng) -> Native {
    let url = format!("ws://{}/v1/sync", run.proxy.address());
    let client = Client::open(Options::new(url, Store::Memory)).await.unwrap();
    let mut opened = Vec::new();
    for name in documents() {
        opened.push(client.document(name.as_str()).await.unwrap());
    }
    let mut made = Vec::new();
    let mut unsaved: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    while !run.is_over() {
        let index = random.random_range(0..DOCUMENTS);
        for _ in 0..random.random_range(1..8) {
            let token = format!("[{number}-{}]", made.len());
            write_natively(&opened[index], &token, random.random()).await;
            unsaved.entry(index).or_default().push(token.clone());
            made.push((index, token));
        }
        if let Some(saved) = run.unless_over(opened[index].saved_relay()).await {
            saved.unwrap();
            let name = DocumentName::parse(opened[index].name()).unwrap();
            for token in unsaved.remove(&index).unwrap_or_default() {
                run.record.note(&name, Proof::Acknowledged, Promise::Text(token));
            }
        }
    }
    Native { documents: opened, made }
}

async fn write_natively(document: &Document, token: &str, random: u64) {
    let token = token.to_owned();
    let edit = document.edit(move |transaction| {
        let text = transaction.get_or_insert_text("t");
        let position = if random.is_multiple_of(3) { 0 } else { text.len(transaction) };
        text.insert(transaction, position, &token);
        if random.is_multiple_of(5) {
            transaction.get_or_insert_map("m").insert(transaction, format!("k{}", random % 7), token);
        } else if random % 5 == 1 {
            transaction.get_or_insert_array("a").push_back(transaction, token);
        }
    });
    edit.await.unwrap();
}

/// A raw writer's document and what was not acknowledged of it.
struct RawWriter {
    doc: Doc,
    unacknowledged: VecDeque<(u64, Bytes)>,
    pushes: u64,
}

impl RawWriter {
    fn edit(&self, random: u64) -> Bytes {
        let mut transaction = self.doc.transact_mut();
        let text = transaction.get_or_insert_text("raw");
        let length = text.len(&transaction);
        if length > 4 && random.is_multiple_of(4) {
            text.remove_range(&mut transaction, (random % u64::from(length - 2)) as u32, 2);
        } else {
            text.insert(&mut transaction, (random % u64::from(length + 1)) as u32, "raw");
        }
        transaction.encode_update_v1().into()
    }

    async fn push(&mut self, socket: &mut TidewellSocket, update: Bytes) -> anyhow::Result<()> {
        self.pushes += 1;
        let number = self.pushes;
        self.unacknowledged.push_back((number, update.clone()));
        socket.say(&ClientMessage::Push { channel: 7, number, update }).await
    }
}

/// Pushes updates by itself and notes each acknowledgement as it comes over the wire.
async fn raw_writer(run: Run, document: DocumentName, mut random: StdRng) {
    let mut writer = RawWriter { doc: new_doc(random.random()), unacknowledged: VecDeque::new(), pushes: 0 };
    while !run.is_over() {
        // A connection that breaks is what this test is about.
        let session = write_raw(&run, &mut writer, &document, &mut random);
        let _ = run.unless_over(session).await;
        tokio::task::yield_now().await;
    }
}

async fn write_raw(
    run: &Run,
    writer: &mut RawWriter,
    document: &DocumentName,
    random: &mut StdRng,
) -> anyhow::Result<()> {
    let mut socket = TidewellSocket::connect(run.proxy.address()).await?;
    socket.open(7, document).await?;
    writer.pushes = 0;
    for (_, update) in std::mem::take(&mut writer.unacknowledged) {
        writer.push(&mut socket, update).await?;
    }
    loop {
        if writer.unacknowledged.len() < 4 {
            let update = writer.edit(random.random());
            writer.push(&mut socket, update).await?;
            continue;
        }
        match socket.next().await? {
            RelayMessage::Ack { number, .. } => {
                while let Some((pushed, update)) = writer.unacknowledged.front()
                    && *pushed <= number
                {
                    run.record.note(document, Proof::Acknowledged, Promise::Update(update.clone()));
                    writer.unacknowledged.pop_front();
                }
            }
            RelayMessage::Updates { updates, .. } => {
                for update in updates {
                    run.record.note(document, Proof::Received, Promise::Update(update));
                }
            }
            RelayMessage::Refused { code, .. } => panic!("a push was refused: {code}"),
            _ => {}
        }
    }
}

/// Reads at the y-websocket door and notes each update as it comes over the wire.
async fn stock_reader(run: Run, document: DocumentName) {
    while !run.is_over() {
        let session = async {
            let mut socket = StockSocket::connect(run.proxy.address(), &document).await?;
            loop {
                if let YMessage::Update(update) | YMessage::SyncStep2(update) = socket.next().await? {
                    run.record.note(&document, Proof::Received, Promise::Update(update));
                }
            }
        };
        let _: Option<anyhow::Result<()>> = run.unless_over(session).await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_acknowledged_or_received_survives_kill_9_of_the_relay() {
    let (seed, kills) = (seed(), amount("TIDEWELL_KILLS", 20));
    let data = tempfile::tempdir().unwrap();
    let mut relay = Relay::start(data.path()).await.unwrap();
    let record = Arc::new(Record::default());
    let (stop, stopped) = watch::channel(false);
    let (mut proxies, mut natives, mut others) = (Vec::new(), JoinSet::new(), JoinSet::new());
    let mut part = 0;
    for document in documents() {
        let run = new_run(&record, &stopped, &relay, &mut proxies).await;
        others.spawn(stock_reader(run, document));
    }
    for number in 0..RAW_WRITERS {
        part += 1;
        let run = new_run(&record, &stopped, &relay, &mut proxies).await;
        others.spawn(raw_writer(run, documents().swap_remove(number as usize), generator(seed, part)));
    }
    for number in 0..NATIVE_WRITERS {
        part += 1;
        let run = new_run(&record, &stopped, &relay, &mut proxies).await;
        natives.spawn(native_writer(run, number, generator(seed, part)));
    }

    let mut random = generator(seed, 0);
    let mut looked_for = 0;
    for kill in 0..kills {
        for _ in 0..random.random_range(0..3) {
            more_promises(&record, random.random_range(1..60)).await;
            let fault = if random.random() { Fault::Cut } else { Fault::Reset };
            proxies[random.random_range(0..proxies.len())].apply(fault);
        }
        let more = random.random_range(1..200);
        if kill % 4 != 0 {
            record.kill_at(*record.count().borrow() + more, relay.id().unwrap());
        }
        more_promises(&record, more).await;
        relay.kill().await.unwrap();
        proxies.iter().for_each(|proxy| proxy.apply(Fault::Target { address: None }));
        relay = Relay::start(data.path()).await.unwrap();
        let verified = record.verify(relay.address(), false).await;
        looked_for += verified.unwrap_or_else(|error| panic!("seed {seed}, after kill {kill}: {error:#}"));
        let target = Fault::Target { address: Some(relay.address()) };
        proxies.iter().for_each(|proxy| proxy.apply(target));
    }
    more_promises(&record, 100).await;
    stop.send_replace(true);
    while let Some(other) = others.join_next().await {
        other.unwrap();
    }
    let mut clients = Vec::new();
    while let Some(native) = natives.join_next().await {
        clients.push(native.unwrap());
    }
    let edits = check_natives(&relay, &clients).await;
    let in_all = record.verify(relay.address(), true).await.unwrap();
    println!("seed {seed}: {kills} kills, {edits} native edits, {:?}", record.totals());
    println!("looked for {looked_for} promises after the kills and for all {in_all} at the end");
}

/// Pushes one large update with the others, and notes at once that it was acknowledged.
async fn push_large(
    record: Arc<Record>,
    address: SocketAddr,
    document: DocumentName,
    together: Arc<Barrier>,
) -> anyhow::Result<()> {
    let doc = new_doc(7);
    let update: Bytes = {
        let mut transaction = doc.transact_mut();
        let text = transaction.get_or_insert_text("t");
        text.insert(&mut transaction, 0, &document.as_str().repeat(LARGE_BYTES / document.as_str().len()));
        transaction.encode_update_v1().into()
    };
    let mut socket = TidewellSocket::connect(address).await?;
    socket.open(0, &document).await?;
    while !matches!(socket.next().await?, RelayMessage::Opened { .. }) {}
    together.wait().await;
    socket.say(&ClientMessage::Push { channel: 0, number: 1, update: update.clone() }).await?;
    while !matches!(socket.next().await?, RelayMessage::Ack { .. }) {}
    record.note(&document, Proof::Acknowledged, Promise::Update(update));
    Ok(())
}

/// Large commits take their time, and acknowledgements do not: one that is sent too early is read, and the relay
/// killed for it, long before the commit it speaks of is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_update_survives_kill_9_of_the_relay_at_the_moment_of_its_acknowledgement() {
    let (seed, kills) = (seed(), amount("TIDEWELL_LARGE_KILLS", 10));
    let mut random = generator(seed, 0);
    let data = tempfile::tempdir().unwrap();
    let mut relay = Relay::start(data.path()).await.unwrap();
    let record = Arc::new(Record::default());
    let mut looked_for = 0;
    for kill in 0..kills {
        let more = random.random_range(1..LARGE_WRITERS as u64);
        record.kill_at(*record.count().borrow() + more, relay.id().unwrap());
        let together = Arc::new(Barrier::new(LARGE_WRITERS));
        let mut writers = JoinSet::new();
        for writer in 0..LARGE_WRITERS {
            let document = DocumentName::parse(&format!("large/{kill}/{writer}")).unwrap();
            writers.spawn(push_large(record.clone(), relay.address(), document, together.clone()));
        }
        // Those who wait for the killed relay break.
        while let Some(writer) = writers.join_next().await {
            let _ = writer.unwrap();
        }
        relay.kill().await.unwrap();
        relay = Relay::start(data.path()).await.unwrap();
        let verified = record.verify(relay.address(), false).await;
        looked_for += verified.unwrap_or_else(|error| panic!("seed {seed}, after kill {kill}: {error:.300}"));
    }
    assert!(looked_for as u64 >= kills, "{looked_for} promises in {kills} kills");
    println!("seed {seed}: {kills} kills, {looked_for} promises");
}

/// A run of its own for one participant, whose link can be broken alone.
async fn new_run(
    record: &Arc<Record>,
    stop: &watch::Receiver<bool>,
    relay: &Relay,
    proxies: &mut Vec<Arc<Proxy>>,
) -> Run {
    let proxy = Arc::new(Proxy::start(Some(relay.address())).await.unwrap());
    proxies.push(proxy.clone());
    Run { record: record.clone(), stop: stop.clone(), proxy }
}

/// Waits until the relay has made so many more promises.
async fn more_promises(record: &Record, more: u64) {
    let mut count = record.count();
    let until = *count.borrow() + more;
    let waited = timeout(PATIENCE, count.wait_for(|count| *count >= until)).await;
    waited.expect("the relay makes no more promises").unwrap();
}

/// Every native client ends with what the relay has, and each edit is there once.
async fn check_natives(relay: &Relay, clients: &[Native]) -> usize {
    for document in clients.iter().flat_map(|client| &client.documents) {
        timeout(PATIENCE, document.saved_relay()).await.expect("the relay is back").unwrap();
    }
    let mut edits = 0;
    for (index, name) in documents().iter().enumerate() {
        let expected = fetch(relay.address(), name).await.unwrap().text().unwrap();
        for Native { documents, made } in clients {
            let mut changes = documents[index].changes();
            let same = async {
                while documents[index].text("t").await.unwrap() != expected {
                    changes.changed().await.unwrap();
                }
            };
            timeout(PATIENCE, same).await.expect("a native client has what the relay has");
            for (_, token) in made.iter().filter(|(of, _)| *of == index) {
                assert_eq!(expected.matches(token.as_str()).count(), 1, "{token} in {name}");
                edits += 1;
            }
        }
    }
    edits
}
