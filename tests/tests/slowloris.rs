//! Connections that begin and do not go on, or hardly, and those that send too much: they cost little, nobody else notices,
//! and they are ended.
//! `TIDEWELL_SLOW` sets how many there are of each kind; with `TIDEWELL_SLOW_SILENT=1` those that have greeted and then
//! are silent are waited for too, which takes 100 s.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tidewell_client::{Client, Document, Options, Store};
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::lib0::write_uint;
use tidewell_sync_core::limits::{
    AWARENESS_BYTES_MAX, AWARENESS_UPDATE_ENTRIES_MAX, FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, UPDATE_CLIENTS_MAX,
};
use tidewell_sync_core::protocol::{ClientMessage, Position, SUBPROTOCOL, VERSION};
use tidewell_sync_core::replica::new_doc;
use tidewell_sync_core::state_vector::StateVector;
use tidewell_sync_core::y_protocol::YMessage;
use tidewell_tests::raw::{Socket, TidewellSocket, fetch};
use tidewell_tests::relay::{PATIENCE, Relay, binary};
use tidewell_tests::seed::amount;
use tidewell_tests::usage::{Usage, megabytes, percentiles, raise_file_limit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};
use tokio_tungstenite::tungstenite::Message;

/// Time between two bytes of those who hardly go on.
const DRIP: Duration = Duration::from_millis(200);

/// What a slow connection may cost the relay, sockets and tasks included. It has 128 KiB and more for a browser's.
const COST_BYTES_MAX: u64 = 64 << 10;

/// What a slow connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Connects, and says nothing.
    Mute,
    /// Sends a request letter by letter.
    Letters,
    /// A request, and then headers without end.
    Headers,
    /// A request whose body does not end.
    Body,
    /// A request, whose answer it reads, and no other one.
    KeptAlive,
    /// A WebSocket, and no Hello.
    NoHello,
    /// A WebSocket and a Hello letter by letter.
    HelloInLetters,
    /// Greets, and then half a frame.
    HalfFrame,
    /// Greets, and then a frame letter by letter.
    FrameInLetters,
    /// Greets, and is silent.
    Silent,
    /// A y-websocket client that is silent.
    StockSilent,
    /// A y-websocket client that sends half a frame.
    StockHalfFrame,
}

use Kind::*;

/// Those that are ended within seconds.
const BEGINNERS: [Kind; 7] = [Mute, Letters, Headers, Body, KeptAlive, NoHello, HelloInLetters];

/// Those that are ended by their silence.
const GREETED: [Kind; 5] = [HalfFrame, FrameInLetters, Silent, StockSilent, StockHalfFrame];

/// A WebSocket's opening request.
fn upgrade(path: &str, protocol: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{protocol}\r\n"
    )
    .into_bytes()
}

