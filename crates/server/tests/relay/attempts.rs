//! Strangers, and those to whom less is granted, try every way in, again and again: none of them gets in, and nothing that
//! they say is kept or passed on. `TIDEWELL_ATTEMPTS` sets how many rounds there are.

use crate::author::Author;
use crate::client::{Client, closed, socket};
use crate::process::{Relay, data};
use crate::tickets::ticket;
use crate::tokens::{Issuer, LEEWAY_S, claims, now_s, sign_with};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::SinkExt;
use jsonwebtoken::{Algorithm, EncodingKey};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::protocol::{ClientMessage, Position, RelayMessage};
use tidewell_sync_core::state_vector::StateVector;
use tidewell_sync_core::y_protocol::YMessage;
use tokio_tungstenite::tungstenite::Message;

/// The one document that somebody may write.
const OWN: &str = "acme/list";

/// What its owner writes, and what must not be found anywhere.
const OWNERS: &str = "the owner's";
const FOREIGN: &str = "a stranger's";

/// A client ID for each attempt to write, so that none hides another.
struct Writers(u64);

impl Writers {
    fn update(&mut self) -> bytes::Bytes {
        self.0 += 1;
        Author::new(self.0).types(FOREIGN)
    }
}

/// Attempts by kind; each was refused, or the test has ended.
type Counts = BTreeMap<&'static str, u64>;

