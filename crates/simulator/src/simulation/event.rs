//! The random things that happen, one at each step.

use super::Simulation;
use crate::Violation;
use crate::device::Device;
use crate::tab::Tab;
use crate::weather::Event;
use tidewell_sync_core::protocol::Access;

impl Simulation {
    /// One random thing happens.
    pub(super) fn step(&mut self) -> Result<(), Violation> {
        let event = self.weather.next(&mut self.rng);
        let device = self.rng.usize(0..self.devices.len());
        let tab = self.devices.get(device).and_then(|device| device.any_tab(&mut self.rng));
        match event {
            Event::PutAside | Event::Token | Event::Merge => self.on_one_that_waits(event),
            Event::OpenTab => self.open_tab(device),
            Event::CrashDevice => self.crash_device(device),
            Event::ReplaceDevice => self.replace(device),
            Event::Grant => self.grant(device),
            Event::Revoke => {
                self.summary.revocations += 1;
                self.authority.revoke(device);
                self.trace.note("the relay", || format!("revokes the tokens of device {device}"));
                Ok(())
            }
            Event::DeviceClock => self.move_clock(device),
            Event::DeviceWriteFails => self.fail_writes(device),
            Event::DeliverUp | Event::DeliverDown | Event::CloseWire | Event::HalfOpen => self.on_wire(event),
            _ => match tab {
                Some(tab) => self.on_tab(event, device, tab),
                None => self.open_tab(device),
            },
        }
    }

    /// What few processes wait for happens to one of those.
    fn on_one_that_waits(&mut self, event: Event) -> Result<(), Violation> {
        let waits = |device: &Device, tab: &Tab| match event {
            Event::PutAside => tab.is_branching(),
            Event::Token => tab.wants_token,
            _ => !device.shared.is_native && device.shared.disks.iter().any(|disk| !disk.branches.is_empty()),
        };
        let devices = self.devices.iter().enumerate();
        let waiting: Vec<(usize, u64)> = devices
            .flat_map(|(index, device)| device.tabs.iter().map(move |(id, tab)| (index, device, *id, tab)))
            .filter(|(_, device, _, tab)| waits(device, tab))
            .map(|(index, _, id, _)| (index, id))
            .collect();
        if waiting.is_empty() {
            return Ok(());
        }
        let Some((device, tab)) = waiting.get(self.rng.usize(0..waiting.len())).copied() else {
            return Ok(());
        };
        match event {
            Event::PutAside => self.put_aside(device, tab).map(drop),
            Event::Token => self.refresh(device, tab).map(drop),
            _ => self.merge(device, tab),
        }
    }

    /// Something that happens to one connection.
    fn on_wire(&mut self, event: Event) -> Result<(), Violation> {
        let count = self.wires.len();
        if count == 0 {
            return Ok(());
        }
        let Some(id) = self.wires.keys().nth(self.rng.usize(0..count)).copied() else { return Ok(()) };
        match event {
            Event::DeliverUp => self.deliver_up(id),
            Event::DeliverDown => self.deliver_down(id),
            Event::CloseWire => self.close_wire(id),
            _ => {
                self.summary.half_open += 1;
                let which = self.rng.u32(0..3);
                if let Some(wire) = self.wires.get_mut(&id) {
                    if which != 0 {
                        wire.vanish_up();
                    }
                    if which != 1 {
                        wire.vanish_down();
                    }
                }
                let directions = ["down", "up", "up and down"].get(which as usize).copied().unwrap_or("up");
                self.trace.note("the network", || format!("loses what goes {directions} on connection {id}"));
                Ok(())
            }
        }
    }

