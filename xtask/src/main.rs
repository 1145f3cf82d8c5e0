//! `cargo xtask`: the menu of the workspace.
//!
//! `plan.rs` holds the tables of what `check` and `test` do; a new step is one line there. Every command that is run is
//! printed first, so that it can be run again by hand.

mod bench;
mod cargo_tool;
mod command;
mod consumer;
mod demo;
mod dependencies;
mod end_to_end;
mod engine;
mod excerpt;
mod fuzz;
mod module;
mod mutants;
mod npm;
mod package;
mod plan;
mod rust;
mod setup;
mod simulator;
mod step;
mod system_package;
mod workspace;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The menu of the Tidewell workspace")]
struct Menu {
    #[command(subcommand)]
    choice: Choice,
}

#[derive(Subcommand)]
enum Choice {
    /// Install what building and testing need: system packages, Rust targets, drivers, npm dependencies
    Setup,
    /// What a commit must pass: formatting, lints, types, the core's tests (under three minutes when warm)
    Check {
        /// Run only the steps of these names
        #[arg(long, value_name = "NAME")]
        only: Vec<String>,
    },
    /// Everything, set-up included: the tests of every part, in every engine
    Test {
        /// Run only the steps of these names
        #[arg(long, value_name = "NAME")]
        only: Vec<String>,
    },
    /// Build the relay and the demo application, and serve them on this machine
    Demo,
    /// Build the npm package into target/npm and try it in a throw-away project
    Pack,
    /// Run devices and a relay over faulty networks and disks; all arguments go to the simulator (try --help)
    #[command(disable_help_flag = true)]
    Simulate {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Make mistakes in a copy of the core, one at a time, and run seeds of the simulator until one finds it
    Mutants {
        /// In how many seeds, from 0 on, each is looked for
        #[arg(long, default_value_t = mutants::SEEDS)]
        seeds: u64,
        /// Only those with this in their file or their sentence
        #[arg(long, value_name = "TEXT")]
        only: Option<String>,
    },
    /// The faults of the world on the real relay and real devices: kills, power losses, disks that fail, clocks that jump,
    /// links that break or stall, hostile bytes; more of them than `test` has
    Faults {
        /// How many times as many
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
        times: u64,
    },
    /// `faults`, more rounds of stock clients, and whole editing histories in a browser
    Soak {
        /// How many times as long
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
        times: u64,
    },
    /// Feed hostile bytes to the parts that read what strangers send
    Fuzz {
        /// For how long, each target
        #[arg(long, default_value_t = 5)]
        minutes: u64,
        /// Only this target
        #[arg(long)]
        target: Option<String>,
    },
    /// List all that the relay and the npm package's module are made of, in CycloneDX's form, under target/sbom
    Sbom,
    /// Measure the relay beside its peers, which are installed under target/peers
    Bench(bench::Options),
}

fn main() -> ExitCode {
    choose(Menu::parse().choice).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn choose(choice: Choice) -> Result<ExitCode> {
    match choice {
        Choice::Setup => setup::everything()?,
        Choice::Check { only } => return step::run("check", plan::CHECK, &only),
        Choice::Test { only } => return step::run("test", plan::TEST, &only),
        Choice::Demo => demo::serve()?,
        Choice::Bench(options) => bench::run(&options)?,
        Choice::Sbom => dependencies::list()?,
        Choice::Pack => consumer::pack_and_try()?,
        Choice::Simulate { arguments } => simulator::run(&arguments)?,
        Choice::Mutants { seeds, only } => mutants::run(seeds, only.as_deref())?,
        Choice::Faults { times } => end_to_end::faults(times)?,
        Choice::Soak { times } => end_to_end::soak(times)?,
        Choice::Fuzz { minutes, target } => fuzz::run(Duration::from_secs(60 * minutes), target.as_deref())?,
    }
    Ok(ExitCode::SUCCESS)
}
