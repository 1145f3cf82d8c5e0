//! Bad input at every door: a code, and nothing lost.

use crate::author::Author;
use crate::catch_up::peak_bytes;
use crate::client::{Client, close_of, closed, socket};
use crate::process::{Relay, data};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::limits::{CHANNELS_MAX, FRAME_BYTES_MAX};
use tidewell_sync_core::protocol::{ClientMessage, Position, RelayMessage, SUBPROTOCOL, VERSION, split};
use tidewell_sync_core::state_vector::StateVector;
use tidewell_sync_core::y_protocol::YMessage;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_cannot_be_read_close_the_connection_with_their_code() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let mut name_with_newline = vec![2, 1, 3];
    name_with_newline.extend_from_slice(b"a\nb\0\0");
    let frames: [(&[u8], Code); 6] = [
        (&[99], Code::InvalidFrame),
        (&[4, 1], Code::InvalidFrame),
        (&[0xff; 20], Code::InvalidFrame),
        (&[], Code::InvalidFrame),
        (&name_with_newline, Code::InvalidName),
        (&[2, 1, 1, b'a', 0, 2, 9, 9], Code::InvalidStateVector),
    ];
    for (frame, code) in frames {
        let mut client = Client::connect(&relay).await;
        client.socket.send(Message::Binary(Bytes::copy_from_slice(frame))).await.unwrap();
        assert_eq!(client.refused().await, code, "{frame:?}");
    }
    let mut client = Client::connect(&relay).await;
    client.socket.send(Message::Text("hello".into())).await.unwrap();
    assert_eq!(client.refused().await, Code::InvalidFrame);
    assert_eq!(relay.figure("tidewell_refusals_total{code=\"invalid_name\"}"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_beyond_the_limit_is_refused_and_not_read() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let mut client = Client::connect(&relay).await;
    // A ping, and with it the head of a masked frame of twice the limit and none of its bytes.
    use tokio::io::AsyncWriteExt;
    let mut head = vec![0x82, 0x82, 0, 0, 0, 0, 6, 1];
    head.extend_from_slice(&[0x82, 0xff]);
    head.extend_from_slice(&(2 * FRAME_BYTES_MAX as u64).to_be_bytes());
    head.extend_from_slice(&[1, 2, 3, 4]);
    let stream = client.socket.get_mut();
    stream.write_all(&head).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(client.next().await, RelayMessage::Pong { nonce: 1 }, "what came before it is answered");
    assert_eq!(client.refused().await, Code::FrameTooLarge);
}

#[tokio::test(flavor = "multi_thread")]
async fn co1_messages_out_of_turn_are_violations() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let mut client = Client::silent(&relay).await;
    client.send(ClientMessage::Ping { nonce: 1 }).await;
    assert_eq!(client.refused().await, Code::ProtocolViolation);
    let mut client = Client::silent(&relay).await;
    client.socket.send(Message::Binary(Bytes::from_static(&[0, 1, 1, 1]))).await.unwrap();
    assert_eq!(client.refused().await, Code::ProtocolViolation, "a fragment of a Hello");
    let mut client = Client::connect(&relay).await;
    client.send(ClientMessage::Hello { version: VERSION, token: String::new() }).await;
    assert_eq!(client.refused().await, Code::ProtocolViolation);
    let mut client = Client::silent(&relay).await;
    client.send(ClientMessage::Hello { version: 99, token: String::new() }).await;
    assert_eq!(client.refused().await, Code::UnsupportedVersion);
}

#[tokio::test(flavor = "multi_thread")]
async fn co4_a_channel_that_is_used_before_it_is_opened_or_opened_twice_is_a_violation() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let mut client = Client::connect(&relay).await;
    client.push(7, 1, Bytes::from_static(&[0, 0])).await;
    assert_eq!(client.refused().await, Code::ProtocolViolation);
    let mut client = Client::connect(&relay).await;
    client.open(1, "a/doc").await;
    let position = Position::StateVector(StateVector::default());
    let document = DocumentName::parse("a/doc").unwrap();
    client.send(ClientMessage::Open { channel: 1, document, position }).await;
    assert_eq!(client.refused().await, Code::ProtocolViolation);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr6_no_more_than_a_frame_is_kept_of_a_stranger() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let mut hello = Vec::new();
    ClientMessage::Hello { version: VERSION, token: "x".repeat(100) }.write(&mut hello);
    let frames = split(hello.into(), 32);
    let mut client = Client::silent(&relay).await;
    client.socket.send(Message::Binary(frames[0].clone())).await.unwrap();
    assert_eq!(client.refused().await, Code::ProtocolViolation);
    // Who has been let in may send fragments.
    let mut client = Client::connect(&relay).await;
    let mut ping = Vec::new();
    (0..100).for_each(|nonce| ClientMessage::Ping { nonce }.write(&mut ping));
    for frame in split(ping.into(), 32) {
        client.socket.send(Message::Binary(frame)).await.unwrap();
    }
    client.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn co3_an_invalid_update_is_refused_with_its_number_and_the_rest_of_the_connection_lives() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let author = Author::new(1);
    let mut client = Client::connect(&relay).await;
    client.open(1, "a/bad").await;
    client.open(2, "a/good").await;
    client.push(1, 1, Bytes::from_static(&[9, 9, 9])).await;
    client.push(1, 2, author.types("behind it")).await;
    client.push(2, 1, author.state()).await;
    let refused = client.next().await;
    assert_eq!(refused, RelayMessage::Refused { channel: 1, number: 1, code: Code::InvalidUpdate });
    loop {
        match client.next().await {
            RelayMessage::Ack { channel: 2, number: 1, .. } => break,
            RelayMessage::Ack { channel: 1, .. } => panic!("what follows a refused push is not taken"),
            _ => {}
        }
    }
    let mut other = Client::connect(&relay).await;
    assert_eq!(other.open(1, "a/bad").await, 0, "nothing of it is in the document");
}

