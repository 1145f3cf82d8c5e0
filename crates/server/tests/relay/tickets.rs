//! Tickets: how stock clients come in where tokens are asked for.

use crate::author::Author;
use crate::client::{Client, close_of, closed, socket};
use crate::process::{Relay, data};
use crate::stock::Stock;
use crate::tokens::{Issuer, LEEWAY_S, claims, now_s};
use serde_json::{Value, json};
use std::path::Path;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::y_protocol::YMessage;

fn start(data: &Path, issuer: &Issuer) -> Relay {
    Relay::start_with(data, &["--keys", &issuer.path(), "--allow-origin", "https://app.example"])
}

fn ask(relay: &Relay, document: &str, token: &str) -> String {
    let bearer = format!("Bearer {token}");
    relay.request("POST", &format!("/v1/ticket/{document}"), &[("Authorization", &bearer)], "")
}

fn body(response: &str) -> Value {
    serde_json::from_str(response.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// The address with a new ticket.
pub(crate) fn ticket(relay: &Relay, document: &str, token: &str) -> String {
    let response = ask(relay, document, token);
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    assert!(response.contains("cache-control: no-store"), "{response}");
    let body = body(&response);
    assert_eq!(body["valid_ms"], json!(30_000));
    format!("/yjs/{document}?ticket={}", body["ticket"].as_str().unwrap())
}

async fn refusal(relay: &Relay, path: &str) -> (u16, String) {
    closed(&mut socket(relay, path, None, None).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ti1_a_ticket_lets_one_stock_client_into_one_document_once() {
    let (_folder, data) = data();
    let issuer = Issuer::new();
    let relay = start(&data, &issuer);
    let token = issuer.token("ada", &[("write", "acme/*"), ("read", "public/*")]);
    let path = ticket(&relay, "acme/list", &token);
    let mut stock = Stock::connect(&relay, &path, 1).await;
    stock.types("hello").await;
    let mut ours = Client::connect_with(&relay, &token).await;
    ours.open(1, "acme/list").await;
    let read = Author::new(2);
    while read.text() != "hello" {
        ours.updates_through(1).await.iter().for_each(|update| read.applies(update));
    }
    // It was used; it is for another document; it never was; it is a token; there is none.
    assert_eq!(refusal(&relay, &path).await, close_of(Code::TokenExpired));
    let elsewhere = ticket(&relay, "acme/list", &token).replace("acme/list", "acme/other");
    assert_eq!(refusal(&relay, &elsewhere).await, close_of(Code::Forbidden));
    let again = elsewhere.replace("acme/other", "acme/list");
    assert_eq!(refusal(&relay, &again).await, close_of(Code::TokenExpired), "showing it uses it up");
    assert_eq!(refusal(&relay, "/yjs/acme/list?ticket=AAAA").await, close_of(Code::TokenExpired));
    let with_token = format!("/yjs/acme/list?ticket={token}");
    assert_eq!(refusal(&relay, &with_token).await, close_of(Code::TokenExpired));
    let with_token = format!("/yjs/acme/list?token={token}");
    assert_eq!(refusal(&relay, &with_token).await, close_of(Code::InvalidToken));
    assert_eq!(refusal(&relay, "/yjs/acme/%FF?ticket=AAAA").await, close_of(Code::InvalidName));
    assert_eq!(refusal(&relay, "/yjs/acme/list?ticket=AAAA&ticket=AAAA").await, close_of(Code::InvalidToken));
    // None is given out without a token, or for what it does not grant.
    for (document, token, status, code) in [
        ("acme/list", String::new(), "401", Code::InvalidToken),
        ("acme/list", Issuer::new().token("ada", &[("write", "**")]), "401", Code::InvalidToken),
        ("other/list", token.clone(), "403", Code::Forbidden),
        ("acme/a%0Ab", token.clone(), "400", Code::InvalidName),
        ("acme/%FF", token.clone(), "400", Code::InvalidName),
    ] {
        let response = ask(&relay, document, &token);
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{response}");
        assert_eq!(body(&response)["code"], json!(code.name()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_origins_that_may_connect_may_ask_for_tickets_and_others_may_not() {
    let (_folder, data) = data();
    let issuer = Issuer::new();
    let relay = start(&data, &issuer);
    let bearer = format!("Bearer {}", issuer.token("ada", &[("write", "**")]));
    for (origin, is_allowed) in [("https://app.example", true), ("https://evil.example", false)] {
        let headers = [("Origin", origin), ("Authorization", bearer.as_str())];
        let response = relay.request("POST", "/v1/ticket/acme/list", &headers, "");
        assert_eq!(response.starts_with("HTTP/1.1 200"), is_allowed, "{response}");
        let before = relay.request("OPTIONS", "/v1/ticket/acme/list", &headers[..1], "");
        assert!(before.contains("access-control-allow-headers: authorization"), "{before}");
        for response in [response, before] {
            let line = format!("access-control-allow-origin: {origin}");
            assert_eq!(response.contains(&line), is_allowed, "{response}");
            assert_eq!(response.contains("access-control-allow-origin"), is_allowed, "{response}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ti2_a_stock_client_may_do_what_its_ticket_says() {
    let (_folder, data) = data();
    let issuer = Issuer::new();
    let relay = start(&data, &issuer);
    let token = issuer.token("ada", &[("read", "acme/*"), ("comment", "acme/list"), ("write", "acme/list")]);
    let of = |access| issuer.token("rosa", &[(access, "acme/list")]);
    let mut writer = Stock::connect(&relay, &ticket(&relay, "acme/list", &token), 1).await;
    writer.types("hello").await;
    // It has what the relay lacks, and is not asked for it: the answer would be an edit.
    let with_more = Author::new(2);
    with_more.types("more");
    let mut reader = Stock::with(&relay, &ticket(&relay, "acme/list", &of("read")), with_more).await;
    reader.until(|stock| stock.doc.text().contains("hello")).await;
    reader.announces(2, 1, "{\"name\":\"reader\"}").await;
    // Once it is answered again the relay has heard its presence.
    reader.synced = false;
    reader.send(YMessage::SyncStep1(reader.doc.state_vector())).await;
    reader.until(|stock| stock.synced).await;
    let mut commenter = Stock::connect(&relay, &ticket(&relay, "acme/list", &of("comment")), 3).await;
    commenter.announces(3, 1, "{\"name\":\"commenter\"}").await;
    writer.until(|stock| stock.awareness.iter().any(|entry| entry.client == 3)).await;
    assert!(writer.awareness.iter().all(|entry| entry.client != 2), "{:?}", writer.awareness);
    for stock in [&mut reader, &mut commenter] {
        stock.types("not mine").await;
        assert_eq!(closed(&mut stock.socket).await, close_of(Code::Forbidden));
    }
    let mut ours = Client::connect_with(&relay, &token).await;
    assert_eq!(ours.open(1, "acme/list").await, 1, "nothing of it was taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn ti3_a_stock_connection_ends_at_its_tokens_expiry() {
    let (_folder, data) = data();
    let issuer = Issuer::new();
    let relay = start(&data, &issuer);
    let mut short = claims("ada", &[("write", "**")]);
    short["exp"] = json!(now_s() + 5 - LEEWAY_S);
    let path = ticket(&relay, "acme/list", &issuer.sign(&short));
    let mut stock = Stock::connect(&relay, &path, 1).await;
    stock.until(|stock| stock.synced).await;
    assert_eq!(closed(&mut stock.socket).await, close_of(Code::TokenExpired));
}

#[tokio::test(flavor = "multi_thread")]
async fn tk9_stock_clients_leave_a_revoked_document_and_tickets_to_it_are_no_longer_good() {
    let (_folder, data) = data();
    let issuer = Issuer::new();
    let relay = start(&data, &issuer);
    let now_s = now_s();
    let token = |issued_at_s: u64| {
        let mut claims = claims("ada", &[("write", "**")]);
        claims["iat"] = json!(issued_at_s);
        issuer.sign(&claims)
    };
    let (old, newer) = (token(now_s), token(now_s + 60));
    let mut stocks = Vec::new();
    for (document, token) in [("acme/list", &old), ("acme/list", &newer), ("acme/other", &old)] {
        let mut stock = Stock::connect(&relay, &ticket(&relay, document, token), 1).await;
        stock.until(|stock| stock.synced).await;
        stocks.push(stock);
    }
    let [unused, unused_newer] = [&old, &newer].map(|token| ticket(&relay, "acme/list", token));
    let admin = format!("Bearer {}", issuer.token("ops", &[("admin", "acme/list")]));
    let revoke = json!({ "document": "acme/list", "issued_before": now_s + 1 }).to_string();
    let answer = relay.request("POST", "/v1/revoke", &[("Authorization", &admin)], &revoke);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let expired = close_of(Code::TokenExpired);
    assert_eq!(closed(&mut stocks[0].socket).await, expired);
    assert_eq!(refusal(&relay, &unused).await, expired);
    let response = ask(&relay, "acme/list", &old);
    assert_eq!(body(&response)["code"], json!(Code::Forbidden.name()));
    // Others stay, and come.
    for stock in &mut stocks[1..] {
        stock.synced = false;
        stock.send(YMessage::SyncStep1(stock.doc.state_vector())).await;
        stock.until(|stock| stock.synced).await;
    }
    for path in [unused_newer, ticket(&relay, "acme/list", &newer), ticket(&relay, "acme/other", &old)] {
        Stock::connect(&relay, &path, 2).await.until(|stock| stock.synced).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keys_a_ticket_is_given_to_anybody_and_none_is_needed() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let path = ticket(&relay, "acme/list", "");
    let (mut with, mut without) =
        (Stock::connect(&relay, &path, 1).await, Stock::connect(&relay, "/yjs/acme/list", 2).await);
    with.types("hello").await;
    without.until(|stock| stock.doc.text() == "hello").await;
}
