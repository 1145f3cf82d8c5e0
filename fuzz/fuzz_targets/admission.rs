//! Admission of an update by a document that knows some history: a refusal leaves no trace, the pieces are
//! what was admitted, and a second offer adds nothing.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|bytes: &[u8]| tidewell_fuzz::offer(bytes));

fuzz_mutator!(|input: &mut [u8], len: usize, len_max: usize, seed: u32| {
    tidewell_fuzz::change_offer(input, len, len_max, seed)
});
