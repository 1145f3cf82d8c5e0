//! A document's rows as a damaged store may hold them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tidewell_server::fuzzing::stored_rows(bytes));
