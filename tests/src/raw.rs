//! Raw clients: what comes over the wire at the relay's two doors, with nothing in between that could
//! hide a loss.

use crate::relay::PATIENCE;
use anyhow::{Context, bail};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use std::collections::VecDeque;
use std::net::SocketAddr;
use tidewell_client::yrs::updates::decoder::Decode;
use tidewell_client::yrs::{Doc, GetString, ReadTxn, Text, Transact, Update, WriteTxn};
use tidewell_sync_core::admission::Admitted;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::protocol::{ClientMessage, Position, Reassembly, RelayMessage, SUBPROTOCOL, VERSION};
use tidewell_sync_core::replica::new_doc;
use tidewell_sync_core::state_vector::StateVector;
use tidewell_sync_core::y_protocol::YMessage;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// A socket at one of the doors, frame by frame.
pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

/// The other side closed, with this number and reason if it named them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Closed {
    /// WebSocket close code.
    pub number: Option<u16>,
    /// Name of the code.
    pub reason: String,
}

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "closed with {:?} {}", self.number, self.reason)
    }
}

impl std::error::Error for Closed {}

impl Socket {
    /// Connects to a path.
    pub async fn connect(
        address: SocketAddr,
        path: &str,
        protocol: Option<&'static str>,
    ) -> anyhow::Result<Self> {
        let mut request = format!("ws://{address}{path}").into_client_request()?;
        if let Some(protocol) = protocol {
            request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(protocol));
        }
        Ok(Socket(connect_async(request).await?.0))
    }

    /// Sends a message.
    pub async fn send(&mut self, message: Message) -> anyhow::Result<()> {
        Ok(self.0.send(message).await?)
    }

    /// The next binary frame; [`Closed`] when there is none any more.
    pub async fn next(&mut self) -> Result<Bytes, Closed> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Binary(frame))) => return Ok(frame),
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Err(Closed { number: Some(frame.code.into()), reason: frame.reason.to_string() });
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(Closed::default()),
            }
        }
    }

    /// Writes bytes to the socket below the WebSocket.
    pub async fn write_below(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        use tokio::io::AsyncWriteExt;
        self.0.get_mut().write_all(bytes).await
    }
}

/// A raw client of `tidewell.v1`.
pub struct TidewellSocket {
    socket: Socket,
    reassembly: Reassembly,
    read: VecDeque<RelayMessage>,
}

impl TidewellSocket {
    /// Connects and says hello; the welcome is the first message.
    pub async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        Self::connect_with(address, String::new()).await
    }

    /// The same, with a token.
    pub async fn connect_with(address: SocketAddr, token: String) -> anyhow::Result<Self> {
        let socket = Socket::connect(address, "/v1/sync", Some(SUBPROTOCOL)).await?;
        let mut this = TidewellSocket { socket, reassembly: Reassembly::default(), read: VecDeque::new() };
        this.say(&ClientMessage::Hello { version: VERSION, token }).await?;
        Ok(this)
    }

    /// Sends one message in a frame of its own.
    pub async fn say(&mut self, message: &ClientMessage) -> anyhow::Result<()> {
        let mut frame = Vec::new();
        message.write(&mut frame);
        self.socket.send(Message::Binary(frame.into())).await
    }

    /// Opens a document as one who knows nothing of it.
    pub async fn open(&mut self, channel: u32, document: &DocumentName) -> anyhow::Result<()> {
        let position = Position::StateVector(StateVector::default());
        self.say(&ClientMessage::Open { channel, document: document.clone(), position }).await
    }

    /// Adds to the text `t` of a document that is open, and waits until that is committed.
    pub async fn append(&mut self, channel: u32, doc: &Doc, number: u64, text: &str) -> anyhow::Result<()> {
        let update: Bytes = {
            let mut transaction = doc.transact_mut();
            let root = transaction.get_or_insert_text("t");
            root.push(&mut transaction, text);
            transaction.encode_update_v1().into()
        };
        self.say(&ClientMessage::Push { channel, number, update }).await?;
        loop {
            match timeout(PATIENCE, self.next()).await.context("no acknowledgement comes")?? {
                RelayMessage::Ack { channel: of, number: last, .. } if of == channel && last == number => {
                    return Ok(());
                }
                RelayMessage::Refused { code, .. } => bail!("refused: {code}"),
                _ => {}
            }
        }
    }

    /// The next message.
    pub async fn next(&mut self) -> anyhow::Result<RelayMessage> {
        loop {
            if let Some(message) = self.read.pop_front() {
                return Ok(message);
            }
            let frame = self.socket.next().await?;
            if let Some(messages) = self.reassembly.take(frame)? {
                self.read.extend(RelayMessage::read_all(&messages)?);
            }
        }
    }

    /// The socket itself.
    pub fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }
}

