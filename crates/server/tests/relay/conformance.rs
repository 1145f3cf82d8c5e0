//! The conformance client: finds nothing on our own relay, and something on others.

use crate::process::{Relay, data, output};
use crate::tokens::Issuer;
use futures_util::{SinkExt, StreamExt};
use tidewell_sync_core::code::Code;
use tidewell_sync_core::protocol::{Access, ClientMessage, RelayMessage, Resume, SUBPROTOCOL, VERSION};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// Runs checks; answers whether all passed, and what was printed.
fn check(address: &str, arguments: &[&str]) -> (bool, String) {
    let url = format!("ws://{address}");
    let ran = output(&[&["conformance", &url], arguments].concat());
    let printed = [ran.stdout, ran.stderr].concat();
    (ran.status.success(), String::from_utf8(printed).unwrap())
}

#[test]
fn our_relay_conforms() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let (all_passed, printed) = check(&relay.address, &["--within", "60s"]);
    assert!(all_passed, "{printed}");
    assert!(!printed.contains("FAILED") && printed.lines().count() > 40, "{printed}");
}

#[test]
fn ws5_our_relay_says_with_which_code_a_peer_broke_the_rules() {
    // Checks take a connection that just ends too; ours tells why.
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    for (frame, code) in [([0x83, 0x80, 0, 0, 0, 0], 1002), ([0x81, 0x81, 0, 0, 0, 0], 4400)] {
        let target = tidewell_conformance::Target::new(&format!("ws://{}", relay.address), "a", b"").unwrap();
        let mut socket = target.open("/yjs/a/doc").unwrap();
        socket.send_raw(&frame).unwrap();
        if code == 4400 {
            socket.send_raw(&[0]).unwrap();
        }
        assert_eq!(socket.closed().unwrap().map(|close| close.0), Some(code));
    }
}

#[test]
fn ws1_a_request_for_a_websocket_is_answered_with_its_subprotocol_and_a_wrong_one_with_4xx() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let (all_passed, printed) = check(&relay.address, &["--within", "60s", "--only", "WS1"]);
    assert!(all_passed && printed.ends_with("\n2 checks passed\n"), "{printed}");
    assert!(relay.get("/v1/sync").starts_with("HTTP/1.1 4"));
    assert!(relay.get("/yjs/a/doc").starts_with("HTTP/1.1 4"));
    let has_echo = !relay.get("/ws-echo").starts_with("HTTP/1.1 404");
    assert_eq!(has_echo, cfg!(feature = "ws-echo"));
}

#[test]
fn the_checks_can_be_run_with_a_token_and_one_by_one() {
    let (_folder, data) = data();
    let issuer = Issuer::new();
    let relay = Relay::start_with(&data, &["--keys", &issuer.path()]);
    let token = issuer.token("ops", &[("write", "conformance/**")]);
    let (all_passed, printed) = check(&relay.address, &["--within", "60s", "--token", &token]);
    assert!(all_passed, "{printed}");
    let (_, printed) = check(&relay.address, &["--token", &token, "--only", "ping", "--only", "RM5"]);
    assert_eq!(printed.lines().count(), 5, "{printed}");
    let (passed, printed) = check(&relay.address, &["--only", "no-such-check"]);
    assert!(!passed && printed.contains("no check"), "{printed}");
    let (passed, printed) = check(&relay.address, &["--only", "ping"]);
    assert!(!passed && printed.contains("invalid_token"), "{printed}");
}

#[test]
fn every_check_is_listed_once_and_quotes_rules_that_exist() {
    let protocol = include_str!("../../../../docs/protocol.md");
    let mut names = Vec::new();
    for check in tidewell_conformance::CHECKS.iter().copied().flatten() {
        assert!(!check.rules.is_empty(), "{}", check.name);
        for rule in check.rules {
            assert!(protocol.contains(&format!("\n- **{rule}** ")), "{}: {rule}", check.name);
        }
        assert!(!names.contains(&check.name), "{}", check.name);
        names.push(check.name);
    }
    let printed = String::from_utf8(output(&["conformance", "--list"]).stdout).unwrap();
    assert_eq!(printed.lines().count(), names.len());
}

