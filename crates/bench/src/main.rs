//! Measures the relay beside its peers in one run, on loopback, everything bounded in count and time.
//!
//! `cargo xtask bench` installs the peers and starts this; `docs/benchmarks.md` says what the figures mean.

mod bare;
mod board;
mod disk;
mod fixture;
mod floor;
mod link;
mod meter;
mod peer;
mod process;
mod protocol;
mod replica;
mod report;
mod scenario;
mod typing;

use crate::peer::{Peer, Programs};
use crate::report::Report;
use crate::scenario::{Extent, Scenario};
use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// No measurement takes longer: the slowest waits for y-sweet's and Hocuspocus's timers.
const MEASUREMENT_MAX: Duration = Duration::from_secs(180);

/// Sockets of this process: two for each of 2,000 documents, and some.
const OPEN_FILES: u64 = 16_384;

#[derive(Parser)]
#[command(name = "tidewell-bench", about = "Measures the relay beside its peers")]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures
    Run(RunOptions),
    /// Serves a broadcast without CRDT or storage
    Bare {
        /// Address and port
        #[arg(long)]
        listen: SocketAddr,
        /// How messages are written
        #[arg(long, value_enum)]
        write: bare::Write,
    },
}

#[derive(Args)]
struct RunOptions {
    /// What to measure; everything without it
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Scenario>,
    /// Which relays; all without it
    #[arg(long, value_enum, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Small and quick, to see that everything runs: the figures mean nothing
    #[arg(long)]
    short: bool,
    /// Measurements of each; medians are reported
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Wait up to so many seconds before each measurement for a moment when others use less than a third of the machine
    #[arg(long, default_value_t = 0)]
    patience: u64,
    /// Program of our relay
    #[arg(long)]
    relay: PathBuf,
    /// Folder with the installed peers
    #[arg(long)]
    installed: PathBuf,
    /// Folder for data while measuring, and for the report
    #[arg(long)]
    out: PathBuf,
    /// Gzipped bytes of the npm package in an application, for the report
    #[arg(long)]
    package_bytes: Option<u64>,
}

fn main() -> Result<()> {
    let command = CommandLine::parse().command;
    allow_open_files()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match command {
        Command::Run(options) => runtime.block_on(run(&options)),
        Command::Bare { listen, write } => runtime.block_on(bare::serve(listen, write)),
    }
}

/// Relays inherit it.
fn allow_open_files() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES));
    if limit.current.is_none_or(|now| now >= current) {
        return Ok(());
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum })
        .context("raising the number of open files")
}

async fn run(options: &RunOptions) -> Result<()> {
    let extent = if options.short { Extent::Short } else { Extent::Full };
    let scenarios = or_all(&options.only);
    let peers = or_all(&options.peers);
    let programs = Programs { relay: options.relay.clone(), peers: options.installed.clone() };
    let mut report = Report::default();
    options.package_bytes.into_iter().for_each(|bytes| report.package(bytes));
    for scenario in scenarios {
        println!("{}", scenario.title());
        for run in 1..=options.runs {
            for &peer in peers.iter().filter(|peer| scenario.suits(**peer)) {
                calm(Duration::from_secs(options.patience)).await?;
                measure(&mut report, scenario, peer, &programs, &options.out, extent, run).await?;
            }
        }
        report.save(&options.out)?;
    }
    println!("\n{}", report.markdown()?);
    Ok(())
}

async fn measure(
    report: &mut Report,
    scenario: Scenario,
    peer: Peer,
    programs: &Programs,
    out: &Path,
    extent: Extent,
    run: usize,
) -> Result<()> {
    fs::create_dir_all(out)?;
    let data = tempfile::Builder::new().prefix("data-").tempdir_in(out)?;
    let (sync_ms, _) = disk::sync_ms(data.path())?;
    report.surroundings(sync_ms, load()?);
    let measuring = timeout(MEASUREMENT_MAX, scenario.run(peer, programs, data.path(), extent));
    match measuring.await.unwrap_or_else(|_| bail!("took too long")) {
        Ok(figures) => {
            let line: Vec<String> =
                figures.iter().map(|(name, value)| format!("{name} {value:.2}")).collect();
            println!("  {run} {:<22} {}", peer.name(), line.join(", "));
            report.add(scenario, peer, figures);
        }
        Err(error) => {
            println!("  {run} {:<22} FAILED: {error:#}", peer.name());
            let _ = fs::copy(data.path().join("log"), out.join("failed.log"));
            report.fail(scenario, peer, format!("{error:#}"));
        }
    }
    // Sockets close and files are deleted: none of it should fall into the next measurement.
    drop(data);
    sleep(Duration::from_millis(300)).await;
    Ok(())
}

/// Waits until the machine has something to spare, but not for ever.
async fn calm(patience: Duration) -> Result<()> {
    const LOOK: Duration = Duration::from_millis(1_500);
    let cores = u32::try_from(std::thread::available_parallelism()?.get()).unwrap_or(1);
    let started = Instant::now();
    while started.elapsed() < patience {
        let before = process::machine_cpu()?;
        sleep(LOOK).await;
        if process::machine_cpu()?.saturating_sub(before) < LOOK * cores / 3 {
            break;
        }
    }
    Ok(())
}

/// Programs that wanted a core during the last minute.
fn load() -> Result<f64> {
    let line = fs::read_to_string("/proc/loadavg")?;
    Ok(line.split_whitespace().next().context("no load average")?.parse()?)
}

fn or_all<T: ValueEnum + Clone>(chosen: &[T]) -> Vec<T> {
    if chosen.is_empty() { T::value_variants().to_vec() } else { chosen.to_vec() }
}
