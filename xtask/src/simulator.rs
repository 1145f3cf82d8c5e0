//! The simulator: many devices, one relay, faulty networks and disks.

use anyhow::Result;

use crate::command::{Command, cargo};
use crate::step::Outcome;

/// Runs it with arguments of its own.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    arguments.iter().fold(simulate(), |command, argument| command.argument(argument)).without_limit().run()
}

/// The step of `test`: seeds beside those of `cargo test`, which runs the first 400. 31 s of processor time (2026-11).
pub(crate) fn test() -> Result<Outcome> {
    simulate().line("--from 400 --seeds 4000").run()?;
    Ok(Outcome::Passed)
}

fn simulate() -> Command {
    cargo("run --quiet --locked --package tidewell-simulator --")
}