#[tokio::test(flavor = "multi_thread")]
async fn co6_one_document_too_many_is_refused_and_the_others_stay() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let mut client = Client::connect(&relay).await;
    let mut frame = Vec::new();
    for channel in 0..=CHANNELS_MAX as u32 {
        let position = Position::StateVector(StateVector::default());
        let document = DocumentName::parse(&format!("a/{channel}")).unwrap();
        ClientMessage::Open { channel, document, position }.write(&mut frame);
    }
    client.socket.send(Message::Binary(frame.into())).await.unwrap();
    let refused = loop {
        match client.next().await {
            RelayMessage::Opened { .. } => {}
            other => break other,
        }
    };
    let channel = CHANNELS_MAX as u32;
    assert_eq!(refused, RelayMessage::Refused { channel, number: 0, code: Code::ChannelsExceeded });
    client.push(0, 1, Author::new(1).types("still here")).await;
    client.acknowledged(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ws7_a_page_of_a_foreign_origin_is_refused_at_both_doors() {
    let (_folder, data) = data();
    let relay = Relay::start_with(&data, &["--allow-origin", "https://app.example"]);
    for (path, subprotocol) in [("/v1/sync", Some(SUBPROTOCOL)), ("/yjs/a/doc", None)] {
        let mut foreign = socket(&relay, path, subprotocol, Some("https://evil.example")).await;
        assert_eq!(closed(&mut foreign).await, close_of(Code::OriginForbidden));
        for allowed in ["https://app.example", "http://localhost:5173"] {
            let mut socket = socket(&relay, path, subprotocol, Some(allowed)).await;
            let mut hello = Vec::new();
            ClientMessage::Hello { version: VERSION, token: String::new() }.write(&mut hello);
            let hello = if subprotocol.is_some() { hello } else { vec![3] };
            socket.send(Message::Binary(hello.into())).await.unwrap();
            use futures_util::StreamExt;
            assert!(matches!(socket.next().await, Some(Ok(Message::Binary(_)))), "{allowed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn co2_a_client_without_the_subprotocol_is_told_so() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let mut socket = socket(&relay, "/v1/sync", None, None).await;
    assert_eq!(closed(&mut socket).await, close_of(Code::UnsupportedVersion));
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_clients_are_closed_with_the_code_of_what_they_sent() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let frames: [(&[u8], Code); 5] = [
        (&[7], Code::InvalidFrame),
        (&[0, 0, 2, 9, 9], Code::InvalidStateVector),
        (&[0, 2, 3, 9, 9, 9], Code::InvalidUpdate),
        (&[1, 2, 9, 9], Code::InvalidAwareness),
        (&[0, 1], Code::InvalidFrame),
    ];
    for (frame, code) in frames {
        let mut socket = socket(&relay, "/yjs/a/doc", None, None).await;
        socket.send(Message::Binary(Bytes::copy_from_slice(frame))).await.unwrap();
        assert_eq!(closed(&mut socket).await, close_of(code), "{frame:?}");
    }
    let long = format!("/yjs/{}", "x".repeat(513));
    for path in ["/yjs/a%0Ab", long.as_str()] {
        let mut socket = socket(&relay, path, None, None).await;
        assert_eq!(closed(&mut socket).await, close_of(Code::InvalidName), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tiny_messages_in_one_cost_the_memory_of_their_bytes() {
    const BYTES: usize = 4 << 20;
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let (mut client, mut stock) =
        (Client::connect(&relay).await, socket(&relay, "/yjs/a/doc", None, None).await);
    client.settled().await;
    let before = peak_bytes(&relay);
    let mut pings = Vec::new();
    while pings.len() < BYTES {
        ClientMessage::Ping { nonce: 1 }.write(&mut pings);
    }
    ClientMessage::Ping { nonce: 2 }.write(&mut pings);
    for frame in split(pings.into(), FRAME_BYTES_MAX) {
        client.socket.send(Message::Binary(frame)).await.unwrap();
    }
    while client.next().await != (RelayMessage::Pong { nonce: 2 }) {}
    let mut questions = YMessage::QueryAwareness.to_frame().repeat(BYTES);
    questions.extend_from_slice(&YMessage::SyncStep1(StateVector::default()).to_frame());
    stock.send(Message::Binary(questions.into())).await.unwrap();
    let is_answer =
        |message: &Message| matches!(message, Message::Binary(frame) if frame.starts_with(&[0, 1]));
    while !is_answer(&stock.next().await.unwrap().unwrap()) {}
    let more = peak_bytes(&relay) - before;
    assert!(more < 12 * BYTES, "{more} bytes");
}
