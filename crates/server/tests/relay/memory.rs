//! A relay with little memory gives up what it must, and lives.

use crate::author::Author;
use crate::catch_up::peak_bytes;
use crate::client::{Client, PATIENCE, Raw, close_of, closed, socket};
use crate::process::{Relay, data, output};
use crate::stock::Stock;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use std::sync::Arc;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::limits::{FRAME_BYTES_MAX, MESSAGE_BYTES_MAX};
use tidewell_sync_core::protocol::{ClientMessage, RelayMessage, split};
use tidewell_sync_core::state_vector::StateVector;
use tidewell_sync_core::y_protocol::YMessage;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// Sends all of a message but its end, and waits for the close.
async fn begins_and_never_ends(mut client: Client, frames: Arc<[Bytes]>) {
    let away = async {
        for frame in frames.iter().cloned() {
            if client.socket.send(Message::Binary(frame)).await.is_err() {
                break;
            }
        }
        loop {
            if let RelayMessage::GoAway { after_ms } = client.next().await {
                assert!((5_000..=30_000).contains(&after_ms), "{after_ms}");
                assert_eq!(closed(&mut client.socket).await, close_of(Code::Overloaded));
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, away).await.expect("a close");
}

#[tokio::test(flavor = "multi_thread")]
async fn lm7_a_relay_whose_memory_is_short_sends_those_away_who_hold_the_most_and_serves_the_others() {
    const GREEDY: usize = 128;
    const MAX: usize = 200 << 20;
    let (_folder, data) = data();
    let relay = Relay::start_with(&data, &["--memory-max", "200M"]);
    let mut honest = Client::connect(&relay).await;
    honest.open(1, "a/doc").await;
    // All are let in before memory is short.
    let mut greedy = Vec::new();
    for _ in 0..GREEDY {
        greedy.push(Client::connect(&relay).await);
    }
    let mut frames = split(vec![0; MESSAGE_BYTES_MAX - 64].into(), FRAME_BYTES_MAX / 4);
    frames.pop();
    let frames: Arc<[Bytes]> = frames.into();
    let mut tasks: JoinSet<()> =
        greedy.into_iter().map(|client| begins_and_never_ends(client, frames.clone())).collect();
    // 2 GiB were to be kept. A dozen of them fit, and stay.
    for _ in 0..GREEDY - 16 {
        tasks.join_next().await.unwrap().unwrap();
    }
    honest.push(1, 1, Author::new(1).types("still here")).await;
    honest.acknowledged(1).await;
    assert!(peak_bytes(&relay) < 2 * MAX, "{} bytes", peak_bytes(&relay));
    assert!(relay.figure("tidewell_limits_hit_total{limit=\"memory\"}") >= (GREEDY - 16) as f64);
    tasks.shutdown().await;
    // What they held is given back.
    others_come_in_again(&relay).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lm7_those_who_leave_unread_what_was_read_for_them_alone_are_sent_away() {
    const READERS: usize = 48;
    const ROW: usize = 14 << 20;
    const MAX: usize = 200 << 20;
    let (_folder, data) = data();
    let relay = Relay::start_with(&data, &["--memory-max", "200M"]);
    let (mut writer, author) = (Client::connect(&relay).await, Author::new(1));
    writer.open(1, "a/doc").await;
    writer.push(1, 1, author.types("small")).await;
    writer.acknowledged(1).await;
    for frame in push_of(2, author.embeds(&"x".repeat(ROW))) {
        writer.socket.send(Message::Binary(frame)).await.unwrap();
    }
    writer.acknowledged(2).await;
    // All are let in before memory is short. Each is behind by the large row, which is read for it alone.
    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(Client::connect(&relay).await);
    }
    for reader in &mut readers {
        let (document, position) = (DocumentName::parse("a/doc").unwrap(), reader.cursor(1));
        reader.send(ClientMessage::Open { channel: 1, document, position }).await;
    }
    // 670 MB were to be kept.
    are_sent_away(&relay, 1).await;
    writer.push(1, 3, author.types("still here")).await;
    writer.acknowledged(3).await;
    // Several rows are on their way from the store between two looks.
    assert!(peak_bytes(&relay) < 5 * MAX / 2, "{} bytes", peak_bytes(&relay));
    drop(readers);
    // What was read for them is given back, by the allocator too.
    others_come_in_again(&relay).await;
}

async fn others_come_in_again(relay: &Relay) {
    let coming = async {
        while !matches!(Client::greet(relay, "").await.next().await, RelayMessage::Welcome { .. }) {}
    };
    tokio::time::timeout(PATIENCE, coming).await.expect("a welcome");
}

/// The frames of a large push.
fn push_of(number: u64, update: Bytes) -> Vec<Bytes> {
    let mut message = Vec::new();
    ClientMessage::Push { channel: 1, number, update }.write(&mut message);
    split(message.into(), FRAME_BYTES_MAX)
}

/// Has a stock client ask for what lies beyond `vector`.
async fn asks(socket: &mut Raw, vector: StateVector) {
    socket.send(Message::Binary(YMessage::SyncStep1(vector).to_frame())).await.unwrap();
}

/// Waits until so many connections were sent away because memory is short.
async fn are_sent_away(relay: &Relay, count: usize) {
    let waiting = async {
        while relay.figure("tidewell_limits_hit_total{limit=\"memory\"}") < count as f64 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("somebody is sent away");
}

/// Reads until the answer to its question, and answers the document.
async fn answered(socket: &mut Raw) -> Author {
    let doc = Author::new(9);
    let answer = async {
        while let Some(message) = socket.next().await {
            let Message::Binary(frame) = message.unwrap() else { continue };
            match YMessage::read_all(&frame).unwrap().remove(0) {
                YMessage::Update(update) => doc.applies(&update),
                YMessage::SyncStep2(update) => return doc.applies(&update),
                _ => {}
            }
        }
        panic!("the socket ended without an answer")
    };
    tokio::time::timeout(PATIENCE, answer).await.expect("an answer");
    doc
}

/// A value of which a relay with this memory has room for some.
const VALUE: usize = 14 << 20;
const MAX: usize = 512 << 20;

/// Stock readers who leave unread what is made for each of them have been sent away until there is room. Others wait for
/// that, but come in turn.
async fn others_are_served(relay: &Relay, mut writer: Client, mut honest: Stock) {
    are_sent_away(relay, 16).await;
    honest.synced = false;
    honest.send(YMessage::SyncStep1([(2, 3)].into_iter().collect())).await;
    honest.until(|stock| stock.synced).await;
    writer.open(2, "a/other").await;
    writer.push(2, 1, Author::new(3).types("still here")).await;
    writer.acknowledged(1).await;
    honest.until(|stock| stock.doc.text().contains("still here")).await;
    assert!(peak_bytes(relay) < 5 * MAX / 4, "{} bytes", peak_bytes(relay));
}

async fn honest(relay: &Relay) -> Stock {
    let mut honest = Stock::connect(relay, "/yjs/a/other", 2).await;
    honest.until(|stock| stock.synced).await;
    honest.types("honest").await;
    honest
}

#[tokio::test(flavor = "multi_thread")]
async fn lm7_stock_readers_are_read_for_when_there_is_room_and_others_are_served() {
    const READERS: usize = 128;
    let (_folder, data) = data();
    let relay = Relay::start_with(&data, &["--memory-max", "512M"]);
    let honest = honest(&relay).await;
    let (mut writer, author) = (Client::connect(&relay).await, Author::new(1));
    author.types("known and not");
    author.embeds(&"x".repeat(VALUE));
    writer.open(1, "a/doc").await;
    for frame in push_of(1, author.state()) {
        writer.socket.send(Message::Binary(frame)).await.unwrap();
    }
    writer.acknowledged(1).await;
    // All are let in before memory is short.
    let mut late = socket(&relay, "/yjs/a/doc", None, None).await;
    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(socket(&relay, "/yjs/a/doc", None, None).await);
    }
    // What lies beyond this is cut out of the update, for each by itself: 1.8 GB were to be kept.
    for reader in &mut readers {
        asks(reader, [(1, 5)].into_iter().collect()).await;
    }
    others_are_served(&relay, writer, honest).await;
    drop(readers);
    asks(&mut late, StateVector::default()).await;
    assert_eq!(answered(&mut late).await.text(), author.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn lm7_a_large_value_reaches_stock_readers_when_there_is_room_and_others_are_served() {
    const READERS: usize = 96;
    let (_folder, data) = data();
    let relay = Relay::start_with(&data, &["--memory-max", "512M"]);
    let honest = honest(&relay).await;
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut reader = socket(&relay, "/yjs/a/doc", None, None).await;
        asks(&mut reader, StateVector::default()).await;
        assert_eq!(answered(&mut reader).await.text(), "");
        readers.push(reader);
    }
    // They share it, but for the frames: 1.3 GB.
    let (mut writer, author) = (Client::connect(&relay).await, Author::new(1));
    writer.open(1, "a/doc").await;
    for frame in push_of(1, author.embeds(&"x".repeat(VALUE))) {
        writer.socket.send(Message::Binary(frame)).await.unwrap();
    }
    writer.acknowledged(1).await;
    others_are_served(&relay, writer, honest).await;
}

/// A frame of a message that does not end with it.
fn part(of: Data, bytes: usize) -> Message {
    Message::Frame(Frame::message(vec![0; bytes], OpCode::Data(of), false))
}

/// Sends a message in parts, pings between them, but for its end; answers the close.
async fn stock_begins_and_never_ends(socket: Raw) -> (u16, String) {
    let (mut to, mut from) = socket.split();
    let writing = async {
        let mut of = Data::Binary;
        for _ in 1..MESSAGE_BYTES_MAX >> 16 {
            let sent =
                to.feed(part(of, 1 << 16)).await.and(to.send(Message::Ping(vec![0; 100].into())).await);
            if sent.is_err() {
                break;
            }
            of = Data::Continue;
        }
        std::future::pending().await
    };
    let reading = async {
        loop {
            if let Message::Close(close) = from.next().await.expect("a close").unwrap() {
                break close.map(|close| (close.code.into(), close.reason.to_string()));
            }
        }
    };
    let close = async {
        tokio::select! {
            close = reading => close.expect("a reason"),
            never = writing => never,
        }
    };
    tokio::time::timeout(PATIENCE, close).await.expect("a close")
}

#[tokio::test(flavor = "multi_thread")]
async fn lm7_half_a_message_of_a_stock_client_is_found_where_memory_is_short() {
    const GREEDY: usize = 64;
    const MAX: usize = 200 << 20;
    let (_folder, data) = data();
    let relay = Relay::start_with(&data, &["--memory-max", "200M"]);
    let mut honest = Stock::connect(&relay, "/yjs/a/doc", 1).await;
    let mut reader = Stock::connect(&relay, "/yjs/a/doc", 2).await;
    honest.until(|stock| stock.synced).await;
    let mut greedy = Vec::new();
    for _ in 0..GREEDY {
        greedy.push(socket(&relay, "/yjs/a/other", None, None).await);
    }
    let mut tasks: JoinSet<_> = greedy.into_iter().map(stock_begins_and_never_ends).collect();
    // 1 GiB was to be kept. Some of it fits, and stays.
    for _ in 0..GREEDY - 16 {
        assert_eq!(tasks.join_next().await.unwrap().unwrap(), close_of(Code::Overloaded));
    }
    honest.types("still here").await;
    reader.until(|stock| stock.doc.text() == "still here").await;
    assert!(peak_bytes(&relay) < 2 * MAX, "{} bytes", peak_bytes(&relay));
    assert!(relay.figure("tidewell_limits_hit_total{limit=\"memory\"}") >= (GREEDY - 16) as f64);
}

#[test]
fn a_memory_that_no_relay_can_live_in_is_refused() {
    let (_folder, data) = data();
    let refused = output(&["serve", "--data", data.to_str().unwrap(), "--memory-max", "63M"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("64M"));
}
