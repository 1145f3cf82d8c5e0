//! Admission of an update by a document that knows some history.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use tidewell_fuzz::targets;

fuzz_target!(|bytes: &[u8]| targets::admission(bytes));

fuzz_mutator!(|input: &mut [u8], len: usize, len_max: usize, seed: u32| {
    tidewell_fuzz::change_offer(input, len, len_max, seed)
});
