//! The scanner of updates.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use tidewell_fuzz::targets;

fuzz_target!(|bytes: &[u8]| targets::update_scan(bytes));

fuzz_mutator!(|input: &mut [u8], len: usize, len_max: usize, seed: u32| {
    tidewell_fuzz::change_update(input, len, len_max, seed)
});
