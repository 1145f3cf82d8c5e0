//! A relay with keys: who comes in, what they may do, and that nothing is left of those who may not.

use crate::author::Author;
use crate::client::{Client, close_of, closed, socket};
use crate::process::{Relay, data};
use crate::tokens::{Issuer, KEY_IDS, LEEWAY_S, claims, now_s, sign_with};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::path::Path;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::protocol::{Access, ClientMessage, Position, RelayMessage};
use tidewell_sync_core::state_vector::StateVector;

const EVERYTHING: &[(&str, &str)] = &[("write", "**")];

fn start(data: &Path, issuer: &Issuer) -> Relay {
    Relay::start_with(data, &["--keys", &issuer.path()])
}

fn with(claims: &Value, change: Value) -> Value {
    let mut claims = claims.clone();
    claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    claims
}

fn documents_in(data: &Path) -> i64 {
    let store = rusqlite::Connection::open(data.join("tidewell.db")).unwrap();
    store.query_row("SELECT count(*) FROM document", [], |row| row.get(0)).unwrap()
}

async fn open(client: &mut Client, channel: u32, document: &str) -> RelayMessage {
    client.open_at(channel, document, Position::StateVector(StateVector::default())).await
}

fn access(message: &RelayMessage) -> Access {
    let RelayMessage::Opened { access, .. } = message else { panic!("{message:?}") };
    *access
}

#[tokio::test(flavor = "multi_thread")]
async fn tk1_no_token_that_is_not_accepted_lets_anybody_in() {
    let (_folder, data) = data();
    let (issuer, stranger) = (Issuer::new(), Issuer::new());
    let relay = Relay::start_with(
        &data,
        &["--keys", &issuer.path(), "--issuer", "https://app.example", "--audience", "here"],
    );
    let good = with(&claims("ada", EVERYTHING), json!({ "iss": "https://app.example", "aud": ["here"] }));
    let signed = |change: Value| issuer.sign(&with(&good, change));
    let public = EncodingKey::from_secret(&issuer.public());
    let mut cut = issuer.sign(&good);
    cut.truncate(cut.len() - 8);
    let bad = [
        ("no token", String::new(), Code::InvalidToken),
        ("garbage", "garbage".to_owned(), Code::InvalidToken),
        ("a part of one", cut, Code::InvalidToken),
        ("too long", "x".repeat(9 << 10), Code::InvalidToken),
        ("another's key", stranger.sign(&good), Code::InvalidToken),
        ("another algorithm", sign_with(Algorithm::HS512, "hs", &public, &good), Code::InvalidToken),
        ("a public key as a secret", sign_with(Algorithm::HS256, "ed", &public, &good), Code::InvalidToken),
        ("an unknown kid", sign_with(Algorithm::HS256, "other", &public, &good), Code::InvalidToken),
        ("expired", signed(json!({ "exp": now_s() - LEEWAY_S - 1 })), Code::TokenExpired),
        ("not yet valid", signed(json!({ "nbf": now_s() + 3000 })), Code::InvalidToken),
        ("without an end", signed(json!({ "exp": null })), Code::InvalidToken),
        ("another issuer", signed(json!({ "iss": "https://evil.example" })), Code::InvalidToken),
        ("another audience", signed(json!({ "aud": "elsewhere" })), Code::InvalidToken),
    ];
    for (what, token, code) in bad {
        let mut client = Client::greet(&relay, &token).await;
        // What such a client says behind its greeting is not heard.
        let update = Author::new(1).types("not mine");
        let mut frame = Vec::new();
        let document = tidewell_sync_core::document_name::DocumentName::parse("acme/list").unwrap();
        let position = Position::StateVector(StateVector::default());
        ClientMessage::Open { channel: 1, document, position }.write(&mut frame);
        ClientMessage::Push { channel: 1, number: 1, update }.write(&mut frame);
        let _ = futures_util::SinkExt::send(
            &mut client.socket,
            tokio_tungstenite::tungstenite::Message::Binary(frame.into()),
        )
        .await;
        assert_eq!(client.refused().await, code, "{what}");
    }
    let mut stock = socket(&relay, "/yjs/acme/list", None, None).await;
    assert_eq!(closed(&mut stock).await, close_of(Code::InvalidToken));
    for token in [issuer.sign(&good), issuer.sign_hmac(&good)] {
        let mut client = Client::connect_with(&relay, &token).await;
        assert_eq!(client.open(1, "acme/list").await, 0, "it is empty");
    }
    assert_eq!(relay.figure("tidewell_refusals_total{code=\"token_expired\"}"), 1.0);
    relay.terminate();
    assert_eq!(documents_in(&data), 0, "nothing of it is in the store");
}

