//! What is measured. Each scenario starts its relay afresh, is bounded in count and time, and checks at its end that
//! everybody has the same.

mod cold;
mod documents;
mod fan_out;
mod idle;

use crate::meter::Figures;
use crate::peer::{Peer, Programs};
use anyhow::Result;
use clap::ValueEnum;
use std::path::Path;
use std::time::Duration;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Scenario {
    /// One document, 50 readers, 4 writers with 32 updates in flight each: as fast as all have them.
    Closed,
    /// One document, 50 readers, 10 writers with 20 updates a second each.
    Rate,
    /// 2,000 documents, 2 clients each with 2 updates a second.
    Documents,
    /// Loading a stored document of 1.2 MB after a restart: one client, then 50 at once.
    Cold,
    /// Memory of 2,000 more rooms with 1 KB of text and one idle client each.
    Idle,
}

/// How much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// For figures.
    Full,
    /// To see that everything runs.
    Short,
}

impl Extent {
    /// One of two values.
    pub(crate) fn choose<T>(self, full: T, short: T) -> T {
        match self {
            Extent::Full => full,
            Extent::Short => short,
        }
    }

    /// How long a scenario runs before anything counts.
    pub(crate) fn warm_up(self) -> Duration {
        self.choose(Duration::from_millis(2_000), Duration::from_millis(700))
    }

    /// How long it is measured.
    pub(crate) fn measure(self) -> Duration {
        self.choose(Duration::from_secs(6), Duration::from_millis(1_500))
    }
}

impl Scenario {
    /// Its name in tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Scenario::Closed => "Fan-out, closed loop: 1 document, 50 readers, 4 writers × 32 in flight",
            Scenario::Rate => "Fan-out at rate: 1 document, 50 readers, 10 writers × 20/s",
            Scenario::Documents => "2,000 documents × 2 clients × 2 updates/s",
            Scenario::Cold => "Cold load of a stored 1.2 MB document",
            Scenario::Idle => "Idle rooms, one client and 1 KB of text each, 200 → 2,200",
        }
    }

    /// The figure that relays are compared by; the others are beside it.
    pub(crate) fn main_figure(self) -> &'static str {
        match self {
            Scenario::Closed => "D/s",
            Scenario::Rate => "p50 ms",
            Scenario::Documents => "CPU µs/D",
            Scenario::Cold => "50 at once, slowest ms",
            Scenario::Idle => "kB for each room",
        }
    }

    /// False when a relay cannot do it at all.
    pub(crate) fn suits(self, peer: Peer) -> bool {
        match self {
            Scenario::Closed | Scenario::Rate | Scenario::Documents => true,
            Scenario::Cold => peer.stores(),
            Scenario::Idle => peer.has_documents(),
        }
    }

    /// Measures one relay once, its data below `data`.
    pub(crate) async fn run(
        self,
        peer: Peer,
        programs: &Programs,
        data: &Path,
        extent: Extent,
    ) -> Result<Figures> {
        match self {
            Scenario::Cold => cold::run(peer, programs, data, extent).await,
            _ => {
                let (process, target) = peer.start(programs, data)?;
                match self {
                    Scenario::Closed => {
                        fan_out::run(&process, target, fan_out::Pace::Closed { in_flight: 32 }, extent).await
                    }
                    Scenario::Rate => {
                        fan_out::run(&process, target, fan_out::Pace::Rate { every_ms: 50 }, extent).await
                    }
                    Scenario::Documents => documents::run(&process, target, extent).await,
                    Scenario::Idle | Scenario::Cold => idle::run(&process, target, extent).await,
                }
            }
        }
    }
}
