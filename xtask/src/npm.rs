//! npm: the dependencies of a folder, and its scripts.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::command::{Command, command};
use crate::step::Outcome;
use crate::workspace;

/// The oldest Node.js that our tools run on.
const NODE_MIN: u32 = 20;

/// Installs what the folder's lock file names, if that is not what is installed.
pub(crate) fn install(folder: &str) -> Result<()> {
    let version = command("node")
        .line("--version")
        .output()
        .context("Node.js is missing: install it from https://nodejs.org")?;
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse().ok());
    if major.is_none_or(|major: u32| major < NODE_MIN) {
        bail!(
            "Node.js {NODE_MIN} or newer is needed, and `node --version` says {version}: install a newer one"
        );
    }
    let lock = fs::read_to_string(workspace::path(folder).join("package-lock.json"))
        .with_context(|| format!("{folder}/package-lock.json cannot be read"))?;
    if fs::read_to_string(installed_lock(folder)).is_ok_and(|installed| installed == lock) {
        println!("{folder}: npm dependencies are those of the lock file");
        return Ok(());
    }
    command("npm").line("ci --no-audit --no-fund --ignore-scripts").folder(folder).run()?;
    fs::write(installed_lock(folder), lock)?;
    Ok(())
}

/// A script of the folder's package.json.
pub(crate) fn script(folder: &str, name: &str) -> Command {
    command("npm").folder(folder).line("run --silent").argument(name)
}

/// Formatting, lints and types of everything in TypeScript and JavaScript.
pub(crate) fn check() -> Result<Outcome> {
    install("web")?;
    script("web", "lint").run()?;
    crate::module::build()?;
    script("web", "types").run()?;
    no_registry_in_lock_files()?;
    Ok(Outcome::Passed)
}

/// The unit tests of the npm package.
pub(crate) fn test() -> Result<Outcome> {
    crate::module::build()?;
    script("web", "test").run()?;
    Ok(Outcome::Passed)
}

/// A lock file that names a registry's host installs from there and nowhere else, whatever the user has configured.
fn no_registry_in_lock_files() -> Result<()> {
    for folder in ["web", "tests"] {
        let lock = fs::read_to_string(workspace::path(folder).join("package-lock.json"))?;
        if lock.contains("\"resolved\": \"http") {
            bail!(
                "{folder}/package-lock.json names a registry: run `npm install` in {folder}, whose .npmrc leaves it out, and delete what is left of it"
            );
        }
    }
    Ok(())
}

fn installed_lock(folder: &str) -> PathBuf {
    workspace::path(folder).join("node_modules/.installed-package-lock.json")
}
