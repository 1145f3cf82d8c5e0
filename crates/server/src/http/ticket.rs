//! `POST /v1/ticket/{document}`: a ticket for a stock client, against a token.

use super::refusal::Refusal;
use super::{bearer, named, origin};
use crate::limits::TICKET_VALID;
use crate::metrics::Limit;
use crate::relay::Relay;
use crate::tickets::Ticket;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::Instant;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;

/// Pages of origins that may connect may ask for tickets too.
pub(super) async fn issue(
    State(relay): State<Arc<Relay>>,
    document: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Response {
    let answer = if relay.origins.allow(origin(&headers)) {
        ticket(&relay, &named(document), &headers)
    } else {
        Err(Code::OriginForbidden.into())
    };
    let response = match answer {
        Ok(ticket) => {
            let body = serde_json::json!({ "ticket": ticket, "valid_ms": valid_ms() });
            ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
        }
        Err(refusal) => {
            relay.metrics.refused(refusal.code());
            refusal.into_response()
        }
    };
    readable_by_page(&relay, &headers, response)
}

fn ticket(relay: &Relay, document: &str, headers: &HeaderMap) -> Result<String, Refusal> {
    let document = DocumentName::parse(document)?;
    let pass = relay.authority.admit(bearer(headers))?;
    let access = relay.authority.access(&pass, &document).ok_or(Code::Forbidden)?;
    let ticket = Ticket { document, access, pass };
    relay.tickets.issue(ticket, Instant::now()).ok_or_else(|| {
        relay.metrics.hit(Limit::Tickets);
        Refusal::overloaded(valid_ms())
    })
}

fn valid_ms() -> u64 {
    u64::try_from(TICKET_VALID.as_millis()).unwrap_or(0)
}

/// A browser asks before it sends a token to another origin than the page's.
pub(super) async fn preflight(State(relay): State<Arc<Relay>>, headers: HeaderMap) -> Response {
    let allowed = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    readable_by_page(&relay, &headers, (StatusCode::NO_CONTENT, allowed).into_response())
}

/// Lets a page of an allowed origin read the answer. Cookies play no part, and others' pages read nothing.
pub(super) fn readable_by_page(relay: &Relay, headers: &HeaderMap, mut response: Response) -> Response {
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = headers.get(header::ORIGIN)
        && relay.origins.allow(origin.to_str().ok().or(Some("")))
    {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
    response
}
