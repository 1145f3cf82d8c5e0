//! What a token says. `docs/security.md` lists it for those who make tokens.

use super::name_pattern::NamePattern;
use serde::{Deserialize, Deserializer, Serialize};

/// The claims that the relay reads; others may be there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// Who it is: 1 to 256 bytes without control characters.
    #[serde(rename = "sub", deserialize_with = "subject")]
    pub(crate) subject: String,
    /// When it ends, in seconds since 1970.
    #[serde(rename = "exp", deserialize_with = "seconds")]
    pub(crate) expires_at_s: u64,
    /// When it begins, in seconds since 1970.
    #[serde(
        rename = "nbf",
        default,
        deserialize_with = "seconds_if_any",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) not_before_s: Option<u64>,
    /// When it was made, in seconds since 1970. One that does not say counts as older than all others.
    #[serde(
        rename = "iat",
        default,
        deserialize_with = "seconds_if_any",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) issued_at_s: Option<u64>,
    /// Who made it.
    #[serde(rename = "iss", default, skip_serializing_if = "Option::is_none")]
    pub(crate) issuer: Option<String>,
    /// For whom it was made.
    #[serde(rename = "aud", default, skip_serializing_if = "Option::is_none")]
    pub(crate) audience: Option<Audience>,
    /// Its own name.
    #[serde(rename = "jti", default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_id: Option<String>,
    /// What it allows.
    #[serde(default)]
    pub(crate) grants: Vec<Grant>,
    /// What its subject is to the application.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) roles: Vec<String>,
}

/// One audience or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    pub(crate) fn includes(&self, name: &str) -> bool {
        match self {
            Audience::One(one) => one == name,
            Audience::Several(several) => several.iter().any(|one| one == name),
        }
    }
}

/// What may be done; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Receive what is there.
    Read,
    /// Send presence too.
    Comment,
    /// Edit too.
    Write,
    /// Revoke tokens and end connections too.
    Admin,
}

/// A level on the names that a pattern matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "GrantFields", into = "GrantFields")]
pub(crate) struct Grant {
    pub(crate) access: Level,
    pub(crate) on: On,
}

/// What a grant is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum On {
    Documents(NamePattern),
    Ledgers(NamePattern),
}

/// As it is written. A misspelt name is an error: a grant that is read as another one would be worse.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantFields {
    access: Level,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    document: Option<NamePattern>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ledger: Option<NamePattern>,
}

impl TryFrom<GrantFields> for Grant {
    type Error = &'static str;

    fn try_from(fields: GrantFields) -> Result<Self, &'static str> {
        let on = match (fields.document, fields.ledger) {
            (Some(pattern), None) => On::Documents(pattern),
            (None, Some(pattern)) => On::Ledgers(pattern),
            _ => return Err("a grant names either a document or a ledger"),
        };
        Ok(Grant { access: fields.access, on })
    }
}

impl From<Grant> for GrantFields {
    fn from(Grant { access, on }: Grant) -> Self {
        let (document, ledger) = match on {
            On::Documents(pattern) => (Some(pattern), None),
            On::Ledgers(pattern) => (None, Some(pattern)),
        };
        GrantFields { access, document, ledger }
    }
}

impl Claims {
    /// True when there is a grant of administration, on these documents.
    pub(crate) fn administer(&self, which: impl Fn(&NamePattern) -> bool) -> bool {
        self.grants.iter().any(|grant| match &grant.on {
            On::Documents(pattern) => grant.access == Level::Admin && which(pattern),
            On::Ledgers(_) => false,
        })
    }

    /// The highest level that is granted on a document.
    pub(crate) fn document_level(&self, name: &str) -> Option<Level> {
        let level = |grant: &Grant| match &grant.on {
            On::Documents(pattern) if pattern.matches(name) => Some(grant.access),
            _ => None,
        };
        self.grants.iter().filter_map(level).max()
    }
}

/// In the year 5138. Milliseconds are beyond it: a token that was made in them would never expire, or never be of before a
/// revocation.
const SECONDS_END: f64 = 1e11;

/// JWT's dates may have fractions; what is lost makes a token a second shorter.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    if !(0.0..SECONDS_END).contains(&seconds) {
        return Err(serde::de::Error::custom("a date is in seconds since 1970"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in the range")]
    Ok(seconds as u64)
}

fn seconds_if_any<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    seconds(deserializer).map(Some)
}

fn subject<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let subject = String::deserialize(deserializer)?;
    if subject.is_empty() || subject.len() > 256 || subject.chars().any(char::is_control) {
        return Err(serde::de::Error::custom("a subject has 1 to 256 bytes and no control characters"));
    }
    Ok(subject)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(claims: serde_json::Value) -> Result<Claims, String> {
        serde_json::from_value(claims).map_err(|error| error.to_string())
    }

    #[test]
    fn the_highest_grant_that_matches_counts_and_grants_on_ledgers_are_no_grants_on_documents() {
        let claims = read(json!({ "sub": "ada", "exp": 1, "grants": [
            { "access": "read", "document": "acme/**" },
            { "access": "write", "document": "acme/list/*" },
            { "access": "comment", "document": "acme/list/42" },
            { "access": "admin", "ledger": "acme/show/*" },
        ]}))
        .unwrap();
        assert_eq!(claims.document_level("acme/list/42"), Some(Level::Write));
        assert_eq!(claims.document_level("acme/show/42"), Some(Level::Read));
        assert_eq!(claims.document_level("other/list"), None);
        let again: Claims = serde_json::from_value(serde_json::to_value(&claims).unwrap()).unwrap();
        assert_eq!(again, claims);
    }

    #[test]
    fn claims_that_cannot_be_meant_are_refused() {
        let bad = [
            (json!({ "exp": 1 }), "sub"),
            (json!({ "sub": "ada" }), "exp"),
            (json!({ "sub": "", "exp": 1 }), "subject"),
            (json!({ "sub": "a\nb", "exp": 1 }), "subject"),
            (json!({ "sub": "ada", "exp": -1 }), "date"),
            (json!({ "sub": "ada", "exp": 1e300 }), "date"),
            (json!({ "sub": "ada", "exp": "tomorrow" }), "invalid type"),
            (json!({ "sub": "ada", "exp": 1_800_000_000_000_u64 }), "date"),
            (json!({ "sub": "ada", "exp": 1, "iat": 1_800_000_000_000_u64 }), "date"),
            (json!({ "sub": "ada", "exp": 1, "nbf": null }), "invalid type"),
            (json!({ "sub": "ada", "exp": 1, "grants": [{ "access": "write" }] }), "either"),
            (
                json!({ "sub": "ada", "exp": 1, "grants": [{ "access": "write", "document": "a", "ledger": "a" }] }),
                "either",
            ),
            (
                json!({ "sub": "ada", "exp": 1, "grants": [{ "access": "write", "documnet": "a" }] }),
                "unknown",
            ),
            (json!({ "sub": "ada", "exp": 1, "grants": [{ "access": "own", "document": "a" }] }), "unknown"),
            (
                json!({ "sub": "ada", "exp": 1, "grants": [{ "access": "read", "document": "a*" }] }),
                "segment",
            ),
        ];
        for (claims, part) in bad {
            let error = read(claims.clone()).unwrap_err();
            assert!(error.contains(part), "{claims}: {error}");
        }
        assert_eq!(read(json!({ "sub": "ada", "exp": 12.9 })).unwrap().expires_at_s, 12);
    }
}
