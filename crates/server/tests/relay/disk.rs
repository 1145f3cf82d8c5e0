//! A disk that fails and comes back.

use crate::author::Author;
use crate::client::Client;
use crate::process::{Relay, data, program};
use futures_util::SinkExt;
use rustix::process::{Resource, Rlimit, prlimit};
use std::process::Command;
use tidewell_sync_core::limits::{FRAME_BYTES_MAX, UNCOMMITTED_BYTES_MAX};
use tidewell_sync_core::protocol::{ClientMessage, split};
use tokio_tungstenite::tungstenite::Message;

/// Lets the relay's files grow to `bytes` and no further. Writing beyond fails as on a full disk.
fn limit_files(relay: &Relay, bytes: Option<u64>) {
    prlimit(Some(relay.id()), Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
}

/// A relay that survives the signal which comes with that limit, as it would not come from a real disk.
fn relay(data: &std::path::Path) -> Relay {
    let script = "trap '' XFSZ; exec \"$0\" \"$@\"";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).arg(program().get_program());
    Relay::spawn_as(command, data)
}

fn is_ready(relay: &Relay) -> bool {
    relay.get("/readyz").starts_with("HTTP/1.1 200")
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_disk_fails_nothing_is_acknowledged_or_shown_and_all_recovers_when_it_does() {
    let (_folder, data) = data();
    let relay = relay(&data);
    let author = Author::new(1);
    let (mut writer, mut reader) = (Client::connect(&relay).await, Client::connect(&relay).await);
    writer.open(1, "a/doc").await;
    reader.open(1, "a/doc").await;
    writer.push(1, 1, author.types("before ")).await;
    writer.acknowledged(1).await;
    reader.updates_through(1).await;
    limit_files(&relay, Some(4096));
    for number in 2..=5 {
        writer.push(1, number, author.types("during ")).await;
    }
    relay.wait_until(|relay| !is_ready(relay));
    assert!(relay.get("/readyz").contains("storage_unavailable"));
    assert_eq!(writer.settled().await, [], "no acknowledgement");
    assert_eq!(reader.settled().await, [], "and nobody sees it");
    limit_files(&relay, None);
    writer.acknowledged(5).await;
    let doc = Author::new(2);
    doc.applies(&author.beyond(&doc.state_vector()));
    reader.updates_through(5).await;
    relay.wait_until(is_ready);
    relay.kill();
    let relay = Relay::start(&data);
    let (mut late, late_doc) = (Client::connect(&relay).await, Author::new(3));
    let sequence = late.open(1, "a/doc").await;
    late.updates_through(sequence).await.iter().for_each(|update| late_doc.applies(update));
    assert_eq!(late_doc.text(), author.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_disk_fails_a_sender_is_read_no_further_than_the_limit() {
    let (_folder, data) = data();
    let relay = relay(&data);
    let author = Author::new(1);
    let mut writer = Client::connect(&relay).await;
    writer.open(1, "a/doc").await;
    limit_files(&relay, Some(4096));
    let large = "x".repeat(200_000);
    let count = 3 * UNCOMMITTED_BYTES_MAX as u64 / 200_000;
    let edits: Vec<_> = (0..count).map(|_| author.types(&large)).collect();
    let writing = tokio::spawn(async move {
        for (number, edit) in edits.into_iter().enumerate() {
            writer.push(1, number as u64 + 1, edit).await;
        }
        writer.acknowledged(count).await
    });
    let limit = UNCOMMITTED_BYTES_MAX as f64;
    relay.wait_until(|relay| relay.figure("tidewell_unacknowledged_bytes") > limit);
    for _ in 0..50 {
        assert!(relay.figure("tidewell_unacknowledged_bytes") < limit + 1e6);
    }
    limit_files(&relay, None);
    assert_eq!(writing.await.unwrap(), count);
    assert_eq!(relay.figure("tidewell_unacknowledged_bytes"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_disk_fails_ends_in_time_and_its_clients_keep_what_they_have() {
    let (_folder, data) = data();
    let relay = relay(&data);
    let author = Author::new(1);
    let mut writer = Client::connect(&relay).await;
    writer.open(1, "a/doc").await;
    limit_files(&relay, Some(4096));
    writer.push(1, 1, author.types("not yet")).await;
    relay.wait_until(|relay| !is_ready(relay));
    let status = tokio::task::spawn_blocking(|| relay.terminate()).await.unwrap();
    assert!(status.success(), "{status}");
    let relay = Relay::start(&data);
    let mut writer = Client::connect(&relay).await;
    assert_eq!(writer.open(1, "a/doc").await, 0);
    writer.push(1, 1, author.state()).await;
    writer.acknowledged(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_closes_a_document_the_store_is_behind_with_is_read_on() {
    let (_folder, data) = data();
    let relay = relay(&data);
    let mut writer = Client::connect(&relay).await;
    writer.open(1, "a/doc").await;
    limit_files(&relay, Some(4096));
    let update = Author::new(1).types(&"x".repeat(UNCOMMITTED_BYTES_MAX + 1));
    // Together, so that the document is closed before the connection is left unread for it.
    let mut messages = Vec::new();
    ClientMessage::Push { channel: 1, number: 1, update }.write(&mut messages);
    ClientMessage::Close { channel: 1 }.write(&mut messages);
    for frame in split(messages.into(), FRAME_BYTES_MAX) {
        writer.socket.send(Message::Binary(frame)).await.unwrap();
    }
    writer.settled().await;
    limit_files(&relay, None);
}
