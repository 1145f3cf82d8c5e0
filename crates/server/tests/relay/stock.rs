//! The y-websocket door, with the frames that stock clients send.

use crate::author::Author;
use crate::client::{Client, Raw, socket};
use crate::process::{Relay, data};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tidewell_sync_core::awareness::{Entry, decode, encode};
use tidewell_sync_core::protocol::RelayMessage;
use tidewell_sync_core::y_protocol::YMessage;
use tokio_tungstenite::tungstenite::Message;

/// A stock client: a document and a socket.
pub(crate) struct Stock {
    pub(crate) doc: Author,
    pub(crate) socket: Raw,
    pub(crate) synced: bool,
    pub(crate) awareness: Vec<Entry>,
    /// Size of the largest message.
    largest: usize,
}

impl Stock {
    pub(crate) async fn connect(relay: &Relay, path: &str, client: u64) -> Stock {
        Stock::with(relay, path, Author::new(client)).await
    }

    pub(crate) async fn with(relay: &Relay, path: &str, doc: Author) -> Stock {
        let socket = socket(relay, path, None, None).await;
        let mut stock = Stock { doc, socket, synced: false, awareness: Vec::new(), largest: 0 };
        let step_1 = YMessage::SyncStep1(stock.doc.state_vector());
        stock.send(step_1).await;
        stock
    }

    pub(crate) async fn send(&mut self, message: YMessage) {
        self.socket.send(Message::Binary(message.to_frame())).await.unwrap();
    }