#[tokio::test(flavor = "multi_thread")]
async fn tk1_a_key_of_each_kind_lets_in_whom_it_signed_for_and_under_no_other_keys_name() {
    let (_folder, data) = data();
    let issuer = Issuer::new();
    let relay = start(&data, &issuer);
    let claims = claims("ada", EVERYTHING);
    for (id, document) in KEY_IDS.into_iter().zip(["acme/1", "acme/2", "acme/3"]) {
        let (algorithm, key) = issuer.key(id);
        let token = sign_with(algorithm, id, &key, &claims);
        let mut client = Client::connect_with(&relay, &token).await;
        client.open(1, document).await;
        client.push(1, 1, Author::new(1).types(id)).await;
        assert_eq!(client.acknowledged(1).await, 1);
        for other in KEY_IDS.into_iter().filter(|other| *other != id) {
            let token = sign_with(algorithm, other, &key, &claims);
            assert_eq!(Client::greet(&relay, &token).await.refused().await, Code::InvalidToken);
            // As if it were the other key's algorithm too.
            let header = Header { kid: Some(other.to_owned()), ..Header::new(issuer.key(other).0) };
            let [header, body] =
                [json!(header), claims.clone()].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
            let message = format!("{header}.{body}");
            let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, algorithm).unwrap();
            let token = format!("{message}.{signature}");
            assert_eq!(Client::greet(&relay, &token).await.refused().await, Code::InvalidToken);
        }
    }
    relay.terminate();
    assert_eq!(documents_in(&data), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn tk2_what_is_not_granted_is_refused_and_leaves_no_trace() {
    let (_folder, data) = data();
    let issuer = Issuer::new();
    let relay = start(&data, &issuer);
    let grants = [
        ("read", "acme/read"),
        ("comment", "acme/comment"),
        ("write", "acme/write"),
        ("admin", "acme/admin"),
    ];
    let mut client = Client::connect_with(&relay, &issuer.token("ada", &grants)).await;
    let forbidden = |channel, number| RelayMessage::Refused { channel, number, code: Code::Forbidden };
    for (channel, document) in [(5, "acme/other"), (6, "acme"), (7, "acme/write/below"), (8, "Acme/write")] {
        assert_eq!(open(&mut client, channel, document).await, forbidden(channel, 0));
        // It was on its way already.
        client.push(channel, 1, Author::new(1).types("not mine")).await;
    }
    assert_eq!(access(&open(&mut client, 1, "acme/read").await), Access::Read);
    assert_eq!(access(&open(&mut client, 2, "acme/comment").await), Access::Comment);
    assert_eq!(access(&open(&mut client, 3, "acme/write").await), Access::Write);
    assert_eq!(access(&open(&mut client, 4, "acme/admin").await), Access::Write);
    client.settled().await;
    for channel in [1, 2] {
        client.push(channel, 1, Author::new(1).types("not mine")).await;
        client.push(channel, 2, Author::new(2).types("nor this")).await;
        assert_eq!(client.settled().await, [forbidden(channel, 1)]);
    }
    client.push(3, 1, Author::new(3).types("mine")).await;
    assert_eq!(client.acknowledged(1).await, 1);
    relay.terminate();
    assert_eq!(documents_in(&data), 1, "only what was granted is in the store");
}

#[tokio::test(flavor = "multi_thread")]
async fn tk2_a_reader_gets_what_others_write_and_is_asked_for_nothing() {
    let (_folder, data) = data();
    let issuer = Issuer::new();
    let relay = start(&data, &issuer);
    let mut reader = Client::connect_with(&relay, &issuer.token("rosa", &[("read", "acme/*")])).await;
    let own = Author::new(7);
    own.types("the relay lacks this");
    let vector = Position::StateVector(own.state_vector());
    assert_eq!(access(&reader.open_at(1, "acme/list", vector).await), Access::Read);
    let mut writer = Client::connect_with(&relay, &issuer.token("ada", EVERYTHING)).await;
    writer.open(1, "acme/list").await;
    writer.push(1, 1, Author::new(3).types("hello")).await;
    let sequence = writer.acknowledged(1).await;
    // Not through `updates_through`, which would leave a question out.
    let mut through = 0;
    while through < sequence {
        match reader.next().await {
            RelayMessage::Updates { through: to, .. } => through = to,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(reader.settled().await, []);
    // As soon as it may write it is asked.
    reader.send(ClientMessage::Refresh { token: issuer.token("rosa", &[("write", "acme/*")]) }).await;
    let told = reader.settled().await;
    assert_eq!(told[0], RelayMessage::Granted { channel: 1, access: Access::Write });
    assert!(matches!(&told[1..], [RelayMessage::Need { channel: 1, .. }]), "{told:?}");
    let update = own.state();
    reader.send(ClientMessage::Have { channel: 1, number: 1, update }).await;
    reader.acknowledged(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tk3_a_refresh_changes_what_open_channels_may_do_without_a_new_connection() {
    let (_folder, data) = data();
    let issuer = Issuer::new();
    let relay = start(&data, &issuer);
    let grants = [("write", "acme/a"), ("write", "acme/b"), ("read", "acme/c")];
    let mut client = Client::connect_with(&relay, &issuer.token("ada", &grants)).await;
    for (channel, document) in [(1, "acme/a"), (2, "acme/b"), (3, "acme/c")] {
        client.open(channel, document).await;
    }
    assert!(matches!(open(&mut client, 4, "acme/d").await, RelayMessage::Refused { .. }));
    client.settled().await;
    let grants = [("read", "acme/a"), ("write", "acme/c"), ("comment", "acme/d")];
    client.send(ClientMessage::Refresh { token: issuer.token("ada", &grants) }).await;
    let expected = [
        RelayMessage::Granted { channel: 1, access: Access::Read },
        RelayMessage::Refused { channel: 2, number: 0, code: Code::Forbidden },
        RelayMessage::Granted { channel: 3, access: Access::Write },
    ];
    assert_eq!(client.settled().await, expected);
    client.push(1, 1, Author::new(1).types("no more")).await;
    client.push(2, 1, Author::new(2).types("no more")).await;
    let refused = [RelayMessage::Refused { channel: 1, number: 1, code: Code::Forbidden }];
    assert_eq!(client.settled().await, refused);
    client.push(3, 1, Author::new(3).types("now")).await;
    client.acknowledged(1).await;
    assert_eq!(access(&open(&mut client, 4, "acme/d").await), Access::Comment);
    // After what was refused, the document is opened again for writing.
    client.send(ClientMessage::Refresh { token: issuer.token("ada", EVERYTHING) }).await;
    client.settled().await;
    client.send(ClientMessage::Close { channel: 1 }).await;
    assert_eq!(access(&open(&mut client, 1, "acme/a").await), Access::Write);
    client.push(1, 1, Author::new(1).types("again")).await;
    client.acknowledged(1).await;
    let mut others = Client::connect_with(&relay, &issuer.token("ada", EVERYTHING)).await;
    assert_eq!(others.open(1, "acme/b").await, 0);
    // Somebody else's token is no refresh, and neither is none.
    client.send(ClientMessage::Refresh { token: issuer.token("eve", EVERYTHING) }).await;
    assert_eq!(client.refused().await, Code::InvalidToken);
    others.send(ClientMessage::Refresh { token: String::new() }).await;
    assert_eq!(others.refused().await, Code::InvalidToken);
}

#[tokio::test(flavor = "multi_thread")]
async fn tk4_a_connection_ends_at_its_tokens_expiry_and_not_before() {
    let (_folder, data) = data();
    let issuer = Issuer::new();
    let relay = start(&data, &issuer);
    let token = |seconds: u64| {
        issuer.sign(&with(&claims("ada", EVERYTHING), json!({ "exp": now_s() + seconds - LEEWAY_S })))
    };
    let mut refreshed = Client::connect_with(&relay, &issuer.token("ada", EVERYTHING)).await;
    let mut ended = Client::connect_with(&relay, &issuer.token("ada", EVERYTHING)).await;
    refreshed.open(1, "acme/list").await;
    ended.send(ClientMessage::Refresh { token: token(2) }).await;
    refreshed.send(ClientMessage::Refresh { token: token(2) }).await;
    refreshed.send(ClientMessage::Refresh { token: issuer.token("ada", EVERYTHING) }).await;
    assert_eq!(ended.refused().await, Code::TokenExpired);
    refreshed.push(1, 1, Author::new(1).types("still here")).await;
    refreshed.acknowledged(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tk5_keys_are_read_again_and_a_damaged_file_leaves_those_that_are_there() {
    let (_folder, data) = data();
    let (mut issuer, next) = (Issuer::new(), Issuer::new());
    let relay = start(&data, &issuer);
    let mut by_ed = Client::connect_with(&relay, &issuer.token("ada", EVERYTHING)).await;
    let mut by_hmac = Client::connect_with(&relay, &issuer.sign_hmac(&claims("bob", EVERYTHING))).await;
    std::fs::write(issuer.file(), "{\"keys\": [").unwrap();
    relay.wait_until(|relay| relay.figure("tidewell_keys_failed_total") == 1.0);
    by_ed.settled().await;
    drop(Client::connect_with(&relay, &issuer.token("ada", EVERYTHING)).await);
    // One key stays, the other has its name and is another one.
    let mut renamed = next.set["keys"][0].clone();
    renamed["kid"] = json!("ed");
    issuer.set["keys"][0] = renamed;
    std::fs::write(issuer.file(), issuer.set.to_string()).unwrap();
    assert_eq!(by_ed.refused().await, Code::InvalidToken);
    by_hmac.settled().await;
    drop(Client::connect_with(&relay, &issuer.token("ada", EVERYTHING)).await);
    std::fs::remove_file(issuer.file()).unwrap();
    relay.wait_until(|relay| relay.figure("tidewell_keys_failed_total") == 2.0);
    by_hmac.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keys_no_token_is_read() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let mut client = Client::connect_with(&relay, "whatever an auth callback answers").await;
    assert_eq!(access(&open(&mut client, 1, "acme/list").await), Access::Write);
    client.send(ClientMessage::Refresh { token: "another".to_owned() }).await;
    client.push(1, 1, Author::new(1).types("x")).await;
    client.acknowledged(1).await;
}
