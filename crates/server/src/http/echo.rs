//! `/ws-echo`: sends back what it is sent, on sockets that are set up as all others. For suites that test WebSockets.

use super::upgrade::Upgrade;
use crate::connection::configured;
use crate::connection::socket::{close_after_violation, violation_of};
use crate::limits::CLOSE_WITHIN;
use axum::extract::ws::{Message, WebSocket};
use axum::response::Response;
use tidewell_sync_core::limits::MESSAGE_BYTES_MAX;
use tokio::time::timeout;

pub(super) async fn echo(Upgrade(upgrade): Upgrade) -> Response {
    configured(upgrade, MESSAGE_BYTES_MAX).on_upgrade(serve)
}

async fn serve(mut socket: WebSocket) {
    while let Some(message) = socket.recv().await {
        let sent = match message {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => socket.send(message).await,
            // The library answers pings and closes by itself.
            Ok(_) => Ok(()),
            Err(error) => {
                if let Some(code) = violation_of(&error) {
                    let _ = timeout(CLOSE_WITHIN, close_after_violation(&mut socket, code)).await;
                }
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
