//! A connection of the load generator to a relay.

use crate::peer::Target;
use crate::protocol::{Said, Speaker};
use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// A relay that has not answered after so long is stuck.
const OPEN_WITHIN: Duration = Duration::from_secs(60);

/// How much of a socket is read at once.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Buffer {
    /// For thousands of connections with little traffic each.
    Small,
    /// For few that carry much.
    Large,
}

impl Buffer {
    fn bytes(self) -> usize {
        match self {
            Buffer::Small => 4 << 10,
            Buffer::Large => 128 << 10,
        }
    }
}

/// A connection to one document.
pub(crate) struct Link {
    socket: WebSocketStream<TcpStream>,
    speaker: Speaker,
}

/// The writing half of a connection.
pub(crate) struct LinkWriter {
    sink: SplitSink<WebSocketStream<TcpStream>, Message>,
    speaker: Speaker,
}

/// The reading half of a connection.
pub(crate) struct LinkReader {
    stream: SplitStream<WebSocketStream<TcpStream>>,
    speaker: Speaker,
}

impl Link {
    /// Connects and greets, without waiting for what the relay has to say.
    pub(crate) async fn connect(target: &Target, document: &str, buffer: Buffer) -> Result<Self> {
        let url = format!("ws://{}{}", target.address, target.path(document));
        let mut request = url.into_client_request()?;
        if let Some(name) = target.protocol.subprotocol() {
            request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
        }
        let stream = TcpStream::connect(target.address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let config = WebSocketConfig::default()
            .read_buffer_size(buffer.bytes())
            .write_buffer_size(buffer.bytes())
            .max_message_size(Some(256 << 20))
            .max_frame_size(Some(256 << 20));
        let (socket, _) = client_async_with_config(request, stream, Some(config)).await?;
        let mut link = Link { socket, speaker: Speaker::new(target.protocol, document) };
        for frame in link.speaker.greeting()? {
            link.socket.feed(Message::Binary(frame)).await?;
        }
        link.socket.flush().await?;
        Ok(link)
    }

    /// Connects and waits until the relay has told what it knows; answers with that, too.
    pub(crate) async fn open(target: &Target, document: &str, buffer: Buffer) -> Result<(Self, Vec<Bytes>)> {
        let opening = async {
            let mut link = Link::connect(target, document, buffer).await?;
            let mut updates = Vec::new();
            let mut is_synced = false;
            while !is_synced {
                link.receive(|said| match said {
                    Said::Update(update) => updates.push(update),
                    Said::Synced => is_synced = true,
                    _ => {}
                })
                .await?;
            }
            Ok((link, updates))
        };
        timeout(OPEN_WITHIN, opening).await.context("a connection was not let in")?
    }

    /// Waits for a frame, tells what it says and answers what it asks. Cancelling it loses nothing.
    pub(crate) async fn receive(&mut self, mut each: impl FnMut(Said)) -> Result<()> {
        let frame = next_frame(&mut self.socket).await?;
        let mut answers = Vec::new();
        self.speaker.read(frame, &mut |said| {
            match said {
                Said::Answer(frame) => answers.push(frame),
                said => each(said),
            }
            Ok(())
        })?;
        for frame in answers {
            self.socket.send(Message::Binary(frame)).await?;
        }
        Ok(())
    }

    /// Pushes an update.
    pub(crate) async fn push(&mut self, update: Vec<u8>) -> Result<()> {
        let frame = self.speaker.push(update);
        Ok(self.socket.send(Message::Binary(frame)).await?)
    }

    /// Waits until `count` pushes are durable, where the relay tells.
    pub(crate) async fn acknowledged(&mut self, target: &Target, count: u64) -> Result<()> {
        let mut through = if target.protocol.acknowledges() { 0 } else { count };
        while through < count {
            let waiting = self.receive(|said| {
                if let Said::Acknowledged(number) = said {
                    through = number;
                }
            });
            timeout(OPEN_WITHIN, waiting).await.context("a push was not acknowledged")??;
        }
        Ok(())
    }

    /// For a task that reads and one that writes. Questions are no longer answered: there are none once in sync.
    pub(crate) fn split(self, target: &Target, document: &str) -> (LinkWriter, LinkReader) {
        let (sink, stream) = self.socket.split();
        let reader = LinkReader { stream, speaker: self.speaker };
        (LinkWriter { sink, speaker: Speaker::new(target.protocol, document) }, reader)
    }
}

impl LinkWriter {
    /// Puts an update into the batch that [`LinkWriter::flush`] writes.
    pub(crate) async fn feed(&mut self, update: Vec<u8>) -> Result<()> {
        let frame = self.speaker.push(update);
        Ok(self.sink.feed(Message::Binary(frame)).await?)
    }

    /// Writes the batch.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        Ok(self.sink.flush().await?)
    }
}

impl LinkReader {
    /// Waits for a frame and tells what it says.
    pub(crate) async fn receive(&mut self, mut each: impl FnMut(Said) -> Result<()>) -> Result<()> {
        let frame = next_frame(&mut self.stream).await?;
        self.speaker.read(frame, &mut each)
    }
}

async fn next_frame<S>(stream: &mut S) -> Result<Bytes>
where
    S: StreamExt<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin,
{
    loop {
        match stream.next().await {
            Some(Ok(Message::Binary(frame))) => return Ok(frame),
            Some(Ok(Message::Close(frame))) => {
                return Err(anyhow!("the relay closed the connection: {frame:?}"));
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.into()),
            None => return Err(anyhow!("the connection ended")),
        }
    }
}
