//! Fuzzing: libFuzzer over the targets of `fuzz/`, each beginning with its corpus in `fuzz/corpus/<target>`.

use std::fs;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::command::{Command, command};
use crate::step::Outcome;
use crate::{cargo_tool, rust, workspace};

/// For each target in `test`: enough to replay the corpus and to see that the target still works. Finding something new
/// takes `cargo xtask fuzz --minutes 60`.
const SHORT: Duration = Duration::from_secs(15);

/// Runs each target, or the named one, for this long.
pub(crate) fn run(time: Duration, target: Option<&str>) -> Result<()> {
    rust::install_nightly()?;
    cargo_tool::CARGO_FUZZ.install()?;
    let all = cargo_fuzz()?.line("list").output()?;
    let targets: Vec<&str> = all.lines().filter(|name| target.is_none_or(|wanted| wanted == *name)).collect();
    if targets.is_empty() {
        bail!(
            "there is no fuzz target {}; there are: {}",
            target.unwrap_or_default(),
            all.replace('\n', ", ")
        );
    }
    for target in targets {
        // What is found goes to the first folder, which is not under version control, and seeds the next run as well.
        let found = workspace::target("fuzz-corpus").join(target);
        fs::create_dir_all(&found)?;
        let corpus = workspace::path("fuzz/corpus").join(target);
        let seconds = time.as_secs();
        cargo_fuzz()?
            .line("run --target-dir")
            .argument(workspace::target("fuzz"))
            .argument(target)
            .argument(found)
            .argument(corpus)
            .line(&format!(
                "-- -max_total_time={seconds} -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0"
            ))
            .limit(time + Duration::from_secs(15 * 60))
            .run()?;
    }
    Ok(())
}

/// The step of `test`.
pub(crate) fn test() -> Result<Outcome> {
    run(SHORT, None)?;
    Ok(Outcome::Passed)
}

fn cargo_fuzz() -> Result<Command> {
    // yrs does not free documents that hold subdocuments; memory is bounded by the limit instead.
    let fuzz = command(cargo_tool::CARGO_FUZZ.program()?).variable("ASAN_OPTIONS", "detect_leaks=0");
    Ok(fuzz.variable("RUSTUP_TOOLCHAIN", "nightly"))
}
