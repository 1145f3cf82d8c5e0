//! The keys that tokens are checked with: a JWKS (RFC 7517) of HMAC, Ed25519 and P-256 keys.
//!
//! Each key has one algorithm, which follows from its type. A token's header never chooses how its signature is read.

use crate::limits::{HMAC_SECRET_BYTES_MIN, KEYS_FILE_BYTES_MAX};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Keys that tokens are checked with, each with another ID.
#[derive(Debug, Clone)]
pub(crate) struct Keys(Vec<Arc<Key>>);

/// One of them.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) id: Option<String>,
    pub(crate) algorithm: Algorithm,
    pub(crate) verifying: DecodingKey,
}

/// Why a keys file cannot be used.
#[derive(Debug, Error)]
pub enum KeysError {
    /// It cannot be read.
    #[error("the keys file {path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is larger than any set of keys.
    #[error("the keys file has more than 1 MiB")]
    TooLarge,
    /// It is no JSON of the right form.
    #[error("the keys file is no JWKS ({{\"keys\": [...]}}): {0}")]
    NotJwks(#[from] serde_json::Error),
    /// One key is not what it says.
    #[error("key {index} of the keys file: {reason}")]
    Key {
        /// Counted from 1.
        index: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// Nobody could come in.
    #[error("the keys file holds no key that tokens can be checked with (HMAC, Ed25519 or P-256)")]
    Empty,
    /// Nothing can be signed.
    #[error("the keys file holds no private key{0}")]
    NoPrivateKey(String),
}

/// A JWKS as it is written.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct KeySet {
    pub(crate) keys: Vec<Jwk>,
    /// What others keep in the file.
    #[serde(flatten)]
    pub(crate) rest: Map<String, Value>,
}

/// A key as it is written (RFC 7518, RFC 8037).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Jwk {
    pub(crate) kty: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) crv: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) alg: Option<String>,
    #[serde(default, rename = "use", skip_serializing_if = "Option::is_none")]
    pub(crate) use_for: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) x: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) y: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) k: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) d: Option<String>,
    /// What keys of other kinds have besides: a file is written back with them whole.
    #[serde(flatten)]
    pub(crate) rest: Map<String, Value>,
}

/// What kind of key it is, as far as we use such.
pub(crate) enum Kind {
    Hmac(Algorithm),
    Ed25519,
    P256,
}

impl Keys {
    /// Checks every key. Kinds that we do not use are left out, as RFC 7517 asks for.
    pub(crate) fn new(set: &KeySet) -> Result<Self, KeysError> {
        let mut keys: Vec<Arc<Key>> = Vec::new();
        for (index, jwk) in set.keys.iter().enumerate() {
            let wrong = |reason| KeysError::Key { index: index + 1, reason };
            let Some(key) = jwk.key().map_err(wrong)? else { continue };
            if keys.iter().any(|other| other.id == key.id) {
                return Err(wrong("another key has the same kid"));
            }
            keys.push(Arc::new(key));
        }
        if keys.is_empty() { Err(KeysError::Empty) } else { Ok(Keys(keys)) }
    }

    /// True when this very key is among them.
    pub(crate) fn hold(&self, key: &Key) -> bool {
        let bytes = |key: &Key| key.verifying.try_get_as_bytes().ok().map(<[u8]>::to_vec);
        let is_same = |other: &Key| other.algorithm == key.algorithm && bytes(other) == bytes(key);
        self.find(key.id.as_deref()).is_some_and(|other| is_same(other))
    }

    /// The key that a token names; one that names none is for the only key.
    pub(crate) fn find(&self, id: Option<&str>) -> Option<&Arc<Key>> {
        match (id, self.0.as_slice()) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(id), keys) => keys.iter().find(|key| key.id.as_deref() == Some(id)),
        }
    }
}

