//! More of everything than there may be: who is refused is told when to come back, and the others are served.

use crate::client::{Client, close_of, closed, socket};
use crate::process::{Relay, data};
use crate::tickets::ticket;
use crate::tokens::Issuer;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::protocol::{ClientMessage, RelayMessage, SUBPROTOCOL, VERSION};

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
        // Operators come in all the same, and whoever leaves makes room.
        drop(first);
        relay.wait_until(|relay| relay.figure("tidewell_connections{protocol=\"tidewell\"}") == 0.0);
        Client::connect(&relay).await.settled().await;
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
    drop(stock);
    relay.wait_until(|relay| relay.figure("tidewell_connections{protocol=\"yjs\"}") == 0.0);
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

#[test]
fn limits_that_would_let_nobody_in_are_refused() {
    let (_folder, data) = data();
    let data = data.to_str().unwrap();
    for option in
        ["--connections-max", "--connections-per-subject", "--connections-per-address", "--joins-max"]
    {
        for bad in ["0", "-1", "many", "4294967296", ""] {
            let refused = crate::process::output(&["serve", "--data", data, &format!("{option}={bad}")]);
            assert!(!refused.status.success(), "{option} {bad:?}");
            assert!(String::from_utf8_lossy(&refused.stderr).contains(option), "{option} {bad:?}");
        }
    }
}
