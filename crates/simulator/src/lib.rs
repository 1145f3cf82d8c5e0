//! Many devices, one relay, a network that cuts, and disks and clocks that fail.
//!
//! The machines are those of the product: [`tidewell_sync_core::client::Client`] in each process of a device and
//! [`tidewell_sync_core::room::Room`] at the relay. Only what lies between and below them is simulated. One seed is one
//! run: nothing here reads a clock or asks for randomness elsewhere. After each step the invariants of [`Violation`]
//! hold, or the run ends with the one that does not.

mod authority;
mod device;
mod disk;
mod failure;
mod mutant;
mod oracle;
mod relay;
mod simulation;
mod store;
mod tab;
mod trace;
mod violation;
mod weather;
mod wire;

pub use failure::first_failure;
pub use mutant::Mutant;
pub use simulation::Simulation;
pub use violation::Violation;

/// What one run is made of.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Devices that take part; every third is a native client, the others are browsers with several tabs.
    pub devices: usize,
    /// Documents that all of them open.
    pub documents: usize,
    /// Steps with faults, before everything comes to rest; some seeds take more.
    pub steps: usize,
    /// A defect to put in; `None` runs the product.
    pub mutant: Option<Mutant>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { devices: 3, documents: 2, steps: 500, mutant: None }
    }
}

macro_rules! summary {
    ($($count:ident: $what:literal,)*) => {
        /// What a run did, for people and for tests that ask whether it did anything.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Summary {
            $(#[doc = $what] pub $count: u64,)*
        }

        impl Summary {
            /// Adds another run's counts.
            pub fn add(&mut self, other: Summary) {
                $(self.$count += other.$count;)*
            }

            /// Every count with its name.
            pub fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($count), self.$count),)*]
            }
        }
    };
}

summary! {
    edits: "Edits made on devices.",
    commits: "Rows committed at the relay.",
    acknowledged: "Rows that devices were told are durable.",
    connections: "Connections made.",
    closed: "Connections that one end has closed.",
    half_open: "Connections that became half-open.",
    tabs_opened: "Processes started on devices.",
    tab_crashes: "Processes that died alone.",
    device_crashes: "Devices that crashed with all their processes.",
    relay_crashes: "Crashes of the relay.",
    relay_stops: "Times the relay was stopped in order.",
    restores: "Times the relay went back to a backup.",
    replaced: "Devices that were lost and replaced.",
    adopted: "Times a tab took over rows of a dead one.",
    put_aside: "Times refused rows were put aside.",
    merged: "Branches that were merged.",
    failed_commits: "Commits that were to fail, alone or for a while.",
    failed_reads: "Reads at the relay that were to fail.",
    failed_writes: "Writes of devices that were aborted.",
    grants: "Changes of what somebody may do.",
    revocations: "Revocations of a device's tokens.",
    refreshes: "Tokens shown on a connection that was there.",
    clock_jumps: "Clocks that jumped.",
    characters: "Characters in all documents at rest.",
}

/// Runs one seed.
pub fn run(seed: u64, settings: Settings) -> Result<Summary, Violation> {
    Simulation::new(seed, settings, false).run()
}
