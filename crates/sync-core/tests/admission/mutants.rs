//! A seeded share of what the fuzz target `admission_then_yrs` does, in plain tests.

use crate::dice::Dice;
use crate::hostile::run_alone;
use crate::survival::survive;
use std::time::Duration;

const SEEDS: &str = "TIDEWELL_TEST_SEEDS";

#[test]
fn ad15_mutants_that_are_admitted_do_not_harm_yrs() {
    let outcomes: Vec<_> = (0..8u64)
        .map(|part| {
            let seeds = format!("{} {}", part * 250, (part + 1) * 250);
            std::thread::spawn(move || {
                run_alone("mutants::seeds_alone", SEEDS, &seeds, Duration::from_secs(240))
            })
        })
        .collect();
    outcomes.into_iter().for_each(|outcome| outcome.join().unwrap().unwrap());
}

/// Does nothing unless it is told which seeds; then it is the child of the test above.
#[test]
fn seeds_alone() {
    let Ok(value) = std::env::var(SEEDS) else { return };
    let (from, until) = value.split_once(' ').unwrap();
    for seed in from.parse().unwrap()..until.parse::<u64>().unwrap() {
        // The last line before a crash or a hang names the seed.
        println!("seed {seed}");
        survive(&mut Dice::seeded(seed));
    }
}