/// What is wrong with a relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    None,
    NeverAcknowledges,
    AcknowledgesAhead,
    AcknowledgesBackwards,
    SendsBack,
    WrongCode,
    TakesEveryVersion,
    NamesNoSubprotocol,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_does_something_wrong_fails_the_check_of_it_and_passes_without_the_fault() {
    let faults = [
        (Fault::NeverAcknowledges, "a-push-is-acknowledged-and-not-sent-back", "no answer in time"),
        (Fault::AcknowledgesAhead, "a-push-is-acknowledged-and-not-sent-back", "only 1 was sent"),
        (Fault::SendsBack, "a-push-is-acknowledged-and-not-sent-back", "sent back to its author"),
        (Fault::AcknowledgesBackwards, "acknowledgements-come-in-order", "an Ack comes after"),
        (Fault::WrongCode, "another-version-is-refused", "instead of Error(unsupported_version)"),
        (Fault::TakesEveryVersion, "another-version-is-refused", "instead of Error(unsupported_version)"),
        (Fault::NamesNoSubprotocol, "websocket-handshake", "the subprotocol is None"),
    ];
    let run = async |fault, check_name| {
        let address = relay_with(fault).await;
        let within = if fault == Fault::None { "60s" } else { "1s" };
        let arguments = move || check(&address, &["--only", check_name, "--within", within]);
        tokio::task::spawn_blocking(arguments).await.unwrap()
    };
    for (fault, name, reason) in faults {
        if fault != Fault::NamesNoSubprotocol {
            let (passed, printed) = run(Fault::None, name).await;
            assert!(passed, "{name}: {printed}");
        }
        let (passed, printed) = run(fault, name).await;
        assert!(!passed, "{fault:?}: {printed}");
        assert!(printed.contains("FAILED") && printed.contains(reason), "{fault:?}: {printed}");
    }
    // It keeps nothing.
    for name in ["a-gap-is-asked-for", "updates-that-cannot-be", "names"] {
        let (passed, printed) = run(Fault::NeverAcknowledges, name).await;
        assert!(!passed, "{name}: {printed}");
    }
}

/// A relay that remembers nothing, and does little more than the checks above ask for.
async fn relay_with(fault: Fault) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, fault));
        }
    });
    address
}

async fn serve(stream: TcpStream, fault: Fault) {
    #[allow(clippy::result_large_err, reason = "the library asks for this type")]
    let choose = |_: &Request, mut response: Response| {
        if fault != Fault::NamesNoSubprotocol {
            let headers = response.headers_mut();
            headers.insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
        }
        Ok(response)
    };
    let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, choose).await else { return };
    while let Some(Ok(message)) = socket.next().await {
        let Message::Binary(frame) = message else { continue };
        let mut out = Vec::new();
        let mut pushed = Vec::new();
        let mut end = None;
        for message in ClientMessage::read_all(&frame).unwrap() {
            match message {
                ClientMessage::Hello { version, .. }
                    if version == VERSION || fault == Fault::TakesEveryVersion =>
                {
                    let (frame_bytes_max, update_bytes_max) = (1 << 20, 16 << 20);
                    RelayMessage::Welcome { lineage: 1, time_ms: 1, frame_bytes_max, update_bytes_max }
                        .write(&mut out);
                }
                ClientMessage::Hello { .. } => {
                    let wrong = fault == Fault::WrongCode;
                    let code = if wrong { Code::InvalidFrame } else { Code::UnsupportedVersion };
                    RelayMessage::Error { code, message: String::new() }.write(&mut out);
                    end = Some(code);
                }
                ClientMessage::Open { channel, .. } => {
                    let (access, resume) = (Access::Write, Resume::Continues);
                    RelayMessage::Opened { channel, access, epoch: 1, sequence: 0, resume }.write(&mut out);
                }
                ClientMessage::Push { channel, number, update } => pushed.push((channel, number, update)),
                ClientMessage::Ping { nonce } => RelayMessage::Pong { nonce }.write(&mut out),
                _ => {}
            }
        }
        if fault == Fault::AcknowledgesBackwards {
            pushed.reverse();
        }
        for (channel, number, update) in pushed {
            let number = if fault == Fault::AcknowledgesAhead { number + 1 } else { number };
            if fault == Fault::SendsBack {
                RelayMessage::Updates { channel, through: number, updates: vec![update] }.write(&mut out);
            }
            if fault != Fault::NeverAcknowledges {
                RelayMessage::Ack { channel, number, sequence: number }.write(&mut out);
            }
        }
        if !out.is_empty() && socket.send(Message::Binary(out.into())).await.is_err() {
            return;
        }
        if let Some(code) = end {
            let close = CloseFrame { code: code.close_code().into(), reason: code.name().into() };
            let _ = socket.close(Some(close)).await;
        }
    }
}
