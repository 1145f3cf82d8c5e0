//! Tools that cargo builds for this workspace only, under `target/tools`.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::command::cargo;
use crate::workspace;

/// A tool from crates.io at the version that our tests are known to run with.
pub(crate) struct CargoTool {
    name: &'static str,
    version: &'static str,
}

/// Drives Firefox. Debian has no package of it.
pub(crate) const GECKODRIVER: CargoTool = CargoTool { name: "geckodriver", version: "0.37.1" };

/// Builds fuzz targets with the sanitizer and the coverage that libFuzzer needs.
pub(crate) const CARGO_FUZZ: CargoTool = CargoTool { name: "cargo-fuzz", version: "0.13.2" };

/// Lists what a crate is made of.
pub(crate) const CARGO_CYCLONEDX: CargoTool = CargoTool { name: "cargo-cyclonedx", version: "0.5.9" };

impl CargoTool {
    /// Builds it if this version is not there yet. Unoptimized: it waits for others all its life, and is built in 60 s
    /// on two cores where `--release` takes 97 s.
    pub(crate) fn install(&self) -> Result<()> {
        if self.place().is_file() {
            println!("{} {}: there", self.name, self.version);
            return Ok(());
        }
        // Not --locked: the lock files that tools are published with name versions that mirrors do not always have.
        cargo("install --debug --root")
            .argument(self.root())
            .line("--version")
            .argument(self.version)
            .argument(self.name)
            .variable("CARGO_TARGET_DIR", workspace::target("tools/build"))
            .run()
    }

    /// Its program.
    pub(crate) fn program(&self) -> Result<PathBuf> {
        let place = self.place();
        if !place.is_file() {
            bail!("{} is missing: run `cargo xtask setup`", self.name);
        }
        Ok(place)
    }

    /// A folder for each version, so that a new one is installed when the constant above changes.
    fn root(&self) -> PathBuf {
        workspace::target("tools").join(format!("{}-{}", self.name, self.version))
    }

    fn place(&self) -> PathBuf {
        self.root().join("bin").join(self.name)
    }
}
