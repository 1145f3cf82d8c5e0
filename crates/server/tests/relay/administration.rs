//! Revoking tokens, ending connections and releasing documents over HTTP.

use crate::client::{Client, close_of, closed};
use crate::process::{Relay, data};
use crate::stock::Stock;
use crate::tokens::{Issuer, claims, now_s};
use serde_json::{Value, json};
use std::path::Path;
use tidewell_sync_core::code::Code;

const WRITE: &[(&str, &str)] = &[("write", "**")];

fn start(data: &Path, issuer: &Issuer) -> Relay {
    Relay::start_with(data, &["--keys", &issuer.path()])
}

/// Answers the status and the body.
fn post(relay: &Relay, path: &str, token: &str, body: &str) -> (String, Value) {
    let response = relay.request("POST", path, &[("Authorization", &format!("Bearer {token}"))], body);
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head[9..12].to_owned(), serde_json::from_str(body).unwrap())
}

fn done(relay: &Relay, path: &str, token: &str, body: &Value) -> Value {
    let (status, answer) = post(relay, path, token, &body.to_string());
    assert_eq!(status, "200", "{answer}");
    answer
}

async fn refused(relay: &Relay, token: &str) -> Code {
    Client::greet(relay, token).await.refused().await
}

#[tokio::test(flavor = "multi_thread")]
async fn tk6_a_revoked_token_ends_its_connections_and_lets_nobody_in_after_a_restart_neither() {
    let (_folder, data) = data();
    let issuer = Issuer::new();
    let relay = start(&data, &issuer);
    let admin = issuer.token("ops", &[("admin", "**")]);
    let token = |subject: &str, id: &str, issued_at_s: u64| {
        let mut claims = claims(subject, WRITE);
        (claims["jti"], claims["iat"]) = (json!(id), json!(issued_at_s));
        issuer.sign(&claims)
    };
    let now_s = now_s();
    let (ada, later) = (token("ada", "1", now_s), token("ada", "2", now_s + 60));
    let (bob, bobs_other, old) =
        (token("bob", "3", now_s), token("bob", "4", now_s), token("eve", "5", now_s - 600));
    let ticket =
        relay.request("POST", "/v1/ticket/a/doc", &[("Authorization", &format!("Bearer {ada}"))], "");
    let ticket: Value = serde_json::from_str(ticket.split_once("\r\n\r\n").unwrap().1).unwrap();
    let path = format!("/yjs/a/doc?ticket={}", ticket["ticket"].as_str().unwrap());
    let mut stock = Stock::connect(&relay, &path, 1).await;
    stock.until(|stock| stock.synced).await;
    let mut clients = Vec::new();
    for token in [&ada, &bob, &old, &later, &bobs_other] {
        clients.push(Client::connect_with(&relay, token).await);
    }
    done(&relay, "/v1/revoke", &admin, &json!({ "subject": "ada", "issued_before": now_s + 1 }));
    assert_eq!(closed(&mut stock.socket).await, close_of(Code::TokenRevoked));
    done(&relay, "/v1/revoke", &admin, &json!({ "token_id": "3" }));
    done(&relay, "/v1/revoke", &admin, &json!({ "issued_before": now_s - 300 }));
    let mut clients = clients.into_iter();
    for client in clients.by_ref().take(3) {
        assert_eq!(client.refused().await, Code::TokenRevoked);
    }
    for mut client in clients {
        client.settled().await;
    }
    relay.kill();
    let relay = start(&data, &issuer);
    for token in [&ada, &bob, &old] {
        assert_eq!(refused(&relay, token).await, Code::TokenRevoked);
    }
    for token in [&later, &bobs_other] {
        Client::connect_with(&relay, token).await.settled().await;
    }
    // Without a time: everything made up to now.
    done(&relay, "/v1/revoke", &admin, &json!({ "subject": "bob" }));
    assert_eq!(refused(&relay, &bobs_other).await, Code::TokenRevoked);
}

