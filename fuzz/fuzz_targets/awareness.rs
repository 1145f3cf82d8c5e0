//! Awareness updates: what can be read is written again with the same meaning.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidewell_sync_core::awareness::{decode, encode};

fuzz_target!(|bytes: &[u8]| {
    let Ok(entries) = decode(bytes) else { return };
    assert_eq!(decode(&encode(entries.iter())), Ok(entries));
});
