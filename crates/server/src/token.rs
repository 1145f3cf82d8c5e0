//! Tokens: who somebody is and what they may do, signed by the application's back end.
//!
//! [`verify`] is the only way to a [`Session`]. It is bounded by a token's size before anything is parsed, takes the
//! algorithm from the key and never from the token, and is told the time.

pub(crate) mod claims;
pub(crate) mod command;
pub(crate) mod keys;
pub(crate) mod mint;
pub(crate) mod name_pattern;

use crate::limits::{TOKEN_BYTES_MAX, TOKEN_LEEWAY};
use claims::Claims;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use keys::{Key, Keys};
use std::sync::Arc;
use thiserror::Error;
use tidewell_sync_core::code::Code;

/// What the relay asks of every token.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expected {
    pub(crate) issuer: Option<String>,
    pub(crate) audience: Option<String>,
}

/// A token that was accepted.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) claims: Claims,
    /// The key that it was accepted with.
    pub(crate) key: Arc<Key>,
}

/// Why a token is not accepted. The texts go to whoever sent it, and hold nothing of the token but its key's ID.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum InvalidToken {
    #[error("there is no token, and this relay asks for one")]
    Missing,
    #[error("the token has more than 8 KiB")]
    TooLong,
    #[error("the token is no JWT signed with HMAC, EdDSA or ES256")]
    Malformed,
    #[error("the token's header has critical extensions, which the relay does not know")]
    Critical,
    #[error("the token names no key, and the relay has several: set its header's kid")]
    NoKey,
    #[error("the relay has no key with the token's kid, {0:?}")]
    UnknownKey(String),
    #[error("the token's algorithm is not that of its key")]
    Algorithm,
    #[error("the token's signature is not its key's")]
    Signature,
    #[error("the token's claims: {0}")]
    Claims(String),
    #[error("the token has expired {ago_s} s ago")]
    Expired { ago_s: u64 },
    #[error("the token is valid only in {in_s} s")]
    NotYet { in_s: u64 },
    #[error("the token is not by the issuer that the relay expects")]
    Issuer,
    #[error("the token is not for this relay's audience")]
    Audience,
    #[error("the token was revoked")]
    Revoked,
}

impl InvalidToken {
    /// The code for whoever sent it.
    pub(crate) fn code(&self) -> Code {
        match self {
            InvalidToken::Expired { .. } => Code::TokenExpired,
            InvalidToken::Revoked => Code::TokenRevoked,
            _ => Code::InvalidToken,
        }
    }
}

/// Checks a token, with the time in seconds since 1970.
pub(crate) fn verify(
    token: &str,
    keys: &Keys,
    expected: &Expected,
    now_s: u64,
) -> Result<Session, InvalidToken> {
    if token.is_empty() {
        return Err(InvalidToken::Missing);
    }
    if token.len() > TOKEN_BYTES_MAX {
        return Err(InvalidToken::TooLong);
    }
    let header = decode_header(token).map_err(|_| InvalidToken::Malformed)?;
    if header.crit.is_some() {
        return Err(InvalidToken::Critical);
    }
    let key = keys.find(header.kid.as_deref()).ok_or(match header.kid {
        None => InvalidToken::NoKey,
        Some(id) => InvalidToken::UnknownKey(id),
    })?;
    if header.alg != key.algorithm {
        return Err(InvalidToken::Algorithm);
    }
    // The library checks the signature; times and names are checked below, where the time is an argument.
    let mut validation = Validation::new(key.algorithm);
    (validation.validate_exp, validation.validate_aud) = (false, false);
    validation.required_spec_claims.clear();
    let token = decode::<Claims>(token, &key.verifying, &validation).map_err(|error| match error.kind() {
        ErrorKind::InvalidSignature => InvalidToken::Signature,
        ErrorKind::Json(error) => InvalidToken::Claims(error.to_string()),
        _ => InvalidToken::Malformed,
    })?;
    check_claims(&token.claims, expected, now_s)?;
    Ok(Session { claims: token.claims, key: key.clone() })
}

fn check_claims(claims: &Claims, expected: &Expected, now_s: u64) -> Result<(), InvalidToken> {
    let leeway_s = TOKEN_LEEWAY.as_secs();
    // A token for somebody else must be refused even by a relay that does not say who it is (RFC 7519, section 4.1.3).
    let is_for_us = match (&claims.audience, &expected.audience) {
        (None, None) => true,
        (Some(audience), Some(name)) => audience.includes(name),
        _ => false,
    };
    if !is_for_us {
        return Err(InvalidToken::Audience);
    }
    if expected.issuer.is_some() && claims.issuer != expected.issuer {
        return Err(InvalidToken::Issuer);
    }
    if let Some(in_s) = claims.not_before_s.and_then(|from_s| from_s.checked_sub(now_s + leeway_s + 1)) {
        return Err(InvalidToken::NotYet { in_s: in_s + 1 + leeway_s });
    }
    check_expiry(claims, now_s)
}

/// Checks that a token has not ended, with the time in seconds since 1970.
pub(crate) fn check_expiry(claims: &Claims, now_s: u64) -> Result<(), InvalidToken> {
    match now_s.checked_sub(claims.expires_at_s + TOKEN_LEEWAY.as_secs()) {
        Some(_) => Err(InvalidToken::Expired { ago_s: now_s - claims.expires_at_s }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
