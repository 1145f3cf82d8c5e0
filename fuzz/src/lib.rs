//! What some of the targets do, with the parts that `sync-core`'s tests of admission are made of.

use bytes::Bytes;
use dice::Dice;
use libfuzzer_sys::fuzzer_mutate;

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
    survival::survive(&mut Dice::of_bytes(bytes));
}

/// Makes another input of an input of [`offer`].
pub fn change_offer(input: &mut [u8], len: usize, len_max: usize, seed: u32) -> usize {
    let history = match &input[..len] {
        [log, known, ..] => (usize::from(*log), usize::from(*known)),
        _ => return fuzzer_mutate(input, len, len_max),
    };
    change(input, 2, len, len_max, history, &mut Dice::seeded(seed.into()))
}

/// Makes another input of an input that is an update, with IDs of some history.
pub fn change_update(input: &mut [u8], len: usize, len_max: usize, seed: u32) -> usize {
    let mut dice = Dice::seeded(seed.into());
    let history = (dice.below(256), dice.below(256));
    change(input, 0, len, len_max, history, &mut dice)
}

/// Half of the time, changes what the update from `start` on says, so that it stays one; otherwise bytes, as libFuzzer does.
/// Of 30,000 offers 6,600 are then admitted; with bytes alone it is 480 (2026-11).
fn change(
    input: &mut [u8],
    start: usize,
    len: usize,
    len_max: usize,
    (log, known): (usize, usize),
    dice: &mut Dice,
) -> usize {
    if dice.once_in(2) {
        return fuzzer_mutate(input, len, len_max);
    }
    let update = Bytes::copy_from_slice(&input[start..len]);
    let changed = survival::changed_offer(dice, &update, log, known);
    let end = start + changed.len();
    if end > len_max {
        return fuzzer_mutate(input, len, len_max);
    }
    input[start..end].copy_from_slice(&changed);
    end
}