/// The head of a masked binary frame; the mask is 0.
fn head(length: u64) -> Vec<u8> {
    [&[0x82, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat()
}

impl Kind {
    /// What it sends at once, and what it then sends byte by byte, again and again.
    fn script(self) -> (Vec<u8>, Vec<u8>) {
        let own = || upgrade("/v1/sync", &format!("Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n"));
        let mut hello = Vec::new();
        ClientMessage::Hello { version: VERSION, token: String::new() }.write(&mut hello);
        let greeted = || [own(), head(hello.len() as u64), hello.clone()].concat();
        let stock = || upgrade("/yjs/acme/slow", "");
        match self {
            Mute => (Vec::new(), Vec::new()),
            Letters => (Vec::new(), vec![b'G']),
            Headers => (b"GET /healthz HTTP/1.1\r\nHost: relay\r\n".to_vec(), b"X-A: b\r\n".to_vec()),
            Body => {
                let head =
                    "POST /v1/ticket/acme/slow HTTP/1.1\r\nHost: relay\r\nContent-Length: 999999999\r\n\r\n";
                (head.into(), vec![b'x'])
            }
            KeptAlive => (b"GET /healthz HTTP/1.1\r\nHost: relay\r\n\r\n".to_vec(), Vec::new()),
            NoHello => (own(), Vec::new()),
            HelloInLetters => ([own(), head(8000)].concat(), vec![1]),
            HalfFrame => ([greeted(), head(FRAME_BYTES_MAX as u64), vec![1; 99]].concat(), Vec::new()),
            FrameInLetters => ([greeted(), head(FRAME_BYTES_MAX as u64)].concat(), vec![1]),
            Silent => (greeted(), Vec::new()),
            StockSilent => (stock(), Vec::new()),
            StockHalfFrame => ([stock(), head(MESSAGE_BYTES_MAX as u64), vec![1; 99]].concat(), Vec::new()),
        }
    }

    /// Lives until the relay ends it; answers after how long.
    async fn live(self, address: SocketAddr) -> Duration {
        let (at_once, drip) = self.script();
        let mut socket = TcpStream::connect(address).await.unwrap();
        let start = Instant::now();
        socket.write_all(&at_once).await.unwrap();
        let (mut from, mut to) = socket.split();
        let dripping = async {
            let mut pace = interval(DRIP);
            for byte in drip.iter().cycle() {
                pace.tick().await;
                if to.write_all(&[*byte]).await.is_err() {
                    return;
                }
            }
            // Nothing more to say, and it does not close either.
            std::future::pending().await
        };
        // Pings are read and not answered.
        let reading = async {
            let mut answers = [0; 1024];
            while from.read(&mut answers).await.is_ok_and(|read| read > 0) {}
        };
        tokio::select! {
            () = dripping => {}
            () = reading => {}
        }
        start.elapsed()
    }
}

/// Two who type and read as if nothing were.
struct Honest {
    ours: Document,
    theirs: Document,
    _clients: [Client; 2],
    typed: String,
    took: Vec<Duration>,
}

impl Honest {
    async fn start(relay: &Relay) -> Honest {
        Honest::with(relay, "").await
    }

    async fn with(relay: &Relay, token: &str) -> Honest {
        let url = format!("ws://{}/v1/sync", relay.address());
        let options = Options { token: token.to_owned(), ..Options::new(url, Store::Memory) };
        let clients = [Client::open(options.clone()).await.unwrap(), Client::open(options).await.unwrap()];
        let [ours, theirs] = [&clients[0], &clients[1]].map(|client| client.document("acme/honest"));
        let (ours, theirs) = (ours.await.unwrap(), theirs.await.unwrap());
        Honest { ours, theirs, _clients: clients, typed: String::new(), took: Vec::new() }
    }

    /// A word is acknowledged, and read by the other one.
    async fn go_on(&mut self) {
        let mut changes = self.theirs.changes();
        let start = Instant::now();
        let work = async {
            self.ours.insert_text("t", self.typed.len() as u32, "word ").await.unwrap();
            self.typed.push_str("word ");
            self.ours.saved_relay().await.unwrap();
            while self.theirs.text("t").await.unwrap() != self.typed {
                changes.changed().await.unwrap();
            }
        };
        timeout(PATIENCE, work).await.expect("honest clients are served");
        self.took.push(start.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_do_not_go_on_cost_little_and_are_ended_while_others_are_served() {
    raise_file_limit();
    let (each, waits) = (amount("TIDEWELL_SLOW", 30), amount("TIDEWELL_SLOW_SILENT", 0) > 0);
    let data = tempfile::tempdir().unwrap();
    let relay = Relay::start(data.path()).await.unwrap();
    let mut honest = Honest::start(&relay).await;
    honest.go_on().await;
    let before = Usage::of(&relay).unwrap();

    let start = |kinds: &[Kind]| {
        let mut slow = JoinSet::new();
        for kind in kinds.iter().flat_map(|kind| (0..each).map(|_| *kind)) {
            let address = relay.address();
            slow.spawn(async move { (kind, kind.live(address).await) });
        }
        slow
    };
    let (mut beginners, mut greeted) = (start(&BEGINNERS), start(&GREETED));
    let all = each * (BEGINNERS.len() + GREETED.len()) as u64;
    let mut longest: Vec<(Kind, Duration)> = Vec::new();
    let mut pace = interval(Duration::from_millis(100));
    let (began, mut most) = (Instant::now(), before.descriptors);
    while !beginners.is_empty() || (waits && !greeted.is_empty()) {
        let ended = tokio::select! {
            Some(ended) = beginners.join_next() => ended.unwrap(),
            Some(ended) = greeted.join_next() => ended.unwrap(),
            _ = pace.tick() => {
                honest.go_on().await;
                most = most.max(Usage::of(&relay).unwrap().descriptors);
                let left = beginners.len() + greeted.len();
                assert!(began.elapsed() < 2 * PATIENCE, "{left} are still there after {longest:?}");
                continue;
            }
        };
        match longest.iter_mut().find(|(kind, _)| *kind == ended.0) {
            Some((_, longest)) => *longest = ended.1.max(*longest),
            None => longest.push(ended),
        }
    }
    let after = Usage::of(&relay).unwrap();
    let cost = (after.peak_bytes - before.peak_bytes) / all;
    let [median, p99, _] = percentiles(std::mem::take(&mut honest.took));
    println!("{all} slow connections: {cost} bytes each, {most} descriptors; ended at last: {longest:.1?}");
    println!("honest clients: {} words, p50 {median:.1?}, p99 {p99:.1?}", honest.typed.len() / 5);
    assert!(cost <= COST_BYTES_MAX, "{cost} bytes each");
    let timeouts = relay.figure("tidewell_refusals_total{code=\"timeout\"}").await.unwrap();
    assert!(timeouts >= (2 * each) as f64, "they are counted: {timeouts}");

    greeted.shutdown().await;
    let gone = async {
        // The store's readers stay.
        while Usage::of(&relay).unwrap().descriptors > before.descriptors + 12 {
            honest.go_on().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("their descriptors are free again");
    relay.kill().await.unwrap();
    let relay = Relay::start(data.path()).await.unwrap();
    let name = DocumentName::parse("acme/honest").unwrap();
    assert_eq!(fetch(relay.address(), &name).await.unwrap().text().unwrap(), honest.typed);
}

/// Sends a request, as far as the relay takes it; answers the status.
async fn status(address: SocketAddr, request: &[u8]) -> u16 {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let (mut from, mut to) = socket.split();
    let mut answer = Vec::new();
    let reading = async {
        let mut part = [0; 1024];
        while let Ok(read @ 1..) = from.read(&mut part).await {
            answer.extend_from_slice(&part[..read]);
        }
    };
    // It may close before it has read everything.
    let _ = tokio::join!(to.write_all(request), reading);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    answer
        .get(9..12)
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("no status in {answer:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_too_large_are_refused_with_a_status_and_not_kept() {
    let data = tempfile::tempdir().unwrap();
    let relay = Relay::start(data.path()).await.unwrap();
    let mut honest = Honest::start(&relay).await;
    honest.go_on().await;
    let before = Usage::of(&relay).unwrap().peak_bytes;
    let long = "x".repeat(8 << 20);
    let get = |path: &str, headers: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: relay\r\n{headers}\r\n").into_bytes()
    };
    let body = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: relay\r\nContent-Length: {}\r\n\r\n{long}", long.len())
            .into_bytes()
    };
    let many: String = (0..10_000).map(|number| format!("X-{number}: 1\r\n")).collect();
    let cases: [(&str, Vec<u8>, &[u16]); 8] = [
        ("a request line", get(&format!("/{long}"), ""), &[414, 431]),
        ("a method", format!("{long} / HTTP/1.1\r\n\r\n").into_bytes(), &[400, 431]),
        ("a header", get("/healthz", &format!("X: {long}\r\n")), &[431]),
        ("many headers", get("/healthz", &many), &[431]),
        ("a name in a request", get(&format!("/yjs/{}", "n".repeat(100 << 10)), ""), &[414, 431]),
        ("a ticket", upgrade(&format!("/yjs/acme/slow?ticket={}", "t".repeat(100 << 10)), ""), &[414, 431]),
        // Answered without being read.
        ("a body for a ticket", body("/v1/ticket/acme/slow"), &[200]),
        ("a body for an administrator", body("/v1/revoke"), &[403]),
    ];
    for (what, request, expected) in cases {
        let status = timeout(PATIENCE, status(relay.address(), &request)).await.expect("an answer");
        assert!(expected.contains(&status), "{what}: {status}");
        honest.go_on().await;
    }
    let grown = Usage::of(&relay).unwrap().peak_bytes - before;
    println!("the relay grew by {:.1} MB", megabytes(grown));
    assert!(grown < 4 << 20, "{grown} bytes are kept");
}

fn hello(token: &str) -> Message {
    let mut frame = Vec::new();
    ClientMessage::Hello { version: VERSION, token: token.to_owned() }.write(&mut frame);
    Message::Binary(frame.into())
}

/// A state vector of clients that nobody knows.
fn strangers(count: usize) -> StateVector {
    let mut vector = StateVector::default();
    (1..=count as u64).for_each(|client| vector.set(client, 1));
    vector
}

fn open(channel: u32, document: &str, state_vector: StateVector) -> Message {
    let mut frame = Vec::new();
    let document = DocumentName::parse(document).unwrap();
    ClientMessage::Open { channel, document, position: Position::StateVector(state_vector) }
        .write(&mut frame);
    Message::Binary(frame.into())
}

/// Sends frames at a door; answers the code that the relay closes with.
async fn closed_after(
    relay: &Relay,
    path: &str,
    protocol: Option<&'static str>,
    frames: Vec<Message>,
) -> Code {
    let mut socket = Socket::connect(relay.address(), path, protocol).await.unwrap();
    for frame in frames {
        // It may have closed after the first.
        let _ = socket.send(frame).await;
    }
    let closed = async {
        loop {
            if let Err(closed) = socket.next().await {
                return closed;
            }
        }
    };
    let closed = timeout(PATIENCE, closed).await.expect("an end");
    let number = closed.number.unwrap_or_else(|| panic!("closed without a word"));
    Code::from_number(u64::from(number) - 4000).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_are_too_large_are_refused_with_their_code_and_not_kept() {
    let data = tempfile::tempdir().unwrap();
    let relay = Relay::start(data.path()).await.unwrap();
    let mut honest = Honest::start(&relay).await;
    honest.go_on().await;
    let before = Usage::of(&relay).unwrap().peak_bytes;
    let long_name = [&[2, 1, 0x81, 0x04][..], &[b'n'; 513], &[0, 1, 0]].concat();
    let too_many = strangers(UPDATE_CLIENTS_MAX + 1);
    let own = [
        ("a name", Message::Binary(long_name.into()), Code::InvalidName),
        ("a state vector", open(1, "acme/slow", too_many.clone()), Code::InvalidStateVector),
    ];
    for (what, frame, expected) in own {
        let code = closed_after(&relay, "/v1/sync", Some(SUBPROTOCOL), vec![hello(""), frame]).await;
        assert_eq!(code, expected, "{what}");
        honest.go_on().await;
    }
    let mut many = Vec::new();
    write_uint(&mut many, AWARENESS_UPDATE_ENTRIES_MAX as u64 + 1);
    many.extend(b"\x01\x01\x02{}".repeat(AWARENESS_UPDATE_ENTRIES_MAX + 1));
    let stock = [
        ("a state vector", YMessage::SyncStep1(too_many), Code::InvalidStateVector),
        (
            "awareness",
            YMessage::Awareness(vec![b'x'; AWARENESS_BYTES_MAX + 1].into()),
            Code::AwarenessTooLarge,
        ),
        ("many entries", YMessage::Awareness(many.into()), Code::AwarenessTooLarge),
    ];
    for (what, message, expected) in stock {
        let frame = Message::Binary(message.to_frame());
        assert_eq!(
            closed_after(&relay, "/yjs/acme/slow", None, vec![frame]).await,
            expected,
            "{what} of a stock client"
        );
        honest.go_on().await;
    }
    let grown = Usage::of(&relay).unwrap().peak_bytes - before;
    println!("the relay grew by {:.1} MB", megabytes(grown));
    assert!(grown < 8 << 20, "{grown} bytes are kept");
}

/// Each of them is answered with a document that nobody reads, so that the next ones wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_claims_to_know_is_not_kept_for_each_document_that_it_opens() {
    const CHANNELS: u32 = 32;
    let data = tempfile::tempdir().unwrap();
    let relay = Relay::start(data.path()).await.unwrap();
    let mut honest = Honest::start(&relay).await;
    honest.go_on().await;
    let mut writer = TidewellSocket::connect(relay.address()).await.unwrap();
    writer.open(1, &DocumentName::parse("acme/large").unwrap()).await.unwrap();
    let doc = new_doc(1 << 40);
    for number in 1..=4 {
        writer.append(1, &doc, number, &"x".repeat(900 << 10)).await.unwrap();
    }
    let mut deaf = Socket::connect(relay.address(), "/v1/sync", Some(SUBPROTOCOL)).await.unwrap();
    deaf.send(hello("")).await.unwrap();
    let before = Usage::of(&relay).unwrap().peak_bytes;
    let claim = strangers(UPDATE_CLIENTS_MAX);
    for channel in 0..CHANNELS {
        let frame = open(channel, "acme/large", claim.clone());
        timeout(PATIENCE, deaf.send(frame)).await.expect("it is read").unwrap();
    }
    honest.go_on().await;
    let grown = Usage::of(&relay).unwrap().peak_bytes - before;
    println!(
        "{CHANNELS} claims of {UPDATE_CLIENTS_MAX} clients: the relay grew by {:.1} MB",
        megabytes(grown)
    );
    assert!(grown < 64 << 20, "{grown} bytes are kept");
}

/// Runs the relay's program; answers what it prints.
async fn printed(arguments: &[&str]) -> String {
    let program = binary("tidewell").unwrap();
    let output = Command::new(program).args(arguments).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_are_too_long_are_refused_and_administrators_who_do_not_go_on_are_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (private, public) = (path("private.json"), path("public.json"));
    std::fs::write(&public, printed(&["token", "key", "--keys", &private]).await).unwrap();
    let mint = ["token", "mint", "--keys", &private, "--subject", "ada", "--document", "admin:**"];
    let token = printed(&mint).await.trim().to_owned();
    let relay = Relay::start_with(&folder.path().join("data"), &["--keys", &public]).await.unwrap();
    let mut honest = Honest::with(&relay, &token).await;
    honest.go_on().await;
    let long = hello(&format!("{token}{}", "x".repeat(500 << 10)));
    let code = closed_after(&relay, "/v1/sync", Some(SUBPROTOCOL), vec![long]).await;
    assert_eq!(code, Code::InvalidToken);
    honest.go_on().await;
    let request = |length: usize, body: &str| {
        let head = format!("POST /v1/kick HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer {token}\r\n");
        format!("{head}Content-Length: {length}\r\n\r\n{body}").into_bytes()
    };
    let body = "x".repeat(1 << 20);
    assert_eq!(
        timeout(PATIENCE, status(relay.address(), &request(body.len(), &body))).await.expect("an answer"),
        400
    );
    // Announced, and begun.
    assert_eq!(timeout(PATIENCE, status(relay.address(), &request(100, "{"))).await.expect("an answer"), 503);
    honest.go_on().await;
}
