//! Rooms come and go.

use crate::author::Author;
use crate::client::Client;
use crate::process::{Relay, data};

#[tokio::test(flavor = "multi_thread")]
async fn idle_rooms_leave_memory_and_come_back_with_everything() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let author = Author::new(1);
    {
        let mut writer = Client::connect(&relay).await;
        for document in 0..10 {
            writer.open(document, &format!("a/{document}")).await;
        }
        writer.push(3, 1, author.types("kept")).await;
        writer.acknowledged(1).await;
        assert_eq!(relay.figure("tidewell_rooms"), 10.0);
    }
    relay.wait_until(|relay| relay.figure("tidewell_rooms") == 0.0);
    let (mut reader, doc) = (Client::connect(&relay).await, Author::new(2));
    let sequence = reader.open(1, "a/3").await;
    reader.updates_through(sequence).await.iter().for_each(|update| doc.applies(update));
    assert_eq!(doc.text(), "kept");
    reader.push(1, 1, doc.types("!")).await;
    assert_eq!(reader.acknowledged(1).await, sequence + 1, "sequences go on where they were");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_open_one_document_at_once_meet_in_one_room() {
    let (_folder, data) = data();
    for round in 0..5 {
        let relay = Relay::start(&data);
        let document = format!("a/{round}");
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.push(Client::connect(&relay).await);
        }
        let opens = clients.iter_mut().map(|client| client.open(1, &document));
        futures_util::future::join_all(opens).await;
        let author = Author::new(1);
        clients[0].push(1, 1, author.types("hello")).await;
        clients[0].acknowledged(1).await;
        for client in &mut clients[1..] {
            let doc = Author::new(2);
            client.updates_through(1).await.iter().for_each(|update| doc.applies(update));
            assert_eq!(doc.text(), "hello");
        }
        relay.kill();
    }
}
