//! `simulate`: runs seeds, or replays one with its trace.

use clap::Parser;
use std::process::ExitCode;
use tidewell_simulator::{Mutant, Settings, Simulation, run};

/// Simulates devices, a relay, a faulty network and faulty disks.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Replays this seed alone and prints what happened.
    #[arg(long)]
    seed: Option<u64>,
    /// Puts each known defect in, and prints the seed that caught it.
    #[arg(long)]
    mutants: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let caught = if arguments.mutants { mutants(arguments.from, arguments.seeds) } else { true };
    let clean = match arguments.seed {
        Some(seed) => replay(seed),
        None => seeds(arguments.from, arguments.seeds),
    };
    if caught && clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay(seed: u64) -> bool {
    let mut simulation = Simulation::new(seed, Settings::default(), true);
    let outcome = simulation.run();
    simulation.trace().iter().for_each(|line| println!("{line}"));
    match &outcome {
        Ok(summary) => println!("seed {seed}: {summary:?}"),
        Err(violation) => println!("seed {seed}: {violation}"),
    }
    outcome.is_ok()
}

fn seeds(from: u64, count: u64) -> bool {
    let (mut failed, mut edits, mut commits) = (0, 0, 0);
    for seed in from..from + count {
        match run(seed, Settings::default()) {
            Ok(summary) => {
                edits += summary.edits;
                commits += summary.commits;
            }
            Err(violation) => {
                failed += 1;
                println!("seed {seed}: {violation} (replay it with --seed {seed})");
            }
        }
    }
    println!("{count} seeds, {edits} edits, {commits} commits, {failed} failed");
    failed == 0
}

/// Each defect must be caught by one of the seeds.
fn mutants(from: u64, count: u64) -> bool {
    let mut all = true;
    for mutant in Mutant::ALL {
        let settings = Settings { mutant: Some(mutant), ..Settings::default() };
        let found = (from..from + count).find_map(|seed| run(seed, settings).err().map(|why| (seed, why)));
        match found {
            Some((seed, why)) => println!("{mutant:?}: caught after {} seeds: {why}", seed - from + 1),
            None => {
                println!("{mutant:?}: NOT caught by {count} seeds");
                all = false;
            }
        }
    }
    all
}
