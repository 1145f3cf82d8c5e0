//! Counting deliveries and what they cost.

use crate::process::{Process, Usage, machine_cpu, own_cpu};
use anyhow::{Result, bail};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Named figures in the order of a table's columns.
pub(crate) type Figures = Vec<(&'static str, f64)>;

/// The column that tells how disturbed a measurement was.
pub(crate) const OTHERS: &str = "others' cores";

/// What readers write into while a scenario runs.
pub(crate) struct Meter {
    readers: Vec<Reader>,
    is_measuring: AtomicBool,
    /// The first thing that went wrong in a task.
    failure: Mutex<Option<anyhow::Error>>,
}

/// One reader's counts; aligned, so that readers on two cores do not share a cache line.
#[derive(Default)]
#[repr(align(128))]
struct Reader {
    delivered: AtomicU64,
    ages_us: Mutex<Vec<u32>>,
}

/// What was measured between two moments.
pub(crate) struct Measured {
    /// Deliveries a second.
    pub(crate) per_second: f64,
    /// Microseconds of the relay's CPU for each delivery.
    pub(crate) cpu_us_each: f64,
    /// Cores the relay kept busy.
    pub(crate) cores: f64,
    /// The relay's memory at the end, in MB.
    pub(crate) resident_mb: f64,
    /// Cores that neither the relay nor the load generator kept busy, but others on the machine.
    pub(crate) others_cores: f64,
}

/// The CPU time of everybody at one moment.
struct Clocks {
    at: Instant,
    relay: Usage,
    own: Duration,
    machine: Duration,
    delivered: u64,
}

impl Meter {
    /// For a number of readers.
    pub(crate) fn new(readers: usize) -> Self {
        Meter {
            readers: (0..readers).map(|_| Reader::default()).collect(),
            is_measuring: AtomicBool::new(false),
            failure: Mutex::new(None),
        }
    }

    /// Adds deliveries of a reader.
    pub(crate) fn add(&self, reader: usize, count: u64) {
        if let Some(reader) = self.readers.get(reader) {
            reader.delivered.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Notes how old an update was when a reader had it.
    pub(crate) fn age(&self, reader: usize, age: Duration) {
        if self.is_measuring.load(Ordering::Relaxed)
            && let Some(reader) = self.readers.get(reader)
        {
            reader.ages_us.lock().push(u32::try_from(age.as_micros()).unwrap_or(u32::MAX));
        }
    }

    /// Notes that a task failed.
    pub(crate) fn fail(&self, error: anyhow::Error) {
        self.failure.lock().get_or_insert(error);
    }

    /// Fails if a task has failed.
    pub(crate) fn check(&self) -> Result<()> {
        match self.failure.lock().take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// All deliveries so far.
    pub(crate) fn delivered(&self) -> u64 {
        self.readers.iter().map(|reader| reader.delivered.load(Ordering::Relaxed)).sum()
    }

    /// Waits for the warm-up and measures.
    pub(crate) async fn measure(
        &self,
        process: &Process,
        warm_up: Duration,
        length: Duration,
    ) -> Result<Measured> {
        sleep(warm_up).await;
        self.check()?;
        self.is_measuring.store(true, Ordering::Relaxed);
        let before = self.clocks(process)?;
        sleep(length).await;
        let after = self.clocks(process)?;
        self.is_measuring.store(false, Ordering::Relaxed);
        self.check()?;
        measured(&before, &after)
    }

    fn clocks(&self, process: &Process) -> Result<Clocks> {
        Ok(Clocks {
            at: Instant::now(),
            relay: process.usage()?,
            own: own_cpu()?,
            machine: machine_cpu()?,
            delivered: self.delivered(),
        })
    }

    /// Ages at which this part of the updates had arrived, in milliseconds: 0.5 is the median.
    pub(crate) fn age_ms(&self, part: f64) -> f64 {
        let mut ages: Vec<u32> =
            self.readers.iter().flat_map(|reader| reader.ages_us.lock().clone()).collect();
        ages.sort_unstable();
        let index = (ages.len() as f64 * part) as usize;
        ages.get(index.min(ages.len().saturating_sub(1))).map_or(f64::NAN, |age| f64::from(*age) / 1e3)
    }
}

fn measured(before: &Clocks, after: &Clocks) -> Result<Measured> {
    let delivered = after.delivered - before.delivered;
    if delivered == 0 {
        bail!("nothing was delivered");
    }
    let elapsed = (after.at - before.at).as_secs_f64();
    let cpu = after.relay.cpu.saturating_sub(before.relay.cpu);
    let own = after.own.saturating_sub(before.own);
    let others = after.machine.saturating_sub(before.machine).saturating_sub(cpu + own);
    Ok(Measured {
        per_second: delivered as f64 / elapsed,
        cpu_us_each: cpu.as_secs_f64() * 1e6 / delivered as f64,
        cores: cpu.as_secs_f64() / elapsed,
        resident_mb: after.relay.resident_bytes as f64 / 1e6,
        others_cores: others.as_secs_f64() / elapsed,
    })
}
