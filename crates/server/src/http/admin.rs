//! Administration: `POST /v1/revoke`, `POST /v1/kick` and `POST /v1/release`, with a token that grants `admin`.

use super::refusal::Refusal;
use super::{bearer, origin};
use crate::authority::{Authority, Revoking};
use crate::client_address::{self, ClientAddress};
use crate::compactor::ReleaseError;
use crate::limits::{ADMIN_BODY_BYTES_MAX, ADMIN_BODY_WITHIN, TOKEN_LEEWAY};
use crate::relay::Relay;
use crate::revocations::Revocation;
use crate::token::name_pattern::NamePattern;
use crate::writer::now_ms;
use axum::Json;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;
use tokio::time::timeout;

/// What is to be revoked: a subject's tokens, one token, all, or what tokens allow on documents; those made before a second
/// of 1970's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoke {
    subject: Option<String>,
    token_id: Option<String>,
    document: Option<NamePattern>,
    issued_before: Option<u64>,
}

/// Whose connections are to end: exactly one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kick {
    subject: Option<String>,
    token_id: Option<String>,
    document: Option<String>,
}

/// Which document is to be compacted again.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    document: String,
}

pub(super) async fn revoke(
    State(relay): State<Arc<Relay>>,
    ClientAddress(address): ClientAddress,
    request: Request,
) -> Response {
    answer(&relay, revoked(&relay, address, request).await)
}

pub(super) async fn kick(
    State(relay): State<Arc<Relay>>,
    ClientAddress(address): ClientAddress,
    request: Request,
) -> Response {
    answer(&relay, kicked(&relay, address, request).await)
}

pub(super) async fn release(
    State(relay): State<Arc<Relay>>,
    ClientAddress(address): ClientAddress,
    request: Request,
) -> Response {
    answer(&relay, released(&relay, address, request).await)
}

fn answer(relay: &Relay, answer: Result<Value, Refusal>) -> Response {
    match answer {
        Ok(body) => Json(body).into_response(),
        Err(refusal) => {
            relay.metrics.refused(refusal.code());
            refusal.into_response()
        }
    }
}

async fn revoked(relay: &Arc<Relay>, address: IpAddr, request: Request) -> Result<Value, Refusal> {
    let pass = relay.authority.admit(bearer(request.headers()))?;
    if !pass.administers_something() {
        return Err(Code::Forbidden.into());
    }
    let Revoke { subject, token_id, document, issued_before } = read(request).await?;
    let concerned = document.clone().unwrap_or_else(NamePattern::everything);
    if !relay.authority.is_administrator_of_all(&pass, &concerned) {
        return Err(Code::Forbidden.into());
    }
    // Tokens count seconds: one that was made in this very second is of before.
    let now_s = now_ms() / 1000 + 1;
    let before_s = issued_before.unwrap_or(now_s);
    // Nothing takes a revocation back: one that reaches ahead, as one in milliseconds would, kept everybody out until then.
    if before_s > now_s + TOKEN_LEEWAY.as_secs() {
        return Err(invalid("issued_before is in the future; it is in seconds since 1970"));
    }
    let revocation = match (named(subject)?, named(token_id)?, document) {
        (Some(subject), None, None) => Revocation::Subject { subject, before_s },
        (None, None, Some(pattern)) => Revocation::Documents { pattern, before_s },
        (None, Some(token_id), None) if issued_before.is_none() => Revocation::Token { token_id },
        (None, None, None) if issued_before.is_some() => Revocation::Everything { before_s },
        _ => {
            return Err(invalid(
                "name a subject, document, token_id, or issued_before, which may come with a subject or document",
            ));
        }
    };
    // In memory first: even with a failing disk it is in force at once.
    match relay.authority.revoke(revocation.clone()) {
        Revoking::New => {}
        Revoking::Known => return Ok(json!({ "revoked": true })),
        Revoking::NoPlace => {
            let message = "there are too many revocations; one with issued_before alone, or of all documents below a \
                name (acme/**), takes the place of others";
            return Err(Refusal::new(Code::Overloaded, message));
        }
    }
    match &revocation {
        Revocation::Documents { pattern, .. } => relay.rooms.nudge(pattern),
        _ => relay.connections.nudge_all(),
    }
    tracing::info!(by = pass.subject().unwrap_or(""), %address, ?revocation, "tokens are revoked");
    let storing = {
        let relay = relay.clone();
        async move {
            let is_stored = relay.writer.revoke(revocation.clone()).await.is_ok();
            if is_stored {
                relay.authority.stored(&revocation);
            }
            is_stored
        }
    };
    // Whoever asked may go meanwhile.
    if !tokio::spawn(storing).await.unwrap_or(false) {
        return Err(Refusal::new(
            Code::StorageUnavailable,
            "it is revoked until the relay restarts, but could not be stored: send it again, with a new token if \
             yours is revoked too",
        ));
    }
    Ok(json!({ "revoked": true }))
}

