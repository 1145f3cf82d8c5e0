//! Tests from outside, with Node's own test runner: the package in real browsers, and whatever else talks to the relay.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::command::{cargo, command};
use crate::step::Outcome;
use crate::{demo, engine, npm, package, workspace};

/// The package and the demo page in a real browser.
pub(crate) fn browser() -> Result<Outcome> {
    package::build()?;
    let page = demo::build_page()?;
    let programs = programs()?;
    run(&files_in("tests/browser")?, &[("TIDEWELL_DEMO", page.into()), ("TIDEWELL_BINS", programs.into())])
}

/// Stock Yjs clients beside native ones.
pub(crate) fn stock() -> Result<Outcome> {
    let programs = programs()?;
    run(&files_in("tests/stock")?, &[("TIDEWELL_BINS", programs.into())])
}

/// How much the tests of a short run do, by variable.
const AMOUNTS: &[(&str, u64)] = &[
    ("TIDEWELL_KILLS", 20),
    ("TIDEWELL_LARGE_KILLS", 10),
    ("TIDEWELL_DEVICE_KILLS", 20),
    ("TIDEWELL_POWER_LOSSES", 12),
    ("TIDEWELL_DEVICE_POWER_LOSSES", 20),
    ("TIDEWELL_LINK_ROUNDS", 2),
    ("TIDEWELL_MEMORY_ROUNDS", 1),
    ("TIDEWELL_CROWD_ROUNDS", 2),
    ("TIDEWELL_STALL_UPDATES", 4_000),
    ("TIDEWELL_MUTANTS", 60),
    ("TIDEWELL_GARBAGE", 200),
];

/// Rounds of all that strangers try, in a long run, for each time.
const ATTEMPTS: u64 = 10;

/// Random rounds of stock clients in a short run.
const ROUNDS: u64 = 60;

/// Random rounds of admission beside Yjs in a short run.
const ADMISSIONS: u64 = 400;

/// What a long run has more of, however often it does something: clients at a time, changes of one edit each as they were
/// typed, seconds for which readers stall, and whatever takes minutes because somebody is waited for.
const LARGE: [(&str, &str); 7] = [
    ("TIDEWELL_COMEBACK", "2000"),
    ("TIDEWELL_IDLE", "10000"),
    ("TIDEWELL_SLOW", "150"),
    ("TIDEWELL_SLOW_SILENT", "1"),
    ("TIDEWELL_HANG", "1"),
    ("TIDEWELL_TRACE_PATCHES", "1"),
    ("TIDEWELL_STALL_SECONDS", "60"),
];

/// Real editing histories in a browser; a long run types all of them.
const HISTORIES: [&str; 2] =
    ["tests/browser/automerge_paper.test.mjs", "tests/browser/friends_forever.test.mjs"];

/// The faults of the world on the real binary, `times` as many as in a short run.
pub(crate) fn faults(times: u64) -> Result<()> {
    let programs = programs()?;
    // One after another: they print what they have measured.
    let tests =
        cargo("test --locked --package tidewell-tests --no-fail-fast -- --nocapture --test-threads=1")
            .variable("TIDEWELL_BINS", programs);
    let tests = LARGE.iter().fold(tests.without_limit(), |tests, (name, value)| tests.variable(name, value));
    let amounts = AMOUNTS.iter().map(|(name, short)| (name, (short * times).to_string()));
    amounts.fold(tests, |tests, (name, amount)| tests.variable(name, amount)).run()?;
    cargo("test --locked --package tidewell-server --test relay attempts -- --nocapture")
        .variable("TIDEWELL_ATTEMPTS", (ATTEMPTS * times).to_string())
        .without_limit()
        .run()
}

/// That, more rounds of stock clients, and whole editing histories in a browser.
pub(crate) fn soak(times: u64) -> Result<()> {
    faults(times)?;
    let programs = programs()?;
    let [rounds, admissions] = [ROUNDS, ADMISSIONS].map(|short| (short * times).to_string());
    let bins = ("TIDEWELL_BINS", OsString::from(programs));
    let stock =
        [bins.clone(), ("TIDEWELL_ROUNDS", rounds.into()), ("TIDEWELL_ADMISSIONS", admissions.into())];
    run(&files_in("tests/stock")?, &stock)?;
    package::build()?;
    run(&HISTORIES.map(PathBuf::from), &[bins, ("TIDEWELL_LONG", "1".into())])?;
    Ok(())
}

/// The relay and the programs of the tests, as the step `rust` builds them; answers the folder that they are in.
fn programs() -> Result<PathBuf> {
    cargo("test --no-run --quiet --locked").run()?;
    Ok(workspace::target("debug"))
}

/// The `*.test.mjs` of a folder.
fn files_in(folder: &str) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(workspace::path(folder))?
        .map(|entry| Ok(PathBuf::from(folder).join(entry?.file_name())))
        .collect::<Result<_>>()?;
    files.retain(|path| path.to_string_lossy().ends_with(".test.mjs"));
    files.sort();
    if files.is_empty() {
        bail!("{folder} has no *.test.mjs");
    }
    Ok(files)
}

/// Runs tests, which find what they need by variables.
fn run(files: &[PathBuf], variables: &[(&str, OsString)]) -> Result<Outcome> {
    npm::install("tests")?;
    // A folder is not given to Node as such: version 20 looks into it, later ones take it for a test.
    let node = command("node")
        .line("--test --test-reporter=spec")
        .variable("TIDEWELL_CHROMIUM", engine::chromium()?);
    let node = variables.iter().fold(node, |node, (name, value)| node.variable(name, value));
    files.iter().fold(node, |node, file| node.argument(file)).run()?;
    Ok(Outcome::Passed)
}
