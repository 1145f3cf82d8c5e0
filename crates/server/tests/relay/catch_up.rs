//! Coming back, and coming late.

use crate::author::Author;
use crate::client::Client;
use crate::process::{Relay, data};
use futures_util::SinkExt;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::protocol::{ClientMessage, Cursor, Position, RelayMessage, Resume};
use tokio_tungstenite::tungstenite::Message;

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_resumes_with_what_followed_and_nothing_else() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let (author, reader_doc) = (Author::new(1), Author::new(2));
    let mut writer = Client::connect(&relay).await;
    writer.open(1, "a/doc").await;
    writer.push(1, 1, author.types("before ")).await;
    let before = writer.acknowledged(1).await;
    let mut reader = Client::connect(&relay).await;
    reader.open(1, "a/doc").await;
    reader.updates_through(before).await.iter().for_each(|update| reader_doc.applies(update));
    drop(reader);
    writer.push(1, 2, author.types("after")).await;
    let after = writer.acknowledged(2).await;
    let mut reader = Client::connect(&relay).await;
    let cursor = reader.cursor(before);
    let opened = reader.open_at(1, "a/doc", cursor).await;
    assert!(matches!(opened, RelayMessage::Opened { resume: Resume::Continues, .. }));
    let updates = reader.updates_through(after).await;
    assert_eq!(updates.len(), 1);
    assert!(updates[0].len() < 40, "only the tail");
    reader_doc.applies(&updates[0]);
    assert_eq!(reader_doc.text(), "before after");
    let up_to_date = reader.cursor(after);
    reader.send(ClientMessage::Close { channel: 1 }).await;
    reader.open_at(1, "a/doc", up_to_date).await;
    assert_eq!(reader.settled().await, [], "nothing follows");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_another_history_is_asked_for_its_state_vector_and_supplies_what_the_relay_lacks() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let author = Author::new(1);
    author.types("from a backup that is gone");
    let mut client = Client::connect(&relay).await;
    for wrong in [
        Cursor { epoch: 1, lineage: client.lineage + 1, sequence: 0 },
        Cursor { epoch: 1, lineage: client.lineage, sequence: 7 },
        Cursor { epoch: 2, lineage: client.lineage, sequence: 0 },
    ] {
        let opened = client.open_at(1, "a/doc", Position::Cursor(wrong)).await;
        assert!(matches!(opened, RelayMessage::Opened { resume: Resume::NeedsStateVector, .. }));
    }
    client.open_at(1, "a/doc", Position::StateVector(author.state_vector())).await;
    let RelayMessage::Need { state_vector, .. } = client.next().await else { panic!("not asked") };
    let update = author.beyond(&state_vector);
    client.send(ClientMessage::Have { channel: 1, number: 1, update }).await;
    client.acknowledged(1).await;
    let (mut reader, reader_doc) = (Client::connect(&relay).await, Author::new(2));
    let sequence = reader.open(1, "a/doc").await;
    reader.updates_through(sequence).await.iter().for_each(|update| reader_doc.applies(update));
    assert_eq!(reader_doc.text(), author.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_vector_is_answered_with_what_lies_beyond_it() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let author = Author::new(1);
    let mut writer = Client::connect(&relay).await;
    writer.open(1, "a/doc").await;
    writer.push(1, 1, author.types(&"long ".repeat(2_000))).await;
    let known = author.state_vector();
    writer.push(1, 2, author.types("short")).await;
    writer.push(1, 3, author.deletes_first()).await;
    writer.acknowledged(3).await;
    let mut reader = Client::connect(&relay).await;
    let opened = reader.open_at(1, "a/doc", Position::StateVector(known)).await;
    let RelayMessage::Opened { sequence, .. } = opened else { panic!("{opened:?}") };
    let updates = reader.updates_through(sequence).await;
    assert!(updates.iter().map(|update| update.len()).sum::<usize>() < 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_with_a_gap_is_asked_about_and_acknowledged_with_the_answer() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let author = Author::new(1);
    let mut client = Client::connect(&relay).await;
    client.open(1, "a/doc").await;
    author.types("lost on the way ");
    client.push(1, 1, author.types("arrived")).await;
    let RelayMessage::Need { state_vector, .. } = client.next().await else { panic!("not asked") };
    let update = author.beyond(&state_vector);
    client.send(ClientMessage::Have { channel: 1, number: 2, update }).await;
    assert_eq!(client.acknowledged(2).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_documents_share_a_socket_and_a_closed_channel_is_silent() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let (mut one, mut other) = (Client::connect(&relay).await, Client::connect(&relay).await);
    let authors: Vec<Author> = (0..5).map(|index| Author::new(index + 1)).collect();
    for channel in 0..5 {
        one.open(channel, &format!("a/{channel}")).await;
        other.open(channel, &format!("a/{channel}")).await;
    }
    other.send(ClientMessage::Close { channel: 3 }).await;
    other.settled().await;
    for (channel, author) in authors.iter().enumerate() {
        let channel = channel as u32;
        one.push(channel, 1, author.types(&format!("doc {channel}"))).await;
        one.acknowledged(1).await;
    }
    let mut seen = Vec::new();
    while seen.len() < 4 {
        if let RelayMessage::Updates { channel, updates, .. } = other.next().await {
            let doc = Author::new(99);
            updates.iter().for_each(|update| doc.applies(update));
            assert_eq!(doc.text(), format!("doc {channel}"));
            seen.push(channel);
        }
    }
    assert!(!seen.contains(&3), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_document_comes_in_fragments_to_many_at_once_from_one_room() {
    let (_folder, data) = data();
    let author = Author::new(1);
    {
        let relay = Relay::start(&data);
        let mut writer = Client::connect(&relay).await;
        writer.open(1, "a/large").await;
        for number in 1..=12 {
            writer.push(1, number, author.types(&"0123456789".repeat(10_000))).await;
        }
        writer.acknowledged(12).await;
        relay.kill();
    }
    let relay = Relay::start(&data);
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let mut reader = Client::connect(&relay).await;
        readers.spawn(async move {
            let sequence = reader.open(1, "a/large").await;
            let doc = Author::new(2);
            reader.updates_through(sequence).await.iter().for_each(|update| doc.applies(update));
            doc.text()
        });
    }
    while let Some(text) = readers.join_next().await {
        assert!(text.unwrap() == author.text());
    }
    assert_eq!(relay.figure("tidewell_rooms"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_misses_nothing() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let author = Author::new(1);
    let (mut writer, mut slow) = (Client::connect(&relay).await, Client::connect(&relay).await);
    writer.open(1, "a/doc").await;
    slow.open(1, "a/doc").await;
    // Far more than the socket's buffers and the room's ring hold, while the reader reads nothing.
    for number in 1..=120 {
        writer.push(1, number, author.types(&"x".repeat(100_000))).await;
    }
    let last = writer.acknowledged(120).await;
    let doc = Author::new(2);
    slow.updates_through(last).await.iter().for_each(|update| doc.applies(update));
    assert!(doc.text() == author.text());
}

/// The most memory that a process has had, in bytes.
pub(crate) fn peak_bytes(relay: &Relay) -> usize {
    let status = format!("/proc/{}/status", relay.id().as_raw_nonzero());
    let status = std::fs::read_to_string(status).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_opens_many_large_documents_costs_the_memory_of_a_few() {
    const DOCUMENTS: u32 = 256;
    const BYTES: usize = 900 << 10;
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let author = Author::new(1);
    let mut writer = Client::connect(&relay).await;
    writer.open(1, "a/doc").await;
    writer.push(1, 1, author.types("known ")).await;
    let known = author.state_vector();
    writer.push(1, 2, author.types(&"x".repeat(BYTES))).await;
    writer.acknowledged(2).await;
    let before = peak_bytes(&relay);
    let mut reader = Client::connect(&relay).await;
    // All in one frame. What lies beyond a state vector is made for each by itself.
    let mut frame = Vec::new();
    for channel in 0..DOCUMENTS {
        let (document, position) =
            (DocumentName::parse("a/doc").unwrap(), Position::StateVector(known.clone()));
        ClientMessage::Open { channel, document, position }.write(&mut frame);
    }
    reader.socket.send(Message::Binary(frame.into())).await.unwrap();
    let mut bytes = 0;
    while bytes < DOCUMENTS as usize * BYTES {
        if let RelayMessage::Updates { updates, .. } = reader.next().await {
            bytes += updates.iter().map(|update| update.len()).sum::<usize>();
        }
    }
    let more = peak_bytes(&relay) - before;
    // Read ahead for all of them it would be 256 times; on a machine with two cores it is 9 to 17 times, as other work on it
    // has it.
    assert!(more < 32 * BYTES, "{more} bytes");
}
