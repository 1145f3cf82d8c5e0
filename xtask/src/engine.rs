//! Browser engines: where each one's driver is, and the tests of the module inside it.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::cargo_tool;
use crate::command::{Command, cargo, command};
use crate::rust::WASM;
use crate::step::Outcome;
use crate::workspace::find_program;

/// The tests of the module in Chromium.
pub(crate) fn test_chromium() -> Result<Outcome> {
    let driver = find_program("chromedriver").context("chromedriver is missing: run `cargo xtask setup`")?;
    test_module(cargo(""), "CHROMEDRIVER", driver)
}

/// The tests of the module in Firefox.
pub(crate) fn test_firefox() -> Result<Outcome> {
    test_module(cargo(""), "GECKODRIVER", cargo_tool::GECKODRIVER.program()?)
}

/// The tests of the module in WebKitGTK, the engine nearest to Safari that a server can run.
pub(crate) fn test_webkit() -> Result<Outcome> {
    if !cfg!(target_os = "linux") {
        return Ok(Outcome::NotRun("WebKitGTK exists on Linux only"));
    }
    let driver =
        find_program("WebKitWebDriver").context("WebKitWebDriver is missing: run `cargo xtask setup`")?;
    // The engine has no headless mode; it gets a display of its own.
    test_module(command("xvfb-run").line("--auto-servernum cargo"), "SAFARIDRIVER", driver)
}

/// The browser that the end-to-end tests start.
pub(crate) fn chromium() -> Result<PathBuf> {
    let mac = PathBuf::from("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome");
    if mac.is_file() {
        return Ok(mac);
    }
    match find_program("chromium").or_else(|| find_program("google-chrome")) {
        Some(path) => Ok(path),
        None => bail!("Chromium is missing: run `cargo xtask setup`"),
    }
}

/// The runner takes the engine whose variable is set.
fn test_module(cargo: Command, variable: &str, driver: PathBuf) -> Result<Outcome> {
    cargo
        .line("test --package tidewell-client-wasm --lib --tests --locked --target")
        .argument(WASM)
        .variable(variable, driver)
        // The defaults (20 s and 5 s) are too short for a machine that compiles beside it.
        .variable("WASM_BINDGEN_TEST_TIMEOUT", "300")
        .variable("WASM_BINDGEN_TEST_DRIVER_TIMEOUT", "60")
        .run()?;
    Ok(Outcome::Passed)
}
