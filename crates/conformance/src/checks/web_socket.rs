//! RFC 6455, at both doors.

use crate::check::{Check, ensure};
use crate::device::Device;
use crate::web_socket::{Frame, Socket, opcode};
use crate::{Failure, Target};
use tidewell_sync_core::code::Code;
use tidewell_sync_core::protocol::{ClientMessage, RelayMessage, SUBPROTOCOL};
use tidewell_sync_core::state_vector::StateVector;
use tidewell_sync_core::y_protocol::YMessage;

pub(crate) const CHECKS: &[Check] = &[
    Check { name: "websocket-handshake", rules: &["WS1"], run: handshake },
    Check { name: "websocket-bad-handshakes", rules: &["WS1"], run: bad_handshakes },
    Check { name: "websocket-ping-is-answered", rules: &["WS2"], run: ping_is_answered },
    Check { name: "websocket-unasked-pong-is-ignored", rules: &["WS2"], run: unasked_pong },
    Check { name: "websocket-message-in-parts", rules: &["WS3"], run: message_in_parts },
    Check { name: "websocket-close-is-answered", rules: &["WS4"], run: close_is_answered },
    Check { name: "websocket-wrong-closes", rules: &["WS4"], run: wrong_closes },
    Check { name: "websocket-wrong-frames", rules: &["WS5"], run: wrong_frames },
    Check { name: "websocket-text", rules: &["WS6"], run: text },
];

/// A fresh socket at each of the doors.
fn at_both_doors(target: &Target, check: impl Fn(&mut Socket) -> Result<(), Failure>) -> Result<(), Failure> {
    let at = |door| move |failure| Failure(format!("{failure} (at {door})"));
    check(&mut Device::connect(target)?.socket).map_err(at("/v1/sync"))?;
    check(&mut target.stock(&target.document()?)?).map_err(at("/yjs"))
}

fn handshake(target: &Target) -> Result<(), Failure> {
    let socket = target.sync()?;
    let chosen = socket.subprotocol.as_deref();
    ensure!(chosen == Some(SUBPROTOCOL), "the subprotocol is {chosen:?} instead of {SUBPROTOCOL:?}");
    let offered = target.upgrade("/v1/sync").header("Sec-WebSocket-Protocol", "other, tidewell.v1");
    let socket = offered.open(target.stream()?, target.within)?;
    let chosen = socket.subprotocol.as_deref();
    ensure!(chosen == Some(SUBPROTOCOL), "of several the subprotocol {chosen:?} is chosen");
    let socket = target.stock(&target.document()?)?;
    let chosen = socket.subprotocol.as_deref();
    ensure!(chosen.is_none(), "the subprotocol {chosen:?} was chosen, and none was offered");
    Ok(())
}

fn bad_handshakes(target: &Target) -> Result<(), Failure> {
    let good = || target.upgrade("/v1/sync").header("Sec-WebSocket-Protocol", SUBPROTOCOL);
    let bad = [
        ("without a key", good().without("Sec-WebSocket-Key")),
        ("with a key of 15 bytes", good().header("Sec-WebSocket-Key", "AQIDBAUGBwgJCgsMDQ4P")),
        ("with a key that is no Base64", good().header("Sec-WebSocket-Key", "AQIDBAUGBwgJCgsMDQ4P**==")),
        ("without a version", good().without("Sec-WebSocket-Version")),
        ("of version 12", good().header("Sec-WebSocket-Version", "12")),
        ("without Upgrade", good().without("Upgrade")),
        ("without Connection: Upgrade", good().header("Connection", "keep-alive")),
    ];
    for (what, upgrade) in bad {
        let head = upgrade.ask(&mut *target.stream()?)?;
        ensure!(
            head.starts_with("HTTP/1.1 4"),
            "a request {what} is answered with {:?}",
            head.lines().next()
        );
    }
    Ok(())
}

