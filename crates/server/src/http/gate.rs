//! What requests pass that are to become no sockets: their connection has a place, and their address does not ask too often.

use super::refusal::Refusal;
use super::ticket::readable_by_page;
use crate::client_address::{ClientAddress, is_operator};
use crate::connections::Full;
use crate::door::Arrived;
use crate::metrics::Limit;
use crate::places::Standing;
use crate::relay::Relay;
use axum::Extension;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::time::Instant;

/// What operators ask for. It is answered although there are too many connections: whoever sees a relay that is full as
/// one that is dead ends it.
const FOR_OPERATORS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

pub(super) async fn pass(
    State(relay): State<Arc<Relay>>,
    ClientAddress(address): ClientAddress,
    Extension(arrived): Extension<Arrived>,
    request: Request,
    next: Next,
) -> Response {
    let is_for_operators = FOR_OPERATORS.contains(&request.uri().path());
    let placed = if is_for_operators { Ok(()) } else { has_place(&relay, address, &arrived.standing) };
    // Operators on this machine ask as often as they like.
    let is_free = is_for_operators && is_operator(address, request.headers());
    match placed.and_then(|()| if is_free { Ok(()) } else { asks(&relay, address) }) {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            relay.metrics.refused(refusal.code());
            readable_by_page(&relay, request.headers(), refusal.into_response())
        }
    }
}

fn has_place(relay: &Relay, address: IpAddr, standing: &Standing) -> Result<(), Refusal> {
    if matches!(standing, Standing::Inside(_) | Standing::Proxy) {
        return Ok(());
    }
    relay.places.of(standing, address).map(drop).map_err(|limit| {
        let full = Full::from(limit);
        let after_ms = full.after_ms;
        full.counted(&relay.metrics);
        Refusal::overloaded(after_ms)
    })
}

fn asks(relay: &Relay, address: IpAddr) -> Result<(), Refusal> {
    relay.requests.take(address, Instant::now()).map_err(|wait| {
        relay.metrics.hit(Limit::Requests);
        // One millisecond more, so that it is not asked for a moment too early.
        Refusal::too_often(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).saturating_add(1))
    })
}
