//! Plain HTTP takes no more of the relay than WebSockets do.

use crate::client::{Client, close_of, closed, socket};
use crate::process::{Relay, data};
use crate::tokens::Issuer;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::protocol::{RelayMessage, SUBPROTOCOL};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

const TICKET: &str = "/v1/ticket/a/doc";

fn hit(relay: &Relay, limit: &str) -> f64 {
    relay.figure(&format!("tidewell_limits_hit_total{{limit=\"{limit}\"}}"))
}

fn body(response: &str) -> Value {
    serde_json::from_str(response.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// A request for a ticket from behind a proxy.
fn ask_for(relay: &Relay, client: &str) -> String {
    relay.request("POST", TICKET, &[("X-Forwarded-For", client)], "")
}

/// Asks until it is told that it asks too often.
fn asked_too_often(ask: impl Fn() -> String) -> String {
    let mut answers = (0..1_000).map(|_| ask());
    answers.find(|answer| answer.starts_with("HTTP/1.1 429")).expect("somebody is told to wait")
}

/// Greets until it is let in: those who left may be counted for a moment.
async fn comes_in(relay: &Relay) {
    while !matches!(Client::greet(relay, "").await.next().await, RelayMessage::Welcome { .. }) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn lm1_a_connection_counts_from_its_first_byte_whatever_it_is() {
    let (_folder, data) = data();
    let relay = Relay::start_with(&data, &["--connections-per-address", "2"]);
    // One says nothing, the other one was answered and is kept.
    let mute = TcpStream::connect(&relay.address).unwrap();
    let mut kept = TcpStream::connect(&relay.address).unwrap();
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: relay\r\n\r\n").unwrap();
    let mut answer = [0; 15];
    kept.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    let mut third = Client::silent(&relay).await;
    assert!(matches!(third.next().await, RelayMessage::GoAway { .. }));
    assert_eq!(closed(&mut third.socket).await, close_of(Code::Overloaded));
    let mut stock = socket(&relay, "/yjs/a/doc", None, None).await;
    assert_eq!(closed(&mut stock).await, close_of(Code::Overloaded));
    // The client keeps it open, and the relay does not.
    let mut plain = TcpStream::connect(&relay.address).unwrap();
    write!(plain, "POST {TICKET} HTTP/1.1\r\nHost: relay\r\nContent-Length: 0\r\n\r\n").unwrap();
    let mut refused = String::new();
    plain.read_to_string(&mut refused).unwrap();
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("\r\nretry-after: "), "{refused}");
    assert_eq!(body(&refused)["code"], json!("overloaded"));
    assert!((5_000..=30_000).contains(&body(&refused)["after_ms"].as_u64().unwrap()), "{refused}");
    // An operator on this machine comes in all the same.
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert!(relay.get(path).starts_with("HTTP/1.1 200"), "{path}");
    }
    assert_eq!(hit(&relay, "connections_per_address"), 3.0);
    drop((mute, kept));
    comes_in(&relay).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lm8_an_address_that_asks_too_often_is_told_when_to_ask_again_before_its_token_is_looked_at() {
    let (_folder, data) = data();
    let issuer = Issuer::new();
    let origin = "https://app.example";
    let arguments = ["--keys", &issuer.path(), "--requests-per-second", "1", "--allow-origin", origin];
    let relay = Relay::start_with(&data, &arguments);
    let (good, forged) =
        (issuer.token("ada", &[("write", "**")]), Issuer::new().token("ada", &[("admin", "**")]));
    let ask = |path: &str, token: &str| {
        let bearer = format!("Bearer {token}");
        relay.request("POST", path, &[("Authorization", &bearer), ("Origin", origin)], "")
    };
    let refused = asked_too_often(|| ask("/v1/kick", &forged));
    // Its page can read it.
    assert!(refused.contains(&format!("access-control-allow-origin: {origin}")), "{refused}");
    assert!(refused.contains("\r\nretry-after: 1\r\n"), "{refused}");
    assert_eq!(body(&refused)["code"], json!("overloaded"));
    let after_ms = body(&refused)["after_ms"].as_u64().unwrap();
    assert!((1..=1_001).contains(&after_ms), "{refused}");
    assert!(asked_too_often(|| ask(TICKET, &good)).contains("\"after_ms\""));
    // Neither operators on this machine nor sockets are concerned.
    for _ in 0..20 {
        assert!(relay.get("/healthz").starts_with("HTTP/1.1 200"));
    }
    Client::connect_with(&relay, &good).await.settled().await;
    assert!(hit(&relay, "requests_per_second") >= 2.0);
    assert!(relay.figure("tidewell_refusals_total{code=\"overloaded\"}") >= 2.0);
    // Those who wait as long as they are told are answered.
    let mut answer = ask(TICKET, &good);
    while answer.starts_with("HTTP/1.1 429") {
        std::thread::sleep(Duration::from_millis(body(&answer)["after_ms"].as_u64().unwrap()));
        answer = ask(TICKET, &good);
    }
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lm8_behind_a_trusted_proxy_each_client_is_counted_by_itself() {
    let (_folder, data) = data();
    let limits = ["--connections-per-address", "1", "--requests-per-second", "1"];
    let relay = Relay::start_with(&data, &[&["--trusted-proxy", "127.0.0.0/8"][..], &limits].concat());
    // The proxy's own connections are not counted.
    let _idle = [(); 3].map(|()| TcpStream::connect(&relay.address).unwrap());
    asked_too_often(|| ask_for(&relay, "203.0.113.1"));
    assert!(ask_for(&relay, "203.0.113.2").starts_with("HTTP/1.1 200"));
    // Who is not on this machine is no operator.
    asked_too_often(|| relay.request("GET", "/metrics", &[("X-Forwarded-For", "203.0.113.1")], ""));
    let connect = async |client: &str| {
        let mut request = format!("ws://{}/v1/sync", relay.address).into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse().unwrap());
        request.headers_mut().insert("x-forwarded-for", client.parse().unwrap());
        tokio_tungstenite::connect_async(request).await.unwrap().0
    };
    let mut first = Client::over(connect("203.0.113.1").await).await;
    let mut second = connect("203.0.113.1").await;
    assert_eq!(closed(&mut second).await, close_of(Code::Overloaded));
    Client::over(connect("203.0.113.2").await).await.settled().await;
    first.settled().await;
}

#[test]
fn ws1_what_is_no_request_for_a_web_socket_is_told_what_is_wrong() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let ask = |key: &str, version: &str| {
        let mut stream = TcpStream::connect(&relay.address).unwrap();
        let head =
            "GET /v1/sync HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n";
        write!(stream, "{head}Sec-WebSocket-Version: {version}\r\nSec-WebSocket-Key: {key}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    for key in ["", "AQIDBAUGBwgJCgsMDQ4P", "AQIDBAUGBwgJCgsMDQ4PEA", "AQIDBAUGBwgJCgsMDQ4PEBE="] {
        let answer = ask(key, "13");
        assert!(answer.starts_with("HTTP/1.1 400"), "{key}: {answer}");
        assert_eq!(body(&answer)["code"], "protocol_violation", "{key}: {answer}");
    }
    let answer = ask("AQIDBAUGBwgJCgsMDQ4PEA==", "14");
    assert!(answer.starts_with("HTTP/1.1 426"), "{answer}");
    assert!(answer.contains("sec-websocket-version: 13\r\n"), "{answer}");
    assert_eq!(body(&answer)["code"], "unsupported_version", "{answer}");
    let answer = relay.get("/v1/sync");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(body(&answer)["code"], "protocol_violation", "{answer}");
    assert_eq!(relay.figure("tidewell_refusals_total{code=\"protocol_violation\"}"), 5.0);
}
