//! The pipe of a materializer process, and what it answers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tidewell_server::fuzzing::materializer(bytes));
