//! Revoking tokens, ending connections and releasing documents over HTTP.

use crate::author::Author;
use crate::client::{Client, close_of, closed};
use crate::process::{Relay, data, output};
use crate::stock::Stock;
use crate::tokens::{Issuer, claims, now_s};
use serde_json::{Value, json};
use std::path::Path;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::protocol::{ClientMessage, Position, RelayMessage};
use tidewell_sync_core::state_vector::StateVector;

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

fn forbidden(channel: u32) -> RelayMessage {
    RelayMessage::Refused { channel, number: 0, code: Code::Forbidden }
}

/// True when a document can be opened with a token.
async fn opens(relay: &Relay, token: &str, document: &str) -> bool {
    let mut client = Client::connect_with(relay, token).await;
    let nothing = Position::StateVector(StateVector::default());
    match client.open_at(1, document, nothing).await {
        RelayMessage::Opened { .. } => true,
        other => {
            assert_eq!(other, forbidden(1));
            false
        }
    }
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

#[test]
fn what_is_revoked_already_is_answered_without_a_write() {
    let (_folder, data) = data();
    let issuer = Issuer::new();
    let relay = start(&data, &issuer);
    let admin = issuer.token("ops", &[("admin", "**")]);
    let store = rusqlite::Connection::open(data.join("tidewell.db")).unwrap();
    // What others write changes it.
    let version = || store.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0)).unwrap();
    let revoke =
        |body: Value| assert_eq!(done(&relay, "/v1/revoke", &admin, &body), json!({ "revoked": true }));
    let before = version();
    revoke(json!({ "document": "acme/**", "issued_before": 20 }));
    revoke(json!({ "subject": "ada", "issued_before": 20 }));
    let written = version();
    assert_ne!(written, before);
    revoke(json!({ "document": "acme/list/*", "issued_before": 20 }));
    revoke(json!({ "subject": "ada", "issued_before": 19 }));
    assert_eq!(version(), written);
    revoke(json!({ "subject": "ada", "issued_before": 21 }));
    assert_ne!(version(), written);
}

