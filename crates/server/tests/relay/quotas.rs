//! Documents and tenants that are full: what is there stays, deleting makes room, and others go on.

use crate::author::Author;
use crate::client::{Client, close_of, closed};
use crate::process::{Relay, data};
use crate::stock::Stock;
use futures_util::SinkExt;
use std::time::{Duration, Instant};
use tidewell_sync_core::awareness::Entry;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::protocol::{ClientMessage, RelayMessage};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

fn half() -> String {
    "x".repeat(40 << 10)
}

/// Sends an update that is not taken, and opens the channel anew.
async fn refused(client: &mut Client, document: &str, number: u64, update: bytes::Bytes, code: Code) {
    client.push(1, number, update).await;
    let told = client.settled().await;
    assert_eq!(told.last(), Some(&RelayMessage::Refused { channel: 1, number, code }), "{told:?}");
    client.send(ClientMessage::Close { channel: 1 }).await;
    client.open(1, document).await;
}

fn compactions(relay: &Relay) -> f64 {
    relay.figure("tidewell_compactions_total")
}

#[tokio::test(flavor = "multi_thread")]
async fn lm4_a_full_document_takes_deletions_and_what_it_has_and_more_once_they_made_room() {
    let (_folder, data) = data();
    let relay = Relay::start_with(&data, &["--document-bytes-max", "64K"]);
    let author = Author::new(1);
    let mut client = Client::connect(&relay).await;
    client.open(1, "a/doc").await;
    let first = author.types(&half());
    client.push(1, 1, first.clone()).await;
    client.push(1, 2, author.types(&half())).await;
    client.acknowledged(2).await;
    refused(&mut client, "a/doc", 3, Author::new(2).types("x"), Code::DocumentFull).await;
    assert_eq!(relay.figure("tidewell_refusals_total{code=\"document_full\"}"), 1.0);
    // What was sent before an acknowledgement that got lost is sent again.
    client.push(1, 1, first).await;
    client.acknowledged(1).await;
    // Other documents have room.
    client.open(2, "a/other").await;
    client.push(2, 1, Author::new(3).types("x")).await;
    client.settled().await;
    let mut stock = Stock::connect(&relay, "/yjs/a/doc", 4).await;
    stock.until(|stock| stock.synced).await;
    assert_eq!(stock.doc.text().len(), 2 * half().len(), "readers are served");
    stock.types("x").await;
    assert_eq!(closed(&mut stock.socket).await, close_of(Code::DocumentFull));
    let before = compactions(&relay);
    client.push(1, 2, author.deletes_all()).await;
    client.acknowledged(2).await;
    relay.wait_until(|relay| compactions(relay) > before);
    client.push(1, 3, author.types("room again")).await;
    client.acknowledged(3).await;
    drop((client, relay));
    let relay = Relay::start_with(&data, &["--document-bytes-max", "64K"]);
    let mut stock = Stock::connect(&relay, "/yjs/a/doc", 5).await;
    stock.until(|stock| stock.synced).await;
    assert_eq!(stock.doc.text(), "room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn lm5_a_tenants_documents_share_its_storage_also_after_a_restart() {
    let (_folder, data) = data();
    let quota = ["--tenant-bytes-max", "64K"];
    let relay = Relay::start_with(&data, &quota);
    let (first, second) = (Author::new(1), Author::new(2));
    let mut client = Client::connect(&relay).await;
    client.open(1, "a/1").await;
    client.push(1, 1, first.types(&half())).await;
    client.acknowledged(1).await;
    client.open(2, "a/2").await;
    client.push(2, 1, second.types(&half())).await;
    client.acknowledged(1).await;
    refused(&mut client, "a/1", 2, first.types("x"), Code::QuotaExceeded).await;
    drop((client, relay));
    let relay = Relay::start_with(&data, &quota);
    let mut client = Client::connect(&relay).await;
    client.open(1, "a/3").await;
    refused(&mut client, "a/3", 1, Author::new(3).types("x"), Code::QuotaExceeded).await;
    client.open(2, "ab/3").await;
    client.push(2, 1, Author::new(3).types("x")).await;
    client.acknowledged(1).await;
    // Room in one of its documents is room for all.
    client.open(3, "a/2").await;
    client.push(3, 1, second.deletes_all()).await;
    client.acknowledged(1).await;
    relay.wait_until(|relay| compactions(relay) > 0.0);
    client.push(1, 1, Author::new(3).types("room again")).await;
    client.acknowledged(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lm2_those_who_write_for_a_tenant_that_writes_too_fast_wait_and_others_do_not() {
    let (_folder, data) = data();
    let relay = Relay::start_with(&data, &["--tenant-bytes-per-second", "4K"]);
    let (mut first, mut second) = (Client::connect(&relay).await, Client::connect(&relay).await);
    let mut other = Client::connect(&relay).await;
    first.open(1, "a/1").await;
    second.open(1, "a/2").await;
    other.open(1, "b/1").await;
    // Of 52 KiB 40 are free; whoever writes next waits for the rest.
    let began = Instant::now();
    first.push(1, 1, Author::new(1).types(&"x".repeat(52 << 10))).await;
    first.acknowledged(1).await;
    second.push(1, 1, Author::new(2).types("x")).await;
    other.push(1, 1, Author::new(4).types("x")).await;
    other.acknowledged(1).await;
    first.settled().await;
    second.acknowledged(1).await;
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(waits(&relay), 1.0);
}

fn waits(relay: &Relay) -> f64 {
    relay.figure("tidewell_limits_hit_total{limit=\"tenant_bytes_per_second\"}")
}

#[tokio::test(flavor = "multi_thread")]
async fn lm2_cn4_what_a_tenant_owes_new_connections_wait_for_too_and_hear_that_the_relay_is_there() {
    let (_folder, data) = data();
    let relay = Relay::start_with(&data, &["--tenant-bytes-per-second", "4K"]);
    let mut stock = Stock::connect(&relay, "/yjs/a/2", 2).await;
    stock.until(|stock| stock.synced).await;
    stock.awareness = vec![Entry { client: 9, clock: 9, state: "{}".into() }];
    let mut first = Client::connect(&relay).await;
    first.open(1, "a/1").await;
    // 88 KiB, of which 40 are free, are paid after 12 s.
    let (began, deleted) = (Instant::now(), Author::new(1));
    first.push(1, 1, deleted.types(&"x".repeat(88 << 10))).await;
    first.push(1, 2, deleted.deletes_all()).await;
    first.acknowledged(2).await;
    drop(first);
    let mut second = Client::connect(&relay).await;
    second.open(1, "a/3").await;
    let author = Author::new(3);
    let mut frame = Vec::new();
    for (number, text) in [(1, "one "), (2, "two")] {
        ClientMessage::Push { channel: 1, number, update: author.types(text) }.write(&mut frame);
    }
    ClientMessage::Ping { nonce: 7 }.write(&mut frame);
    second.socket.send(Message::Binary(frame.into())).await.unwrap();
    // Who adds nothing does not wait, though it says all that was deleted; nor is that owed.
    let mut back = Stock::with(&relay, "/yjs/a/1", deleted).await;
    back.until(|stock| stock.synced).await;
    back.announces(7, 1, "{}").await;
    back.until(|stock| stock.awareness.iter().any(|entry| entry.client == 7)).await;
    stock.types("x").await;
    stock.until(|stock| stock.awareness.is_empty()).await;
    assert_eq!(second.next().await, RelayMessage::Pong { nonce: 0 });
    relay.wait_until(|relay| waits(relay) == 2.0);
    second.acknowledged(2).await;
    assert!(began.elapsed() >= Duration::from_secs(11), "{:?}", began.elapsed());
    second.settled().await;
    let mut reader = Stock::connect(&relay, "/yjs/a/2", 4).await;
    reader.until(|stock| stock.doc.text() == "x").await;
    let mut reader = Stock::connect(&relay, "/yjs/a/3", 5).await;
    reader.until(|stock| stock.doc.text() == "one two").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cn4_a_client_whose_message_is_long_on_its_way_hears_that_the_relay_is_there_and_others_do_not() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let part = || Frame::message(vec![0; 100 << 10], OpCode::Data(Data::Binary), false);
    let (mut client, mut idle) = (Client::connect(&relay).await, Client::connect(&relay).await);
    client.socket.send(Message::Frame(part())).await.unwrap();
    let mut stock = Stock::connect(&relay, "/yjs/a/1", 1).await;
    stock.until(|stock| stock.synced).await;
    stock.awareness = vec![Entry { client: 9, clock: 9, state: "{}".into() }];
    stock.socket.send(Message::Frame(part())).await.unwrap();
    assert_eq!(client.next().await, RelayMessage::Pong { nonce: 0 });
    stock.until(|stock| stock.awareness.is_empty()).await;
    assert_eq!(idle.settled().await, []);
}
