//! The relay's doors: two for sockets, one for tickets, six for operators, and the demo page.

mod admin;
#[cfg(any(test, feature = "ws-echo"))]
mod echo;
mod gate;
mod refusal;
mod ticket;
mod upgrade;

use crate::assets::Assets;
use crate::authority::{Authority, Pass};
use crate::client_address::ClientAddress;
use crate::connection::{configured, tidewell, yjs};
use crate::connections::Full;
use crate::door::Arrived;
use crate::places::Standing;
use crate::relay::Relay;
use crate::tickets::Ticket;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router, middleware};
use refusal::Refusal;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Instant;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::limits::{FRAME_BYTES_MAX, MESSAGE_BYTES_MAX};
use tidewell_sync_core::protocol::{Access, SUBPROTOCOL};
use upgrade::Upgrade;

/// All routes.
pub(crate) fn router(relay: Arc<Relay>, assets: Option<Assets>) -> Router {
    let files = assets.map(Arc::new);
    let gate = middleware::from_fn_with_state(relay.clone(), gate::pass);
    let routes = Router::new()
        .route("/v1/ticket/{*document}", post(ticket::issue).options(ticket::preflight))
        .route("/v1/revoke", post(admin::revoke))
        .route("/v1/kick", post(admin::kick))
        .route("/v1/release", post(admin::release))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(move |request: Request| file(files.clone(), request))
        .layer(gate);
    #[cfg(any(test, feature = "ws-echo"))]
    let routes = routes.route("/ws-echo", get(echo::echo));
    routes.route("/v1/sync", get(sync)).route("/yjs/{*document}", get(yjs_sync)).with_state(relay)
}

/// A foreign page is refused after the upgrade, in words: browsers hide the status of a failed one.
async fn sync(
    State(relay): State<Arc<Relay>>,
    ClientAddress(address): ClientAddress,
    Extension(Arrived { standing, meter }): Extension<Arrived>,
    headers: HeaderMap,
    Upgrade(upgrade): Upgrade,
) -> Response {
    tracing::debug!(%address, "a client connects");
    let upgrade = configured(upgrade, FRAME_BYTES_MAX).protocols([SUBPROTOCOL]);
    if !relay.origins.allow(origin(&headers)) {
        return tell(upgrade, standing, |socket| tidewell::refuse(socket, relay, Code::OriginForbidden));
    }
    if upgrade.selected_protocol().is_none() {
        return tell(upgrade, standing, |socket| tidewell::refuse(socket, relay, Code::UnsupportedVersion));
    }
    let registered = match relay.enter(&standing, address) {
        Ok(registered) => registered,
        Err(full) => return send_away(upgrade, standing, relay, full, tidewell::send_away),
    };
    // A task of its own: axum's has a second place for everything that this one keeps.
    upgrade.on_upgrade(async |socket| drop(tokio::spawn(tidewell::serve(socket, meter, relay, registered))))
}

/// Tells a client something and ends; the connection has its place until then.
fn tell<F: Future<Output = ()> + Send + 'static>(
    upgrade: WebSocketUpgrade,
    standing: Standing,
    tell: impl FnOnce(WebSocket) -> F + Send + 'static,
) -> Response {
    upgrade.on_upgrade(async move |socket| {
        tell(socket).await;
        drop(standing);
    })
}

/// Tells a client when to come back, in words if not too many are told so.
fn send_away<F: Future<Output = ()> + Send + 'static>(
    upgrade: WebSocketUpgrade,
    standing: Standing,
    relay: Arc<Relay>,
    full: Full,
    how: impl FnOnce(WebSocket, Arc<Relay>, u64) -> F + Send + 'static,
) -> Response {
    let after_ms = full.after_ms;
    full.counted(&relay.metrics);
    match relay.told.clone().try_acquire_owned() {
        Ok(permit) => tell(upgrade, standing, async move |socket| {
            how(socket, relay, after_ms).await;
            drop(permit);
        }),
        Err(_) => {
            relay.metrics.refused(Code::Overloaded);
            Refusal::overloaded(after_ms).into_response()
        }
    }
}

