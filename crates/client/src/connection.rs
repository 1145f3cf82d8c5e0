//! One connection: a task that moves frames between a socket and the actor.
//!
//! It decides nothing. Reading and writing do not wait for each other: a relay that is not being read
//! may itself have stopped reading.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::Duration;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::limits::FRAME_BYTES_MAX;
use tidewell_sync_core::protocol::SUBPROTOCOL;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, UnboundedSender, channel, unbounded_channel};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How long a connection may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How long the relay has to answer a close.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Frames read and not yet taken by the actor: TCP slows the relay when they are more.
const FRAMES_MAX: usize = 16;

/// What a connection tells.
#[derive(Debug)]
pub(crate) enum Event {
    /// It is there.
    Connected,
    /// A frame came.
    Frame(Bytes),
    /// It is over, or could not be made; the relay's code if it named one. Nothing follows.
    Lost(Option<Code>),
}

/// A connection, being made or there. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The core pushes about a megabyte for each document until it is acknowledged, and no more.
    frames: UnboundedSender<Bytes>,
    events: Receiver<Event>,
}

impl Connection {
    pub(crate) fn start(url: String, tls: Option<Arc<ClientConfig>>) -> Connection {
        let (frames, outgoing) = unbounded_channel();
        let (to_actor, events) = channel(FRAMES_MAX);
        tokio::spawn(run(url, tls, outgoing, to_actor));
        Connection { frames, events }
    }

    /// Sends a frame, unless the connection is over: then an event says so.
    pub(crate) fn send(&self, frame: Bytes) {
        let _ = self.frames.send(frame);
    }

    /// The next event.
    pub(crate) async fn event(&mut self) -> Event {
        self.events.recv().await.unwrap_or(Event::Lost(None))
    }
}

async fn run(
    url: String,
    tls: Option<Arc<ClientConfig>>,
    outgoing: UnboundedReceiver<Bytes>,
    events: Sender<Event>,
) {
    let code = match tokio::time::timeout(CONNECT_WITHIN, connect(&url, tls)).await {
        Ok(Ok(socket)) => {
            // Nobody listens any more when the actor has gone on without this connection.
            if events.send(Event::Connected).await.is_err() {
                return;
            }
            carry(socket, outgoing, &events).await
        }
        Ok(Err(error)) => {
            tracing::debug!(%url, %error, "no connection");
            None
        }
        Err(_) => Some(Code::Timeout),
    };
    let _ = events.send(Event::Lost(code)).await;
}

async fn connect(url: &str, tls: Option<Arc<ClientConfig>>) -> Result<Socket, Error> {
    let mut request = url.into_client_request()?;
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
    let config = WebSocketConfig::default()
        .max_frame_size(Some(FRAME_BYTES_MAX))
        .max_message_size(Some(FRAME_BYTES_MAX))
        .read_buffer_size(16 << 10);
    let connector = tls.map_or(Connector::Plain, Connector::Rustls);
    let (socket, _) = connect_async_tls_with_config(request, Some(config), true, Some(connector)).await?;
    Ok(socket)
}

/// Moves frames both ways until either side is done; answers the relay's code if it closed with one.
async fn carry(
    socket: Socket,
    mut outgoing: UnboundedReceiver<Bytes>,
    events: &Sender<Event>,
) -> Option<Code> {
    let (mut sink, mut stream) = socket.split();
    let reading = async {
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Binary(frame) => events.send(Event::Frame(frame)).await.ok()?,
                Message::Close(frame) => {
                    let number = u16::from(frame?.code).checked_sub(4000)?;
                    return Code::from_number(u64::from(number));
                }
                _ => {}
            }
        }
        None
    };
    let writing = async {
        while let Some(frame) = outgoing.recv().await {
            if sink.send(Message::Binary(frame)).await.is_err() {
                break;
            }
        }
        // A relay that reads nothing any more is not waited for.
        let _ = tokio::time::timeout(CLOSE_WITHIN, sink.close()).await;
    };
    // A relay that takes no bytes any more would hold up the writing, and with it the end, for ever.
    let given_up = async {
        events.closed().await;
        tokio::time::sleep(CLOSE_WITHIN).await;
    };
    tokio::pin!(reading, writing, given_up);
    tokio::select! {
        code = &mut reading => code,
        () = &mut given_up => None,
        () = &mut writing => {
            // The close is answered, or the relay had long enough.
            tokio::time::timeout(CLOSE_WITHIN, reading).await.unwrap_or(None)
        }
    }
}
