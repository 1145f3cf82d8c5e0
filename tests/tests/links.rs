//! Links that are cut, reset, slow, narrow or half-open, with native and stock clients at the ends: all of them end with the
//! same. `TIDEWELL_LINK_ROUNDS` sets how often each fault comes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;
use std::net::SocketAddr;
use std::time::Duration;
use tidewell_client::yrs::updates::decoder::Decode;
use tidewell_client::yrs::updates::encoder::Encode;
use tidewell_client::yrs::{Doc, GetString, ReadTxn, StateVector as YrsStateVector, Text, Transact, Update};
use tidewell_client::{Client, Document, Options, Store};
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::replica::new_doc;
use tidewell_sync_core::state_vector::StateVector;
use tidewell_sync_core::y_protocol::YMessage;
use tidewell_tests::proxy::{Fault, Proxy};
use tidewell_tests::raw::{Socket, StockSocket, fetch};
use tidewell_tests::relay::{PATIENCE, Relay};
use tidewell_tests::seed::{amount, generator, seed};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const NAME: &str = "links/shared";

/// Before a stock client connects again; y-websocket begins with as much.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Edits that wait to be sent; a link with more begins anew.
const EDITS_MAX: usize = 64;

fn name() -> DocumentName {
    DocumentName::parse(NAME).unwrap()
}

/// A client as y-websocket is: it has its document in memory, and when it connects both ends tell what they have.
struct Stock {
    doc: Doc,
    /// Its own edits as they are made.
    edits: broadcast::Sender<Bytes>,
    /// Counts what came from others.
    changed: watch::Sender<u64>,
    connecting: JoinHandle<()>,
}

impl Stock {
    fn start(address: SocketAddr, random: &mut StdRng) -> Stock {
        let doc = new_doc(random.random_range(1..1 << 32));
        let changed = watch::channel(0).0;
        let edits = broadcast::channel(EDITS_MAX).0;
        let (of_task, live, tell) = (doc.clone(), edits.clone(), changed.clone());
        let connecting = tokio::spawn(async move {
            loop {
                // A link that breaks is what this test is about.
                let _ = talk(address, &of_task, live.subscribe(), &tell).await;
                sleep(AGAIN_AFTER).await;
            }
        });
        Stock { doc, edits, changed, connecting }
    }

    fn write(&self, token: &str, at_end: bool) {
        let text = self.doc.get_or_insert_text("t");
        let mut transaction = self.doc.transact_mut();
        let end = text.len(&transaction);
        text.insert(&mut transaction, if at_end { end } else { 0 }, token);
        // Offline nobody listens: what was missed is told when it connects.
        let _ = self.edits.send(transaction.encode_update_v1().into());
    }

    fn text(&self) -> String {
        let text = self.doc.get_or_insert_text("t");
        text.get_string(&self.doc.transact())
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        self.connecting.abort();
    }
}

fn state_vector(doc: &Doc) -> StateVector {
    StateVector::decode(&doc.transact().state_vector().encode_v1()).unwrap()
}

fn beyond(doc: &Doc, known: &StateVector) -> Vec<u8> {
    doc.transact().encode_diff_v1(&YrsStateVector::decode_v1(&known.encode()).unwrap())
}

/// One connection of a stock client, to its end.
async fn talk(
    address: SocketAddr,
    doc: &Doc,
    mut edits: broadcast::Receiver<Bytes>,
    changed: &watch::Sender<u64>,
) -> anyhow::Result<()> {
    let mut socket = StockSocket(Socket::connect(address, &format!("/yjs/{NAME}"), None).await?);
    socket.say(&YMessage::SyncStep1(state_vector(doc))).await?;
    loop {
        let message = tokio::select! {
            message = socket.next() => message?,
            update = edits.recv() => {
                socket.say(&YMessage::Update(update?)).await?;
                continue;
            }
        };
        match message {
            YMessage::SyncStep1(known) => {
                socket.say(&YMessage::SyncStep2(beyond(doc, &known).into())).await?;
            }
            YMessage::SyncStep2(update) | YMessage::Update(update) => {
                doc.transact_mut().apply_update(Update::decode_v1(&update)?)?;
                changed.send_modify(|count| *count += 1);
            }
            _ => {}
        }
    }
}

/// Two native clients and two stock ones, each on a link of its own.
struct Everybody {
    links: Vec<Proxy>,
    _clients: Vec<Client>,
    native: Vec<Document>,
    stock: Vec<Stock>,
    /// Everything that was written.
    written: Vec<String>,
}

impl Everybody {
    async fn start(relay: &Relay, random: &mut StdRng) -> Everybody {
        let (mut links, mut clients, mut native) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..4 {
            links.push(Proxy::start(Some(relay.address())).await.unwrap());
        }
        for link in &links[..2] {
            let options = Options::new(format!("ws://{}/v1/sync", link.address()), Store::Memory);
            clients.push(Client::open(options).await.unwrap());
        }
        for client in &clients {
            native.push(client.document(NAME).await.unwrap());
        }
        let stock = links[2..].iter().map(|link| Stock::start(link.address(), random)).collect();
        Everybody { links, _clients: clients, native, stock, written: Vec::new() }
    }

    fn apply(&self, fault: Fault) {
        self.links.iter().for_each(|link| link.apply(fault));
    }

