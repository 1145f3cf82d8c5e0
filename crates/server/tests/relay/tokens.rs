//! Who makes the tokens: the application's back end, which has the private keys.

use crate::process::output;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// How much the relay's clock may differ; see `TOKEN_LEEWAY`.
pub(crate) const LEEWAY_S: u64 = 10;

pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// What the keys of an [`Issuer`] are called.
pub(crate) const KEY_IDS: [&str; 3] = ["ed", "hs", "es"];

/// One Ed25519 key, one HMAC secret and one P-256 key, and the file in which the relay finds them.
pub(crate) struct Issuer {
    folder: tempfile::TempDir,
    pub(crate) set: Value,
}

impl Issuer {
    pub(crate) fn new() -> Issuer {
        let folder = tempfile::tempdir().unwrap();
        let issuer = Issuer { folder, set: json!({}) };
        let path = issuer.path();
        for (kind, id) in ["ed25519", "hmac", "p256"].into_iter().zip(KEY_IDS) {
            let made = output(&["token", "key", "--keys", &path, "--kind", kind, "--id", id]);
            assert!(made.status.success());
        }
        let set = serde_json::from_slice(&std::fs::read(issuer.file()).unwrap()).unwrap();
        Issuer { set, ..issuer }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("keys.json")
    }

    pub(crate) fn path(&self) -> String {
        self.file().to_str().unwrap().to_owned()
    }

    fn part(&self, index: usize, name: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(self.set["keys"][index][name].as_str().unwrap()).unwrap()
    }

    /// The Ed25519 key's public part, which everybody may have.
    pub(crate) fn public(&self) -> Vec<u8> {
        self.part(0, "x")
    }

    /// The private part of a key, and what it signs with.
    pub(crate) fn key(&self, id: &str) -> (Algorithm, EncodingKey) {
        const ED25519: [u8; 16] = [0x30, 46, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 34, 4, 32];
        const P256: [u8; 35] = [
            0x30, 65, 2, 1, 0, 0x30, 19, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48,
            0xce, 0x3d, 3, 1, 7, 4, 39, 0x30, 37, 2, 1, 1, 4, 32,
        ];
        match id {
            "ed" => {
                let pkcs8 = [ED25519.as_slice(), &self.part(0, "d")].concat();
                (Algorithm::EdDSA, EncodingKey::from_ed_der(&pkcs8))
            }
            "hs" => (Algorithm::HS256, EncodingKey::from_secret(&self.part(1, "k"))),
            "es" => {
                let pkcs8 = [P256.as_slice(), &self.part(2, "d")].concat();
                (Algorithm::ES256, EncodingKey::from_ec_der(&pkcs8))
            }
            other => panic!("no key is called {other}"),
        }
    }

    /// Signs with the Ed25519 key.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_by("ed", claims)
    }

    /// Signs with the HMAC secret.
    pub(crate) fn sign_hmac(&self, claims: &Value) -> String {
        self.sign_by("hs", claims)
    }

    fn sign_by(&self, id: &str, claims: &Value) -> String {
        let (algorithm, key) = self.key(id);
        sign_with(algorithm, id, &key, claims)
    }

    /// A token of an hour.
    pub(crate) fn token(&self, subject: &str, grants: &[(&str, &str)]) -> String {
        self.sign(&claims(subject, grants))
    }
}

pub(crate) fn claims(subject: &str, grants: &[(&str, &str)]) -> Value {
    let grant = |(access, document): &(&str, &str)| json!({ "access": access, "document": document });
    let grants: Vec<Value> = grants.iter().map(grant).collect();
    json!({ "sub": subject, "iat": now_s(), "exp": now_s() + 3600, "jti": subject, "grants": grants })
}

pub(crate) fn sign_with(algorithm: Algorithm, kid: &str, key: &EncodingKey, claims: &Value) -> String {
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, claims, key).unwrap()
}