/// A raw client of the y-websocket door.
pub struct StockSocket(pub Socket);

impl StockSocket {
    /// Connects to a document and asks for all of it.
    pub async fn connect(address: SocketAddr, document: &DocumentName) -> anyhow::Result<Self> {
        let socket = Socket::connect(address, &format!("/yjs/{document}"), None).await?;
        let mut this = StockSocket(socket);
        this.say(&YMessage::SyncStep1(StateVector::default())).await?;
        Ok(this)
    }

    /// Sends a message.
    pub async fn say(&mut self, message: &YMessage) -> anyhow::Result<()> {
        self.0.send(Message::Binary(message.to_frame())).await
    }

    /// The next message.
    pub async fn next(&mut self) -> anyhow::Result<YMessage> {
        let frame = self.0.next().await?;
        YMessage::read_all(&frame)?.into_iter().next().context("an empty frame")
    }
}

/// A document as the relay has it. What the relay lets through is not given to yrs before it is asked for.
#[derive(Default)]
pub struct Fetched {
    /// What is in it, unit by unit.
    pub admitted: Admitted,
    pieces: Vec<Bytes>,
}

impl Fetched {
    fn take(&mut self, update: &Bytes) -> anyhow::Result<()> {
        let admission = self.admitted.admit(update)?;
        if !admission.is_complete() {
            bail!("the relay sent something with a hole before it: {:?}", admission.missing);
        }
        self.pieces.extend(admission.pieces);
        Ok(())
    }

    /// The document.
    pub fn doc(&self) -> anyhow::Result<Doc> {
        let doc = new_doc(0);
        for piece in &self.pieces {
            doc.transact_mut().apply_update(Update::decode_v1(piece)?)?;
        }
        Ok(doc)
    }

    /// The text of the root type `t`.
    pub fn text(&self) -> anyhow::Result<String> {
        let doc = self.doc()?;
        let transaction = doc.transact();
        Ok(transaction.get_text("t").map(|text| text.get_string(&transaction)).unwrap_or_default())
    }
}

/// Joins a document with a fresh client at our own door, and answers what it was given. One that joins at
/// the y-websocket door afterwards must be given all of that too.
pub async fn fetch(address: SocketAddr, document: &DocumentName) -> anyhow::Result<Fetched> {
    let own = timeout(PATIENCE, fetch_own(address, document))
        .await
        .context("our own door keeps something back")??;
    let known = own.admitted.state_vector();
    let stock = timeout(PATIENCE, fetch_stock(address, document, &known)).await;
    stock.context("the y-websocket door keeps something back")??;
    Ok(own)
}

async fn fetch_own(address: SocketAddr, document: &DocumentName) -> anyhow::Result<Fetched> {
    let mut socket = TidewellSocket::connect(address).await?;
    socket.open(0, document).await?;
    let (mut fetched, mut known, mut last) = (Fetched::default(), 0, None);
    while last.is_none_or(|last| known < last) {
        match socket.next().await? {
            RelayMessage::Opened { sequence, .. } => last = Some(sequence),
            RelayMessage::Updates { through, updates, .. } => {
                updates.iter().try_for_each(|update| fetched.take(update))?;
                known = through;
            }
            RelayMessage::Welcome { .. } => {}
            other => bail!("{other:?} for a fresh client"),
        }
    }
    Ok(fetched)
}

/// Reads until everything up to `known` is there. The answer itself may be a little behind: what is
/// missing follows as updates.
async fn fetch_stock(
    address: SocketAddr,
    document: &DocumentName,
    known: &StateVector,
) -> anyhow::Result<()> {
    let mut socket = StockSocket::connect(address, document).await?;
    let (mut fetched, mut is_answered) = (Fetched::default(), false);
    while !is_answered || known.exceeds(&fetched.admitted.state_vector()) {
        match socket.next().await? {
            YMessage::Update(update) => fetched.take(&update)?,
            YMessage::SyncStep2(update) => {
                fetched.take(&update)?;
                is_answered = true;
            }
            YMessage::SyncStep1(_) | YMessage::Awareness(_) => {}
            other => bail!("{other:?} for a fresh client"),
        }
    }
    Ok(())
}
