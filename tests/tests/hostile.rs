//! Hostile bytes at both doors: the relay answers with a code and goes on; nobody else notices.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

use bytes::Bytes;
use rand::{Rng, RngCore};
use std::path::Path;
use tidewell_client::{Client, Document, Options, Store};
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::limits::{FRAME_BYTES_MAX, MESSAGE_BYTES_MAX};
use tidewell_sync_core::protocol::{ClientMessage, RelayMessage, SUBPROTOCOL};
use tidewell_sync_core::y_protocol::YMessage;
use tidewell_tests::raw::{Closed, Socket, StockSocket, TidewellSocket, fetch};
use tidewell_tests::relay::{PATIENCE, Relay};
use tidewell_tests::seed::{amount, generator, seed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|digit| !digit.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

fn name(text: &str) -> DocumentName {
    DocumentName::parse(text).unwrap()
}

/// Somebody with an ordinary document, who must not notice anything.
struct Bystander {
    relay: Relay,
    document: Document,
    reader: Document,
    _clients: [Client; 2],
    typed: String,
}

const BYSTANDER: &str = "acme/ordinary";

impl Bystander {
    async fn start(data: &Path) -> Bystander {
        let relay = Relay::start(data).await.unwrap();
        let options = Options::new(format!("ws://{}/v1/sync", relay.address()), Store::Memory);
        let clients = [Client::open(options.clone()).await.unwrap(), Client::open(options).await.unwrap()];
        let document = clients[0].document(BYSTANDER).await.unwrap();
        let reader = clients[1].document(BYSTANDER).await.unwrap();
        Bystander { relay, document, reader, _clients: clients, typed: String::new() }
    }

    /// Types something: it is acknowledged and read by somebody else, on connections that were there before.
    async fn goes_on(&mut self, after: &str) {
        let length = self.typed.encode_utf16().count() as u32;
        let more = format!("{after}; ");
        self.typed.push_str(&more);
        let mut changes = self.reader.changes();
        let work = async {
            self.document.insert_text("t", length, &more).await.unwrap();
            self.document.saved_relay().await.unwrap();
            while self.reader.text("t").await.unwrap() != self.typed {
                changes.changed().await.unwrap();
            }
        };
        timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("nothing moves after {after}"));
        assert!(self.relay.is_running(), "the relay died of {after}");
    }

    /// All of it is in the store.
    async fn has_lost_nothing(self, data: &Path) {
        self.relay.kill().await.unwrap();
        let relay = Relay::start(data).await.unwrap();
        let fetched = fetch(relay.address(), &name(BYSTANDER)).await.unwrap();
        assert_eq!(fetched.text().unwrap(), self.typed);
    }
}

