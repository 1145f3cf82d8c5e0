//! Fuzzing: libFuzzer over the targets of the folders below, each beginning with its corpus in `corpus/<target>` and what
//! was found before in `regressions/<target>`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::command::{Command, command};
use crate::step::Outcome;
use crate::{cargo_tool, rust, workspace};

/// What reads bytes without I/O: the core.
const CORE: &str = "fuzz";

/// The relay's. With the sanitizer, all that it is made of takes ten minutes to compile: left out of `test`, where the
/// server's own tests feed its targets for a few seconds.
const SERVER: &str = "crates/server/fuzz";

/// The crates of targets.
pub(crate) const FOLDERS: &[&str] = &[CORE, SERVER];

/// For each target in `test`: enough to replay the corpus and to see that the target still works. Finding something new
/// takes `cargo xtask fuzz --minutes 60`.
const SHORT: Duration = Duration::from_secs(15);

/// Runs each target, or the named one, for this long.
pub(crate) fn run(time: Duration, target: Option<&str>) -> Result<()> {
    install()?;
    let mut all = Vec::new();
    for folder in FOLDERS {
        all.extend(targets(folder)?.into_iter().map(|name| (*folder, name)));
    }
    let wanted: Vec<_> =
        all.iter().filter(|(_, name)| target.is_none_or(|wanted| wanted == name.as_str())).collect();
    if wanted.is_empty() {
        let names: Vec<&str> = all.iter().map(|(_, name)| name.as_str()).collect();
        bail!("there is no fuzz target {}; there are: {}", target.unwrap_or_default(), names.join(", "));
    }
    wanted.into_iter().try_for_each(|(folder, name)| run_target(folder, name, time))
}

/// The step of `test`.
pub(crate) fn test() -> Result<Outcome> {
    install()?;
    targets(CORE)?.iter().try_for_each(|name| run_target(CORE, name, SHORT))?;
    Ok(Outcome::Passed)
}

fn install() -> Result<()> {
    rust::install_nightly()?;
    cargo_tool::CARGO_FUZZ.install()
}

/// The names of a crate's targets.
fn targets(folder: &str) -> Result<Vec<String>> {
    let list = cargo_fuzz()?.line("list --fuzz-dir").argument(folder).output()?;
    Ok(list.lines().map(str::to_owned).collect())
}

fn run_target(folder: &str, target: &str, time: Duration) -> Result<()> {
    // What is found goes to the first folder, which is not under version control, and seeds the next run as well.
    let found = workspace::target("fuzz-corpus").join(target);
    fs::create_dir_all(&found)?;
    let known = ["corpus", "regressions"].map(|kind| workspace::path(folder).join(kind).join(target));
    let known: Vec<PathBuf> = known.into_iter().filter(|folder| Path::is_dir(folder)).collect();
    let seconds = time.as_secs();
    let run = cargo_fuzz()?
        .line("run --fuzz-dir")
        .argument(folder)
        .line("--target-dir")
        .argument(workspace::target("fuzz"))
        .argument(target)
        .argument(found);
    known
        .into_iter()
        .fold(run, Command::argument)
        .line(&format!(
            "-- -max_total_time={seconds} -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0"
        ))
        .limit(time + Duration::from_secs(30 * 60))
        .run()
}

fn cargo_fuzz() -> Result<Command> {
    // yrs does not free documents that hold subdocuments; memory is bounded by the limit instead.
    let fuzz = command(cargo_tool::CARGO_FUZZ.program()?).variable("ASAN_OPTIONS", "detect_leaks=0");
    Ok(fuzz.variable("RUSTUP_TOOLCHAIN", "nightly"))
}