async fn kicked(relay: &Relay, address: IpAddr, request: Request) -> Result<Value, Refusal> {
    let pass = relay.authority.admit(bearer(request.headers()))?;
    if !pass.administers_something() {
        return Err(Code::Forbidden.into());
    }
    let Kick { subject, token_id, document } = read(request).await?;
    let count = match (named(subject)?, named(token_id)?, document) {
        (None, None, Some(document)) => {
            let document = DocumentName::parse(&document)?;
            if !relay.authority.is_administrator(&pass, &document) {
                return Err(Code::Forbidden.into());
            }
            relay.rooms.kick(&document)
        }
        (subject, token_id, None) if subject.is_some() != token_id.is_some() => {
            if !relay.authority.is_administrator_of_all(&pass, &NamePattern::everything()) {
                return Err(Code::Forbidden.into());
            }
            relay.connections.kick(|claims| match (&subject, &token_id) {
                (Some(subject), _) => claims.subject == *subject,
                (None, token_id) => claims.token_id == *token_id,
            })
        }
        _ => return Err(invalid("name one of subject, token_id and document")),
    };
    tracing::info!(by = pass.subject().unwrap_or(""), %address, count, "connections are ended");
    Ok(json!({ "connections": count }))
}

async fn released(relay: &Relay, address: IpAddr, request: Request) -> Result<Value, Refusal> {
    let pass = relay.authority.admit(bearer(request.headers()))?;
    // Without keys everybody may do everything with every document. But a release makes work, and is for those on this
    // machine, and not for the pages that they look at.
    let is_operator = matches!(relay.authority, Authority::Anyone)
        && client_address::is_operator(address, request.headers())
        && relay.origins.allow(origin(request.headers()));
    if !is_operator && !pass.administers_something() {
        return Err(Code::Forbidden.into());
    }
    let Release { document } = read(request).await?;
    let document = DocumentName::parse(&document)?;
    if !is_operator && !relay.authority.is_administrator(&pass, &document) {
        return Err(Code::Forbidden.into());
    }
    let is_released = loop {
        let room = relay.rooms.open(&document).await?;
        match relay.compactor.clone().release(room).await {
            Ok(is_released) => break is_released,
            Err(ReleaseError::Evicted) => {}
            Err(ReleaseError::Store) => return Err(Code::StorageUnavailable.into()),
        }
    };
    tracing::info!(by = pass.subject().unwrap_or(""), %address, %document, is_released, "a document is released");
    Ok(json!({ "released": is_released }))
}

/// A body is read from administrators only, and a small one.
async fn read<T: DeserializeOwned>(request: Request) -> Result<T, Refusal> {
    let body = timeout(ADMIN_BODY_WITHIN, to_bytes(request.into_body(), ADMIN_BODY_BYTES_MAX)).await;
    let body =
        body.map_err(|_| Refusal::from(Code::Timeout))?.map_err(|_| invalid("the body is too large"))?;
    parse(&body)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::new(Code::InvalidOptions, error.to_string()))
}

/// Reads bytes as each of the bodies above.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn read_bodies(bytes: &[u8]) {
    let _ = parse::<Revoke>(bytes);
    if let Ok(Kick { document: Some(document), .. }) = parse(bytes) {
        let _ = DocumentName::parse(&document);
    }
    if let Ok(Release { document }) = parse(bytes) {
        let _ = DocumentName::parse(&document);
    }
}

/// No token has an empty name.
fn named(name: Option<String>) -> Result<Option<String>, Refusal> {
    if name.as_deref() == Some("") { Err(invalid("a name is empty")) } else { Ok(name) }
}

fn invalid(message: &'static str) -> Refusal {
    Refusal::new(Code::InvalidOptions, message)
}