/// What the relay has to say to a push: a code that refuses it or closes, or none.
async fn push_own(relay: &Relay, document: &DocumentName, updates: &[Vec<u8>]) -> Option<Code> {
    let mut socket = TidewellSocket::connect(relay.address()).await.unwrap();
    socket.open(3, document).await.unwrap();
    for (index, update) in updates.iter().enumerate() {
        let number = index as u64 + 1;
        let push = ClientMessage::Push { channel: 3, number, update: update.clone().into() };
        socket.say(&push).await.unwrap();
        loop {
            match socket.next().await {
                Ok(RelayMessage::Ack { number: up_to, .. }) if up_to == number => break,
                Ok(RelayMessage::Need { .. }) => return None,
                Ok(RelayMessage::Refused { code, .. } | RelayMessage::Error { code, .. }) => {
                    return Some(code);
                }
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    None
}

/// The same at the y-websocket door: it closes, or still answers.
async fn push_stock(relay: &Relay, document: &DocumentName, messages: &[YMessage]) -> Option<Code> {
    let mut socket = StockSocket::connect(relay.address(), document).await.unwrap();
    let first = stock_answer(&mut socket).await;
    assert_eq!(first, None, "nothing was sent yet");
    for message in messages {
        // It may have closed after the first.
        let _ = socket.say(message).await;
    }
    let _ = socket.say(&YMessage::SyncStep1(Default::default())).await;
    stock_answer(&mut socket).await
}

/// Reads to the answer to what was asked, or to the code that the relay closes with.
async fn stock_answer(socket: &mut StockSocket) -> Option<Code> {
    loop {
        match socket.next().await {
            Ok(YMessage::SyncStep2(_)) => return None,
            Ok(_) => {}
            Err(error) => return Some(code_of(error.downcast_ref::<Closed>().expect("a close"))),
        }
    }
}

fn code_of(closed: &Closed) -> Code {
    let number = closed.number.unwrap_or_else(|| panic!("closed without a word"));
    let code = Code::from_number(u64::from(number) - 4000).unwrap_or_else(|| panic!("{number} is no code"));
    assert_eq!(code.name(), closed.reason);
    code
}

/// Updates that kill yrs or Yjs and that nobody may take: what comes before, the bytes, the code.
fn refused_updates() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let head = hex("01 01 01 00 08 01 01 61 01");
    let nested = |level: &str, count: usize| [head.clone(), hex(level).repeat(count), hex("7e 00")].concat();
    vec![
        ("arrays in arrays", vec![], nested("75 01", 20_000)),
        ("maps that claim much", vec![], nested("76 80 80 80 08 01 6b", 500)),
        ("a claim of half a gigabyte", vec![], hex("80 80 80 80 01 00")),
        ("a clock that overflows", hex("01 01 01 00 04 01 01 74 04 61 62 63 64 00"), {
            hex("01 02 01 00 0a f8 ff ff ff 0f 04 01 01 74 06 61 62 63 64 65 66 00")
        }),
        ("a parent that is a string", hex("01 01 64 00 04 01 01 74 01 61 00"), {
            hex("01 01 09 00 04 00 64 00 01 7a 00")
        }),
        (
            "an update of format v2",
            vec![],
            hex("00 00 02 a5 01 01 04 06 04 74 68 69 21 04 06 01 00 01 01 00 00"),
        ),
        ("nothing at all", vec![], vec![]),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_that_kills_yrs_is_refused_with_a_code_at_both_doors_and_nobody_else_notices() {
    let data = tempfile::tempdir().unwrap();
    let mut bystander = Bystander::start(data.path()).await;
    for (what, base, update) in refused_updates() {
        let document = name(&format!("hostile/{}", what.replace(' ', "-")));
        let before: Vec<Vec<u8>> = Some(base.clone()).filter(|base| !base.is_empty()).into_iter().collect();
        let all = [before.clone(), vec![update.clone()]].concat();
        let code = timeout(PATIENCE, push_own(&bystander.relay, &document, &all)).await.expect("an answer");
        assert_eq!(code, Some(Code::InvalidUpdate), "{what} at our own door");
        for kind in [YMessage::Update as fn(Bytes) -> YMessage, YMessage::SyncStep2] {
            let messages: Vec<YMessage> = all.iter().map(|update| kind(update.clone().into())).collect();
            let code = timeout(PATIENCE, push_stock(&bystander.relay, &document, &messages)).await;
            assert_eq!(code.expect("an answer"), Some(Code::InvalidUpdate), "{what} at the y-websocket door");
        }
        let fetched = fetch(bystander.relay.address(), &document).await.unwrap();
        let covers = before.iter().all(|base| fetched.admitted.covers(base).unwrap());
        assert!(covers, "what was there before {what} is gone");
        bystander.goes_on(what).await;
    }
    bystander.has_lost_nothing(data.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_crashed_yrs_and_bytes_like_them_do_not_stop_the_relay() {
    let (seed, mutants) = (seed(), amount("TIDEWELL_MUTANTS", 60));
    let mut random = generator(seed, 0);
    let data = tempfile::tempdir().unwrap();
    let mut bystander = Bystander::start(data.path()).await;
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/sync-core/tests/hostile");
    let (mut refused, mut taken) = (0, 0);
    for file in std::fs::read_dir(samples).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let field = |key: &str| hex(text.lines().find_map(|line| line.strip_prefix(key)).unwrap());
        let (input, base, full) = (field("input "), field("base "), field("full "));
        let stem = file.file_stem().unwrap().to_str().unwrap();
        for mutant in 0..=mutants {
            let mut bytes = if mutant % 2 == 0 { input.clone() } else { full.clone() };
            for _ in 0..mutant.min(1) + mutant % 3 {
                let at = random.random_range(0..bytes.len());
                bytes[at] ^= 1 << random.random_range(0..8);
            }
            let updates = [base.clone(), bytes, full.clone()];
            let document = name(&format!("hostile/{stem}/{mutant}"));
            let own = timeout(PATIENCE, push_own(&bystander.relay, &document, &updates)).await;
            let messages = updates.map(|update| YMessage::Update(update.into()));
            let stock = timeout(PATIENCE, push_stock(&bystander.relay, &document, &messages)).await;
            for code in [own.expect("an answer"), stock.expect("an answer")] {
                *if code.is_some() { &mut refused } else { &mut taken } += 1;
            }
            // Not given to yrs here: what passes admission harms its own document only.
            fetch(bystander.relay.address(), &document).await.unwrap();
        }
        bystander.goes_on(stem).await;
    }
    println!("seed {seed}: {refused} refused, {taken} taken at least in part");
    assert!(refused > 0 && bystander.relay.is_running());
    bystander.has_lost_nothing(data.path()).await;
}

/// Sends frames on a fresh connection at our own door; answers how the relay closed it.
async fn closed_after(relay: &Relay, frames: Vec<Message>) -> Code {
    let mut socket = Socket::connect(relay.address(), "/v1/sync", Some(SUBPROTOCOL)).await.unwrap();
    for frame in frames {
        // It may have closed after the first.
        let _ = socket.send(frame).await;
    }
    loop {
        match timeout(PATIENCE, socket.next()).await.expect("an answer") {
            Ok(_) => {}
            Err(closed) => return code_of(&closed),
        }
    }
}

fn frame(messages: &[ClientMessage]) -> Message {
    let mut out = Vec::new();
    messages.iter().for_each(|message| message.write(&mut out));
    Message::Binary(out.into())
}

fn hello() -> ClientMessage {
    ClientMessage::Hello { version: 1, token: String::new() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_break_the_protocol_close_their_own_connection_with_a_code() {
    let data = tempfile::tempdir().unwrap();
    let mut bystander = Bystander::start(data.path()).await;
    let push = ClientMessage::Push { channel: 9, number: 1, update: Bytes::from_static(&[0, 0]) };
    let fragment = Message::Binary([&[0, 1][..], &vec![7; FRAME_BYTES_MAX - 2]].concat().into());
    let too_many = MESSAGE_BYTES_MAX / (FRAME_BYTES_MAX - 2) + 1;
    let cases: Vec<(&str, Vec<Message>, Code)> = vec![
        ("a text", vec![Message::Text("hello".into())], Code::InvalidFrame),
        ("a push before hello", vec![frame(std::slice::from_ref(&push))], Code::ProtocolViolation),
        ("two hellos", vec![frame(&[hello(), hello()])], Code::ProtocolViolation),
        ("another version", vec![frame(&[ClientMessage::Hello { version: 2, token: String::new() }])], {
            Code::UnsupportedVersion
        }),
        ("a push on no channel", vec![frame(&[hello(), push])], Code::ProtocolViolation),
        ("an unknown tag", vec![frame(&[hello()]), Message::Binary(vec![0x7f].into())], Code::InvalidFrame),
        ("a frame that ends too early", vec![frame(&[hello()]), Message::Binary(vec![4, 1].into())], {
            Code::InvalidFrame
        }),
        ("a frame that is too large", vec![Message::Binary(vec![1; FRAME_BYTES_MAX + 1].into())], {
            Code::FrameTooLarge
        }),
        ("fragments without end", [vec![frame(&[hello()])], vec![fragment; too_many]].concat(), {
            Code::FrameTooLarge
        }),
        (
            "a name with a control character",
            vec![frame(&[hello()]), Message::Binary(vec![2, 0, 1, 7, 1, 0].into())],
            { Code::InvalidName },
        ),
    ];
    for (what, frames, expected) in cases {
        assert_eq!(closed_after(&bystander.relay, frames).await, expected, "{what}");
        bystander.goes_on(what).await;
    }
    bystander.has_lost_nothing(data.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_break_the_y_websocket_protocol_close_their_own_connection_with_a_code() {
    let data = tempfile::tempdir().unwrap();
    let mut bystander = Bystander::start(data.path()).await;
    let claim = hex("80 80 80 80 01 00");
    let cases: Vec<(&str, Vec<u8>, Code)> = vec![
        (
            "a state vector that claims much",
            [hex("00 00 06"), claim.clone()].concat(),
            Code::InvalidStateVector,
        ),
        ("awareness that claims much", [hex("01 06"), claim].concat(), Code::InvalidAwareness),
        ("awareness that is no JSON", hex("01 05 01 01 01 01 7b"), Code::InvalidAwareness),
        ("an unknown message", hex("09"), Code::InvalidFrame),
        ("an unknown sync message", hex("00 07"), Code::InvalidFrame),
        ("an update that ends too early", hex("00 02 7f 00"), Code::InvalidFrame),
        ("a frame that is too large", vec![0; MESSAGE_BYTES_MAX + 1], Code::FrameTooLarge),
    ];
    for (what, bytes, expected) in cases {
        let mut socket = StockSocket::connect(bystander.relay.address(), &name("acme/stock")).await.unwrap();
        // It may have closed before the end of it.
        let _ = socket.0.send(Message::Binary(bytes.into())).await;
        let closed = loop {
            if let Err(closed) = timeout(PATIENCE, socket.0.next()).await.expect("an answer") {
                break closed;
            }
        };
        assert_eq!(code_of(&closed), expected, "{what}");
        bystander.goes_on(what).await;
    }
    bystander.has_lost_nothing(data.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_half_frames_on_any_layer_do_not_stop_the_relay() {
    let (seed, rounds) = (seed(), amount("TIDEWELL_GARBAGE", 200));
    let mut random = generator(seed, 0);
    let data = tempfile::tempdir().unwrap();
    let mut bystander = Bystander::start(data.path()).await;
    let address = bystander.relay.address();
    for round in 0..rounds {
        let mut garbage = vec![0; random.random_range(1..400)];
        random.fill_bytes(&mut garbage);
        match round % 5 {
            0 => {
                let mut socket = TcpStream::connect(address).await.unwrap();
                let _ = socket.write_all(&garbage).await;
                let _ = socket.shutdown().await;
                let _ = timeout(PATIENCE, socket.read_to_end(&mut Vec::new())).await.expect("an end");
            }
            1 => {
                let mut socket = TidewellSocket::connect(address).await.unwrap();
                let _ = socket.socket().write_below(&garbage).await;
            }
            2 => {
                // The head of a masked binary frame of 1,000 bytes, and a few of them.
                let head = [&hex("82 fe 03 e8 00 00 00 00")[..], &garbage[..garbage.len().min(99)]].concat();
                let mut socket = StockSocket::connect(address, &name("acme/garbage")).await.unwrap();
                let _ = socket.0.write_below(&head).await;
            }
            3 => {
                let mut socket = TidewellSocket::connect(address).await.unwrap();
                socket.socket().send(Message::Binary(garbage.into())).await.unwrap();
            }
            _ => {
                let mut socket = StockSocket::connect(address, &name("acme/garbage")).await.unwrap();
                socket.0.send(Message::Binary(garbage.into())).await.unwrap();
            }
        }
        if round % 20 == 0 {
            bystander.goes_on("garbage").await;
        }
    }
    bystander.has_lost_nothing(data.path()).await;
}
