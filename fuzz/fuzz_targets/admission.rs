//! Admission of an update by a document that knows some history: a refusal leaves no trace, the pieces are
//! what was admitted, and a second offer adds nothing. The first byte picks the history, the second how much
//! of it is known, the rest is the update.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use survival::{known_part, taken_pieces};

#[path = "../../crates/sync-core/tests/admission/crafted.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod crafted;
#[path = "../../crates/sync-core/tests/admission/dice.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod dice;
#[path = "../../crates/sync-core/tests/admission/history.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod history;
#[path = "../../crates/sync-core/tests/admission/mutation.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod mutation;
#[path = "../../crates/sync-core/tests/admission/oracle.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod oracle;
#[path = "../../crates/sync-core/tests/admission/survival.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod survival;

fuzz_target!(|bytes: &[u8]| {
    let [log, known, update @ ..] = bytes else { return };
    let mut admitted = known_part(usize::from(*log), usize::from(*known));
    taken_pieces(&mut admitted, &Bytes::copy_from_slice(update));
});