#[derive(Deserialize)]
struct StockQuery {
    ticket: Option<String>,
}

async fn yjs_sync(
    State(relay): State<Arc<Relay>>,
    document: Result<Path<String>, PathRejection>,
    query: Result<Query<StockQuery>, QueryRejection>,
    ClientAddress(address): ClientAddress,
    Extension(Arrived { standing, meter }): Extension<Arrived>,
    headers: HeaderMap,
    Upgrade(upgrade): Upgrade,
) -> Response {
    let document = named(document);
    tracing::debug!(%address, document, "a y-websocket client connects");
    // Stock clients know no fragments: a frame is a message.
    let upgrade = configured(upgrade, MESSAGE_BYTES_MAX);
    if !relay.origins.allow(origin(&headers)) {
        return tell(upgrade, standing, |socket| yjs::refuse(socket, relay, Code::OriginForbidden));
    }
    // First: a ticket that is shown is used up.
    let registered = match relay.enter(&standing, address) {
        Ok(registered) => registered,
        Err(full) => {
            return send_away(upgrade, standing, relay, full, |socket, relay, _| {
                yjs::refuse(socket, relay, Code::Overloaded)
            });
        }
    };
    // What cannot be read shows none.
    let ticket = query.ok().and_then(|Query(query)| query.ticket);
    match yjs_ticket(&relay, &document, ticket.as_deref()) {
        Ok(ticket) => upgrade.on_upgrade(async |socket| {
            drop(tokio::spawn(yjs::serve(socket, meter, relay, ticket, registered)))
        }),
        Err(code) => tell(upgrade, standing, move |socket| yjs::refuse(socket, relay, code)),
    }
}

/// What a stock client may do. One whose ticket was used or has ended is told so with a transient code: it comes back by
/// itself, and its page has put a new ticket into the address meanwhile.
fn yjs_ticket(relay: &Relay, document: &str, ticket: Option<&str>) -> Result<Ticket, Code> {
    let document = DocumentName::parse(document)?;
    if matches!(relay.authority, Authority::Anyone) {
        return Ok(Ticket { document, access: Access::Write, pass: Pass::default() });
    }
    let ticket = ticket.ok_or(Code::InvalidToken)?;
    let ticket = relay.tickets.redeem(ticket, Instant::now()).ok_or(Code::TokenExpired)?;
    if ticket.document == document { Ok(ticket) } else { Err(Code::Forbidden) }
}

/// The document that a path names. What is no UTF-8 is read as the empty name, which no document has.
fn named(document: Result<Path<String>, PathRejection>) -> String {
    document.map(|Path(name)| name).unwrap_or_default()
}

/// Reads bytes as each of the bodies that a request may have.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_bodies(bytes: &[u8]) {
    admin::read_bodies(bytes);
}

/// The token of a request; empty if there is none.
fn bearer(headers: &HeaderMap) -> &str {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or("");
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => "",
    }
}

/// An origin that is no text is like one that nobody allowed.
fn origin(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or(""))
}

async fn ready(State(relay): State<Arc<Relay>>) -> (StatusCode, String) {
    if relay.is_ready() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let code = if relay.writer.is_failing() { Code::StorageUnavailable } else { Code::ShuttingDown };
    (StatusCode::SERVICE_UNAVAILABLE, format!("{code}: {}\n", code.help()))
}

async fn metrics(State(relay): State<Arc<Relay>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], relay.metrics.render())
}

async fn file(assets: Option<Arc<Assets>>, request: Request) -> Response {
    match assets {
        Some(assets) => assets.answer(&request.into_parts().0).await,
        None => (StatusCode::NOT_FOUND, "There is nothing here.\n").into_response(),
    }
}