impl Jwk {
    /// What kind of key it is; `None` for one that tokens are not checked with.
    pub(crate) fn kind(&self) -> Result<Option<Kind>, &'static str> {
        if self.use_for.as_deref().is_some_and(|use_for| use_for != "sig") {
            return Ok(None);
        }
        let kind = match (self.kty.as_str(), self.crv.as_deref(), self.alg.as_deref()) {
            ("oct", _, None | Some("HS256")) => Kind::Hmac(Algorithm::HS256),
            ("oct", _, Some("HS384")) => Kind::Hmac(Algorithm::HS384),
            ("oct", _, Some("HS512")) => Kind::Hmac(Algorithm::HS512),
            ("OKP", Some("Ed25519"), None | Some("EdDSA" | "Ed25519")) => Kind::Ed25519,
            ("EC", Some("P-256"), None | Some("ES256")) => Kind::P256,
            ("oct", ..) | ("OKP", Some("Ed25519"), _) | ("EC", Some("P-256"), _) => {
                return Err("its alg is not one for keys of its type");
            }
            _ => return Ok(None),
        };
        Ok(Some(kind))
    }

    fn key(&self) -> Result<Option<Key>, &'static str> {
        let Some(kind) = self.kind()? else { return Ok(None) };
        let (algorithm, verifying) = match kind {
            Kind::Hmac(algorithm) => (algorithm, DecodingKey::from_secret(&self.secret()?)),
            Kind::Ed25519 => {
                let x = bytes_32(self.x.as_deref(), "x is not 32 bytes in base64url")?;
                (Algorithm::EdDSA, DecodingKey::from_ed_der(&x))
            }
            Kind::P256 => {
                let x = bytes_32(self.x.as_deref(), "x is not 32 bytes in base64url")?;
                let y = bytes_32(self.y.as_deref(), "y is not 32 bytes in base64url")?;
                // An uncompressed point (SEC 1, section 2.3.3).
                (Algorithm::ES256, DecodingKey::from_ec_der(&[&[4], x.as_slice(), &y].concat()))
            }
        };
        // Fails for a point that is not on its curve; that the signature is not right is told otherwise.
        let signature = URL_SAFE_NO_PAD.encode([1; 64]);
        let tried = jsonwebtoken::crypto::verify(&signature, b"", &verifying, algorithm);
        tried.map_err(|_| "it is no point of its curve")?;
        Ok(Some(Key { id: self.kid.clone(), algorithm, verifying }))
    }

    fn secret(&self) -> Result<Vec<u8>, &'static str> {
        let secret = self.k.as_deref().and_then(|k| URL_SAFE_NO_PAD.decode(k.trim_end_matches('=')).ok());
        let secret = secret.ok_or("k is not in base64url")?;
        if secret.len() < HMAC_SECRET_BYTES_MIN {
            return Err("k is a secret of less than 32 bytes, which can be guessed from a token");
        }
        Ok(secret)
    }

    /// The key to sign with, if its private part is there.
    pub(crate) fn signing(&self) -> Result<Option<(Algorithm, EncodingKey)>, &'static str> {
        let private = |d: &str| bytes_32(Some(d), "d is not 32 bytes in base64url");
        Ok(match (self.kind()?, self.d.as_deref()) {
            (Some(Kind::Hmac(algorithm)), _) => Some((algorithm, EncodingKey::from_secret(&self.secret()?))),
            (Some(Kind::Ed25519), Some(d)) => Some((Algorithm::EdDSA, ed25519_key(&private(d)?))),
            (Some(Kind::P256), Some(d)) => Some((Algorithm::ES256, p256_key(&private(d)?))),
            _ => None,
        })
    }
}

/// PKCS #8 of an Ed25519 key (RFC 8410, section 7).
pub(super) fn ed25519_key(d: &[u8; 32]) -> EncodingKey {
    const HEAD: [u8; 16] = [0x30, 46, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 34, 4, 32];
    EncodingKey::from_ed_der(&[HEAD.as_slice(), d].concat())
}

/// PKCS #8 of a P-256 key without its public part (RFC 5958, RFC 5915).
pub(super) fn p256_key(d: &[u8; 32]) -> EncodingKey {
    const HEAD: [u8; 35] = [
        0x30, 65, 2, 1, 0, 0x30, 19, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce,
        0x3d, 3, 1, 7, 4, 39, 0x30, 37, 2, 1, 1, 4, 32,
    ];
    EncodingKey::from_ec_der(&[HEAD.as_slice(), d].concat())
}

