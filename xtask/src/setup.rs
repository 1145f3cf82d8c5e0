//! Making a fresh machine able to build and test. Each part looks first and does only what is missing.

use anyhow::Result;

use crate::{cargo_tool, npm, rust, system_package};

/// All that `cargo xtask test` needs.
pub(crate) fn everything() -> Result<()> {
    system_package::install_missing()?;
    building()?;
    npm::install("tests")?;
    cargo_tool::GECKODRIVER.install()?;
    rust::install_nightly()?;
    cargo_tool::CARGO_FUZZ.install()
}

/// What is enough to build the relay and the npm package.
pub(crate) fn building() -> Result<()> {
    rust::install_missing()?;
    npm::install("web")
}
