//! What was acknowledged is there, whatever happens.

use crate::author::Author;
use crate::client::Client;
use crate::process::{Relay, data};
use tidewell_sync_core::protocol::RelayMessage;
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_update_survives_kill_9() {
    let (_folder, data) = data();
    let author = Author::new(1);
    for round in 0..4 {
        let relay = Relay::start(&data);
        let mut writer = Client::connect(&relay).await;
        writer.open(1, "a/doc").await;
        for number in 1..=20 {
            writer.push(1, number, author.types(&format!("{round}.{number} "))).await;
        }
        writer.acknowledged(20).await;
        relay.kill();
    }
    let relay = Relay::start(&data);
    let (mut reader, reader_doc) = (Client::connect(&relay).await, Author::new(2));
    let sequence = reader.open(1, "a/doc").await;
    reader.updates_through(sequence).await.iter().for_each(|update| reader_doc.applies(update));
    assert_eq!(reader_doc.text(), author.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_client_has_seen_survives_kill_9() {
    let (_folder, data) = data();
    let author = Author::new(1);
    let relay = Relay::start(&data);
    let (mut writer, mut reader) = (Client::connect(&relay).await, Client::connect(&relay).await);
    writer.open(1, "a/doc").await;
    reader.open(1, "a/doc").await;
    for number in 1..=50 {
        writer.push(1, number, author.types("x")).await;
    }
    let seen = Author::new(2);
    let mut through = 0;
    while through < 25 {
        if let RelayMessage::Updates { through: now, updates, .. } = reader.next().await {
            updates.iter().for_each(|update| seen.applies(update));
            through = now;
        }
    }
    relay.kill();
    let relay = Relay::start(&data);
    let (mut again, again_doc) = (Client::connect(&relay).await, Author::new(3));
    let sequence = again.open(1, "a/doc").await;
    assert!(sequence >= through, "{sequence} < {through}");
    again.updates_through(sequence).await.iter().for_each(|update| again_doc.applies(update));
    assert!(again_doc.text().starts_with(&seen.text()));
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_share_a_commit_and_each_writer_gets_its_own_acknowledgement() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let mut writers = JoinSet::new();
    for index in 0..20u64 {
        let mut client = Client::connect(&relay).await;
        client.open(1, &format!("a/{index}")).await;
        writers.spawn(async move {
            let author = Author::new(index + 1);
            for number in 1..=25 {
                client.push(1, number, author.types("x")).await;
            }
            client.acknowledged(25).await
        });
    }
    while let Some(sequence) = writers.join_next().await {
        assert_eq!(sequence.unwrap(), 25);
    }
    let (updates, commits) = (relay.figure("tidewell_updates_total"), relay.figure("tidewell_commits_total"));
    assert_eq!(updates, 500.0);
    assert!(commits < updates, "{commits} commits");
    assert_eq!(relay.figure("tidewell_unacknowledged_bytes"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_with_0_within_8_seconds_and_tells_clients_when_to_return() {
    let (_folder, data) = data();
    let author = Author::new(1);
    let relay = Relay::start(&data);
    let mut client = Client::connect(&relay).await;
    client.open(1, "a/doc").await;
    client.push(1, 1, author.types("last words")).await;
    // Only what has been read is the relay's to flush.
    let before = client.settled().await;
    let is_ack = |message: &RelayMessage| matches!(message, RelayMessage::Ack { number: 1, .. });
    let mut acknowledged = before.iter().any(is_ack);
    let terminated = tokio::task::spawn_blocking(|| relay.terminate());
    let mut return_after = None;
    while return_after.is_none() {
        match client.next().await {
            RelayMessage::Ack { number: 1, .. } => acknowledged = true,
            RelayMessage::GoAway { after_ms } => return_after = Some(after_ms),
            _ => {}
        }
    }
    assert!(acknowledged, "it flushes while it serves");
    assert!((500..=30_000).contains(&return_after.unwrap()));
    let close = crate::client::closed(&mut client.socket).await;
    assert_eq!(close, crate::client::close_of(tidewell_sync_core::code::Code::ShuttingDown));
    let status = terminated.await.unwrap();
    assert!(status.success(), "{status}");
    let wal = std::fs::metadata(data.join("tidewell.db-wal")).map_or(0, |file| file.len());
    assert_eq!(wal, 0, "everything is in one file");
    let relay = Relay::start(&data);
    let mut client = Client::connect(&relay).await;
    assert_eq!(client.open(1, "a/doc").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_answer_does_not_hold_up_the_end() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let mut client = Client::connect(&relay).await;
    client.open(1, "a/doc").await;
    let status = tokio::task::spawn_blocking(|| relay.terminate()).await.unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_the_store_refuses_holds_up_its_own_document_and_no_other() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let (refused_author, author) = (Author::new(1), Author::new(2));
    let (mut refused, mut reader, mut other) =
        (Client::connect(&relay).await, Client::connect(&relay).await, Client::connect(&relay).await);
    refused.open(1, "a/refused").await;
    reader.open(1, "a/refused").await;
    other.open(1, "a/other").await;
    refused.push(1, 1, refused_author.types("before ")).await;
    refused.acknowledged(1).await;
    reader.updates_through(1).await;
    let store = rusqlite::Connection::open(data.join("tidewell.db")).unwrap();
    for table in ["recent", "log"] {
        let refuse = format!(
            "CREATE TRIGGER refuse_{table} BEFORE INSERT ON {table}
             WHEN NEW.document = (SELECT id FROM document WHERE name = 'a/refused')
             BEGIN SELECT RAISE(ABORT, 'refused'); END"
        );
        store.execute_batch(&refuse).unwrap();
    }
    refused.push(1, 2, refused_author.types("refused ")).await;
    relay.wait_until(|relay| relay.figure("tidewell_commits_failed_total") > 0.0);
    for number in 1..=20 {
        refused.push(1, number + 2, refused_author.types("refused ")).await;
        other.push(1, number, author.types("other ")).await;
        other.acknowledged(number).await;
    }
    assert!(relay.get("/readyz").starts_with("HTTP/1.1 200"), "others are served");
    assert_eq!(refused.settled().await, [], "no acknowledgement");
    assert_eq!(reader.settled().await, [], "and nobody sees it");
    store.execute_batch("DROP TRIGGER refuse_recent; DROP TRIGGER refuse_log").unwrap();
    refused.acknowledged(22).await;
    reader.updates_through(22).await;
    relay.kill();
    let relay = Relay::start(&data);
    for (document, author) in [("a/refused", refused_author), ("a/other", author)] {
        let (mut late, doc) = (Client::connect(&relay).await, Author::new(3));
        let sequence = late.open(1, document).await;
        late.updates_through(sequence).await.iter().for_each(|update| doc.applies(update));
        assert_eq!(doc.text(), author.text());
    }
}
