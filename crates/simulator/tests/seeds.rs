//! Seeds in bulk, seeds that once failed, and defects that must be found.

use tidewell_simulator::{Mutant, Settings, Summary, Violation, run};

fn runs_clean(seed: u64) -> Summary {
    match run(seed, Settings::default()) {
        Ok(summary) => summary,
        Err(violation) => panic!("seed {seed}: {violation} (cargo xtask simulate --seed {seed})"),
    }
}

#[test]
fn no_seed_breaks_an_invariant_and_the_faults_really_happen() {
    let mut total = Summary::default();
    for seed in 0..400 {
        let summary = runs_clean(seed);
        total.edits += summary.edits;
        total.commits += summary.commits;
        total.acknowledged += summary.acknowledged;
        total.cuts += summary.cuts;
        total.device_crashes += summary.device_crashes;
        total.relay_crashes += summary.relay_crashes;
        total.restores += summary.restores;
        total.replaced += summary.replaced;
        total.characters += summary.characters;
    }
    println!("400 seeds: {total:?}");
    let happened = [
        total.edits,
        total.commits,
        total.acknowledged,
        total.cuts,
        total.device_crashes,
        total.relay_crashes,
        total.restores,
        total.replaced,
        total.characters,
    ];
    assert!(happened.iter().all(|count| *count > 100), "{total:?}");
}

#[test]
fn a_seed_always_runs_the_same() {
    assert_eq!(run(7, Settings::default()), run(7, Settings::default()));
}

#[test]
fn every_mutant_is_caught() {
    for mutant in Mutant::ALL {
        let settings = Settings { mutant: Some(mutant), ..Settings::default() };
        let caught: Option<(u64, Violation)> =
            (0..400).find_map(|seed| run(seed, settings).err().map(|violation| (seed, violation)));
        match caught {
            Some((seed, violation)) => println!("{mutant:?}: caught by seed {seed}: {violation}"),
            None => panic!("{mutant:?} was not caught by 400 seeds"),
        }
    }
}

/// A connection was lost between the relay's question and the durable answer, after a restored backup. The
/// cursor that the device had kept meanwhile hid what only it still had.
#[test]
fn what_was_offered_is_offered_again_until_it_is_durable() {
    for seed in [179, 1731] {
        runs_clean(seed);
    }
}