fn ping_is_answered(target: &Target) -> Result<(), Failure> {
    at_both_doors(target, |socket| {
        socket.ping(b"")?;
        socket.ping(&[0xff; 125])?;
        socket.ping(b"again")
    })
}

fn unasked_pong(target: &Target) -> Result<(), Failure> {
    at_both_doors(target, |socket| {
        socket.send(&Frame::new(opcode::PONG, b"nobody asked"))?;
        socket.ping(b"still here")
    })
}

/// Between the parts come pings, and one part is empty.
fn message_in_parts(target: &Target) -> Result<(), Failure> {
    fn parts(bytes: &[u8]) -> Vec<Frame> {
        let mut frames = vec![Frame::new(opcode::BINARY, []).unfinished()];
        for byte in bytes {
            frames.push(Frame::new(opcode::CONTINUATION, [*byte]).unfinished());
            frames.push(Frame::new(opcode::PING, [*byte]));
        }
        frames.push(Frame::new(opcode::CONTINUATION, []));
        frames
    }
    let mut device = Device::connect(target)?;
    let mut ping = Vec::new();
    ClientMessage::Ping { nonce: 4711 }.write(&mut ping);
    device.socket.send_all(&parts(&ping))?;
    let pong = device.next()?;
    ensure!(pong == RelayMessage::Pong { nonce: 4711 }, "{pong:?} came instead of Pong");
    let mut stock = crate::stock::Stock::connect(target, &target.document()?)?;
    stock.socket.send_all(&parts(&YMessage::SyncStep1(StateVector::default()).to_frame()))?;
    stock.until("SyncStep2", |message| Ok(matches!(message, YMessage::SyncStep2(_)).then_some(())))
}

fn close_is_answered(target: &Target) -> Result<(), Failure> {
    at_both_doors(target, |socket| {
        socket.send(&Frame::close(1000, "done"))?;
        let close = socket.closed()?;
        let is_same = close.as_ref().is_some_and(|(code, _)| *code == 1000);
        ensure!(is_same, "a close with 1000 is answered with {close:?}");
        Ok(())
    })?;
    at_both_doors(target, |socket| {
        socket.send(&Frame::close(4000, ""))?;
        let close = socket.closed()?;
        ensure!(close.is_some_and(|(code, _)| code == 4000), "a close with 4000 is not answered with it");
        Ok(())
    })?;
    at_both_doors(target, |socket| {
        socket.send(&Frame::new(opcode::CLOSE, []))?;
        let close = socket.closed()?;
        ensure!(close.is_none(), "a close without a code is answered with {close:?}");
        Ok(())
    })
}

fn wrong_closes(target: &Target) -> Result<(), Failure> {
    let mut not_text = 1000_u16.to_be_bytes().to_vec();
    not_text.extend_from_slice(&[0xff, 0xfe]);
    let wrong = [
        ("of one byte", Frame::new(opcode::CLOSE, [3]), 1002),
        ("whose reason is not UTF-8", Frame::new(opcode::CLOSE, not_text), 1007),
        ("with 999", Frame::close(999, ""), 1002),
        ("with 1004", Frame::close(1004, ""), 1002),
        ("with 1005", Frame::close(1005, ""), 1002),
        ("with 1006", Frame::close(1006, ""), 1002),
        ("with 1015", Frame::close(1015, ""), 1002),
        ("with 2999", Frame::close(2999, ""), 1002),
        ("with 5000", Frame::close(5000, ""), 1002),
    ];
    fails_at_both_doors(target, &wrong.map(|(what, frame, code)| (what, vec![frame], code)))
}