fn bytes_32(text: Option<&str>, reason: &'static str) -> Result<[u8; 32], &'static str> {
    let bytes = text.and_then(|text| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok());
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(reason)
}

impl KeySet {
    /// Reads a keys file.
    pub(crate) fn read(path: &Path) -> Result<Self, KeysError> {
        KeySet::parse(&read_bounded(path)?)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, KeysError> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// The bytes of a keys file.
pub(crate) fn read_bounded(path: &Path) -> Result<Vec<u8>, KeysError> {
    let failed = |error| KeysError::Io { path: path.to_owned(), error };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(KEYS_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > KEYS_FILE_BYTES_MAX { Err(KeysError::TooLarge) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::mint::{KeyKind, new_key};
    use serde_json::{Value, json};

    fn keys(set: Value) -> Result<Keys, String> {
        let set: KeySet = serde_json::from_value(set).map_err(|error| error.to_string())?;
        Keys::new(&set).map_err(|error| error.to_string())
    }

    #[test]
    fn a_damaged_or_weak_key_refuses_the_whole_file() {
        let (x, short) = (URL_SAFE_NO_PAD.encode([7; 32]), URL_SAFE_NO_PAD.encode([7; 31]));
        let good = json!({ "kty": "oct", "kid": "good", "k": x });
        let bad = [
            (json!({ "kty": "oct", "kid": "a", "k": short }), "less than 32 bytes"),
            (json!({ "kty": "oct", "kid": "a", "k": "!" }), "base64url"),
            (json!({ "kty": "oct", "kid": "a" }), "base64url"),
            (json!({ "kty": "oct", "kid": "a", "k": x, "alg": "RS256" }), "alg"),
            (json!({ "kty": "oct", "kid": "good", "k": x }), "same kid"),
            (json!({ "kty": "OKP", "crv": "Ed25519", "kid": "a", "x": short }), "32 bytes"),
            (json!({ "kty": "OKP", "crv": "Ed25519", "kid": "a", "x": x, "alg": "HS256" }), "alg"),
            (json!({ "kty": "EC", "crv": "P-256", "kid": "a", "x": x }), "32 bytes"),
            (json!({ "kty": "EC", "crv": "P-256", "kid": "a", "x": x, "y": x }), "no point"),
            (json!({ "kty": "EC", "crv": "P-256", "kid": "a", "x": x, "y": x, "alg": "HS256" }), "alg"),
            (json!({ "kid": "a" }), "kty"),
        ];
        for (key, reason) in bad {
            let error = keys(json!({ "keys": [good, key] })).unwrap_err();
            assert!(error.contains(reason), "{key}: {error}");
        }
        assert!(keys(json!({ "keys": [good] })).is_ok());
    }

    #[test]
    fn keys_of_kinds_that_we_do_not_use_are_left_out_and_do_not_count() {
        let rsa = json!({ "kty": "RSA", "kid": "rsa", "n": "AQAB", "e": "AQAB", "alg": "RS256" });
        let encrypting = json!({ "kty": "EC", "crv": "P-256", "kid": "e", "use": "enc", "x": "?", "y": "?" });
        let good = json!({ "kty": "oct", "kid": "good", "k": URL_SAFE_NO_PAD.encode([7; 32]) });
        let found = keys(json!({ "keys": [rsa, encrypting, good] })).unwrap();
        assert!(found.find(Some("rsa")).is_none());
        assert!(found.find(Some("good")).is_some());
        assert!(keys(json!({ "keys": [rsa] })).unwrap_err().contains("no key"));
        assert!(keys(json!({ "keys": [] })).unwrap_err().contains("no key"));
    }

    #[test]
    fn a_token_without_kid_is_for_the_only_key() {
        let keys = |count: usize| {
            let keys = (0..count).map(|_| new_key(KeyKind::Ed25519, None).unwrap()).collect();
            Keys::new(&KeySet { keys, ..KeySet::default() }).unwrap()
        };
        assert!(keys(1).find(None).is_some());
        assert!(keys(2).find(None).is_none());
        assert!(keys(1).find(Some("other")).is_none());
    }
}
