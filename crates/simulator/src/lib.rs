//! Many devices, one relay, a network that cuts and a disk that forgets what was not synced.
//!
//! The machines are those of the product: [`tidewell_sync_core::client::Client`] on each device and
//! [`tidewell_sync_core::room::Room`] at the relay. Only what lies between and below them is simulated.
//! One seed is one run: nothing here reads a clock or asks for randomness elsewhere. After each step the
//! invariants of [`Violation`] hold, or the run ends with the one that does not.

mod device;
mod mutant;
mod relay;
mod violation;

pub use mutant::Mutant;
pub use violation::Violation;

use bytes::Bytes;
use device::Device;
use fastrand::Rng;
use relay::Relay;
use std::collections::VecDeque;
use tidewell_sync_core::document_name::DocumentName;

/// What one run is made of.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Devices that take part.
    pub devices: usize,
    /// Documents that all of them open.
    pub documents: usize,
    /// Steps with faults, before everything comes to rest.
    pub steps: usize,
    /// A defect to put in; `None` runs the product.
    pub mutant: Option<Mutant>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { devices: 3, documents: 2, steps: 400, mutant: None }
    }
}

/// What a run did, for people and for tests that ask whether it did anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Edits made on devices.
    pub edits: u64,
    /// Commits at the relay.
    pub commits: u64,
    /// Rows that devices were told are durable.
    pub acknowledged: u64,
    /// Connections that were cut.
    pub cuts: u64,
    /// Devices that crashed.
    pub device_crashes: u64,
    /// Crashes of the relay.
    pub relay_crashes: u64,
    /// Times the relay went back to a backup.
    pub restores: u64,
    /// Devices that were lost and replaced.
    pub replaced: u64,
    /// Characters in all documents at rest.
    pub characters: u64,
}

/// A connection: frames in both directions, in order, all lost when it is cut.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    pub(crate) up: VecDeque<Bytes>,
    pub(crate) down: VecDeque<Bytes>,
}

/// One run.
pub struct Simulation {
    rng: Rng,
    settings: Settings,
    now_ms: u64,
    names: Vec<DocumentName>,
    devices: Vec<Device>,
    relay: Relay,
    /// One for each device that is connected.
    wires: Vec<Option<Wire>>,
    summary: Summary,
    trace: Option<Vec<String>>,
}

impl Simulation {
    /// A run that `seed` decides entirely. `with_trace` keeps a line for each step.
    pub fn new(seed: u64, settings: Settings, with_trace: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let names: Vec<DocumentName> = (0..settings.documents)
            .filter_map(|index| DocumentName::parse(&format!("sim/{index}")).ok())
            .collect();
        let devices = (0..settings.devices)
            .map(|index| Device::new(index, &names, settings.mutant, &mut rng))
            .collect();
        Simulation {
            relay: Relay::new(rng.u64(1..1 << 40), settings.mutant),
            wires: (0..settings.devices).map(|_| None).collect(),
            rng,
            settings,
            now_ms: 1_000,
            names,
            devices,
            summary: Summary::default(),
            trace: with_trace.then(Vec::new),
        }
    }

    /// Runs to the end. A violation ends it at once.
    pub fn run(&mut self) -> Result<Summary, Violation> {
        for _ in 0..self.settings.steps {
            self.now_ms += self.rng.u64(0..50);
            self.step()?;
        }
        self.come_to_rest()?;
        self.check_at_rest()?;
        Ok(self.summary)
    }

    /// The lines of the trace so far.
    pub fn trace(&self) -> &[String] {
        self.trace.as_deref().unwrap_or(&[])
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }

    /// One random thing happens.
    fn step(&mut self) -> Result<(), Violation> {
        let device = self.rng.usize(0..self.devices.len());
        match self.rng.u32(0..1000) {
            0..200 => self.edit(device),
            200..420 => self.deliver_up(device)?,
            420..640 => self.deliver_down(device)?,
            640..790 => self.commit()?,
            790..860 => self.write_device_disk(device)?,
            860..940 => self.connect(device),
            940..955 => self.cut(device),
            955..968 => self.crash_device(device)?,
            968..975 => self.crash_relay()?,
            975..985 => self.compact(device)?,
            985..990 => self.relay.fail_next_commit(),
            990..992 => self.back_up(),
            992..994 => self.restore()?,
            994..996 => self.replace(device),
            _ => self.relay.evict_idle(),
        }
        self.devices.iter().try_for_each(Device::check)
    }

    fn edit(&mut self, device: usize) {
        let (now_ms, rng) = (self.now_ms, &mut self.rng);
        let Some(actor) = self.devices.get_mut(device) else { return };
        let what = actor.edit(now_ms, rng);
        self.summary.edits += 1;
        self.note(|| format!("device {device} edits: {what}"));
        self.send(device);
    }

    /// What a device wants to send goes on its wire.
    fn send(&mut self, device: usize) {
        let frames = self.devices.get_mut(device).map(Device::take_frames).unwrap_or_default();
        if let Some(Some(wire)) = self.wires.get_mut(device) {
            wire.up.extend(frames);
        }
    }

    fn deliver_up(&mut self, device: usize) -> Result<(), Violation> {
        let Some(Some(wire)) = self.wires.get_mut(device) else { return Ok(()) };
        let Some(frame) = wire.up.pop_front() else { return Ok(()) };
        self.relay.frame(device, frame)?;
        self.collect()
    }

