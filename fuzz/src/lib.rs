//! What two of the targets do, with the parts that `sync-core`'s tests of admission are made of.

use bytes::Bytes;

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

/// Offers an update to a document that knows some history. The first byte picks the history, the second how much of it
/// is known, the rest is the update.
pub fn offer(bytes: &[u8]) {
    let [log, known, update @ ..] = bytes else { return };
    let mut admitted = survival::known_part(usize::from(*log), usize::from(*known)).clone();
    survival::taken_pieces(&mut admitted, &Bytes::copy_from_slice(update));
}

/// Applies with yrs what admission lets in of mutants of valid updates. The bytes are the choices: which document, which
/// updates, what is changed in them.
pub fn survive(bytes: &[u8]) {
    survival::survive(&mut dice::Dice::of_bytes(bytes));
}