#[tokio::test(flavor = "multi_thread")]
async fn tk7_whoever_is_kicked_may_come_back_and_nobody_else_notices() {
    let (_folder, data) = data();
    let issuer = Issuer::new();
    let relay = start(&data, &issuer);
    let admin = issuer.token("ops", &[("admin", "**")]);
    let connect = async |subject: &str, document: &str| {
        let mut client = Client::connect_with(&relay, &issuer.token(subject, WRITE)).await;
        client.open(1, document).await;
        client
    };
    for (whom, document) in [
        (json!({ "subject": "ada" }), "a/doc"),
        (json!({ "token_id": "ada" }), "a/doc"),
        (json!({ "document": "a/other" }), "a/other"),
    ] {
        let (one, two) = (connect("ada", document).await, connect("ada", document).await);
        let mut bob = connect("bob", "a/doc").await;
        assert_eq!(done(&relay, "/v1/kick", &admin, &whom), json!({ "connections": 2 }));
        assert_eq!(one.refused().await, Code::Kicked);
        assert_eq!(two.refused().await, Code::Kicked);
        bob.settled().await;
    }
    // A connection is one, however many of its channels are in the document.
    let mut twice = connect("ada", "a/twice").await;
    twice.open(2, "a/twice").await;
    let whom = json!({ "document": "a/twice" });
    assert_eq!(done(&relay, "/v1/kick", &admin, &whom), json!({ "connections": 1 }));
    let nobody = done(&relay, "/v1/kick", &admin, &json!({ "document": "never/opened" }));
    assert_eq!(nobody, json!({ "connections": 0 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn tk8_only_administrators_revoke_kick_and_release() {
    let (_folder, data) = data();
    let issuer = Issuer::new();
    let relay = start(&data, &issuer);
    let mut ada = Client::connect_with(&relay, &issuer.token("ada", WRITE)).await;
    ada.open(1, "acme/list").await;
    let (subject, document) = (json!({ "subject": "ada" }), json!({ "document": "acme/list" }));
    let (own, everything) = (issuer.token("ops", &[("admin", "other/**")]), issuer.token("ada", WRITE));
    let forged = Issuer::new().token("ops", &[("admin", "**")]);
    for (token, status, code) in [
        ("", "401", Code::InvalidToken),
        (forged.as_str(), "401", Code::InvalidToken),
        (everything.as_str(), "403", Code::Forbidden),
        (own.as_str(), "403", Code::Forbidden),
    ] {
        for (path, body) in [
            ("/v1/revoke", &subject),
            ("/v1/kick", &subject),
            ("/v1/kick", &document),
            ("/v1/release", &document),
        ] {
            let (found, answer) = post(&relay, path, token, &body.to_string());
            assert_eq!((found.as_str(), &answer["code"]), (status, &json!(code.name())), "{path} {body}");
        }
    }
    ada.settled().await;
    let of_acme = issuer.token("ops", &[("admin", "acme/**")]);
    let (status, _) = post(&relay, "/v1/kick", &of_acme, &subject.to_string());
    assert_eq!(status, "403");
    assert_eq!(done(&relay, "/v1/release", &of_acme, &document), json!({ "released": false }));
    done(&relay, "/v1/kick", &of_acme, &document);
    assert_eq!(ada.refused().await, Code::Kicked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cannot_be_meant_is_refused_and_does_nothing() {
    let (_folder, data) = data();
    let issuer = Issuer::new();
    let relay = start(&data, &issuer);
    let admin = issuer.token("ops", &[("admin", "**")]);
    let long = format!("{{\"subject\": \"{}\"}}", "x".repeat(5000));
    for path in ["/v1/revoke", "/v1/kick", "/v1/release"] {
        for body in [
            "",
            "{",
            "[]",
            "{}",
            "{\"subject\": \"\"}",
            "{\"subject\": 7}",
            "{\"subject\": \"ada\", \"token_id\": \"1\"}",
            "{\"subjekt\": \"ada\"}",
            "{\"token_id\": \"1\", \"issued_before\": 5}",
            "{\"issued_before\": -5}",
            "{\"document\": \"a\\nb\"}",
            long.as_str(),
        ] {
            let (status, answer) = post(&relay, path, &admin, body);
            assert_eq!(status, "400", "{path} {body}: {answer}");
        }
    }
    // What is made later cannot be meant, and nobody could be let in again.
    for later in [now_s() + 60, now_s() * 1000, u64::MAX] {
        for body in [json!({ "issued_before": later }), json!({ "subject": "ops", "issued_before": later })] {
            let (status, answer) = post(&relay, "/v1/revoke", &admin, &body.to_string());
            assert_eq!((status.as_str(), &answer["code"]), ("400", &json!("invalid_options")), "{body}");
        }
    }
    Client::connect_with(&relay, &admin).await.settled().await;
    // Without keys nobody is an administrator.
    let (_folder, data) = crate::process::data();
    let relay = Relay::start(&data);
    for path in ["/v1/revoke", "/v1/kick"] {
        assert_eq!(post(&relay, path, &admin, "{\"subject\": \"ada\"}").0, "403");
    }
    drop(relay);
    // What makes work and takes nothing from anybody is for those on its machine.
    let relay = Relay::start_with(&data, &["--trusted-proxy", "127.0.0.0/8"]);
    let release = |header: &[(&str, &str)]| {
        relay.request("POST", "/v1/release", header, "{\"document\": \"a/doc\"}")[9..12].to_owned()
    };
    assert_eq!(release(&[]), "200");
    assert_eq!(release(&[("Origin", "http://localhost:5173")]), "200");
    assert_eq!(release(&[("Origin", "https://evil.example")]), "403");
    assert_eq!(release(&[("X-Forwarded-For", "203.0.113.1")]), "403");
    assert_eq!(release(&[("X-Forwarded-For", "127.0.0.1")]), "403");
}
