//! `cargo xtask demo`: the relay and the demo page on this machine.

use std::path::PathBuf;

use anyhow::Result;

use crate::command::{cargo, command};
use crate::{module, npm, setup, workspace};

/// Where the relay listens: always the same, because another address is another page, which knows no documents.
const ADDRESS: &str = "127.0.0.1:7700";

/// Builds both and serves them until it is stopped.
pub(crate) fn serve() -> Result<()> {
    setup::building()?;
    let page = build_page()?;
    cargo("build --release --package tidewell-server --locked").run()?;
    println!("\nOpen http://{ADDRESS} in a browser or two; Ctrl-C stops the relay.\n");
    command(workspace::target("release/tidewell"))
        .line("serve --listen")
        .argument(ADDRESS)
        .line("--data")
        .argument(workspace::target("demo-data"))
        .line("--assets")
        .argument(page)
        .without_limit()
        .run()
}

/// Builds the page with the package in it; the folder to serve.
pub(crate) fn build_page() -> Result<PathBuf> {
    npm::install("web")?;
    module::build()?;
    let folder = workspace::target("demo");
    command("node").line("web/demo/build.mjs").argument(&folder).run()?;
    Ok(folder)
}