#[tokio::test(flavor = "multi_thread")]
async fn tk9_a_revoked_document_is_closed_to_tokens_of_before_and_everything_else_goes_on() {
    let (_folder, data) = data();
    let issuer = Issuer::new();
    let relay = start(&data, &issuer);
    let now_s = now_s();
    let token = |subject: &str, issued_at_s: u64| {
        let mut claims = claims(subject, WRITE);
        claims["iat"] = json!(issued_at_s);
        issuer.sign(&claims)
    };
    let (old, newer) = (token("ada", now_s), token("ada", now_s + 60));
    let mut ada = Client::connect_with(&relay, &old).await;
    ada.open(1, "acme/list/42").await;
    ada.open(2, "acme/other").await;
    let mut bob = Client::connect_with(&relay, &token("bob", now_s + 60)).await;
    bob.open(1, "acme/list/42").await;
    for client in [&mut ada, &mut bob] {
        client.settled().await;
    }
    let admin = issuer.token("ops", &[("admin", "acme/**")]);
    let revoke = json!({ "document": "acme/list/42", "issued_before": now_s + 1 });
    assert_eq!(done(&relay, "/v1/revoke", &admin, &revoke), json!({ "revoked": true }));
    assert_eq!(ada.next().await, forbidden(1), "nobody has asked");
    // What was on its way is not taken; her other document is as it was, and so is who has a newer token.
    ada.push(1, 1, Author::new(1).types("no more")).await;
    ada.push(2, 1, Author::new(1).types("still")).await;
    ada.acknowledged(1).await;
    bob.push(1, 1, Author::new(2).types("mine")).await;
    assert_eq!(bob.acknowledged(1).await, 1, "nothing came before it");
    assert_eq!(ada.settled().await, [], "she hears nothing of it");
    assert!(!opens(&relay, &old, "acme/list/42").await);
    ada.send(ClientMessage::Refresh { token: newer.clone() }).await;
    assert_eq!(ada.open(1, "acme/list/42").await, 1);
    // What a pattern matches.
    let mut eve = Client::connect_with(&relay, &token("eve", now_s)).await;
    eve.open(1, "acme/list/7").await;
    eve.open(2, "acme/list/7/notes").await;
    eve.settled().await;
    let revoke = json!({ "document": "acme/list/*", "issued_before": now_s + 1 });
    done(&relay, "/v1/revoke", &admin, &revoke);
    assert_eq!(eve.next().await, forbidden(1));
    assert_eq!(eve.settled().await, []);
    ada.push(1, 1, Author::new(1).types("again")).await;
    ada.acknowledged(1).await;
    // As the store has it, and as a backup does.
    let [backup, restored] = ["backup.db", "restored"].map(|name| data.with_file_name(name));
    let [from, to, anew] = [&data, &backup, &restored].map(|path| path.to_str().unwrap());
    assert!(output(&["backup", "--data", from, "--to", to]).status.success());
    assert!(output(&["restore", "--from", to, "--data", anew]).status.success());
    relay.kill();
    for data in [&data, &restored] {
        let relay = start(data, &issuer);
        for (document, is_revoked) in [
            ("acme/list/42", true),
            ("acme/list/7", true),
            ("acme/list/7/notes", false),
            ("acme/other", false),
        ] {
            assert_eq!(opens(&relay, &old, document).await, !is_revoked, "{document}");
            assert!(opens(&relay, &newer, document).await, "{document}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tk9_what_an_administrator_may_do_with_documents_is_revoked_too() {
    let (_folder, data) = data();
    let issuer = Issuer::new();
    let relay = start(&data, &issuer);
    let token = |document: &str, issued_at_s: u64| {
        let mut claims = claims("ops", &[("admin", document)]);
        claims["iat"] = json!(issued_at_s);
        issuer.sign(&claims)
    };
    let (old, newer, of_all) =
        (token("acme/**", now_s() - 60), token("acme/**", now_s() + 60), token("**", now_s() - 60));
    let list = json!({ "document": "acme/list" });
    let both =
        |token: &str| ["/v1/kick", "/v1/revoke"].map(|path| post(&relay, path, token, &list.to_string()).0);
    done(&relay, "/v1/kick", &old, &list);
    done(&relay, "/v1/revoke", &newer, &list);
    assert_eq!(both(&old), ["403", "403"]);
    assert_eq!(both(&newer), ["200", "200"]);
    done(&relay, "/v1/kick", &old, &json!({ "document": "acme/other" }));
    done(&relay, "/v1/kick", &of_all, &json!({ "subject": "ada" }));
    done(&relay, "/v1/revoke", &of_all, &json!({ "document": "acme/**" }));
    assert_eq!(both(&of_all), ["403", "403"]);
    assert_eq!(post(&relay, "/v1/kick", &old, "{\"document\": \"acme/other\"}").0, "403");
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
            ("/v1/revoke", &document),
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
    for (path, body) in [
        ("/v1/kick", &subject),
        ("/v1/revoke", &subject),
        ("/v1/revoke", &json!({ "token_id": "ada" })),
        ("/v1/revoke", &json!({ "issued_before": 5 })),
        // Not all that these match.
        ("/v1/revoke", &json!({ "document": "**" })),
        ("/v1/revoke", &json!({ "document": "*/list" })),
        ("/v1/revoke", &json!({ "document": "acme" })),
    ] {
        let (status, answer) = post(&relay, path, &of_acme, &body.to_string());
        assert_eq!((status.as_str(), &answer["code"]), ("403", &json!("forbidden")), "{path} {body}");
    }
    let of_some = issuer.token("ops", &[("admin", "acme/*")]);
    assert_eq!(post(&relay, "/v1/revoke", &of_some, "{\"document\": \"acme/**\"}").0, "403");
    ada.settled().await;
    assert_eq!(done(&relay, "/v1/release", &of_acme, &document), json!({ "released": false }));
    done(&relay, "/v1/kick", &of_acme, &document);
    assert_eq!(ada.refused().await, Code::Kicked);
    done(&relay, "/v1/revoke", &of_acme, &json!({ "document": "acme/*/**" }));
    done(&relay, "/v1/revoke", &of_acme, &document);
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
            "{\"document\": \"a\", \"subject\": \"ada\"}",
            "{\"document\": \"a\", \"token_id\": \"1\"}",
            long.as_str(),
        ] {
            let (status, answer) = post(&relay, path, &admin, body);
            assert_eq!(status, "400", "{path} {body}: {answer}");
        }
    }
    // What is made later cannot be meant, and nobody could be let in again.
    for later in [now_s() + 60, now_s() * 1000, u64::MAX] {
        for body in [
            json!({ "issued_before": later }),
            json!({ "subject": "ops", "issued_before": later }),
            json!({ "document": "acme/list", "issued_before": later }),
        ] {
            let (status, answer) = post(&relay, "/v1/revoke", &admin, &body.to_string());
            assert_eq!((status.as_str(), &answer["code"]), ("400", &json!("invalid_options")), "{body}");
        }
    }
    // A star inside a segment is a name's, and no pattern's.
    assert_eq!(post(&relay, "/v1/revoke", &admin, "{\"document\": \"acme*\"}").0, "400");
    assert_eq!(post(&relay, "/v1/kick", &admin, "{\"document\": \"acme*\"}").0, "200");
    assert!(opens(&relay, &admin, "acme/list").await);
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
