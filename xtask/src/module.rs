//! The WebAssembly module of the npm package, with its JavaScript, in `web/src/generated`.

use std::fs;
use std::time::SystemTime;

use anyhow::Result;

use crate::command::{cargo, command};
use crate::rust::WASM;
use crate::workspace;

const FOLDER: &str = "web/src/generated";

/// Compiles the module and binds it, unless what is in the folder is newer than what cargo left.
pub(crate) fn build() -> Result<()> {
    cargo("build --package tidewell-client-wasm --lib --locked --profile wasm --target")
        .argument(WASM)
        .run()?;
    let compiled = workspace::target(WASM).join("wasm/tidewell_client_wasm.wasm");
    let modified = |path| fs::metadata(path).and_then(|data| data.modified());
    let made = modified(workspace::path(FOLDER).join("inlined.ts")).unwrap_or(SystemTime::UNIX_EPOCH);
    if modified(compiled.clone())? < made {
        return Ok(());
    }
    // --omit-default-module-path: bundlers would look for a file beside the script. The state can be reset because a
    // module that has trapped is thrown away and made anew.
    cargo("run --quiet --package tidewell-wasm-bindgen --bin wasm-bindgen --locked --")
        .line("--target web --omit-default-module-path --experimental-reset-state-function")
        .line("--remove-name-section --remove-producers-section")
        .line("--out-name tidewell --out-dir")
        .argument(FOLDER)
        .argument(compiled)
        .run()?;
    let folder = workspace::path(FOLDER);
    cargo("run --quiet --package tidewell-compact-module --locked --")
        .argument(folder.join("tidewell_bg.wasm"))
        .argument(folder.join("tidewell_bg.wasm.gz"))
        .run()?;
    command("node").line("web/scripts/inline.mjs").argument(FOLDER).run()
}