    fn deliver_down(&mut self, device: usize) -> Result<(), Violation> {
        let Some(Some(wire)) = self.wires.get_mut(device) else { return Ok(()) };
        let Some(frame) = wire.down.pop_front() else { return Ok(()) };
        let now_ms = self.now_ms;
        let Some(actor) = self.devices.get_mut(device) else { return Ok(()) };
        let acknowledged = actor.frame(frame, now_ms, &self.relay)?;
        self.summary.acknowledged += acknowledged;
        if acknowledged > 0 {
            self.note(|| format!("device {device}: {acknowledged} rows acknowledged"));
        }
        self.send(device);
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Violation> {
        let commits = self.relay.commit()?;
        self.summary.commits += commits;
        let sequences = self.relay.sequences();
        self.note(|| format!("the relay commits {commits} rows, the logs end at {sequences:?}"));
        self.collect()
    }

    /// What the relay has to say goes on the wires, if it may be said.
    fn collect(&mut self) -> Result<(), Violation> {
        for (device, frame) in self.relay.collect()? {
            if let Some(Some(wire)) = self.wires.get_mut(device) {
                wire.down.push_back(frame);
            }
        }
        Ok(())
    }

    fn write_device_disk(&mut self, device: usize) -> Result<(), Violation> {
        let count = self.rng.usize(1..6);
        let relay = &self.relay;
        self.devices.get_mut(device).map_or(Ok(()), |actor| actor.complete_writes(count, relay))
    }

    fn connect(&mut self, device: usize) {
        if matches!(self.wires.get(device), Some(Some(_))) {
            return;
        }
        if let Some(slot) = self.wires.get_mut(device) {
            *slot = Some(Wire::default());
        }
        self.relay.connected(device);
        let now_ms = self.now_ms;
        if let Some(actor) = self.devices.get_mut(device) {
            actor.connected(now_ms);
        }
        self.note(|| format!("device {device} connects"));
        self.send(device);
    }

    fn cut(&mut self, device: usize) {
        let was_connected = self.wires.get_mut(device).and_then(Option::take).is_some();
        if was_connected {
            self.summary.cuts += 1;
            self.relay.disconnected(device);
            if let Some(actor) = self.devices.get_mut(device) {
                actor.disconnected();
            }
            self.note(|| format!("device {device} is cut off"));
        }
    }

    fn crash_device(&mut self, device: usize) -> Result<(), Violation> {
        self.cut(device);
        self.summary.device_crashes += 1;
        let (relay, rng) = (&self.relay, &mut self.rng);
        if let Some(actor) = self.devices.get_mut(device) {
            actor.crash(relay, rng)?;
        }
        self.note(|| format!("device {device} crashes and comes back"));
        Ok(())
    }

    fn crash_relay(&mut self) -> Result<(), Violation> {
        (0..self.devices.len()).for_each(|device| self.cut(device));
        self.summary.relay_crashes += 1;
        self.relay.crash()?;
        self.note(|| "the relay crashes and comes back".to_owned());
        Ok(())
    }

    fn compact(&mut self, device: usize) -> Result<(), Violation> {
        if self.rng.bool() {
            self.note(|| "the relay compacts its log".to_owned());
            return self.relay.compact();
        }
        self.note(|| format!("device {device} compacts its store"));
        self.devices.get_mut(device).map_or(Ok(()), Device::compact)
    }

    fn back_up(&mut self) {
        self.relay.back_up();
        self.note(|| "a backup is made".to_owned());
    }

    /// The relay comes back from its backup, with a new lineage. What any device still has must return.
    fn restore(&mut self) -> Result<(), Violation> {
        if !self.relay.has_backup() {
            return Ok(());
        }
        (0..self.devices.len()).for_each(|device| self.cut(device));
        self.summary.restores += 1;
        let lineage = self.rng.u64(1..1 << 40);
        self.relay.restore(lineage)?;
        self.note(|| "the relay is restored from the backup".to_owned());
        Ok(())
    }

    /// A device is lost for good, and a new one comes in its place. What only it had is gone with it.
    fn replace(&mut self, device: usize) {
        self.cut(device);
        self.summary.replaced += 1;
        let new = Device::new(device, &self.names, self.settings.mutant, &mut self.rng);
        if let Some(slot) = self.devices.get_mut(device) {
            *slot = new;
        }
        self.note(|| format!("device {device} is lost and replaced by a new one"));
    }

    /// No more faults: everything is connected, written and delivered until nothing moves.
    fn come_to_rest(&mut self) -> Result<(), Violation> {
        self.relay.mend();
        for device in 0..self.devices.len() {
            self.connect(device);
        }
        for _ in 0..10_000 {
            let mut moved = false;
            for device in 0..self.devices.len() {
                moved |= self.wires.get(device).and_then(Option::as_ref).is_some_and(Wire::is_busy);
                self.deliver_up(device)?;
                self.deliver_down(device)?;
                let relay = &self.relay;
                if let Some(actor) = self.devices.get_mut(device) {
                    actor.complete_writes(usize::MAX, relay)?;
                }
            }
            moved |= self.relay.has_batch();
            self.commit()?;
            self.devices.iter().try_for_each(Device::check)?;
            if !moved {
                return Ok(());
            }
        }
        Err(Violation::Restless)
    }

    fn check_at_rest(&mut self) -> Result<(), Violation> {
        for device in &self.devices {
            device.check_at_rest(&self.relay)?;
        }
        let mut contents = self.devices.iter().map(Device::contents);
        let Some(first) = contents.next() else { return Ok(()) };
        if contents.any(|other| other != first) {
            return Err(Violation::Diverged);
        }
        if self.relay.contents(&self.names)? != first {
            return Err(Violation::StoreDiffers);
        }
        self.summary.characters = first.iter().map(|text| text.chars().count() as u64).sum();
        Ok(())
    }
}

impl Wire {
    fn is_busy(&self) -> bool {
        !self.up.is_empty() || !self.down.is_empty()
    }
}

/// Runs one seed.
pub fn run(seed: u64, settings: Settings) -> Result<Summary, Violation> {
    Simulation::new(seed, settings, false).run()
}
