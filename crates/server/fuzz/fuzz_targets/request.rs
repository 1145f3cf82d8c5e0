//! The bodies of requests to the relay, and what proxies say of a client.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tidewell_server::fuzzing::request(bytes));
