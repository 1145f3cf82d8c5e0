//! The request that a WebSocket begins with (RFC 6455, section 4.2).

use super::refusal::Refusal;
use crate::relay::Relay;
use axum::extract::FromRequestParts;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::sync::Arc;
use tidewell_sync_core::code::Code;

/// Bytes of a key.
const KEY_BYTES: usize = 16;

/// A correct one.
pub(super) struct Upgrade(pub(super) WebSocketUpgrade);

impl FromRequestParts<Arc<Relay>> for Upgrade {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, relay: &Arc<Relay>) -> Result<Self, Response> {
        let refused = |code, message: String| {
            relay.metrics.refused(code);
            Refusal::new(code, message).into_response()
        };
        match WebSocketUpgrade::from_request_parts(parts, relay).await {
            Ok(upgrade) if has_key(&parts.headers) => Ok(Upgrade(upgrade)),
            Ok(_) => {
                let message = format!("Sec-WebSocket-Key must be {KEY_BYTES} bytes in Base64");
                Err(refused(Code::ProtocolViolation, message))
            }
            Err(WebSocketUpgradeRejection::InvalidWebSocketVersionHeader(error)) => {
                let versions = [(header::SEC_WEBSOCKET_VERSION, "13")];
                let body = refused(Code::UnsupportedVersion, error.body_text());
                Err((StatusCode::UPGRADE_REQUIRED, versions, body).into_response())
            }
            Err(error) => Err(refused(Code::ProtocolViolation, error.body_text())),
        }
    }
}

fn has_key(headers: &HeaderMap) -> bool {
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let key = key.and_then(|key| STANDARD.decode(key.as_bytes().trim_ascii()).ok());
    key.is_some_and(|key| key.len() == KEY_BYTES)
}
