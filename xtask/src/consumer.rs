//! A throw-away project that installs the packed npm package, as a stranger would: imports, requires, types, bundles.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::command::command;
use crate::step::Outcome;
use crate::{package, workspace};

/// What the project consists of.
const FILES: &str = "tests/package";

/// Packs the package and tries it.
pub(crate) fn pack_and_try() -> Result<()> {
    let tarball = package::pack()?;
    let project = workspace::target("consumer");
    if project.exists() {
        fs::remove_dir_all(&project)?;
    }
    fs::create_dir_all(&project)?;
    for file in fs::read_dir(workspace::path(FILES))? {
        let file = file?;
        fs::copy(file.path(), project.join(file.file_name()))?;
    }
    let tool = |name: &str| workspace::path("web/node_modules/.bin").join(name);
    let here = |program: PathBuf| command(program).folder(&project);

    here("npm".into()).line("install --no-audit --no-fund --offline").argument(tarball).run()?;
    here("node".into()).line("import.mjs").run()?;
    here("node".into()).line("require.cjs").run()?;
    here(tool("tsc")).line("--project tsconfig.node.json").run()?;
    here(tool("tsc")).line("--project tsconfig.bundler.json").run()?;
    for entry in ["import.mjs", "slim.mjs", "example.mjs"] {
        here(tool("esbuild"))
            .argument(entry)
            .line("--bundle --format=esm --minify --outdir=bundled --out-extension:.js=.mjs")
            .run()?;
    }
    here("node".into()).line("bundled/import.mjs").run()?;
    here("node".into()).line("bundle_size.mjs").run()
}

/// The step of `test`.
pub(crate) fn test() -> Result<Outcome> {
    pack_and_try()?;
    Ok(Outcome::Passed)
}
