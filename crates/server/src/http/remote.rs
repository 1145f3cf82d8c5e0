//! Who is at the other end.

use crate::relay::Relay;
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// The address that a request counts for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Remote(pub(super) IpAddr);

impl FromRequestParts<Arc<Relay>> for Remote {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _relay: &Arc<Relay>) -> Result<Self, Infallible> {
        let info = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        // The listener always tells it; together they would count as one address.
        Ok(Remote(info.map_or(Ipv4Addr::UNSPECIFIED.into(), |ConnectInfo(address)| address.ip())))
    }
}
