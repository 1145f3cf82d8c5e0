//! Frames one after the other into a reassembly.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidewell_fuzz::targets;

fuzz_target!(|bytes: &[u8]| targets::fragments(bytes));
