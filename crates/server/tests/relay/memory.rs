//! A relay with little memory gives up what it must, and lives.

use crate::author::Author;
use crate::catch_up::peak_bytes;
use crate::client::{Client, PATIENCE, close_of, closed};
use crate::process::{Relay, data, output};
use bytes::Bytes;
use futures_util::SinkExt;
use std::sync::Arc;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::limits::{FRAME_BYTES_MAX, MESSAGE_BYTES_MAX};
use tidewell_sync_core::protocol::{RelayMessage, split};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

/// Sends all of a message but its end, and waits for the close.
async fn begins_and_never_ends(mut client: Client, frames: Arc<[Bytes]>) {
    for frame in frames.iter().cloned() {
        if client.socket.send(Message::Binary(frame)).await.is_err() {
            break;
        }
    }
    let away = async {
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
    // What they held is given back, and others come in again.
    while !matches!(Client::greet(&relay, "").await.next().await, RelayMessage::Welcome { .. }) {}
}

#[test]
fn a_memory_that_no_relay_can_live_in_is_refused() {
    let (_folder, data) = data();
    let refused = output(&["serve", "--data", data.to_str().unwrap(), "--memory-max", "63M"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("64M"));
}
