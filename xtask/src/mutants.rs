//! Mistakes in the core's own source: each is made in a copy of the workspace, and a seed of the simulator must find it.
//!
//! `cargo xtask simulate --mutants` is the same for what lies around the core. No step of `test` does this: from nothing, to
//! compile the copy alone took 185 s of a busy processor (2026-11). That each mistake can be made is tested.

mod list;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::command::{Command, cargo};
use crate::workspace;
use list::LIST;

/// Seeds in which a mistake is looked for.
pub(crate) const SEEDS: u64 = 2_000;

/// What the copy is made of: all that cargo wants to see of the workspace before it builds a part of it.
const FOLDERS: &[&str] = &["crates", "tests", "tools", "xtask"];
const FILES: &[&str] = &["Cargo.toml", "Cargo.lock", "rust-toolchain.toml"];

/// What is in those folders and no part of the workspace.
const LEFT_OUT: &[&str] = &["target", "node_modules"];

/// Where the core's files are.
const CORE: &str = "crates/sync-core/src";

/// A small change of one of the core's files.
struct Mutant {
    /// What it does, in a sentence.
    what: &'static str,
    /// The file in the core's `src`.
    file: &'static str,
    /// A text that is in it once.
    before: &'static str,
    /// What stands there instead.
    after: &'static str,
}

impl Mutant {
    /// The file's text with the mistake in it.
    fn made_in(&self, source: &str) -> Result<String> {
        let count = source.matches(self.before).count();
        ensure!(count == 1, "{} has the text to be changed {count} times, for: {}", self.file, self.what);
        Ok(source.replacen(self.before, self.after, 1))
    }
}

/// Makes each mistake, or those with `only` in their file or sentence, runs seeds from 0 until one fails, and prints the
/// table. Fails when no seed of so many finds one of them, and when the core as it is fails.
pub(crate) fn run(seeds: u64, only: Option<&str>) -> Result<()> {
    let is_wanted =
        |mutant: &&Mutant| only.is_none_or(|only| mutant.file.contains(only) || mutant.what.contains(only));
    let wanted: Vec<&Mutant> = LIST.iter().filter(is_wanted).collect();
    ensure!(!wanted.is_empty(), "no mutant has this in its file or its sentence");
    let copy = Copy::make()?;
    let unchanged = copy.first_failure(seeds)?;
    ensure!(unchanged.is_none(), "the core as it is fails: {}", unchanged.unwrap_or_default());
    println!("The core as it is: none of {seeds} seeds fails.\n");
    try_each(&copy, &wanted, seeds)
}

fn try_each(copy: &Copy, mutants: &[&Mutant], seeds: u64) -> Result<()> {
    println!("| mistake | file | seeds | caught by |\n|---|---|---|---|");
    let mut missed = 0;
    for mutant in mutants {
        let (is_missed, cells) = match copy.with(mutant, || copy.first_failure(seeds)) {
            Ok(Some(cells)) => (false, cells),
            Ok(None) => (true, format!("NOT caught by {seeds} | –")),
            Err(error) => (true, format!("FAILED | {error:#}")),
        };
        missed += usize::from(is_missed);
        println!("| {} | `{}` | {cells} |", mutant.what, mutant.file);
    }
    if missed > 0 { bail!("{missed} of {} mutants are not caught", mutants.len()) } else { Ok(()) }
}

/// A copy of the workspace's sources, with a target directory that stays: only the core and what stands on it are
/// compiled again.
struct Copy {
    folder: PathBuf,
}

impl Copy {
    fn make() -> Result<Self> {
        let folder = workspace::target("mutants/source");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        for from_root in FOLDERS {
            copy_folder(&workspace::path(from_root), &folder.join(from_root))?;
        }
        for from_root in FILES {
            fs::copy(workspace::path(from_root), folder.join(from_root))?;
        }
        Ok(Copy { folder })
    }

    /// Does something while a mistake is in the copy.
    fn with<T>(&self, mutant: &Mutant, run: impl FnOnce() -> Result<T>) -> Result<T> {
        let path = self.folder.join(CORE).join(mutant.file);
        let source = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        fs::write(&path, mutant.made_in(&source)?)?;
        let result = run();
        fs::write(&path, source)?;
        result
    }

    /// Builds the simulator and runs seeds from 0 on until one fails: how many that were, and what failed.
    fn first_failure(&self, seeds: u64) -> Result<Option<String>> {
        self.cargo("build --quiet").output()?;
        let said = self.cargo("run --quiet").line("-- --until-failure --seeds").argument(seeds.to_string());
        let said = said.output()?;
        Ok(said.contains('|').then_some(said))
    }

    fn cargo(&self, line: &str) -> Command {
        // A mistake is in one function: what is compiled of it is a small part of the core.
        cargo(line)
            .variable("CARGO_INCREMENTAL", "1")
            .line("--locked --package tidewell-simulator --target-dir")
            .argument(workspace::target("mutants/target"))
            .folder(&self.folder)
    }
}

/// Copies what cargo reads.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, path) = (entry.file_name(), entry.path());
        let is_read = path.extension().is_some_and(|extension| extension == "rs" || extension == "toml");
        if entry.file_type()?.is_dir() {
            if !LEFT_OUT.iter().any(|left_out| name == *left_out) {
                copy_folder(&path, &to.join(name))?;
            }
        } else if is_read {
            fs::copy(path, to.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_mistake_can_be_made_in_the_core_as_it_is() {
        for mutant in LIST {
            let source = fs::read_to_string(workspace::path(CORE).join(mutant.file)).unwrap();
            assert_ne!(mutant.made_in(&source).unwrap(), source, "{}", mutant.what);
        }
        let sentences: BTreeSet<&str> = LIST.iter().map(|mutant| mutant.what).collect();
        assert_eq!(sentences.len(), LIST.len(), "each has a sentence of its own");
    }

    #[test]
    fn a_text_that_is_there_twice_or_not_at_all_is_no_place_for_a_mistake() {
        let mutant = Mutant { what: "It counts wrongly.", file: "a.rs", before: "+ 1", after: "+ 2" };
        assert_eq!(mutant.made_in("a + 1").unwrap(), "a + 2");
        for source in ["a", "a + 1 + 1"] {
            assert!(
                mutant.made_in(source).unwrap_err().to_string().contains("It counts wrongly."),
                "{source}"
            );
        }
    }
}
