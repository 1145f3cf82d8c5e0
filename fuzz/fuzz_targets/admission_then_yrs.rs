//! Whatever admission lets in of mutants of valid updates, yrs survives, and goes on to work.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tidewell_fuzz::survive(bytes));
