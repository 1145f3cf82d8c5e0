//! A table of named steps: runs them in order, goes on after a failure, and ends with a count.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::command::Failed;

/// One named part of `check` or `test`.
pub(crate) struct Step {
    /// What `--only` takes.
    pub(crate) name: &'static str,
    /// What it proves, in a few words.
    pub(crate) proves: &'static str,
    /// What to do when it fails.
    pub(crate) failure: Failure,
    /// Does it.
    pub(crate) action: fn() -> Result<Outcome>,
}

/// What a failure means for the steps that follow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// They say something all the same.
    GoesOn,
    /// They would all fail for the same reason.
    Stops,
}

/// How a step ended that did not fail.
pub(crate) enum Outcome {
    /// It did what its name says.
    Passed,
    /// This platform cannot have what it needs, for this reason.
    NotRun(&'static str),
}

/// A step that passes unless it fails, and whose failure lets the others go on.
pub(crate) const fn step(name: &'static str, proves: &'static str, action: fn() -> Result<Outcome>) -> Step {
    Step { name, proves, failure: Failure::GoesOn, action }
}

/// Runs the steps of the table, or only those named, and prints what came of each, after what the failed ones said; the
/// last line is the count, which machines read.
pub(crate) fn run(table_name: &str, table: &[Step], only: &[String]) -> Result<ExitCode> {
    if let Some(unknown) = only.iter().find(|name| table.iter().all(|step| step.name != name.as_str())) {
        let names: Vec<&str> = table.iter().map(|step| step.name).collect();
        bail!("{table_name} has no step `{unknown}`; it has: {}", names.join(", "));
    }
    let chosen = table.iter().filter(|step| only.is_empty() || only.iter().any(|name| name == step.name));

    let began = Instant::now();
    let (mut passed, mut failed) = (0, 0);
    let mut report = Vec::new();
    let mut excerpts = Vec::new();
    for step in chosen {
        println!("\n=== {}: {}", step.name, step.proves);
        let step_began = Instant::now();
        let result = (step.action)();
        let seconds = step_began.elapsed().as_secs_f64();
        let line = |what: &str| format!("{:<16} {what:<8} {seconds:>7.1} s", step.name);
        match result {
            Ok(Outcome::Passed) => {
                passed += 1;
                report.push(line("passed"));
            }
            Ok(Outcome::NotRun(reason)) => {
                println!("not run: {reason}");
                report.push(format!("{}   {reason}", line("not run")));
            }
            Err(error) => {
                failed += 1;
                println!("FAILED {}: {error:#}", step.name);
                if let Some(command) = error.downcast_ref::<Failed>() {
                    excerpts.push(format!("\n=== what `{}` said of its failure", step.name));
                    excerpts.extend_from_slice(&command.excerpt);
                }
                report.push(format!("{}   {error:#}", line("FAILED")));
                if step.failure == Failure::Stops {
                    report.push("the steps after it were not run: they need it".to_owned());
                    break;
                }
            }
        }
    }

    excerpts.iter().for_each(|line| println!("{line}"));
    println!("\n=== {table_name}, {:.0} s in all", began.elapsed().as_secs_f64());
    report.iter().for_each(|line| println!("{line}"));
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