    /// Each of them writes something somewhere.
    async fn write(&mut self, random: &mut StdRng) {
        for document in &self.native {
            let token = format!("[{}]", self.written.len());
            document.insert_text("t", 0, &token).await.unwrap();
            self.written.push(token);
        }
        for stock in &self.stock {
            let token = format!("[{}]", self.written.len());
            stock.write(&token, random.random());
            self.written.push(token);
        }
        // Some of it leaves with the next, and some by itself.
        sleep(Duration::from_millis(random.random_range(0..20))).await;
    }

    /// Everybody, and the relay, comes to have everything.
    async fn are_equal(&self, relay: &Relay, after: &str) {
        let length: usize = self.written.iter().map(String::len).sum();
        for document in &self.native {
            let mut changes = document.changes();
            let all = async {
                document.saved_relay().await.unwrap();
                while document.text("t").await.unwrap().len() < length {
                    changes.changed().await.unwrap();
                }
            };
            timeout(PATIENCE, all)
                .await
                .unwrap_or_else(|_| panic!("a native client lacks something after {after}"));
        }
        for stock in &self.stock {
            let mut changed = stock.changed.subscribe();
            let all = async {
                while stock.text().len() < length {
                    changed.changed().await.unwrap();
                }
            };
            timeout(PATIENCE, all)
                .await
                .unwrap_or_else(|_| panic!("a stock client lacks something after {after}"));
        }
        let stored = fetch(relay.address(), &name()).await.unwrap().text().unwrap();
        for token in &self.written {
            assert_eq!(stored.matches(token.as_str()).count(), 1, "{token} after {after}");
        }
        for document in &self.native {
            assert_eq!(document.text("t").await.unwrap(), stored, "a native client after {after}");
        }
        for stock in &self.stock {
            assert_eq!(stock.text(), stored, "a stock client after {after}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_befalls_their_links_all_end_with_the_same_and_nothing_is_lost() {
    let (seed, rounds) = (seed(), amount("TIDEWELL_LINK_ROUNDS", 2));
    let mut random = generator(seed, 0);
    let data = tempfile::tempdir().unwrap();
    let relay = Relay::start(data.path()).await.unwrap();
    let mut all = Everybody::start(&relay, &mut random).await;
    all.write(&mut random).await;
    all.are_equal(&relay, "nothing").await;
    for round in 0..rounds {
        let told = |fault: &str| format!("{fault} in round {round} of seed {seed}");

        for _ in 0..8 {
            let fault = if random.random() { Fault::Cut } else { Fault::Reset };
            all.links[random.random_range(0..4)].apply(fault);
            all.write(&mut random).await;
        }
        all.are_equal(&relay, &told("links were cut and reset")).await;

        // Late, and all the same: it gets through while the fault lasts.
        all.apply(Fault::Delay { ms: random.random_range(20..150) });
        for _ in 0..5 {
            all.write(&mut random).await;
        }
        all.are_equal(&relay, &told("a delay")).await;
        all.links[random.random_range(0..4)].apply(Fault::Reset);
        all.write(&mut random).await;
        all.are_equal(&relay, &told("a delay and a reset")).await;
        all.apply(Fault::Delay { ms: 0 });

        all.apply(Fault::Bandwidth { bytes_per_second: Some(random.random_range(8_000..40_000)) });
        for _ in 0..5 {
            all.write(&mut random).await;
        }
        all.are_equal(&relay, &told("a narrow link")).await;
        all.apply(Fault::Bandwidth { bytes_per_second: None });

        // Each link breaks somewhere, in the middle of a frame or of a handshake too.
        for bytes in [random.random_range(100..900), random.random_range(900..4_000)] {
            all.apply(Fault::DropAfter { bytes: Some(bytes) });
            all.apply(Fault::Reset);
            for _ in 0..5 {
                all.write(&mut random).await;
            }
        }
        all.apply(Fault::DropAfter { bytes: None });
        all.are_equal(&relay, &told("links that broke after some bytes")).await;

        // What is sent into it never arrives, and nobody is told.
        let half_open = random.random_range(0..4);
        all.links[half_open].apply(Fault::HalfOpen { on: true });
        for _ in 0..5 {
            all.write(&mut random).await;
        }
        all.links[half_open].apply(Fault::HalfOpen { on: false });
        all.are_equal(&relay, &told("a half-open link")).await;
    }
    println!("seed {seed}: {} edits in {rounds} rounds", all.written.len());
    let expected = all.stock[0].text();
    drop(all);
    relay.kill().await.unwrap();
    let relay = Relay::start(data.path()).await.unwrap();
    assert_eq!(fetch(relay.address(), &name()).await.unwrap().text().unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cn4_an_edit_that_takes_longer_than_a_client_waits_for_an_answer_arrives_over_its_first_connection() {
    let data = tempfile::tempdir().unwrap();
    let relay = Relay::start(data.path()).await.unwrap();
    let link = Proxy::start(Some(relay.address())).await.unwrap();
    let options = Options::new(format!("ws://{}/v1/sync", link.address()), Store::Memory);
    let client = Client::open(options).await.unwrap();
    let document = client.document(NAME).await.unwrap();
    document.insert_text("t", 0, "short ").await.unwrap();
    timeout(PATIENCE, document.saved_relay()).await.unwrap().unwrap();
    let mut connection = client.connection();
    connection.mark_unchanged();
    // 40 s; a client asks after 20 and gives up after 30.
    link.apply(Fault::Bandwidth { bytes_per_second: Some(50_000) });
    document.insert_text("t", 0, &"x".repeat(2_000_000)).await.unwrap();
    timeout(PATIENCE, document.saved_relay()).await.expect("it arrives").unwrap();
    assert!(!connection.has_changed().unwrap(), "{:?}", *connection.borrow());
}
