//! `simulate`: runs seeds, or replays one with its trace.

use clap::Parser;
use std::num::NonZero;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use tidewell_simulator::{Mutant, Settings, Simulation, Summary, first_failure, run};

/// Simulates devices, a relay, a faulty network, and disks and clocks that fail.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to run. They are fresh ones unless --from says otherwise.
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// The first of them.
    #[arg(long)]
    from: Option<u64>,
    /// Replays this seed alone and prints what happened.
    #[arg(long)]
    seed: Option<u64>,
    /// Puts each known defect in, and prints how many seeds it took to catch it.
    #[arg(long)]
    mutants: bool,
    /// Runs seeds until one fails, and prints how many that were and what failed.
    #[arg(long)]
    until_failure: bool,
}

/// Lines of the trace that are printed of a seed that fails.
const LAST_LINES: usize = 25;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Arguments { seeds: count, from, .. } = arguments;
    // Always the same ones: the lists are in the documentation.
    let fixed = from.unwrap_or(0)..from.unwrap_or(0) + count;
    let clean = match arguments {
        Arguments { seed: Some(seed), .. } => replay(seed, usize::MAX),
        Arguments { mutants: true, .. } => mutants(&fixed),
        Arguments { until_failure: true, .. } => until_failure(&fixed),
        _ => seeds(from.unwrap_or_else(|| fastrand::u64(..1 << 40)), count),
    };
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a seed and prints the last `lines` of its trace.
fn replay(seed: u64, lines: usize) -> bool {
    let mut simulation = Simulation::new(seed, Settings::default(), true);
    let outcome = simulation.run();
    let trace = simulation.trace();
    trace.iter().skip(trace.len().saturating_sub(lines)).for_each(|line| println!("{line}"));
    match &outcome {
        Ok(summary) => println!("seed {seed}: {summary:?}"),
        Err(violation) => println!("seed {seed}: VIOLATED: {violation}"),
    }
    outcome.is_ok()
}

/// Runs seeds on all processors, and tells what fails as it is found.
fn seeds(from: u64, count: u64) -> bool {
    let next = AtomicU64::new(from);
    let results = Mutex::new((0, Summary::default()));
    let work = || {
        while let seed = next.fetch_add(1, Ordering::Relaxed)
            && seed < from + count
        {
            let outcome = run(seed, Settings::default());
            // Held while a seed is replayed, so that two traces do not mix.
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            match outcome {
                Ok(summary) => results.1.add(summary),
                Err(_) => {
                    results.0 += 1;
                    replay(seed, LAST_LINES);
                    println!("replay it: cargo xtask simulate --seed {seed}\n");
                }
            }
        }
    };
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    let (failed, total) = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{count} seeds from {from}, {failed} failed; in the others:");
    for (name, count) in total.counts() {
        println!("{count:>12} {}", name.replace('_', " "));
    }
    failed == 0
}

/// Each defect that seeds bring about must be caught by one of them.
fn mutants(seeds: &Range<u64>) -> bool {
    let mut all = true;
    for mutant in Mutant::ALL.iter().copied() {
        if Mutant::SCRIPTED.contains(&mutant) {
            println!("| {} | – | a test in `crates/simulator/src/simulation/tests.rs` |", mutant.what());
            continue;
        }
        let cells = cells(seeds, Settings { mutant: Some(mutant), ..Settings::default() });
        all &= cells.is_some();
        let cells = cells.unwrap_or_else(|| format!("NOT caught by {} | –", seeds.end - seeds.start));
        println!("| {} | {cells} |", mutant.what());
    }
    all
}

/// Finding a failure is what is wanted here.
fn until_failure(seeds: &Range<u64>) -> bool {
    println!("{}", cells(seeds, Settings::default()).unwrap_or_else(|| "none fails".to_owned()));
    true
}

/// How many seeds it takes until one fails, and what fails, for a table.
fn cells(seeds: &Range<u64>, settings: Settings) -> Option<String> {
    let (seed, why) = first_failure(seeds.clone(), move |seed| run(seed, settings))?;
    Some(format!("{} | {why}", seed - seeds.start + 1))
}
