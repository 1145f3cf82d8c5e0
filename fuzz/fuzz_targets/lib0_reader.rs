//! The reader of lib0's encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidewell_fuzz::targets;

fuzz_target!(|bytes: &[u8]| targets::lib0_reader(bytes));
