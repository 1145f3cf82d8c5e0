//! Where a client is, as the relay's log tells it.

use crate::process::{Relay, data};
use std::fs;

/// Asks with a header, and answers which address the relay took it to come from.
fn address_of(arguments: &[&str], forwarded_for: &[&str]) -> String {
    let (folder, data) = data();
    let log = folder.path().join("log");
    let relay = Relay::start_logging(&data, arguments, &log);
    let upgrade = [
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Forwarded", "for=203.0.113.77"),
        ("X-Real-IP", "203.0.113.78"),
    ];
    let forwarded_for = forwarded_for.iter().map(|value| ("X-Forwarded-For", *value));
    relay.upgrade("/v1/sync", &upgrade.into_iter().chain(forwarded_for).collect::<Vec<_>>());
    let log = fs::read_to_string(&log).unwrap();
    let line = log.lines().find(|line| line.contains("a client connects")).expect("it was logged");
    line.split_once("address=").expect("its address").1.trim().to_owned()
}

#[test]
fn what_a_peer_says_about_its_address_is_ignored_unless_it_is_trusted() {
    assert_eq!(address_of(&[], &["203.0.113.9"]), "127.0.0.1");
    assert_eq!(address_of(&["--trusted-proxy", "10.0.0.0/8"], &["203.0.113.9"]), "127.0.0.1");
    let both = ["--trusted-proxy", "127.0.0.0/8", "--trusted-proxy", "10.0.0.0/8"];
    assert_eq!(address_of(&both, &[]), "127.0.0.1");
    assert_eq!(address_of(&both, &["198.51.100.1"]), "198.51.100.1");
    assert_eq!(address_of(&both, &["203.0.113.9", "198.51.100.1, 10.0.0.7"]), "198.51.100.1");
}
