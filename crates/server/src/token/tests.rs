use super::keys::KeySet;
use super::mint::{KeyKind, mint, new_key};
use super::*;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

const NOW_S: u64 = 1_800_000_000;

fn set(kinds: &[KeyKind]) -> KeySet {
    let key = |(index, kind): (usize, &KeyKind)| new_key(*kind, Some(format!("key-{index}"))).unwrap();
    KeySet { keys: kinds.iter().enumerate().map(key).collect(), ..KeySet::default() }
}

fn claims(change: Value) -> Claims {
    let mut claims =
        json!({ "sub": "ada", "exp": NOW_S + 60, "grants": [{ "access": "read", "document": "a/*" }] });
    claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    serde_json::from_value(claims).unwrap()
}

fn checked(set: &KeySet, token: &str) -> Result<Session, InvalidToken> {
    verify(token, &Keys::new(set).unwrap(), &Expected::default(), NOW_S)
}

/// Header and payload as they are given, with an HMAC of `secret` or anything as the signature.
fn crafted(header: Value, payload: &str, signature: &[u8]) -> String {
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    format!("{}.{}.{}", part(header.to_string().as_bytes()), part(payload.as_bytes()), part(signature))
}

#[test]
fn a_token_of_each_kind_of_key_is_accepted_with_its_public_part_alone() {
    let set = set(&[KeyKind::Ed25519, KeyKind::P256, KeyKind::Hmac]);
    let mut public = mint::public_part(&set);
    assert!(public.keys.iter().all(|key| key.d.is_none() && key.k.is_none()));
    public.keys.push(set.keys[2].clone());
    for id in ["key-0", "key-1", "key-2"] {
        let token = mint(&set, Some(id), &claims(json!({}))).unwrap();
        let session = checked(&public, &token).unwrap();
        assert_eq!((session.claims.subject.as_str(), session.key.id.as_deref()), ("ada", Some(id)));
        // One bit of the signature, and one of the claims.
        let dot = token.rfind('.').unwrap();
        for index in [dot + 4, dot - 8] {
            let mut bytes = token.clone().into_bytes();
            bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
            assert!(checked(&public, std::str::from_utf8(&bytes).unwrap()).is_err());
        }
    }
}

#[test]
fn an_algorithm_that_is_not_the_keys_is_refused_whatever_it_was_signed_with() {
    let set = set(&[KeyKind::Ed25519, KeyKind::P256, KeyKind::Hmac]);
    let payload = serde_json::to_string(&claims(json!({}))).unwrap();
    for (id, x) in [("key-0", &set.keys[0].x), ("key-1", &set.keys[1].x)] {
        // The public key, which everybody has, as the secret of an HMAC.
        let secret = URL_SAFE_NO_PAD.decode(x.as_ref().unwrap()).unwrap();
        for algorithm in [Algorithm::HS256, Algorithm::HS512] {
            let header = Header { kid: Some(id.to_owned()), ..Header::new(algorithm) };
            let token = encode(&header, &claims(json!({})), &EncodingKey::from_secret(&secret)).unwrap();
            assert_eq!(checked(&set, &token).unwrap_err(), InvalidToken::Algorithm);
        }
    }
    let other_size = Header { kid: Some("key-2".to_owned()), ..Header::new(Algorithm::HS512) };
    let (_, secret) = set.keys[2].signing().unwrap().unwrap();
    let token = encode(&other_size, &claims(json!({})), &secret).unwrap();
    assert_eq!(checked(&set, &token).unwrap_err(), InvalidToken::Algorithm);
    for none in ["none", "None", "NONE", ""] {
        let token = crafted(json!({ "alg": none, "kid": "key-0" }), &payload, b"");
        assert_eq!(checked(&set, &token).unwrap_err(), InvalidToken::Malformed, "{none}");
    }
    let token = crafted(json!({ "alg": "RS256", "kid": "key-0" }), &payload, &[0; 256]);
    assert_eq!(checked(&set, &token).unwrap_err(), InvalidToken::Algorithm);
}

#[test]
fn keys_of_another_issuer_and_unknown_names_are_refused() {
    let (ours, theirs) = (set(&[KeyKind::Ed25519]), set(&[KeyKind::Ed25519]));
    let forged = mint(&theirs, None, &claims(json!({}))).unwrap();
    assert_eq!(checked(&ours, &forged).unwrap_err(), InvalidToken::Signature);
    let mut renamed = ours.keys[0].clone();
    renamed.kid = Some("elsewhere".to_owned());
    let token = mint(&KeySet { keys: vec![renamed], ..KeySet::default() }, None, &claims(json!({}))).unwrap();
    assert_eq!(checked(&ours, &token).unwrap_err(), InvalidToken::UnknownKey("elsewhere".to_owned()));
    let keys = [ours.keys, set(&[KeyKind::P256, KeyKind::Hmac]).keys.split_off(1)].concat();
    let two = KeySet { keys, ..KeySet::default() };
    let mut nameless = two.keys[0].clone();
    nameless.kid = None;
    let token =
        mint(&KeySet { keys: vec![nameless], ..KeySet::default() }, None, &claims(json!({}))).unwrap();
    assert_eq!(checked(&two, &token).unwrap_err(), InvalidToken::NoKey);
    // A key that came with the token is nobody's.
    let payload = serde_json::to_string(&claims(json!({}))).unwrap();
    let header = json!({ "alg": "EdDSA", "kid": "key-0", "jwk": { "kty": "OKP", "crv": "Ed25519", "x": theirs.keys[0].x } });
    let signed = crafted(header, &payload, &[1; 64]);
    assert_eq!(checked(&two, &signed).unwrap_err(), InvalidToken::Signature);
}

