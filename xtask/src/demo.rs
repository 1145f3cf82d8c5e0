//! `cargo xtask demo`: the relay and the demo application on this machine.

use anyhow::Result;

use crate::command::{cargo, command};
use crate::{package, setup, workspace};

/// Builds both and serves them until it is stopped.
pub(crate) fn serve() -> Result<()> {
    setup::building()?;
    package::build()?;
    cargo("build --release --package tidewell-server --locked").run()?;
    command(workspace::target("release/tidewell")).line("serve --demo web/demo").without_limit().run()
}
