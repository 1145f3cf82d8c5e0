//! Whatever admission lets in of mutants of valid updates, yrs survives, and goes on to work. The bytes are
//! the choices: which document, which updates, what is changed in them.
#![no_main]

use libfuzzer_sys::fuzz_target;

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

fuzz_target!(|bytes: &[u8]| survival::survive(&mut dice::Dice::of_bytes(bytes)));