fn wrong_frames(target: &Target) -> Result<(), Failure> {
    let mut ping = Vec::new();
    ClientMessage::Ping { nonce: 1 }.write(&mut ping);
    let message = || Frame::new(opcode::BINARY, ping.clone());
    let wrong = [
        ("a frame that is not masked", vec![Frame { is_masked: false, ..message() }]),
        ("the first reserved bit", vec![Frame { reserved: 4, ..message() }]),
        ("the last reserved bit", vec![Frame { reserved: 1, ..message() }]),
        ("a reserved bit of a ping", vec![Frame { reserved: 2, ..Frame::new(opcode::PING, []) }]),
        ("opcode 3", vec![Frame::new(3, [])]),
        ("opcode 7", vec![Frame::new(7, [])]),
        ("opcode 11", vec![Frame::new(11, [])]),
        ("opcode 15", vec![Frame::new(15, [])]),
        ("a ping of 126 bytes", vec![Frame::new(opcode::PING, [0; 126])]),
        ("a close of 126 bytes", vec![Frame::close(1000, &"x".repeat(124))]),
        ("a ping in parts", vec![Frame::new(opcode::PING, []).unfinished()]),
        ("a continuation of nothing", vec![Frame::new(opcode::CONTINUATION, ping.clone())]),
        ("a last part of nothing", vec![Frame::new(opcode::CONTINUATION, []).unfinished()]),
        ("a message within another", vec![message().unfinished(), message()]),
        ("a text within a message", vec![message().unfinished(), Frame::new(opcode::TEXT, [])]),
    ];
    fails_at_both_doors(target, &wrong.map(|(what, frames)| (what, frames, 1002)))
}

/// The connection ends; if a close says why, then with this code. What is sent behind is not answered.
fn fails_at_both_doors(target: &Target, wrong: &[(&str, Vec<Frame>, u16)]) -> Result<(), Failure> {
    for (what, frames, expected) in wrong {
        at_both_doors(target, |socket| {
            // The connection may be over before all of it is out.
            let _ = socket.send_all(frames);
            let _ = socket.send(&Frame::new(opcode::PING, b"behind"));
            let close = socket.until("the connection's end", |event| match event {
                crate::web_socket::Event::Close(close) => Some(Ok(close.clone())),
                crate::web_socket::Event::Ended => Some(Ok(None)),
                crate::web_socket::Event::Pong(_) => Some(Err(Failure(format!("{what} is passed over")))),
                _ => None,
            });
            let close =
                close.and_then(|close| close).map_err(|failure| Failure(format!("{what}: {failure}")))?;
            let is_right = close.as_ref().is_none_or(|(code, _)| code == expected);
            ensure!(is_right, "{what} ends the connection with {close:?} instead of {expected}");
            Ok(())
        })?;
    }
    Ok(())
}

/// Messages are bytes. What is no UTF-8 may be refused as such or as text.
fn text(target: &Target) -> Result<(), Failure> {
    let refused = (Code::InvalidFrame.close_code(), Code::InvalidFrame.name().to_owned());
    at_both_doors(target, |socket| {
        socket.send(&Frame::new(opcode::TEXT, "κόσμε"))?;
        let close = socket.closed()?;
        ensure!(close.as_ref() == Some(&refused), "a text ends the connection with {close:?}");
        Ok(())
    })?;
    let bad: [&[&[u8]]; 4] = [&[&[0xff]], &[b"\xce\xba\xe1\xbd", b"\xff"], &[b"\xed\xa0\x80"], &[b"\xce"]];
    for parts in bad {
        at_both_doors(target, |socket| {
            let mut frames: Vec<Frame> = parts
                .iter()
                .enumerate()
                .map(|(index, part)| {
                    Frame::new(if index == 0 { opcode::TEXT } else { 0 }, *part).unfinished()
                })
                .collect();
            if let Some(last) = frames.last_mut() {
                last.is_last = true;
            }
            socket.send_all(&frames)?;
            let close = socket.closed()?;
            let is_right = close.as_ref().is_none_or(|close| close.0 == 1007 || *close == refused);
            ensure!(is_right, "text that is not UTF-8 ends the connection with {close:?}");
            Ok(())
        })?;
    }
    Ok(())
}
