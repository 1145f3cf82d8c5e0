//! RFC 6455 by its sections, over `/ws-echo`.

use crate::options::{Command, CommandLine};
use crate::serve::Prepared;
use clap::Parser;
use std::time::Duration;
use tidewell_conformance::Target;
use tidewell_conformance::web_socket::{Event, Frame, Socket, opcode};
use tidewell_sync_core::limits::MESSAGE_BYTES_MAX;
use tokio::net::TcpListener;

const BINARY: u8 = opcode::BINARY;
const TEXT: u8 = opcode::TEXT;
const MORE: u8 = opcode::CONTINUATION;

/// Runs a test against a relay in this process.
fn at_relay(test: impl Fn(&Target) + Send + 'static) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let arguments = ["tidewell", "serve", "--listen", "127.0.0.1:0", "--data"].map(Into::into);
        let arguments = arguments.into_iter().chain([folder.path().as_os_str().to_owned()]);
        let Command::Serve(options) = CommandLine::parse_from(arguments).command else { panic!("not serve") };
        let listener = TcpListener::bind(options.listen).await.unwrap();
        let mut target = Target::new(&format!("ws://{}", listener.local_addr().unwrap()), "a", b"").unwrap();
        // Reached only when a test fails.
        target.within = Duration::from_secs(60);
        let relay = tokio::spawn(Prepared::new(&options).unwrap().run(listener, std::future::pending()));
        tokio::task::spawn_blocking(move || test(&target)).await.unwrap();
        relay.abort();
    });
}

fn echo(target: &Target) -> Socket {
    target.open("/ws-echo").unwrap()
}

/// What is said about the end: a close code, or `None` for a close without one.
fn close_of(socket: &mut Socket) -> Option<u16> {
    loop {
        match socket.event().unwrap() {
            Event::Close(close) => return close.map(|(code, _)| code),
            Event::Ended => panic!("the connection ended without a close"),
            _ => {}
        }
    }
}

#[test]
fn messages_of_all_lengths_come_back_as_they_were() {
    at_relay(|target| {
        let mut socket = echo(target);
        for len in [0, 1, 125, 126, 127, 128, 65_535, 65_536, 65_537, 1 << 20, MESSAGE_BYTES_MAX] {
            let bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
            socket.send_binary(&bytes).unwrap();
            assert!(socket.event().unwrap() == Event::Binary(bytes), "{len}");
        }
        for text in ["", "Hello-µ@ßöäüàá-UTF-8!!", "\u{0}\u{10ffff}\u{fffe}"] {
            socket.send(&Frame::new(TEXT, text)).unwrap();
            assert_eq!(socket.event().unwrap(), Event::Text(text.to_owned()));
        }
    });
}

#[test]
fn ws3_parts_are_one_message_whatever_comes_between_them() {
    at_relay(|target| {
        let mut socket = echo(target);
        let parts = [
            Frame::new(TEXT, "one ").unfinished(),
            Frame::new(opcode::PING, "between"),
            Frame::new(MORE, "").unfinished(),
            Frame::new(opcode::PONG, "nobody asked"),
            Frame::new(MORE, "two "),
        ];
        socket.send_all(&parts).unwrap();
        assert_eq!(socket.event().unwrap(), Event::Pong(b"between".to_vec()));
        assert_eq!(socket.event().unwrap(), Event::Text("one two ".to_owned()));
        // Byte by byte, each written by itself.
        for byte in Frame::new(BINARY, [7]).to_bytes() {
            socket.send_raw(&[byte]).unwrap();
        }
        assert_eq!(socket.event().unwrap(), Event::Binary(vec![7]));
    });
}

#[test]
fn ws2_pings_are_answered_in_their_order_and_pongs_that_nobody_asked_for_are_ignored() {
    at_relay(|target| {
        let mut socket = echo(target);
        socket.send(&Frame::new(opcode::PONG, "nobody asked")).unwrap();
        let pings: Vec<Frame> = (0..10).map(|i| Frame::new(opcode::PING, [i; 125])).collect();
        socket.send_all(&pings).unwrap();
        for i in 0..10 {
            assert_eq!(socket.event().unwrap(), Event::Pong(vec![i; 125]), "in the order of the pings");
        }
    });
}

