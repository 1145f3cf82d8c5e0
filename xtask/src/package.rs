//! The npm package: built in `web/dist`, packed in `target/npm`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::command::command;
use crate::{module, npm, workspace};

/// Builds all that the package contains.
pub(crate) fn build() -> Result<()> {
    npm::install("web")?;
    module::build()?;
    npm::script("web", "build").run()
}

/// Builds the package and packs it; the path of the tarball.
pub(crate) fn pack() -> Result<PathBuf> {
    let version = command("node").line("--print require('./web/package.json').version").output()?;
    if version != env!("CARGO_PKG_VERSION") {
        bail!(
            "web/package.json has version {version} and Cargo.toml {}: make them one",
            env!("CARGO_PKG_VERSION")
        );
    }
    build()?;
    let folder = workspace::target("npm");
    fs::create_dir_all(&folder)?;
    command("npm").line("pack --ignore-scripts --pack-destination").argument(&folder).folder("web").run()?;
    let tarball = folder.join(format!("tidewell-{version}.tgz"));
    println!("{} bytes in {}", fs::metadata(&tarball)?.len(), tarball.display());
    Ok(tarball)
}
