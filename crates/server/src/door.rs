//! Connections as they come: each is taken in while there are descriptors for it, and has a time and a size for its
//! requests.

use crate::client_address::is_proxy;
use crate::limits::{
    ACCEPT_AGAIN_AFTER, DESCRIPTORS_FOR_OPERATORS, DESCRIPTORS_KEPT, LAST_ANSWER_WITHIN,
    REQUEST_HEAD_BYTES_MAX, REQUEST_HEAD_WITHIN, REQUESTS_FOR,
};
use crate::meter::{Meter, Metered};
use crate::metrics::{Limit, Metrics};
use crate::places::Standing;
use crate::relay::Relay;
use axum::Router;
use axum::extract::ConnectInfo;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1::Builder;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit};
use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

/// Where connections come from.
pub(crate) trait Arrivals: Send + 'static {
    /// What is read and written.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next one.
    fn accept(&mut self) -> impl Future<Output = (Self::Io, Visitor)> + Send;
}

/// At the other end of a connection.
#[derive(Debug)]
pub(crate) struct Visitor {
    pub(crate) address: SocketAddr,
    pub(crate) standing: Standing,
}

/// What those who answer a request know of the connection that it came on.
#[derive(Debug, Clone)]
pub(crate) struct Arrived {
    pub(crate) standing: Standing,
    pub(crate) meter: Meter,
}

/// A listener that keeps some descriptors free: without them no document could be read any more, and those who are here
/// would pay for those who are not.
pub(crate) struct Door {
    listener: TcpListener,
    relay: Arc<Relay>,
    /// A connection whose descriptor has this number or a higher one is one too many: the system hands out the lowest
    /// number that is free. The last ones before it are for operators.
    end: i64,
    /// The last one was turned away: it is told once.
    is_full: bool,
}

impl Door {
    pub(crate) fn new(listener: TcpListener, relay: Arc<Relay>) -> Self {
        let most = getrlimit(Resource::Nofile).current.and_then(|most| i64::try_from(most).ok());
        let end = most.map_or(i64::MAX, |most| most - DESCRIPTORS_KEPT.min(most / 2));
        Door { listener, relay, end, is_full: false }
    }

    /// Where a connection stands; `None` if it is to be closed at once. Its client comes back after a while, or is led to
    /// another relay.
    fn standing(&mut self, socket: &TcpStream, peer: SocketAddr) -> Option<Standing> {
        let (left, address) = (self.end - i64::from(socket.as_raw_fd()), peer.ip().to_canonical());
        if left <= DESCRIPTORS_FOR_OPERATORS {
            let is_spare = left > 0 && address.is_loopback();
            if !is_spare {
                self.turned_away(&"the process may open no more files (ulimit -n)");
            }
            return is_spare.then_some(Standing::Spare);
        }
        if std::mem::take(&mut self.is_full) {
            tracing::info!("connections are taken in again");
        }
        if is_proxy(&self.relay.trusted_proxies, address) {
            return Some(Standing::Proxy);
        }
        let standing = self.relay.places.arrive(address);
        if standing.is_none() {
            self.relay.metrics.hit(Limit::Address);
        }
        standing
    }

    fn turned_away(&mut self, why: &dyn std::fmt::Display) {
        self.relay.metrics.connections_turned_away.increment(1);
        if !std::mem::replace(&mut self.is_full, true) {
            tracing::error!("connections are turned away: {why}");
        }
    }
}

impl Arrivals for Door {
    type Io = TcpStream;

