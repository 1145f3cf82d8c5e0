//! A token, as it comes and under a good signature.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tidewell_server::fuzzing::token(bytes));
