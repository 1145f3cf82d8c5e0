//! What the targets do, and how two of them make new inputs of old ones, with the parts that `sync-core`'s tests of
//! admission are made of.

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
#[path = "../../crates/sync-core/tests/admission/targets.rs"]
pub mod targets;

/// Makes another input of an input of [`targets::admission`].
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