#[test]
fn ws4_a_close_is_answered_with_its_code_and_a_wrong_one_with_1002() {
    at_relay(|target| {
        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
            let mut socket = echo(target);
            socket.send(&Frame::close(code, "why")).unwrap();
            assert_eq!(close_of(&mut socket), Some(code));
            assert_eq!(socket.event().unwrap(), Event::Ended, "{code}");
        }
        let mut socket = echo(target);
        socket.send(&Frame::new(opcode::CLOSE, [])).unwrap();
        assert_eq!(close_of(&mut socket), None);
        let mut socket = echo(target);
        socket.send(&Frame::close(1000, &"x".repeat(123))).unwrap();
        assert_eq!(close_of(&mut socket), Some(1000));
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
            let mut socket = echo(target);
            socket.send(&Frame::close(code, "")).unwrap();
            assert_eq!(close_of(&mut socket), Some(1002), "{code}");
        }
        let mut socket = echo(target);
        socket.send(&Frame::new(opcode::CLOSE, [3])).unwrap();
        assert_eq!(close_of(&mut socket), Some(1002));
        let mut socket = echo(target);
        socket.send(&Frame::new(opcode::CLOSE, [3, 0xe8, 0xce, 0xba, 0xe1])).unwrap();
        assert_eq!(close_of(&mut socket), Some(1007));
        // What follows a close is not read.
        let mut socket = echo(target);
        socket
            .send_all(&[Frame::close(1000, ""), Frame::new(TEXT, "late"), Frame::new(opcode::PING, [])])
            .unwrap();
        assert_eq!(socket.event().unwrap(), Event::Close(Some((1000, String::new()))));
    });
}

#[test]
fn ws5_what_no_client_may_send_is_closed_with_1002_and_what_came_before_it_is_answered() {
    at_relay(|target| {
        let text = || Frame::new(TEXT, "text");
        let mut wrong = vec![
            vec![Frame { is_masked: false, ..text() }],
            vec![Frame::new(MORE, "of nothing")],
            vec![Frame::new(MORE, "of nothing").unfinished()],
            vec![text().unfinished(), text()],
            vec![text().unfinished(), Frame::new(BINARY, "b").unfinished()],
            vec![text().unfinished(), Frame::new(MORE, ""), Frame::new(MORE, "")],
            vec![Frame::new(opcode::PING, [0; 126])],
            vec![Frame::new(opcode::PONG, [0; 126])],
            vec![Frame::new(opcode::CLOSE, [0; 126])],
            vec![Frame::new(opcode::PING, []).unfinished()],
            vec![Frame::new(opcode::PONG, []).unfinished()],
            vec![Frame::new(opcode::CLOSE, []).unfinished()],
        ];
        wrong.extend((1..8).map(|reserved| vec![Frame { reserved, ..text() }]));
        wrong.extend((1..8).map(|reserved| vec![Frame { reserved, ..Frame::new(opcode::PING, []) }]));
        wrong.extend([3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map(|opcode| vec![Frame::new(opcode, [])]));
        for frames in wrong {
            let mut socket = echo(target);
            socket.send(&Frame::new(TEXT, "before")).unwrap();
            socket.send_all(&frames).unwrap();
            socket.send(&Frame::new(TEXT, "behind")).unwrap();
            assert_eq!(socket.event().unwrap(), Event::Text("before".to_owned()), "{frames:?}");
            let event = match socket.event().unwrap() {
                // The whole message before the part that belongs to none.
                Event::Text(text) if frames.len() == 3 && text == "text" => socket.event().unwrap(),
                event => event,
            };
            assert_eq!(event, Event::Close(Some((1002, String::new()))), "{frames:?}");
        }
    });
}

#[test]
fn ws6_text_that_is_no_utf8_is_closed_with_1007_as_soon_as_it_is_there() {
    at_relay(|target| {
        let mut socket = echo(target);
        // A letter of two bytes and one of four, cut in all places.
        for cut in 0..=6 {
            let (head, tail) = "ß😀".as_bytes().split_at(cut);
            socket.send_all(&[Frame::new(TEXT, head).unfinished(), Frame::new(MORE, tail)]).unwrap();
            assert_eq!(socket.event().unwrap(), Event::Text("ß😀".to_owned()), "{cut}");
        }
        let bad: [&[u8]; 8] = [
            &[0xff],
            &[0xc0, 0x80],
            &[0xed, 0xa0, 0x80],
            &[0xf4, 0x90, 0x80, 0x80],
            &[0xf8, 0x88, 0x80, 0x80, 0x80],
            &[0x80],
            &[b'a', 0xce, b'b'],
            &[0xe1, 0xbd],
        ];
        for bytes in bad {
            let mut socket = echo(target);
            socket.send(&Frame::new(TEXT, bytes)).unwrap();
            assert_eq!(close_of(&mut socket), Some(1007), "{bytes:?}");
            // In parts, of which the last never comes, unless it is its end that makes it wrong.
            let mut socket = echo(target);
            socket.send(&Frame::new(TEXT, "good ").unfinished()).unwrap();
            let part = Frame::new(MORE, bytes);
            socket.send(&if bytes == [0xe1, 0xbd] { part } else { part.unfinished() }).unwrap();
            assert_eq!(close_of(&mut socket), Some(1007), "{bytes:?} in parts");
        }
    });
}
