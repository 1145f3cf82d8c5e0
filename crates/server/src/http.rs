//! The relay's doors: two for sockets, three for operators, and the demo page.

use crate::assets::Assets;
use crate::connection::{configured, tidewell, yjs};
use crate::relay::Relay;
use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::limits::{FRAME_BYTES_MAX, MESSAGE_BYTES_MAX};
use tidewell_sync_core::protocol::SUBPROTOCOL;

/// All routes.
pub(crate) fn router(relay: Arc<Relay>, assets: Option<Assets>) -> Router {
    let files = assets.map(Arc::new);
    Router::new()
        .route("/v1/sync", get(sync))
        .route("/yjs/{*document}", get(yjs_sync))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(relay)
        .fallback(move |request: Request| file(files.clone(), request))
}

/// A foreign page is refused after the upgrade, in words: browsers hide the status of a failed one.
async fn sync(State(relay): State<Arc<Relay>>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    let upgrade = configured(upgrade, FRAME_BYTES_MAX).protocols([SUBPROTOCOL]);
    if !relay.origins.allow(origin(&headers)) {
        return upgrade.on_upgrade(|socket| tidewell::refuse(socket, relay, Code::OriginForbidden));
    }
    if upgrade.selected_protocol().is_none() {
        return upgrade.on_upgrade(|socket| tidewell::refuse(socket, relay, Code::UnsupportedVersion));
    }
    // A task of its own: axum's has a second place for everything that this one keeps.
    upgrade.on_upgrade(async |socket| drop(tokio::spawn(tidewell::serve(socket, relay))))
}

async fn yjs_sync(
    State(relay): State<Arc<Relay>>,
    Path(document): Path<String>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    // Stock clients know no fragments: a frame is a message.
    let upgrade = configured(upgrade, MESSAGE_BYTES_MAX);
    if !relay.origins.allow(origin(&headers)) {
        return upgrade.on_upgrade(|socket| yjs::refuse(socket, relay, Code::OriginForbidden));
    }
    if let Err(error) = relay.authority.admit("") {
        return upgrade.on_upgrade(move |socket| yjs::refuse(socket, relay, error.code()));
    }
    match DocumentName::parse(&document) {
        Ok(document) => {
            upgrade.on_upgrade(async |socket| drop(tokio::spawn(yjs::serve(socket, relay, document))))
        }
        Err(code) => upgrade.on_upgrade(move |socket| yjs::refuse(socket, relay, code)),
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
