//! Seeds in bulk, seeds that once failed, and defects that must be found.

use tidewell_simulator::{Mutant, Settings, Simulation, Summary, run};

/// What every test run goes through; `cargo xtask simulate` goes further.
const SEEDS: u64 = 400;

fn runs_clean(seed: u64) -> Summary {
    match run(seed, Settings::default()) {
        Ok(summary) => summary,
        Err(violation) => panic!("seed {seed}: {violation} (cargo xtask simulate --seed {seed})"),
    }
}

#[test]
fn no_seed_breaks_an_invariant_and_the_faults_really_happen() {
    let mut total = Summary::default();
    for seed in 0..SEEDS {
        total.add(runs_clean(seed));
    }
    for (name, count) in total.counts() {
        println!("{name}: {count}");
        assert!(count > 100, "{name}: {count}");
    }
}

#[test]
fn one_seed_is_one_run_to_the_letter() {
    for seed in 0..20 {
        let trace = || {
            let mut simulation = Simulation::new(seed, Settings::default(), true);
            let outcome = simulation.run();
            (outcome, simulation.trace().to_vec())
        };
        assert!(trace() == trace(), "seed {seed} runs in two ways");
    }
}

/// Seeds that a mutant is looked for in.
const MUTANT_SEEDS: u64 = 1_200;

/// Mutants that few seeds bring about, each with one of those.
const RARE: [(Mutant, u64); 6] = [
    (Mutant::KeepCursorAtBranch, 2_569),
    (Mutant::KeeperTrustsCursor, 2_179),
    (Mutant::StoreWhatMayBeRefused, 16_415),
    (Mutant::HearRefusedEdits, 1_458),
    (Mutant::ForgetEndedBranches, 1_458),
    (Mutant::AnswerWithRefusedEdits, 1_483),
];

#[test]
fn every_mutant_is_caught() {
    for mutant in Mutant::ALL.iter().copied().filter(|mutant| !Mutant::SCRIPTED.contains(mutant)) {
        let settings = Settings { mutant: Some(mutant), ..Settings::default() };
        let known = RARE.iter().find(|(rare, _)| *rare == mutant);
        let mut seeds = known.map_or(0..MUTANT_SEEDS, |(_, seed)| *seed..seed + 1);
        let caught = seeds.find_map(|seed| run(seed, settings).err().map(|violation| (seed, violation)));
        match caught {
            Some((seed, violation)) => println!("{mutant:?}: caught by seed {seed}: {violation}"),
            None => {
                panic!(
                    "{mutant:?} was not caught (another seed: cargo xtask simulate --mutants --seeds 20000)"
                )
            }
        }
    }
}

/// Seeds that failed when the defect was there. Once the simulator makes other random choices a seed is another run;
/// what was wrong in the core has tests of its own there, under rules RP15 to RP18 and BR5 of `docs/protocol.md`.
macro_rules! once_failed {
    ($($name:ident: $($seed:literal),+;)*) => {$(
        #[test]
        fn $name() {
            for seed in [$($seed),+] {
                runs_clean(seed);
            }
        }
    )*};
}

once_failed! {
    what_a_dying_tab_had_stored_is_offered_to_a_restored_relay: 93_917;
    what_is_shown_of_a_row_that_waits_is_offered: 74_789;
    what_could_not_be_read_is_offered_once_it_can_be: 8_280, 11_327;
    what_another_tab_knew_of_a_lost_history_is_offered: 36_300;
    an_opening_counts_after_the_refusal_of_another_token: 21_243;
    a_tab_that_begins_to_store_in_the_midst_of_a_catch_up_stores_all_of_it: 2_179;
    a_refused_push_of_an_opening_before_refuses_nothing: 20_412;
    refused_edits_that_are_heard_after_their_merge_are_not_taken: 2_841, 4_585;
    a_tab_with_refused_edits_gives_no_answer: 1_483;
    a_row_that_waits_for_something_gone_stays_on_its_device: 20_395, 50_358, 51_164;
}
