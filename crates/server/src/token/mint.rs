//! Making keys and tokens. The relay itself makes none: this is for `tidewell token`.

use super::claims::Claims;
use super::keys::{Jwk, KeySet, KeysError, Kind, ed25519_key, p256_key};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::ValueEnum;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk as PublicJwk};
use jsonwebtoken::{Algorithm, Header};
use rand::Rng;
use serde_json::Map;
use thiserror::Error;

/// Kinds of keys that can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeyKind {
    /// EdDSA: small and fast, and the relay needs the public part only.
    Ed25519,
    /// ES256: for back ends without EdDSA.
    P256,
    /// HS256: one secret, shared by whoever makes tokens and the relay, which is given the file itself.
    Hmac,
}

/// Why no key or token could be made.
#[derive(Debug, Error)]
pub enum MintError {
    /// The keys file holds none to sign with.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The library refuses.
    #[error("signing: {0}")]
    Signing(#[from] jsonwebtoken::errors::Error),
}

/// A name that nobody guesses or repeats.
pub(crate) fn random_id() -> String {
    URL_SAFE_NO_PAD.encode(rand::rng().random::<[u8; 12]>())
}

/// A new key, its private part included.
pub(crate) fn new_key(kind: KeyKind, id: Option<String>) -> Result<Jwk, MintError> {
    let secret: [u8; 32] = rand::rng().random();
    let mut jwk =
        Jwk { kid: Some(id.unwrap_or_else(random_id)), use_for: Some("sig".to_owned()), ..Jwk::default() };
    let (signing, algorithm) = match kind {
        KeyKind::Hmac => {
            jwk.kty = "oct".to_owned();
            jwk.alg = Some("HS256".to_owned());
            jwk.k = Some(URL_SAFE_NO_PAD.encode(secret));
            return Ok(jwk);
        }
        KeyKind::Ed25519 => (ed25519_key(&secret), Algorithm::EdDSA),
        // Of 2^32 numbers about one is none of the curve's: that is an error, and the next try is none.
        KeyKind::P256 => (p256_key(&secret), Algorithm::ES256),
    };
    match PublicJwk::from_encoding_key(&signing, algorithm)?.algorithm {
        AlgorithmParameters::OctetKeyPair(pair) => {
            (jwk.kty, jwk.crv, jwk.alg) =
                ("OKP".to_owned(), Some("Ed25519".to_owned()), Some("EdDSA".to_owned()));
            jwk.x = Some(pair.x);
        }
        AlgorithmParameters::EllipticCurve(point) => {
            (jwk.kty, jwk.crv, jwk.alg) =
                ("EC".to_owned(), Some("P-256".to_owned()), Some("ES256".to_owned()));
            (jwk.x, jwk.y) = (Some(point.x), Some(point.y));
        }
        _ => {
            return Err(
                jsonwebtoken::errors::new_error(jsonwebtoken::errors::ErrorKind::InvalidKeyFormat).into()
            );
        }
    }
    jwk.d = Some(URL_SAFE_NO_PAD.encode(secret));
    Ok(jwk)
}

/// What a relay needs of the set, without what must stay secret. HMAC keys are left out: they have no public part.
pub(crate) fn public_part(set: &KeySet) -> KeySet {
    let has_public_part = |jwk: &&Jwk| matches!(jwk.kind(), Ok(Some(Kind::Ed25519 | Kind::P256)));
    let public = |jwk: &Jwk| Jwk { d: None, k: None, rest: Map::new(), ..jwk.clone() };
    let keys = set.keys.iter().filter(has_public_part).map(public).collect();
    KeySet { keys, ..KeySet::default() }
}

/// Signs a token with the key of this ID, or with the last one that can sign.
pub(crate) fn mint(set: &KeySet, key_id: Option<&str>, claims: &Claims) -> Result<String, MintError> {
    let wanted = |jwk: &&Jwk| key_id.is_none() || jwk.kid.as_deref() == key_id;
    for (index, jwk) in set.keys.iter().enumerate().rev().filter(|(_, jwk)| wanted(jwk)) {
        let signing = jwk.signing().map_err(|reason| KeysError::Key { index: index + 1, reason })?;
        if let Some((algorithm, key)) = signing {
            let header = Header { kid: jwk.kid.clone(), ..Header::new(algorithm) };
            return Ok(jsonwebtoken::encode(&header, claims, &key)?);
        }
    }
    let which = key_id.map(|id| format!(" with the kid {id:?}")).unwrap_or_default();
    Err(KeysError::NoPrivateKey(which).into())
}
