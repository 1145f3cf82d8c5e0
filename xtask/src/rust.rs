//! The Rust toolchain, and the steps that are cargo's.

use anyhow::{Result, bail};

use crate::command::{cargo, command};
use crate::fuzz;
use crate::step::Outcome;
use crate::workspace::{self, find_program};

/// The target of the browser's module.
pub(crate) const WASM: &str = "wasm32-unknown-unknown";

/// Installs the components and the target that `rust-toolchain.toml` names.
pub(crate) fn install_missing() -> Result<()> {
    if find_program("rustup").is_none() {
        bail!("rustup is missing: install it from https://rustup.rs, then run this again");
    }
    let installed = |what: &str| command("rustup").line(what).line("list --installed").output();
    let components = installed("component")?;
    if !["clippy", "rustfmt"].iter().all(|name| components.lines().any(|line| line.starts_with(name))) {
        command("rustup").line("toolchain install").run()?;
    }
    // A target of rust-toolchain.toml is not added to a toolchain that is there already.
    if !installed("target")?.lines().any(|line| line == WASM) {
        command("rustup").line("target add").argument(WASM).run()?;
    }
    println!("rust: {}", command("rustc").line("--version").output()?);
    Ok(())
}

/// Installs a nightly compiler, which the fuzzer's instrumentation needs.
pub(crate) fn install_nightly() -> Result<()> {
    if !command("rustup").line("run nightly rustc --version").succeeds() {
        command("rustup").line("toolchain install nightly --profile minimal").run()?;
    }
    Ok(())
}

/// Formatting.
pub(crate) fn format() -> Result<Outcome> {
    cargo("fmt --all --check").run()?;
    for folder in fuzz::FOLDERS {
        cargo("fmt --check --manifest-path").argument(format!("{folder}/Cargo.toml")).run()?;
    }
    Ok(Outcome::Passed)
}

/// Lints, natively and as the browser gets it.
pub(crate) fn lint() -> Result<Outcome> {
    cargo("clippy --workspace --all-targets --locked -- -D warnings").run()?;
    cargo("clippy --package tidewell-client-wasm --all-targets --locked --target")
        .argument(WASM)
        .line("-- -D warnings")
        .run()?;
    Ok(Outcome::Passed)
}

/// The unit tests of the core, which need nothing but a compiler. Those that take long, over many seeds and recorded
/// histories, are in its `tests` folder and left to `test`.
pub(crate) fn test_core() -> Result<Outcome> {
    cargo("test --package tidewell-sync-core --lib --locked").run()?;
    Ok(Outcome::Passed)
}

/// The tests of all crates.
pub(crate) fn test() -> Result<Outcome> {
    // Programs of packages that have such tests are built with them.
    cargo("test --no-fail-fast --locked").variable("TIDEWELL_BINS", workspace::target("debug")).run()?;
    cargo("test --package tidewell-compact-module --locked").run()?;
    Ok(Outcome::Passed)
}

/// The reference pages, without a dead link. Of the whole workspace: with the same features as for the lints, nothing is
/// compiled again.
pub(crate) fn document() -> Result<Outcome> {
    cargo("doc --workspace --no-deps --locked").variable("RUSTDOCFLAGS", "-D warnings").run()?;
    Ok(Outcome::Passed)
}
