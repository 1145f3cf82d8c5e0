//! A client of `tidewell.v1` that sends and reads single messages.

use crate::process::Relay;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use std::collections::VecDeque;
use std::time::Duration;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::protocol::{
    ClientMessage, Cursor, Position, Reassembly, RelayMessage, SUBPROTOCOL, VERSION,
};
use tidewell_sync_core::state_vector::StateVector;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Long enough for a busy machine; reached only when a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) type Raw = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Opens a socket; `origin` as a browser would send it.
pub(crate) async fn socket(
    relay: &Relay,
    path: &str,
    subprotocol: Option<&str>,
    origin: Option<&str>,
) -> Raw {
    let mut request = format!("ws://{}{path}", relay.address).into_client_request().unwrap();
    if let Some(subprotocol) = subprotocol {
        request.headers_mut().insert("sec-websocket-protocol", subprotocol.parse().unwrap());
    }
    if let Some(origin) = origin {
        request.headers_mut().insert("origin", origin.parse().unwrap());
    }
    tokio_tungstenite::connect_async(request).await.unwrap().0
}

/// What a request for a socket was refused with.
pub(crate) type Refused = tokio_tungstenite::tungstenite::http::Response<Option<Vec<u8>>>;

/// Reads until the close and answers its code and reason.
pub(crate) async fn closed(socket: &mut Raw) -> (u16, String) {
    let read = async {
        while let Some(message) = socket.next().await {
            if let Message::Close(frame) = message.unwrap() {
                let frame = frame.expect("a reason");
                return (frame.code.into(), frame.reason.to_string());
            }
        }
        panic!("the socket ended without a close")
    };
    tokio::time::timeout(PATIENCE, read).await.expect("a close")
}

pub(crate) fn close_of(code: Code) -> (u16, String) {
    (code.close_code(), code.name().to_owned())
}

pub(crate) struct Client {
    pub(crate) socket: Raw,
    reassembly: Reassembly,
    inbox: VecDeque<RelayMessage>,
    pub(crate) lineage: u64,
}

impl Client {
    /// Is welcomed over a socket that is there.
    pub(crate) async fn over(socket: Raw) -> Client {
        Client::of(socket).welcomed("").await
    }

    /// Connects and is welcomed.
    pub(crate) async fn connect(relay: &Relay) -> Client {
        Client::connect_with(relay, "").await
    }

    /// Connects with a token and is welcomed.
    pub(crate) async fn connect_with(relay: &Relay, token: &str) -> Client {
        Client::silent(relay).await.welcomed(token).await
    }

    async fn welcomed(mut self, token: &str) -> Client {
        self.greets(token).await;
        let RelayMessage::Welcome { lineage, .. } = self.next().await else { panic!("no welcome") };
        self.lineage = lineage;
        self
    }

    /// Connects with a token.
    pub(crate) async fn greet(relay: &Relay, token: &str) -> Client {
        let mut client = Client::silent(relay).await;
        client.greets(token).await;
        client
    }

    async fn greets(&mut self, token: &str) {
        self.send(ClientMessage::Hello { version: VERSION, token: token.to_owned() }).await;
    }

    /// Connects and says nothing.
    pub(crate) async fn silent(relay: &Relay) -> Client {
        Client::of(socket(relay, "/v1/sync", Some(SUBPROTOCOL), None).await)
    }

    fn of(socket: Raw) -> Client {
        Client { socket, reassembly: Reassembly::default(), inbox: VecDeque::new(), lineage: 0 }
    }

    /// Connects and says nothing, unless it is refused before there is a socket.
    pub(crate) async fn try_silent(relay: &Relay) -> Result<Client, Box<Refused>> {
        let mut request = format!("ws://{}/v1/sync", relay.address).into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse().unwrap());
        match tokio_tungstenite::connect_async(request).await {
            Ok((socket, _)) => {
                Ok(Client { socket, reassembly: Reassembly::default(), inbox: VecDeque::new(), lineage: 0 })
            }
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response),
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn send(&mut self, message: ClientMessage) {
        let mut frame = Vec::new();
        message.write(&mut frame);
        self.socket.send(Message::Binary(frame.into())).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> RelayMessage {
        // The relay's pings are no answer.
        let patient_until = tokio::time::Instant::now() + PATIENCE;
        while self.inbox.is_empty() {
            let message =
                tokio::time::timeout_at(patient_until, self.socket.next()).await.expect("a message");
            if let Message::Binary(frame) = message.expect("an open socket").unwrap()
                && let Some(messages) = self.reassembly.take(frame).unwrap()
            {
                self.inbox.extend(RelayMessage::read_all(&messages).unwrap());
            }
        }
        self.inbox.pop_front().unwrap()
    }

    /// Opens a document and answers the `Opened`'s sequence.
    pub(crate) async fn open_at(&mut self, channel: u32, document: &str, position: Position) -> RelayMessage {
        let document = DocumentName::parse(document).unwrap();
        self.send(ClientMessage::Open { channel, document, position }).await;
        self.next().await
    }

    pub(crate) async fn open(&mut self, channel: u32, document: &str) -> u64 {
        let nothing = Position::StateVector(StateVector::default());
        match self.open_at(channel, document, nothing).await {
            RelayMessage::Opened { sequence, .. } => sequence,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn cursor(&self, sequence: u64) -> Position {
        Position::Cursor(Cursor { epoch: 1, lineage: self.lineage, sequence })
    }

    pub(crate) async fn push(&mut self, channel: u32, number: u64, update: Bytes) {
        self.send(ClientMessage::Push { channel, number, update }).await;
    }

    /// Reads until the acknowledgement of `number` and answers its sequence.
    pub(crate) async fn acknowledged(&mut self, number: u64) -> u64 {
        loop {
            if let RelayMessage::Ack { number: up_to, sequence, .. } = self.next().await
                && up_to >= number
            {
                return sequence;
            }
        }
    }

    /// Reads updates until everything up to `sequence` is there.
    pub(crate) async fn updates_through(&mut self, sequence: u64) -> Vec<Bytes> {
        let mut all = Vec::new();
        loop {
            if let RelayMessage::Updates { through, updates, .. } = self.next().await {
                all.extend(updates);
                if through >= sequence {
                    return all;
                }
            }
        }
    }

    /// Waits for a `Pong`: everything sent before it has been handled. Answers what came before it.
    pub(crate) async fn settled(&mut self) -> Vec<RelayMessage> {
        self.send(ClientMessage::Ping { nonce: 4711 }).await;
        let mut before = Vec::new();
        loop {
            match self.next().await {
                RelayMessage::Pong { nonce: 4711 } => return before,
                other => before.push(other),
            }
        }
    }

    /// Reads the error and the close, which must agree, and answers the code.
    pub(crate) async fn refused(mut self) -> Code {
        let code = loop {
            if let RelayMessage::Error { code, .. } = self.next().await {
                break code;
            }
        };
        assert_eq!(closed(&mut self.socket).await, close_of(code));
        code
    }
}