    /// Takes one message as `y-websocket` does.
    pub(crate) async fn step(&mut self) {
        let message = tokio::time::timeout(crate::client::PATIENCE, self.socket.next()).await;
        let Message::Binary(frame) = message.expect("a message").expect("an open socket").unwrap() else {
            return;
        };
        self.largest = self.largest.max(frame.len());
        let messages = YMessage::read_all(&frame).unwrap();
        let [message] = <[YMessage; 1]>::try_from(messages).expect("one message a frame");
        match message {
            YMessage::SyncStep1(vector) => {
                let answer = YMessage::SyncStep2(self.doc.beyond(&vector));
                self.send(answer).await;
            }
            YMessage::SyncStep2(update) => {
                self.doc.applies(&update);
                self.synced = true;
            }
            YMessage::Update(update) => self.doc.applies(&update),
            YMessage::Awareness(update) => self.awareness = decode(&update).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn until(&mut self, reached: impl Fn(&Stock) -> bool) {
        while !reached(self) {
            self.step().await;
        }
    }

    pub(crate) async fn types(&mut self, text: &str) {
        let update = YMessage::Update(self.doc.types(text));
        self.send(update).await;
    }

    pub(crate) async fn announces(&mut self, client: u64, clock: u32, state: &str) {
        let entry = Entry { client, clock, state: state.into() };
        self.send(YMessage::Awareness(encode([entry].iter()).into())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_clients_and_our_own_converge_on_one_document() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let mut one = Stock::connect(&relay, "/yjs/a/doc", 1).await;
    let mut two = Stock::connect(&relay, "/yjs/a/doc?token=ignored", 2).await;
    one.until(|stock| stock.synced).await;
    two.until(|stock| stock.synced).await;
    one.types("one ").await;
    two.until(|stock| stock.doc.text().contains("one")).await;
    two.types("two ").await;
    one.until(|stock| stock.doc.text().contains("two")).await;
    let (mut ours, ours_doc) = (Client::connect(&relay).await, Author::new(3));
    let sequence = ours.open(1, "a/doc").await;
    ours.updates_through(sequence).await.iter().for_each(|update| ours_doc.applies(update));
    ours.push(1, 1, ours_doc.types("three")).await;
    one.until(|stock| stock.doc.text().contains("three")).await;
    two.until(|stock| stock.doc.text().contains("three")).await;
    assert_eq!(one.doc.text(), "one two three");
    assert_eq!(two.doc.text(), one.doc.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_client_that_is_told_it_is_synced_has_everything_that_was_committed() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let mut writer = Stock::connect(&relay, "/yjs/a/doc", 1).await;
    writer.until(|stock| stock.synced).await;
    let mut reader = Stock::connect(&relay, "/yjs/a/doc", 2).await;
    for text in ["one ", "two ", "three "] {
        writer.types(text).await;
        reader.until(|stock| stock.doc.text().ends_with(text)).await;
        // The answer for those who know nothing is made once; the second time it is of a moment ago.
        let mut joiner = Stock::connect(&relay, "/yjs/a/doc", 3).await;
        joiner.until(|stock| stock.synced).await;
        assert_eq!(joiner.doc.text(), reader.doc.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_client_is_not_told_it_is_synced_before_the_last_of_many_megabytes() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let author = Author::new(1);
    let mut writer = Client::connect(&relay).await;
    writer.open(1, "doc").await;
    writer.push(1, 1, author.types("begin ")).await;
    writer.acknowledged(1).await;
    // The answer for those who know nothing is made now, of this little.
    let mut early = Stock::connect(&relay, "/yjs/doc", 2).await;
    early.until(|stock| stock.synced).await;
    for number in 2..=12 {
        writer.push(1, number, author.types(&"x".repeat(1 << 19))).await;
        writer.acknowledged(number).await;
    }
    let mut late = Stock::connect(&relay, "/yjs/doc", 3).await;
    late.until(|stock| stock.synced).await;
    assert_eq!(late.doc.text().len(), author.text().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_client_brings_what_it_edited_offline_and_gets_what_it_missed() {
    let (_folder, data) = data();
    let offline = Author::new(1);
    offline.types("offline ");
    {
        let relay = Relay::start(&data);
        let mut first = Stock::connect(&relay, "/yjs/doc", 2).await;
        first.until(|stock| stock.synced).await;
        first.types("online ").await;
        let mut watcher = Client::connect(&relay).await;
        watcher.open(1, "doc").await;
        watcher.updates_through(1).await;
        relay.kill();
    }
    let relay = Relay::start(&data);
    let mut returning = Stock::with(&relay, "/yjs/doc", offline).await;
    returning.until(|stock| stock.synced && stock.doc.text().contains("online ")).await;
    let mut fresh = Stock::connect(&relay, "/yjs/doc", 3).await;
    let has_both =
        |stock: &Stock| stock.doc.text().contains("offline") && stock.doc.text().contains("online");
    while !has_both(&fresh) {
        tokio::select! {
            () = fresh.step() => {}
            () = returning.step() => {}
        }
    }
    assert_eq!(fresh.doc.text(), returning.doc.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_client_that_sends_before_it_answers_loses_nothing() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let early = Author::new(1);
    early.types("typed before connecting ");
    let mut early = Stock::with(&relay, "/yjs/doc", early).await;
    // This update has a hole before it until the answer to the relay's question is there.
    early.types("and at once").await;
    let (mut reader, reader_doc) = (Client::connect(&relay).await, Author::new(2));
    reader.open(1, "doc").await;
    while reader_doc.text() != "typed before connecting and at once" {
        tokio::select! {
            () = early.step() => {}
            message = reader.next() => {
                if let RelayMessage::Updates { updates, .. } = message {
                    updates.iter().for_each(|update| reader_doc.applies(update));
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_document_reaches_a_stock_client_in_small_messages() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let author = Author::new(1);
    let mut writer = Client::connect(&relay).await;
    writer.open(1, "doc").await;
    for number in 1..=30 {
        writer.push(1, number, author.types_before(&"abcdefgh".repeat(100))).await;
    }
    writer.acknowledged(30).await;
    let mut stock = Stock::connect(&relay, "/yjs/doc", 2).await;
    stock.until(|stock| stock.synced).await;
    assert!(stock.doc.text() == author.text());
    assert!(author.state().len() > 150_000);
    assert!(stock.largest < 32_000, "{}", stock.largest);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_document_is_answered_so_that_the_client_counts_as_synced() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let mut stock = Stock::connect(&relay, "/yjs/never/written", 1).await;
    stock.until(|stock| stock.synced).await;
    assert_eq!(stock.doc.state(), Bytes::from_static(&[0, 0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn aw3_presence_reaches_everybody_and_its_sender_and_ends_with_the_connection() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let mut ada = Stock::connect(&relay, "/yjs/doc", 1).await;
    let mut bob = Stock::connect(&relay, "/yjs/doc", 2).await;
    let state = "{\"name\":\"Ada\"}";
    ada.announces(1, 1, state).await;
    let is_ada =
        |stock: &Stock| stock.awareness.iter().any(|entry| entry.client == 1 && entry.state == state);
    ada.until(is_ada).await;
    bob.until(is_ada).await;
    bob.announces(1, 9, "{\"name\":\"Mallory\"}").await;
    bob.announces(2, 1, "{}").await;
    ada.until(|stock| stock.awareness.iter().any(|entry| entry.client == 2)).await;
    assert!(ada.awareness.iter().all(|entry| entry.client != 1), "nobody speaks for another");
    let mut late = Stock::connect(&relay, "/yjs/doc", 3).await;
    late.until(|stock| stock.awareness.len() == 2).await;
    ada.socket.close(None).await.unwrap();
    let is_gone = |stock: &Stock| stock.awareness.iter().any(|entry| entry.client == 1 && entry.is_gone());
    bob.until(is_gone).await;
    late.until(is_gone).await;
}
