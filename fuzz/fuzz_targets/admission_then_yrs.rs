//! Admission of mutants of valid updates, and yrs after it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidewell_fuzz::targets;

fuzz_target!(|bytes: &[u8]| targets::admission_then_yrs(bytes));