#[test]
fn a_token_counts_from_its_beginning_to_its_end_and_a_little_more() {
    let set = set(&[KeyKind::Ed25519]);
    let leeway_s = TOKEN_LEEWAY.as_secs();
    let at = |change| checked(&set, &mint(&set, None, &claims(change)).unwrap()).map(|_| ());
    assert_eq!(at(json!({ "exp": NOW_S - leeway_s + 1 })), Ok(()));
    assert_eq!(at(json!({ "exp": NOW_S - leeway_s })), Err(InvalidToken::Expired { ago_s: leeway_s }));
    assert_eq!(at(json!({ "exp": 0 })), Err(InvalidToken::Expired { ago_s: NOW_S }));
    assert_eq!(at(json!({ "nbf": NOW_S + leeway_s })), Ok(()));
    assert_eq!(at(json!({ "nbf": NOW_S + leeway_s + 1 })), Err(InvalidToken::NotYet { in_s: leeway_s + 1 }));
    let codes = [InvalidToken::Expired { ago_s: 1 }.code(), InvalidToken::NotYet { in_s: 1 }.code()];
    assert_eq!(codes, [Code::TokenExpired, Code::InvalidToken]);
}

#[test]
fn issuer_and_audience_must_be_the_expected_ones() {
    let set = set(&[KeyKind::Ed25519]);
    let keys = Keys::new(&set).unwrap();
    let with = |change, issuer: Option<&str>, audience: Option<&str>| {
        let expected = Expected { issuer: issuer.map(str::to_owned), audience: audience.map(str::to_owned) };
        verify(&mint(&set, None, &claims(change)).unwrap(), &keys, &expected, NOW_S).map(|_| ())
    };
    assert_eq!(with(json!({ "iss": "us" }), Some("us"), None), Ok(()));
    assert_eq!(with(json!({ "iss": "them" }), Some("us"), None), Err(InvalidToken::Issuer));
    assert_eq!(with(json!({}), Some("us"), None), Err(InvalidToken::Issuer));
    assert_eq!(with(json!({ "iss": "them" }), None, None), Ok(()));
    assert_eq!(with(json!({ "aud": "relay" }), None, Some("relay")), Ok(()));
    assert_eq!(with(json!({ "aud": ["other", "relay"] }), None, Some("relay")), Ok(()));
    assert_eq!(with(json!({ "aud": ["other"] }), None, Some("relay")), Err(InvalidToken::Audience));
    assert_eq!(with(json!({}), None, Some("relay")), Err(InvalidToken::Audience));
    assert_eq!(with(json!({ "aud": "other" }), None, None), Err(InvalidToken::Audience));
}

#[test]
fn what_is_no_token_is_refused_before_or_while_it_is_read() {
    let set = set(&[KeyKind::Hmac]);
    assert_eq!(checked(&set, "").unwrap_err(), InvalidToken::Missing);
    let long = mint(&set, None, &claims(json!({ "roles": ["x".repeat(TOKEN_BYTES_MAX)] }))).unwrap();
    assert_eq!(checked(&set, &long).unwrap_err(), InvalidToken::TooLong);
    for text in ["x", "..", "a.b.c", "é.é.é", "eyJhbGciOiJIUzI1NiJ9", "eyJhbGciOiJIUzI1NiJ9."] {
        assert_eq!(checked(&set, text).unwrap_err(), InvalidToken::Malformed, "{text}");
    }
    let payload = serde_json::to_string(&claims(json!({}))).unwrap();
    let critical = crafted(json!({ "alg": "HS256", "kid": "key-0", "crit": ["b64"] }), &payload, b"");
    assert_eq!(checked(&set, &critical).unwrap_err(), InvalidToken::Critical);
    // Signed, and without what every token has: a claim that is there twice says two things.
    let (_, secret) = set.keys[0].signing().unwrap().unwrap();
    let header = Header { kid: Some("key-0".to_owned()), ..Header::new(Algorithm::HS256) };
    let eternal = encode(&header, &json!({ "sub": "ada" }), &secret).unwrap();
    assert!(matches!(checked(&set, &eternal), Err(InvalidToken::Claims(error)) if error.contains("exp")));
    let twice = format!("{{\"sub\":\"ada\",\"exp\":1,\"exp\":{}}}", NOW_S + 60);
    let message = crafted(json!({ "alg": "HS256", "kid": "key-0" }), &twice, b"");
    let message = message.trim_end_matches('.');
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &secret, Algorithm::HS256).unwrap();
    let twice = checked(&set, &format!("{message}.{signature}"));
    assert!(matches!(twice, Err(InvalidToken::Claims(error)) if error.contains("duplicate")));
}
