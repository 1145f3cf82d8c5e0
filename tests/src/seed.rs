//! Seeds and lengths of runs. What a run does follows from its seed as far as real processes allow.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// The seed of a run: `TIDEWELL_SEED`, or a new one. It is printed, so that a failure can be looked at.
pub fn seed() -> u64 {
    let seed = number_from_environment("TIDEWELL_SEED").unwrap_or_else(rand::random);
    println!("TIDEWELL_SEED={seed}");
    seed
}

/// A generator of its own for one part of a run.
pub fn generator(seed: u64, part: u64) -> StdRng {
    StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(part))
}

/// How much a test does: `variable`, or `otherwise`, which is short enough for every run.
pub fn amount(variable: &str, otherwise: u64) -> u64 {
    number_from_environment(variable).unwrap_or(otherwise)
}

fn number_from_environment(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}
