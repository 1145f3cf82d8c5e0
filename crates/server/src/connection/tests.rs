//! What connections make a relay keep, seen from inside of it.

use crate::connections::Registered;
use crate::limits::{CHANNEL_BYTES, KEEPALIVE_EVERY, SHED_BYTES_MIN, SILENCE_MAX};
use crate::options::{Command, CommandLine};
use crate::places::Standing;
use crate::relay::Relay;
use crate::serve::Prepared;
use bytes::Bytes;
use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tidewell_sync_core::awareness::{self, Entry};
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::protocol::{ClientMessage, Position, RelayMessage, SUBPROTOCOL, VERSION};
use tidewell_sync_core::state_vector::StateVector;
use tidewell_sync_core::update::EMPTY;
use tidewell_sync_core::y_protocol::YMessage;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A relay that serves in this process, which is told to take as much memory as it likes.
async fn relay(data: &tempfile::TempDir) -> (Arc<Relay>, SocketAddr) {
    let arguments = ["tidewell", "serve", "--listen", "127.0.0.1:0", "--memory-max", "1000G", "--data"];
    let arguments = arguments.map(Into::into).into_iter().chain([data.path().as_os_str().to_owned()]);
    let Command::Serve(options) = CommandLine::parse_from(arguments).command else { panic!("not serve") };
    let prepared = Prepared::new(&options).unwrap();
    let relay = prepared.relay.clone();
    let listener = TcpListener::bind(options.listen).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(prepared.run(listener, std::future::pending()));
    (relay, address)
}

async fn connect(address: SocketAddr, path: &str, subprotocol: Option<&str>) -> Client {
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    if let Some(subprotocol) = subprotocol {
        request.headers_mut().insert("sec-websocket-protocol", subprotocol.parse().unwrap());
    }
    tokio_tungstenite::connect_async(request).await.unwrap().0
}

async fn hears(client: &mut Client) -> Bytes {
    let patient_until = Instant::now() + SILENCE_MAX / 2;
    loop {
        let message = timeout_at(patient_until, client.next()).await.expect("a message");
        if let Message::Binary(frame) = message.unwrap().unwrap() {
            return frame;
        }
    }
}

fn hello() -> ClientMessage {
    ClientMessage::Hello { version: VERSION, token: String::new() }
}

/// Sends messages, and waits until they have been taken and the answers have left.
async fn settles(client: &mut Client, messages: impl IntoIterator<Item = ClientMessage>) {
    let mut frame = Vec::new();
    messages.into_iter().for_each(|message| message.write(&mut frame));
    for nonce in 1..=2 {
        ClientMessage::Ping { nonce }.write(&mut frame);
        client.send(Message::Binary(std::mem::take(&mut frame).into())).await.unwrap();
        let pong = RelayMessage::Pong { nonce };
        while !RelayMessage::read_all(&hears(client).await).unwrap().contains(&pong) {}
    }
}

#[tokio::test]
async fn lm7_documents_that_a_connection_has_open_count_for_what_it_makes_the_relay_keep() {
    let count = u32::try_from(SHED_BYTES_MIN / CHANNEL_BYTES).unwrap();
    let data = tempfile::tempdir().unwrap();
    let (relay, address) = relay(&data).await;
    let mut client = connect(address, "/v1/sync", Some(SUBPROTOCOL)).await;
    let open = |channel| {
        let document = DocumentName::parse(&format!("a/{channel}")).unwrap();
        ClientMessage::Open { channel, document, position: Position::StateVector(StateVector::default()) }
    };
    settles(&mut client, std::iter::once(hello()).chain((1..count).map(open))).await;
    assert_eq!(relay.connections.shed(1), 0, "one less than is looked for");
    settles(&mut client, [open(count), ClientMessage::Close { channel: 1 }]).await;
    assert_eq!(relay.connections.shed(1), 0, "what is closed counts no more");
    settles(&mut client, [open(1)]).await;
    assert_eq!(relay.connections.shed(1), 1);
}

/// A stock client.
struct Stock(Client);

impl Stock {
    async fn says(&mut self, message: YMessage) {
        self.0.send(Message::Binary(message.to_frame())).await.unwrap();
    }

    async fn hears(&mut self) -> YMessage {
        YMessage::read_all(&hears(&mut self.0).await).unwrap().remove(0)
    }

    /// Tells of its presence, and waits until it hears of it itself: what it said before that has been taken.
    async fn settles(&mut self, clock: u32) {
        let entry = Entry { client: 1, clock, state: "{}".into() };
        let presence = YMessage::Awareness(awareness::encode([entry].iter()).into());
        self.says(presence.clone()).await;
        loop {
            match self.hears().await {
                YMessage::SyncStep1(_) => self.says(YMessage::SyncStep2(Bytes::from_static(EMPTY))).await,
                message if message == presence => break,
                message => panic!("{message:?}"),
            }
        }
    }
}

/// A connection that makes the relay keep more than all may.
fn hog(relay: &Relay) -> Registered {
    let hog = relay.enter(&Standing::Proxy, [127, 0, 0, 1].into()).unwrap();
    hog.holds(usize::MAX / 2);
    hog
}

/// What this thread has worked.
fn worked() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

#[tokio::test]
async fn lm7_cn4_those_who_wait_for_room_go_on_without_work_and_hear_that_the_relay_is_there() {
    let data = tempfile::tempdir().unwrap();
    let (relay, address) = relay(&data).await;
    let mut stock = Stock(connect(address, "/yjs/a/doc", None).await);
    // Client 1 types "known and not" into the text "t".
    stock.says(YMessage::Update(Bytes::from_static(b"\x01\x01\x01\0\x04\x01\x01t\rknown and not\0"))).await;
    stock.settles(1).await;
    relay.writer.flushed().await;
    let known: StateVector = [(1, 5)].into_iter().collect();
    let hog = hog(&relay);
    stock.says(YMessage::SyncStep1(known.clone())).await;
    stock.settles(2).await;
    let mut client = connect(address, "/v1/sync", Some(SUBPROTOCOL)).await;
    let (document, position) = (DocumentName::parse("a/doc").unwrap(), Position::StateVector(known));
    settles(&mut client, [hello(), ClientMessage::Open { channel: 1, document, position }]).await;
    let before = worked();
    assert_eq!(stock.hears().await, YMessage::Awareness(Bytes::from_static(&[0])));
    assert!(worked() - before < KEEPALIVE_EVERY / 4, "{:?}", worked() - before);
    drop(hog);
    let YMessage::SyncStep2(update) = stock.hears().await else { panic!("no answer") };
    let messages = RelayMessage::read_all(&hears(&mut client).await).unwrap();
    let [RelayMessage::Updates { updates, .. }] = &messages[..] else { panic!("{messages:?}") };
    assert!(update.windows(8).any(|bytes| bytes == b" and not"), "{update:?}");
    assert_eq!(updates[..], [update]);
}
