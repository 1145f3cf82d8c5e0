//! Connections as they come: each is taken in while there are descriptors for it, and has a time and a size for its
//! requests.

use crate::limits::{ACCEPT_AGAIN_AFTER, DESCRIPTORS_KEPT, REQUEST_HEAD_BYTES_MAX, REQUEST_HEAD_WITHIN};
use crate::metrics::Metrics;
use axum::Router;
use axum::extract::ConnectInfo;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

/// A listener that keeps some descriptors free: without them no document could be read any more, and those who are here
/// would pay for those who are not.
pub(crate) struct Door {
    listener: TcpListener,
    /// A connection whose descriptor has this number or a higher one is one too many: the system hands out the lowest
    /// number that is free.
    end: i64,
    /// The last one was turned away: it is told once.
    is_full: bool,
    metrics: Arc<Metrics>,
}

impl Door {
    pub(crate) fn new(listener: TcpListener, metrics: Arc<Metrics>) -> Self {
        let most = getrlimit(Resource::Nofile).current.and_then(|most| i64::try_from(most).ok());
        let end = most.map_or(i64::MAX, |most| most - DESCRIPTORS_KEPT.min(most / 2));
        Door { listener, end, is_full: false, metrics }
    }

    fn is_too_many(&self, socket: &TcpStream) -> bool {
        i64::from(socket.as_raw_fd()) >= self.end
    }

    fn turned_away(&mut self, why: &dyn std::fmt::Display) {
        self.metrics.connections_turned_away.increment(1);
        if !std::mem::replace(&mut self.is_full, true) {
            tracing::error!("connections are turned away: {why}");
        }
    }
}

impl Listener for Door {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                // Closed at once: its client comes back after a while, or is led to another relay.
                Ok((socket, _)) if self.is_too_many(&socket) => {
                    self.turned_away(&"the process may open no more files (ulimit -n)");
                }
                Ok((socket, peer)) => {
                    if std::mem::take(&mut self.is_full) {
                        tracing::info!("connections are taken in again");
                    }
                    // Small messages are not held back to be sent with later ones. That an option cannot be set is no
                    // reason to refuse a connection.
                    let _ = socket.set_nodelay(true);
                    return (socket, peer);
                }
                // It has gone while it waited.
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
                Err(error) => {
                    self.turned_away(&error);
                    // It waits on, and accepting it would fail again at once.
                    sleep(ACCEPT_AGAIN_AFTER).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Serves HTTP until `stop`. Then nobody is taken in any more, and each connection ends with the request that it is in.
pub(crate) async fn serve<L: Listener<Addr = SocketAddr>>(mut listener: L, app: Router, stop: Arc<Notify>) {
    let mut http = Builder::new();
    http.timer(TokioTimer::new());
    http.header_read_timeout(REQUEST_HEAD_WITHIN).max_buf_size(REQUEST_HEAD_BYTES_MAX);
    let (_serving, stopped) = watch::channel(());
    loop {
        let (io, peer) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.notified() => return,
        };
        let app = TowerToHyperService::new(app.clone());
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            app.call(request)
        });
        let connection = http.serve_connection(TokioIo::new(io), service).with_upgrades();
        let mut stopped = stopped.clone();
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            tokio::select! {
                // How it ends is its client's affair.
                _ = connection.as_mut() => return,
                _ = stopped.changed() => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        });
    }
}