/// Another part for a token of three; `None` leaves it out.
fn with_part(token: &str, at: usize, part: Option<&str>) -> String {
    let mut parts: Vec<&str> = token.split('.').collect();
    parts[at] = part.unwrap_or_default();
    parts.join(".")
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// One bit of a token's part is another one.
fn flipped(token: &str, at: usize, random: &mut StdRng) -> String {
    let part = token.split('.').nth(at).unwrap();
    let mut bytes = URL_SAFE_NO_PAD.decode(part).unwrap();
    let place = random.random_range(0..bytes.len());
    bytes[place] ^= 1 << random.random_range(0..8);
    with_part(token, at, Some(&URL_SAFE_NO_PAD.encode(bytes)))
}

/// Tokens that no relay may take, by what is wrong with them.
fn bad_tokens(
    [issuer, stranger]: [&Issuer; 2],
    revoked: &str,
    random: &mut StdRng,
) -> Vec<(&'static str, String)> {
    let everything = claims("ada", &[("admin", "**"), ("write", "**")]);
    let good = issuer.sign(&everything);
    let poor = issuer.token("ada", &[("read", OWN)]);
    let with = |name: &str, value: Value| {
        let mut claims = everything.clone();
        claims[name] = value;
        issuer.sign(&claims)
    };
    let public = EncodingKey::from_secret(&issuer.public());
    let unsigned = with_part(&good, 0, Some(&encoded(&json!({ "alg": "none", "kid": "ed" }))));
    let garbage: String = (0..random.random_range(1..200)).map(|_| random.random_range('!'..'~')).collect();
    vec![
        ("none", String::new()),
        ("garbage", garbage),
        ("cut", good[..random.random_range(1..good.len() - 1)].to_owned()),
        ("a bit of the header flipped", flipped(&good, 0, random)),
        ("a bit of the claims flipped", flipped(&good, 1, random)),
        ("a bit of the signature flipped", flipped(&good, 2, random)),
        ("claims exchanged", with_part(&poor, 1, good.split('.').nth(1))),
        ("unsigned", with_part(&unsigned, 2, None)),
        ("`alg` none, signed", unsigned),
        ("a public key as the secret", sign_with(Algorithm::HS256, "ed", &public, &everything)),
        ("a public key as the secret of `hs`", sign_with(Algorithm::HS256, "hs", &public, &everything)),
        ("another issuer's key", stranger.sign(&everything)),
        ("an unknown `kid`", sign_with(Algorithm::HS256, "other", &public, &everything)),
        ("expired", with("exp", json!(now_s() - LEEWAY_S - random.random_range(1..9_000)))),
        ("without an end", with("exp", Value::Null)),
        ("not yet valid", with("nbf", json!(now_s() + random.random_range(60..9_000)))),
        ("another audience", with("aud", json!("elsewhere"))),
        ("a grant misspelt", with("grants", json!([{ "access": "wirte", "document": "**" }]))),
        ("revoked", revoked.to_owned()),
    ]
}

/// Greets with it, and opens and writes in the same breath.
async fn by_hello(relay: &Relay, token: &str, update: bytes::Bytes) {
    let mut client = Client::greet(relay, token).await;
    let document = DocumentName::parse(OWN).unwrap();
    let position = Position::StateVector(StateVector::default());
    let mut frame = Vec::new();
    ClientMessage::Open { channel: 1, document, position }.write(&mut frame);
    ClientMessage::Push { channel: 1, number: 1, update }.write(&mut frame);
    // The relay may have closed already.
    client.socket.send(Message::Binary(frame.into())).await.ok();
    let code = client.refused().await;
    assert!(matches!(code, Code::InvalidToken | Code::TokenExpired | Code::TokenRevoked), "{code}");
}

/// Reads with a good one, shows the bad one, and writes in the same breath.
async fn by_refresh(relay: &Relay, reader: &str, token: &str, update: bytes::Bytes) {
    let mut client = Client::connect_with(relay, reader).await;
    client.open(1, OWN).await;
    client.settled().await;
    let mut frame = Vec::new();
    ClientMessage::Refresh { token: token.to_owned() }.write(&mut frame);
    ClientMessage::Push { channel: 1, number: 1, update }.write(&mut frame);
    client.socket.send(Message::Binary(frame.into())).await.unwrap();
    let code = client.refused().await;
    assert!(matches!(code, Code::InvalidToken | Code::TokenExpired | Code::TokenRevoked), "{code}");
}

fn by_http(relay: &Relay, path: &str, token: &str, body: &str) -> String {
    let response = relay.request("POST", path, &[("Authorization", &format!("Bearer {token}"))], body);
    response[9..12].to_owned()
}

/// The address of the y-websocket door, with something for a ticket.
async fn by_ticket(relay: &Relay, path: &str, update: bytes::Bytes) {
    let mut socket = socket(relay, path, None, None).await;
    socket.send(Message::Binary(YMessage::Update(update).to_frame())).await.ok();
    let (code, reason) = closed(&mut socket).await;
    assert!((4400..4600).contains(&code), "{code} {reason}");
}

async fn with_bad_tokens(relay: &Relay, issuers: [&Issuer; 2], revoked: &str, random: &mut StdRng) -> Counts {
    let mut counts = Counts::new();
    let mut writers = Writers(random.random_range(1 << 32..1 << 50));
    let reader = issuers[0].token("rosa", &[("read", OWN)]);
    for (kind, token) in bad_tokens(issuers, revoked, random) {
        by_hello(relay, &token, writers.update()).await;
        by_refresh(relay, &reader, &token, writers.update()).await;
        // What no header can hold is not sent in one.
        let header: String = token.chars().filter(char::is_ascii_graphic).collect();
        for (path, body) in [
            (format!("/v1/ticket/{OWN}"), ""),
            ("/v1/revoke".to_owned(), "{\"subject\":\"ada\"}"),
            ("/v1/kick".to_owned(), "{\"subject\":\"ada\"}"),
        ] {
            assert_eq!(by_http(relay, &path, &header, body), "401", "{kind} {path}");
        }
        let escaped = URL_SAFE_NO_PAD.encode(&token);
        by_ticket(relay, &format!("/yjs/{OWN}?ticket={escaped}"), writers.update()).await;
        *counts.entry(kind).or_default() += 6;
    }
    counts
}

/// Whoever may do something tries to do more.
async fn with_good_tokens(relay: &Relay, issuer: &Issuer, random: &mut StdRng) -> Counts {
    let mut counts = Counts::new();
    let mut count = |kind| *counts.entry(kind).or_default() += 1;
    let mut writers = Writers(random.random_range(1 << 32..1 << 50));
    for access in ["read", "comment"] {
        let token = issuer.token("rosa", &[(access, OWN)]);
        let mut client = Client::connect_with(relay, &token).await;
        client.open(1, OWN).await;
        client.settled().await;
        client.push(1, 1, writers.update()).await;
        let refused = RelayMessage::Refused { channel: 1, number: 1, code: Code::Forbidden };
        assert_eq!(client.settled().await, [refused]);
        count("writes what it may read or comment on");
        client.send(ClientMessage::Have { channel: 1, number: 2, update: writers.update() }).await;
        assert_eq!(client.settled().await, []);
        count("answers what was not asked");
        by_ticket(relay, &ticket(relay, OWN, &token), writers.update()).await;
        count("writes with a reader's ticket");
    }
    let token = issuer.token("eve", &[("admin", "evil/*"), ("write", "evil/**")]);
    let mut client = Client::connect_with(relay, &token).await;
    for (channel, name) in
        (1..).zip([OWN, "acme", "evil", "Evil/list", "evil2/list", "acme/list/evil", "evils/a"])
    {
        let document = DocumentName::parse(name).unwrap();
        let position = Position::StateVector(StateVector::default());
        client.send(ClientMessage::Open { channel, document, position }).await;
        client.push(channel, 1, writers.update()).await;
        let refused = RelayMessage::Refused { channel, number: 0, code: Code::Forbidden };
        assert_eq!(client.settled().await, [refused], "{name}");
        count("opens what is not granted");
        assert_eq!(by_http(relay, &format!("/v1/ticket/{name}"), &token, ""), "403", "{name}");
        count("asks for a ticket to what is not granted");
    }
    for (path, body) in [
        ("/v1/revoke", json!({ "subject": "ada" })),
        ("/v1/revoke", json!({ "issued_before": now_s() })),
        ("/v1/kick", json!({ "subject": "ada" })),
        ("/v1/kick", json!({ "document": OWN })),
    ] {
        assert_eq!(by_http(relay, path, &token, &body.to_string()), "403", "{path} {body}");
        count("revokes and kicks without being granted it");
    }
    let used = ticket(relay, OWN, &issuer.token("ada", &[("write", OWN)]));
    let mut socket = socket(relay, &used, None, None).await;
    socket.close(None).await.ok();
    let elsewhere = ticket(relay, OWN, &issuer.token("ada", &[("write", OWN)])).replace(OWN, "acme/other");
    let invented = URL_SAFE_NO_PAD.encode(random.random::<[u8; 32]>());
    for path in [used, elsewhere, format!("/yjs/{OWN}?ticket={invented}"), format!("/yjs/{OWN}")] {
        by_ticket(relay, &path, writers.update()).await;
        count("comes with a ticket that was used, is for another document, invented or missing");
    }
    counts
}

/// Everything that a relay which has ended has left on disk.
fn left_in(data: &Path) -> Vec<u8> {
    let files = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.is_file()).flat_map(|path| std::fs::read(path).unwrap()).collect()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_attempt_of_any_kind_is_admitted_and_none_leaves_a_trace() {
    let rounds: u64 = std::env::var("TIDEWELL_ATTEMPTS").map_or(2, |rounds| rounds.parse().unwrap());
    let seed: u64 =
        std::env::var("TIDEWELL_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("TIDEWELL_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (_folder, data) = data();
    let (issuer, stranger) = (Issuer::new(), Issuer::new());
    let relay = Relay::start_with(&data, &["--keys", &issuer.path()]);
    let token = issuer.token("ada", &[("write", OWN)]);
    let mut owner = Client::connect_with(&relay, &token).await;
    owner.open(1, OWN).await;
    owner.push(1, 1, Author::new(1).types(OWNERS)).await;
    owner.acknowledged(1).await;
    let revoked = issuer.token("gone", &[("admin", "**"), ("write", "**")]);
    let admin = issuer.token("ops", &[("admin", "**")]);
    assert_eq!(by_http(&relay, "/v1/revoke", &admin, "{\"token_id\":\"gone\"}"), "200");
    owner.settled().await;
    let mut counts = Counts::new();
    for _ in 0..rounds {
        let ours = with_bad_tokens(&relay, [&issuer, &stranger], &revoked, &mut random).await;
        let theirs = with_good_tokens(&relay, &issuer, &mut random).await;
        ours.into_iter().chain(theirs).for_each(|(kind, count)| *counts.entry(kind).or_default() += count);
    }
    for (kind, count) in &counts {
        println!("{count:>8} {kind}");
    }
    println!("{:>8} attempts, 0 admitted", counts.values().sum::<u64>());
    // Whoever may be there was not disturbed, and was told nothing of all that.
    assert_eq!(owner.settled().await, []);
    let reader = issuer.token("rosa", &[("read", OWN)]);
    let mut client = Client::connect_with(&relay, &reader).await;
    client.open(1, OWN).await;
    let document = Author::new(2);
    client.updates_through(1).await.iter().for_each(|update| document.applies(update));
    assert_eq!(document.text(), OWNERS);
    relay.terminate();
    let left = left_in(&data);
    assert!(contains(&left, OWNERS) && !contains(&left, FOREIGN));
    assert!(!contains(&left, "evil"), "not even a name");
}
