//! One run: who does what next.

mod devices;
mod event;
mod links;
mod rest;
#[cfg(test)]
mod tests;

use crate::authority::Authority;
use crate::device::Device;
use crate::oracle::{History, Oracle};
use crate::relay::{self, Relay, Wires};
use crate::tab::{self, Shared, Tab};
use crate::trace::Trace;
use crate::weather::Weather;
use crate::{Mutant, Settings, Summary, Violation};
use fastrand::Rng;
use tidewell_sync_core::document_name::DocumentName;

/// One run.
pub struct Simulation {
    rng: Rng,
    settings: Settings,
    weather: Weather,
    now_ms: u64,
    names: Vec<DocumentName>,
    devices: Vec<Device>,
    relay: Relay,
    authority: Authority,
    oracle: Oracle,
    wires: Wires,
    last_wire: u64,
    last_tab: u64,
    summary: Summary,
    trace: Trace,
}

impl Simulation {
    /// A run that `seed` decides entirely. `with_trace` keeps a line for each thing that happens.
    pub fn new(seed: u64, settings: Settings, with_trace: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let names: Vec<DocumentName> = (0..settings.documents)
            .filter_map(|index| DocumentName::parse(&format!("sim/{index}")).ok())
            .collect();
        let weather = Weather::new(&mut rng);
        let lineage = rng.u64(1..1 << 40);
        let mut oracle = Oracle::default();
        oracle.begin(lineage, vec![History::default(); names.len()]);
        let mut simulation = Simulation {
            relay: Relay::new(
                lineage,
                &names,
                settings.mutant,
                weather.frame_bytes_max,
                weather.unread_turns_max,
            ),
            devices: (0..settings.devices)
                .map(|index| Device::new(index, &names, settings.mutant, is_native(index)))
                .collect(),
            authority: Authority::new(settings.devices, settings.documents),
            wires: Wires::new(),
            last_wire: 0,
            last_tab: 0,
            rng,
            settings,
            weather,
            now_ms: 1_000_000,
            names,
            oracle,
            summary: Summary::default(),
            trace: Trace::new(with_trace),
        };
        simulation.trace.now_ms = simulation.now_ms;
        simulation
    }

    /// Runs to the end. A violation ends it at once.
    pub fn run(&mut self) -> Result<Summary, Violation> {
        for device in 0..self.devices.len() {
            self.open_tab(device)?;
        }
        let steps = self.settings.steps * self.weather.lengths;
        for step in 0..steps {
            let ms = self.rng.u64(0..50);
            self.pass(ms);
            self.trace.step = step;
            self.step()?;
            self.check()?;
        }
        self.trace.step = steps;
        self.come_to_rest()?;
        self.check_at_rest()?;
        Ok(self.summary)
    }

    /// The lines of the trace so far.
    pub fn trace(&self) -> &[String] {
        self.trace.lines()
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.trace.now_ms = self.now_ms;
    }

    fn check(&self) -> Result<(), Violation> {
        self.relay.check_queues(&self.wires)?;
        self.devices.iter().try_for_each(Device::check)
    }

    fn on_device<T>(
        &mut self,
        device: usize,
        run: impl FnOnce(&mut Device, &mut tab::Surroundings<'_>) -> Result<T, Violation>,
    ) -> Result<Option<T>, Violation> {
        let Some(actor) = self.devices.get_mut(device) else { return Ok(None) };
        let mut around = tab::Surroundings {
            rng: &mut self.rng,
            oracle: &mut self.oracle,
            trace: &mut self.trace,
            now_ms: actor.clock_ms(self.now_ms),
        };
        run(actor, &mut around).map(Some)
    }

    /// Runs something on a process, and sends what it then wants to send.
    fn with_tab<T>(
        &mut self,
        device: usize,
        tab: u64,
        run: impl FnOnce(&mut Tab, &mut Shared, &mut tab::Surroundings<'_>) -> Result<T, Violation>,
    ) -> Result<Option<T>, Violation> {
        let done = self.with_quiet_tab(device, tab, run)?;
        self.send(device, tab)?;
        Ok(done)
    }

    /// As `with_tab`, for what has nothing to send.
    fn with_quiet_tab<T>(
        &mut self,
        device: usize,
        tab: u64,
        run: impl FnOnce(&mut Tab, &mut Shared, &mut tab::Surroundings<'_>) -> Result<T, Violation>,
    ) -> Result<Option<T>, Violation> {
        let done = self.on_device(device, |actor, around| {
            actor.with(tab, |tab, shared| run(tab, shared, around)).transpose()
        })?;
        Ok(done.flatten())
    }

    fn with_relay<T>(
        &mut self,
        run: impl FnOnce(&mut Relay, &mut relay::Surroundings<'_>) -> Result<T, Violation>,
    ) -> Result<T, Violation> {
        let mut around = relay::Surroundings {
            wires: &mut self.wires,
            authority: &self.authority,
            oracle: &mut self.oracle,
            trace: &mut self.trace,
            now_ms: self.now_ms,
        };
        run(&mut self.relay, &mut around)
    }

    fn tick(&mut self) -> Result<(), Violation> {
        for device in 0..self.devices.len() {
            for tab in self.tabs_of(device) {
                if self.settings.mutant != Some(Mutant::NeverTick) {
                    self.with_tab(device, tab, |tab, shared, around| tab.tick(shared, around))?;
                }
            }
        }
        self.with_relay(|relay, around| relay.tick(around))?;
        self.forget_gone();
        Ok(())
    }

    fn work_on_commit(&mut self) -> Result<(), Violation> {
        let rows = self.with_relay(|relay, around| relay.work_on_commit(around))?;
        self.summary.commits += rows;
        Ok(())
    }

    fn speak(&mut self) -> Result<(), Violation> {
        self.with_relay(|relay, around| relay.speak(around))
    }

    fn tabs_of(&self, device: usize) -> Vec<u64> {
        self.devices.get(device).map(|device| device.tabs.keys().copied().collect()).unwrap_or_default()
    }
}

/// Every third device is a native client.
fn is_native(index: usize) -> bool {
    index % 3 == 2
}
