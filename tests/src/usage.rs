//! What a relay takes of its machine, as the system tells it.

use crate::relay::Relay;
use anyhow::Context;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::time::Duration;

/// Clock ticks of `/proc` in a second, on every architecture of today.
const TICKS_PER_SECOND: u64 = 100;

/// What a relay takes of its machine.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Its largest resident memory so far, in bytes.
    pub peak_bytes: u64,
    /// Processor time of all its threads.
    pub cpu: Duration,
    /// Descriptors that are open.
    pub descriptors: usize,
}

impl Usage {
    /// Of a relay that runs.
    pub fn of(relay: &Relay) -> anyhow::Result<Usage> {
        let process = format!("/proc/{}", relay.id()?.as_raw_nonzero());
        let status = std::fs::read_to_string(format!("{process}/status"))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse()?;
        // The name of the program, in parentheses, may hold anything.
        let stat = std::fs::read_to_string(format!("{process}/stat"))?;
        let (_, stat) = stat.rsplit_once(')').context("no name in stat")?;
        let ticks: Vec<u64> = stat.split_whitespace().skip(11).take(2).flat_map(str::parse).collect();
        Ok(Usage {
            peak_bytes: peak_kib * 1024,
            cpu: Duration::from_millis(ticks.iter().sum::<u64>() * 1000 / TICKS_PER_SECOND),
            descriptors: std::fs::read_dir(format!("{process}/fd"))?.count(),
        })
    }
}

/// Lets this process, and those that it starts, open as many files as the system allows.
pub fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the soft limit may be as high as the hard one");
}

/// Megabytes, for people.
pub fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The median, the 99th percentile and the largest.
pub fn percentiles(mut times: Vec<Duration>) -> [Duration; 3] {
    times.sort_unstable();
    [50, 99, 100].map(|percent| {
        times
            .get((times.len() * percent / 100).min(times.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    })
}