    async fn accept(&mut self) -> (TcpStream, Visitor) {
        loop {
            match self.listener.accept().await {
                Ok((socket, address)) => {
                    if let Some(standing) = self.standing(&socket, address) {
                        // Small messages are not held back to be sent with later ones. That an option cannot be set is
                        // no reason to refuse a connection.
                        let _ = socket.set_nodelay(true);
                        return (socket, Visitor { address, standing });
                    }
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
}

/// Serves HTTP until `stop`. Then nobody is taken in any more, and each connection ends with the request that it is in.
pub(crate) async fn serve(
    mut arrivals: impl Arrivals,
    app: Router,
    metrics: Arc<Metrics>,
    stop: Arc<Notify>,
) {
    let mut http = Builder::new();
    http.timer(TokioTimer::new());
    http.header_read_timeout(REQUEST_HEAD_WITHIN).max_buf_size(REQUEST_HEAD_BYTES_MAX);
    let (_serving, stopped) = watch::channel(());
    loop {
        let (io, visitor) = tokio::select! {
            accepted = arrivals.accept() => accepted,
            () = stop.notified() => return,
        };
        let app = TowerToHyperService::new(app.clone());
        let (io, meter) = Metered::new(io);
        let asked = Asked::new(meter.clone());
        let arrived = Arrived { standing: visitor.standing, meter };
        let asking = asked.clone();
        let service = service_fn(move |request| {
            let (asking, answering) = (asking.clone(), answer(&app, visitor.address, &arrived, request));
            async move {
                let answer = answering.await;
                asking.has_asked();
                answer
            }
        });
        let connection = http.serve_connection(TokioIo::new(io), service).with_upgrades();
        let (mut stopped, metrics) = (stopped.clone(), metrics.clone());
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            tokio::select! {
                ended = connection.as_mut() => return has_ended(&metrics, &asked, ended),
                _ = stopped.changed() => {}
                () = sleep(REQUESTS_FOR) => {}
            }
            connection.as_mut().graceful_shutdown();
            match timeout(LAST_ANSWER_WITHIN, connection).await {
                Ok(ended) => has_ended(&metrics, &asked, ended),
                Err(_) => metrics.hit(Limit::LastAnswerWithin),
            }
        });
    }
}

/// Whether a connection has asked for all that has come on it.
#[derive(Clone)]
struct Asked {
    meter: Meter,
    /// What had come when its last request was answered; `usize::MAX` before the first was.
    bytes: Arc<AtomicUsize>,
}

impl Asked {
    fn new(meter: Meter) -> Self {
        Asked { meter, bytes: Arc::new(AtomicUsize::new(usize::MAX)) }
    }

    fn has_asked(&self) {
        self.bytes.store(self.meter.bytes(), Ordering::Relaxed);
    }

    /// True for one that was kept after a request, and on which nothing has come since.
    fn is_kept(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) == self.meter.bytes()
    }
}

/// Counts a connection that met a limit. How else it ends is its client's affair.
fn has_ended(metrics: &Metrics, asked: &Asked, ended: hyper::Result<()>) {
    match ended {
        Err(error) if error.is_timeout() && asked.is_kept() => {}
        Err(error) if error.is_timeout() => metrics.hit(Limit::RequestHeadWithin),
        Err(error) if error.is_parse_too_large() => metrics.hit(Limit::RequestHeadBytes),
        _ => {}
    }
}

/// Tells those who answer a request where it comes from.
fn answer(
    app: &TowerToHyperService<Router>,
    address: SocketAddr,
    arrived: &Arrived,
    mut request: hyper::Request<Incoming>,
) -> impl Future<Output = Result<axum::response::Response, Infallible>> + Send + use<> {
    request.extensions_mut().insert(ConnectInfo(address));
    request.extensions_mut().insert(arrived.clone());
    let is_last = matches!(arrived.standing, Standing::Beyond { .. } | Standing::Spare);
    let answered = app.call(request);
    async move {
        let mut response = answered.await?;
        if is_last && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::router;
    use crate::limits::{CLOSE_WITHIN, HELLO_WITHIN, PING_AFTER, SILENCE_MAX};
    use crate::options::{Command, CommandLine};
    use crate::serve::Prepared;
    use axum::routing::get;
    use clap::Parser;
    use std::time::Duration;
    use tidewell_conformance::web_socket::{Frame, opcode};
    use tidewell_sync_core::code::Code;
    use tidewell_sync_core::protocol::{ClientMessage, RelayMessage, SUBPROTOCOL, VERSION};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::Instant;

    /// One connection, and no more.
    struct One(Option<DuplexStream>);

    impl Arrivals for One {
        type Io = DuplexStream;

        async fn accept(&mut self) -> (DuplexStream, Visitor) {
            match self.0.take() {
                Some(io) => (io, Visitor { address: ([127, 0, 0, 1], 7).into(), standing: Standing::Proxy }),
                None => std::future::pending().await,
            }
        }
    }

    /// A client of an application.
    fn client_of(app: Router, metrics: Arc<Metrics>) -> DuplexStream {
        let (ours, theirs) = duplex(64 << 10);
        tokio::spawn(serve(One(Some(theirs)), app, metrics, Arc::default()));
        ours
    }

    fn metrics() -> Arc<Metrics> {
        Arc::new(Metrics::new().unwrap())
    }

    /// A client of a relay whose only answer is a long one.
    fn client(metrics: &Arc<Metrics>) -> DuplexStream {
        let app = Router::new().route("/", get(async || "x".repeat(1 << 20)));
        client_of(app, metrics.clone())
    }

    fn has_hit(metrics: &Metrics, limit: &str) -> bool {
        metrics.render().contains(&format!("tidewell_limits_hit_total{{limit=\"{limit}\"}} 1"))
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n";

    #[tokio::test(start_paused = true)]
    async fn who_asks_and_does_not_read_the_answers_is_ended_in_time() {
        let (metrics, start) = (metrics(), Instant::now());
        let mut client = client(&metrics);
        while client.write_all(REQUEST).await.is_ok() {}
        let lasted = start.elapsed();
        assert!(lasted >= REQUESTS_FOR && lasted <= REQUESTS_FOR + LAST_ANSWER_WITHIN, "{lasted:?}");
        assert!(has_hit(&metrics, "last_answer_within"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_again_and_again_is_answered_whole_and_ended_in_time() {
        let (mut client, start) = (client(&metrics()), Instant::now());
        let mut answers = 0;
        while client.write_all(REQUEST).await.is_ok() {
            let mut answer = Vec::new();
            while !answer.ends_with(&[b'x'; 1 << 10]) || answer.len() <= 1 << 20 {
                if client.read_buf(&mut answer).await.unwrap() == 0 {
                    break;
                }
            }
            if answer.is_empty() {
                break;
            }
            assert!(answer.len() > 1 << 20, "{} bytes", answer.len());
            answers += 1;
            sleep(REQUEST_HEAD_WITHIN / 2).await;
        }
        assert!(answers >= 12, "{answers}");
        assert!(start.elapsed() <= REQUESTS_FOR + REQUEST_HEAD_WITHIN, "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_answered_and_asks_nothing_more_is_ended_in_time() {
        let (metrics, start) = (metrics(), Instant::now());
        let mut client = client(&metrics);
        client.write_all(REQUEST).await.unwrap();
        client.read_to_end(&mut Vec::new()).await.unwrap();
        assert!(start.elapsed() <= REQUEST_HEAD_WITHIN * 2, "{:?}", start.elapsed());
        assert!(!has_hit(&metrics, "request_head_within"), "it has met no limit");
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_answered_and_asks_half_of_something_more_is_ended_in_time() {
        let (metrics, start) = (metrics(), Instant::now());
        let mut client = client(&metrics);
        client.write_all(REQUEST).await.unwrap();
        client.read_u8().await.unwrap();
        client.write_all(&REQUEST[..REQUEST.len() / 2]).await.unwrap();
        client.read_to_end(&mut Vec::new()).await.unwrap();
        assert!(start.elapsed() <= REQUEST_HEAD_WITHIN * 2, "{:?}", start.elapsed());
        assert!(has_hit(&metrics, "request_head_within"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_is_too_large_is_refused_and_counted() {
        let metrics = metrics();
        let (mut client, mut answer) = (client(&metrics), Vec::new());
        client.write_all(b"GET / HTTP/1.1\r\nX-Long: ").await.unwrap();
        let letters = vec![b'x'; 8 << 10];
        while client.write_all(&letters).await.is_ok() {}
        client.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&answer));
        assert!(has_hit(&metrics, "request_head_bytes"));
    }

    /// A socket at a relay that has done what is said, on a clock that goes on when nobody has anything to do.
    struct Silent {
        socket: DuplexStream,
        /// The relay's store.
        _folder: tempfile::TempDir,
        _relay: Prepared,
        since: Instant,
    }

    impl Silent {
        async fn after(messages: &[ClientMessage]) -> Silent {
            let folder = tempfile::tempdir().unwrap();
            let arguments = ["tidewell", "serve", "--data"].map(Into::into);
            let arguments = arguments.into_iter().chain([folder.path().as_os_str().to_owned()]);
            let Command::Serve(options) = CommandLine::parse_from(arguments).command else {
                panic!("not serve")
            };
            let relay = Prepared::new(&options).unwrap();
            let mut socket = client_of(router(relay.relay.clone(), None), metrics());
            let upgrade = format!(
                "GET /v1/sync HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                 Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
            );
            socket.write_all(upgrade.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n") {
                answer.push(socket.read_u8().await.unwrap());
            }
            assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
            let mut silent = Silent { socket, _folder: folder, _relay: relay, since: Instant::now() };
            for message in messages {
                let mut bytes = Vec::new();
                message.write(&mut bytes);
                silent.sends(opcode::BINARY, bytes).await;
            }
            silent
        }

        async fn sends(&mut self, opcode: u8, payload: Vec<u8>) {
            self.socket.write_all(&Frame::new(opcode, payload).to_bytes()).await.unwrap();
        }

        /// The next frame's kind and payload, and after how long it came.
        async fn hears(&mut self) -> (u8, Vec<u8>, Duration) {
            let (first, len) = (self.socket.read_u8().await.unwrap(), self.socket.read_u8().await.unwrap());
            let mut payload = vec![0; usize::from(len)];
            self.socket.read_exact(&mut payload).await.unwrap();
            (first & 0x0f, payload, self.since.elapsed())
        }

        /// Hears why the connection ends, and that it does; answers after how long.
        async fn hears_timeout(&mut self) -> Duration {
            let (kind, message, after) = self.hears().await;
            assert_eq!(kind, opcode::BINARY);
            let message = RelayMessage::read_all(&message.into()).unwrap().remove(0);
            assert!(matches!(message, RelayMessage::Error { code: Code::Timeout, .. }), "{message:?}");
            let (kind, close, _) = self.hears().await;
            assert_eq!((kind, &close[..2]), (opcode::CLOSE, &Code::Timeout.close_code().to_be_bytes()[..]));
            assert_eq!(self.socket.read(&mut [0]).await.unwrap(), 0);
            assert!(self.since.elapsed() <= after + CLOSE_WITHIN + Duration::from_millis(10));
            after
        }
    }

    /// A timer is late by some milliseconds.
    fn is_about(time: Duration, expected: Duration) -> bool {
        (expected..expected + Duration::from_millis(20)).contains(&time)
    }

    fn hello() -> ClientMessage {
        ClientMessage::Hello { version: VERSION, token: String::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn co5_who_does_not_say_hello_is_ended() {
        let after = Silent::after(&[]).await.hears_timeout().await;
        assert!(is_about(after, HELLO_WITHIN), "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn ws8_who_is_silent_is_asked_whether_it_is_there_and_then_ended() {
        let mut silent = Silent::after(&[hello()]).await;
        assert_eq!(silent.hears().await.0, opcode::BINARY, "the welcome");
        let (kind, _, after) = silent.hears().await;
        assert!(kind == opcode::PING && is_about(after, PING_AFTER), "{kind} after {after:?}");
        let after = silent.hears_timeout().await;
        assert!(is_about(after, SILENCE_MAX), "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn ws8_who_answers_pings_stays() {
        let mut silent = Silent::after(&[hello()]).await;
        assert_eq!(silent.hears().await.0, opcode::BINARY, "the welcome");
        while silent.since.elapsed() < 3 * SILENCE_MAX {
            let (kind, payload, _) = silent.hears().await;
            assert_eq!(kind, opcode::PING);
            silent.sends(opcode::PONG, payload).await;
        }
    }
}
