//! A keys file, and a pattern of a grant.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tidewell_server::fuzzing::keys(bytes));
