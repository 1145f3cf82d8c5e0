//! What bytes from outside reach, for the targets of `fuzz/` (feature `fuzzing`) and a short run of them in plain tests.

#[cfg(test)]
mod targets;
#[cfg(test)]
mod tests;

use crate::catch_up::CatchUp;
use crate::client_address::{Network, client_address};
use crate::http;
use crate::materializer;
use crate::store::{StoredRow, stored_document};
use crate::token::claims::Level;
use crate::token::keys::{KeySet, Keys};
use crate::token::name_pattern::NamePattern;
use crate::token::{Expected, verify};
use axum::http::{HeaderMap, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use std::net::{IpAddr, Ipv4Addr};

/// HMAC's key of 32 bytes 0, in which the tokens of [`token`] are signed.
const KEYS: &[u8] =
    br#"{"keys":[{"kty":"oct","kid":"a","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}"#;

/// A second at which the tokens are looked at.
const NOW_S: u64 = 1_800_000_000;

/// A token as it comes, and one whose header and claims are these bytes under a good signature: whoever has a key may still
/// write nonsense.
pub fn token(bytes: &[u8]) {
    let Ok(Ok(keys)) = KeySet::parse(KEYS).map(|set| Keys::new(&set)) else {
        unreachable!("the keys are good")
    };
    let expected = Expected::default();
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert!(verify(text, &keys, &expected, NOW_S).is_err(), "nobody guesses a signature");
    }
    let Some(end) = bytes.iter().position(|byte| *byte == 0) else { return };
    let (header, claims) = (&bytes[..end], &bytes[end + 1..]);
    let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
    let message = format!("{}.{}", encode(header), encode(claims));
    let key = EncodingKey::from_secret(&[0; 32]);
    let Ok(signature) = crypto::sign(message.as_bytes(), &key, Algorithm::HS256) else { return };
    if let Ok(session) = verify(&format!("{message}.{signature}"), &keys, &expected, NOW_S) {
        let claims = session.claims;
        assert!(claims.expires_at_s + 10 > NOW_S && claims.audience.is_none(), "{claims:?}");
        assert!((1..=256).contains(&claims.subject.len()), "{claims:?}");
        let is_granted = claims.document_level("acme/list/42") >= Some(Level::Write);
        assert!(!is_granted || !claims.grants.is_empty(), "{claims:?}");
    }
}

/// A keys file, and a pattern of a grant.
pub fn keys(bytes: &[u8]) {
    let _ = KeySet::parse(bytes).map(|set| Keys::new(&set));
    if let Some(pattern) = std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<NamePattern>().ok()) {
        pattern.matches("acme/list/42");
    }
}

/// The bodies of requests, and what proxies say of a client.
pub fn request(bytes: &[u8]) {
    http::read_bodies(bytes);
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(line) = HeaderValue::from_bytes(line) {
            headers.append("x-forwarded-for", line);
        }
    }
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let proxies: Vec<Network> =
        ["127.0.0.0/8", "10.0.0.0/8"].iter().filter_map(|network| network.parse().ok()).collect();
    client_address(&proxies, peer, &headers);
    assert_eq!(client_address(&[], peer, &headers), peer, "nobody is believed");
}

/// What comes through the pipe to a materializer process, and its answer on the way back.
pub fn materializer(bytes: &[u8]) {
    materializer::fuzzing::answer(bytes);
}

/// A document's rows as a damaged store may hold them. Loading it answers with an error or with a document that is whole.
pub fn stored_rows(bytes: &[u8]) {
    let mut rows = Vec::new();
    let mut rest = bytes;
    while let [kind, first, sequence, length, after @ ..] = rest {
        let (update, after) = after.split_at(usize::from(*length).min(after.len()));
        rows.push(StoredRow {
            is_snapshot: kind % 4 == 0,
            first: i64::from(i8::from_le_bytes([*first])),
            sequence: i64::from(i8::from_le_bytes([*sequence])),
            update: Bytes::copy_from_slice(update),
        });
        rest = after;
    }
    let Ok(Some(stored)) = stored_document(&rows) else { return };
    let sequence = stored.sequence;
    if let Ok((admitted, catch_up)) = CatchUp::load(stored) {
        assert_eq!(catch_up.through, sequence);
        let again = tidewell_sync_core::admission::Admitted::load(catch_up.parts.iter().cloned());
        let is_same = again.is_ok_and(|(again, _)| again.state_vector() == admitted.state_vector());
        assert!(is_same, "whoever joins gets what the room has");
    }
}
