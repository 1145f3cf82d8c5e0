//! More of everything than there may be: who is refused is told when to come back, and the others are served.

use crate::author::Author;
use crate::client::{Client, close_of, closed, socket};
use crate::process::{Relay, data};
use crate::stock::Stock;
use crate::tickets::ticket;
use crate::tokens::Issuer;
use futures_util::SinkExt;
use std::time::{Duration, Instant};
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::protocol::{ClientMessage, Position, RelayMessage, VERSION};
use tidewell_sync_core::state_vector::StateVector;
use tidewell_sync_core::y_protocol::YMessage;
use tokio_tungstenite::tungstenite::Message;

const EVERYTHING: &[(&str, &str)] = &[("write", "**")];

fn hit(relay: &Relay, limit: &str) -> f64 {
    relay.figure(&format!("tidewell_limits_hit_total{{limit=\"{limit}\"}}"))
}

/// Reads what somebody is told who comes too much, and answers when they may come back.
async fn sent_away(mut client: Client) -> u64 {
    let RelayMessage::GoAway { after_ms } = client.next().await else { panic!("it was let in") };
    assert_eq!(closed(&mut client.socket).await, close_of(Code::Overloaded));
    after_ms
}

#[tokio::test(flavor = "multi_thread")]
async fn lm1_a_connection_too_many_is_told_when_to_come_back_and_the_others_live() {
    for (option, limit) in
        [("--connections-max", "connections"), ("--connections-per-address", "connections_per_address")]
    {
        let (_folder, data) = data();
        let relay = Relay::start_with(&data, &[option, "2"]);
        let mut first = Client::connect(&relay).await;
        let _stock = socket(&relay, "/yjs/a/doc", None, None).await;
        let after_ms = sent_away(Client::silent(&relay).await).await;
        assert!((5_000..=30_000).contains(&after_ms), "{after_ms}");
        let mut stock = socket(&relay, "/yjs/a/doc", None, None).await;
        assert_eq!(closed(&mut stock).await, close_of(Code::Overloaded));
        assert_eq!(hit(&relay, limit), 2.0);
        assert_eq!(relay.figure("tidewell_refusals_total{code=\"overloaded\"}"), 2.0);
        first.open(1, "a/doc").await;
        // Operators come in all the same, and whoever leaves makes room, as soon as it has left.
        drop(first);
        while !matches!(Client::greet(&relay, "").await.next().await, RelayMessage::Welcome { .. }) {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lm1_a_flood_is_refused_by_status_before_anything_is_kept_for_it() {
    let (_folder, data) = data();
    let relay = Relay::start_with(&data, &["--connections-max", "1"]);
    let _only = Client::connect(&relay).await;
    // They read nothing, so that each is told for as long as it may take.
    let mut told = Vec::new();
    let refused = loop {
        assert!(told.len() < 10_000, "all of them are told");
        match Client::try_silent(&relay).await {
            Ok(client) => told.push(client),
            Err(response) => break response,
        }
    };
    assert_eq!(refused.status(), 503);
    let after_s: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((5..=30).contains(&after_s), "{after_s}");
    assert!(String::from_utf8_lossy(refused.body().as_ref().unwrap()).contains("\"overloaded\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn lm1_a_subject_with_too_many_connections_is_sent_away_and_nobody_else() {
    let (_folder, data) = data();
    let issuer = Issuer::new();
    let relay = Relay::start_with(&data, &["--keys", &issuer.path(), "--connections-per-subject", "2"]);
    let (ada, eve) = (issuer.token("ada", EVERYTHING), issuer.token("eve", EVERYTHING));
    let mut first = Client::connect_with(&relay, &ada).await;
    // Another token for the same connection counts no second time.
    first.send(ClientMessage::Refresh { token: issuer.token("ada", EVERYTHING) }).await;
    first.settled().await;
    let stock = socket(&relay, &ticket(&relay, "a/doc", &ada), None, None).await;
    sent_away(Client::greet(&relay, &ada).await).await;
    let mut late = socket(&relay, &ticket(&relay, "a/doc", &ada), None, None).await;
    assert_eq!(closed(&mut late).await, close_of(Code::Overloaded));
    assert_eq!(hit(&relay, "connections_per_subject"), 2.0);
    Client::connect_with(&relay, &eve).await.settled().await;
    // It may still be waiting for its room.
    let is_stock =
        |count| move |relay: &Relay| relay.figure("tidewell_connections{protocol=\"yjs\"}") == count;
    relay.wait_until(is_stock(1.0));
    drop(stock);
    relay.wait_until(is_stock(0.0));
    Client::connect_with(&relay, &ada).await.settled().await;
    first.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lm1_who_has_not_said_hello_takes_a_bounded_place_and_those_behind_come_back() {
    let (_folder, data) = data();
    let relay = Relay::start_with(&data, &["--joins-max", "2"]);
    let mut joining = Client::silent(&relay).await;
    let _silent = Client::silent(&relay).await;
    let after_ms = sent_away(Client::silent(&relay).await).await;
    assert!((500..=1_001).contains(&after_ms), "{after_ms}");
    assert_eq!(hit(&relay, "joins"), 1.0);
    joining.send(ClientMessage::Hello { version: VERSION, token: String::new() }).await;
    assert!(matches!(joining.next().await, RelayMessage::Welcome { .. }));
    Client::connect(&relay).await.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lm6_a_storm_of_joins_is_told_when_to_come_back_and_all_come_in() {
    const DEVICES: u32 = 64;
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let mut client = Client::connect(&relay).await;
    for device in 0..DEVICES {
        client.open(device, &format!("a/{device}")).await;
        client.push(device, 1, Author::new(1).types("x")).await;
        client.acknowledged(1).await;
    }
    drop((client, relay));
    let relay = Relay::start_with(&data, &["--joins-max", "1"]);
    // Each is let in before all of them want a document at once.
    let mut devices = Vec::new();
    for device in 0..DEVICES {
        devices.push((device, Client::connect(&relay).await));
    }
    let mut sent = Vec::new();
    for (device, mut client) in devices {
        let (document, position) = (
            DocumentName::parse(&format!("a/{device}")).unwrap(),
            Position::StateVector(StateVector::default()),
        );
        client.send(ClientMessage::Open { channel: 1, document, position }).await;
        sent.push((device, client));
    }
    let mut again = Vec::new();
    for (device, mut client) in sent {
        match client.next().await {
            RelayMessage::Opened { sequence: 1, .. } => {}
            RelayMessage::GoAway { after_ms } => {
                assert!((500..=1_001).contains(&after_ms), "{after_ms}");
                assert_eq!(closed(&mut client.socket).await, close_of(Code::Overloaded));
                again.push(device);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(!again.is_empty());
    assert_eq!(hit(&relay, "loads"), again.len() as f64);
    for device in again {
        // Nobody else is on the way in.
        assert_eq!(Client::connect(&relay).await.open(1, &format!("a/{device}")).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lm2_who_sends_updates_too_fast_waits_and_loses_nothing() {
    let (_folder, data) = data();
    let relay = Relay::start_with(&data, &["--updates-per-second", "20"]);
    let (mut fast, mut other) = (Client::connect(&relay).await, Client::connect(&relay).await);
    let author = Author::new(1);
    fast.open(1, "a/doc").await;
    other.open(1, "a/doc").await;
    // With the opening 261, of which 200 are free; the others take 3 s.
    let mut frame = Vec::new();
    for number in 1..=260 {
        ClientMessage::Push { channel: 1, number, update: author.types("x") }.write(&mut frame);
    }
    let began = Instant::now();
    fast.socket.send(Message::Binary(frame.into())).await.unwrap();
    fast.acknowledged(260).await;
    fast.settled().await;
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(hit(&relay, "updates_per_second"), 1.0);
    let read = Author::new(2);
    while read.text().len() < 260 {
        other.updates_through(1).await.iter().for_each(|update| read.applies(update));
    }
    // Nobody else waits.
    other.settled().await;
    assert_eq!(hit(&relay, "updates_per_second"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn lm2_who_sends_bytes_too_fast_waits_at_both_doors() {
    let (_folder, data) = data();
    let relay = Relay::start_with(&data, &["--bytes-per-second", "26K"]);
    let mut stock = Stock::connect(&relay, "/yjs/a/doc", 1).await;
    stock.until(|stock| stock.synced).await;
    let began = Instant::now();
    // Larger than what is read at once: the question behind it is not read together with it.
    stock.types(&"x".repeat(340 << 10)).await;
    let question = YMessage::SyncStep1(stock.doc.state_vector());
    stock.synced = false;
    stock.send(question).await;
    stock.until(|stock| stock.synced).await;
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    let mut client = Client::connect(&relay).await;
    client.open(1, "a/other").await;
    let began = Instant::now();
    client.push(1, 1, Author::new(1).types(&"x".repeat(340 << 10))).await;
    client.settled().await;
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(hit(&relay, "bytes_per_second"), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn lm2_tokens_that_come_too_fast_are_read_later() {
    let (_folder, data) = data();
    let issuer = Issuer::new();
    let relay = Relay::start_with(&data, &["--keys", &issuer.path()]);
    let token = issuer.token("ada", EVERYTHING);
    let mut client = Client::connect_with(&relay, &token).await;
    let mut frame = Vec::new();
    (0..13).for_each(|_| ClientMessage::Refresh { token: token.clone() }.write(&mut frame));
    ClientMessage::Ping { nonce: 1 }.write(&mut frame);
    let began = Instant::now();
    client.socket.send(Message::Binary(frame.into())).await.unwrap();
    // What is behind them in the same frame waits too.
    assert_eq!(client.next().await, RelayMessage::Pong { nonce: 1 });
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(hit(&relay, "refreshes_per_second"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn lm3_presence_that_changes_too_fast_is_told_less_often_and_the_newest_always() {
    let (_folder, data) = data();
    let relay = Relay::start_with(&data, &["--presence-per-second", "1"]);
    let mut pointer = Stock::connect(&relay, "/yjs/a/doc", 1).await;
    let mut watcher = Stock::connect(&relay, "/yjs/a/doc", 2).await;
    pointer.until(|stock| stock.synced).await;
    watcher.until(|stock| stock.synced).await;
    let began = Instant::now();
    for clock in 1..=200 {
        pointer.announces(1, clock, &format!("{{\"x\":{clock}}}")).await;
    }
    let mut told = 0u64;
    while watcher.awareness.first().is_none_or(|entry| entry.clock < 200) {
        watcher.step().await;
        told += 1;
    }
    assert_eq!(watcher.awareness[0].state, "{\"x\":200}");
    // Two at once, and one a second; a message before them is of the synchronization.
    assert!(told <= began.elapsed().as_secs() + 4, "{told} messages");
    assert!(hit(&relay, "presence_per_second") >= 1.0);
    // Its edits do not wait.
    pointer.types("x").await;
    watcher.until(|stock| stock.doc.text() == "x").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_of_one_subject_take_a_bounded_place() {
    let (_folder, data) = data();
    let issuer = Issuer::new();
    let relay = Relay::start_with(&data, &["--keys", &issuer.path()]);
    let (ada, eve) = (issuer.token("ada", EVERYTHING), issuer.token("eve", EVERYTHING));
    let first = ticket(&relay, "a/doc", &ada);
    (1..256).for_each(|_| drop(ticket(&relay, "a/doc", &ada)));
    let bearer = format!("Bearer {ada}");
    let refused = relay.request("POST", "/v1/ticket/a/doc", &[("Authorization", &bearer)], "");
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("retry-after: 30") && refused.contains("\"overloaded\""), "{refused}");
    assert_eq!(hit(&relay, "tickets_per_subject"), 1.0);
    ticket(&relay, "a/doc", &eve);
    // One that is used makes room.
    let mut stock = Stock::connect(&relay, &first, 1).await;
    stock.until(|stock| stock.synced).await;
    ticket(&relay, "a/doc", &ada);
}

#[test]
fn limits_that_would_let_nobody_in_are_refused() {
    let (_folder, data) = data();
    let data = data.to_str().unwrap();
    for option in [
        "--connections-max",
        "--connections-per-subject",
        "--connections-per-address",
        "--requests-per-second",
        "--joins-max",
        "--updates-per-second",
        "--bytes-per-second",
        "--presence-per-second",
        "--document-bytes-max",
        "--tenant-bytes-max",
        "--tenant-bytes-per-second",
    ] {
        for bad in ["0", "-1", "many", "99999999999999999999", ""] {
            let refused = crate::process::output(&["serve", "--data", data, &format!("{option}={bad}")]);
            assert!(!refused.status.success(), "{option} {bad:?}");
            assert!(String::from_utf8_lossy(&refused.stderr).contains(option), "{option} {bad:?}");
        }
    }
}