    /// Something that happens to one process, or to the relay.
    fn on_tab(&mut self, event: Event, device: usize, tab: u64) -> Result<(), Violation> {
        match event {
            Event::Edit => {
                self.summary.edits += 1;
                let has_large_values = self.weather.has_large_values;
                self.on_device(device, |device, around| device.edit(tab, has_large_values, around))?;
                self.send(device, tab)
            }
            Event::DeviceDisk => self.work_on_disk(device, tab).map(drop),
            Event::Connect => self.connect(device, tab).map(drop),
            Event::Hear => {
                self.with_tab(device, tab, |tab, shared, around| tab.hear(shared, around)).map(drop)
            }
            Event::Adopt => self.adopt(device, tab).map(drop),
            Event::Tick => self.tick(),
            Event::CompactDevice => self
                .with_tab(device, tab, |tab, shared, _| {
                    tab.compact(shared);
                    Ok(())
                })
                .map(drop),
            Event::CrashTab => {
                self.summary.tab_crashes += 1;
                self.kill_tab(device, tab)
            }
            event => self.on_relay(event),
        }
    }

    /// Something that happens to the relay.
    fn on_relay(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::RelayDisk => self.work_on_commit(),
            Event::RelaySpeaks => self.speak(),
            Event::CompactRelay => {
                self.trace.note("the relay", || "compacts its log".to_owned());
                self.relay.store.compact(&mut self.oracle, self.settings.mutant)
            }
            Event::BackUp => {
                self.trace.note("the relay", || "makes a backup".to_owned());
                self.relay.back_up(&self.oracle);
                Ok(())
            }
            Event::CrashRelay => {
                self.summary.relay_crashes += 1;
                self.trace.note("the relay", || "crashes and comes back".to_owned());
                self.with_relay(|relay, around| relay.crash(around))
            }
            Event::StopRelay => {
                self.summary.relay_stops += 1;
                self.trace.note("the relay", || "is stopped and comes back".to_owned());
                self.with_relay(|relay, around| {
                    relay.stop(around.wires);
                    relay.crash(around)
                })
            }
            Event::CommitFails => {
                self.summary.failed_commits += 1;
                self.relay.fail_next_commit();
                Ok(())
            }
            Event::RelayDiskFull => {
                self.summary.failed_commits += 1;
                let until_ms = self.now_ms + self.rng.u64(100..5_000);
                self.trace.note("the relay", || format!("has a full disk until {until_ms} ms"));
                self.relay.fill_disk(until_ms);
                Ok(())
            }
            Event::ReadFails => {
                self.summary.failed_reads += 1;
                self.relay.fail_reads(self.rng.u32(1..4));
                Ok(())
            }
            Event::Restore => self.restore(),
            Event::RelayClock => {
                self.summary.clock_jumps += 1;
                self.relay.ahead_ms = self.rng.u64(0..120_000);
                self.trace.note("the relay", || "has its clock set".to_owned());
                Ok(())
            }
            Event::Sleep => {
                let ms = self.rng.u64(1_000..40_000);
                self.pass(ms);
                self.tick()
            }
            _ => {
                self.relay.evict_idle();
                Ok(())
            }
        }
    }

    /// What a device may do with the tokens that are made from now on.
    fn grant(&mut self, device: usize) -> Result<(), Violation> {
        let document = self.rng.usize(0..self.names.len());
        let access = match self.rng.u32(0..5) {
            0 => None,
            1..3 => Some(Access::Read),
            _ => Some(Access::Write),
        };
        self.summary.grants += 1;
        self.authority.grant(device, document, access);
        self.trace.note("the relay", || format!("grants device {device} {access:?} of document {document}"));
        // Those who are connected hear of it with another token.
        if self.rng.bool() {
            let actor = self.devices.get_mut(device);
            actor
                .into_iter()
                .flat_map(|device| device.tabs.values_mut())
                .for_each(|tab| tab.wants_token = true);
        }
        Ok(())
    }

    /// The relay comes back from its backup, with a new lineage. What any device still has must return.
    pub(super) fn restore(&mut self) -> Result<(), Violation> {
        let lineage = self.rng.u64(1..1 << 40);
        if self.with_relay(|relay, around| relay.restore(lineage, around))? {
            self.summary.restores += 1;
            self.trace.note("the relay", || "is restored from the backup".to_owned());
        }
        Ok(())
    }
}
