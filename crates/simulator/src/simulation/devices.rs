//! What devices and their processes do and suffer.

use super::{Simulation, is_native};
use crate::Violation;
use crate::device::Device;

impl Simulation {
    pub(super) fn open_tab(&mut self, device: usize) -> Result<(), Violation> {
        self.last_tab += 1;
        let id = self.last_tab;
        let has_opened = self.on_device(device, |device, around| device.open_tab(id, around))?;
        if has_opened == Some(true) {
            self.summary.tabs_opened += 1;
            self.trace.note(format!("device {device} tab {id}"), || "starts".to_owned());
        }
        Ok(())
    }

    /// The process is gone, and with it its end of the connection.
    pub(super) fn kill_tab(&mut self, device: usize, tab: u64) -> Result<(), Violation> {
        self.trace.note(format!("device {device} tab {tab}"), || "dies".to_owned());
        self.let_go_of_wire(device, tab);
        self.on_device(device, |device, around| device.kill_tab(tab, around))?;
        Ok(())
    }

    pub(super) fn crash_device(&mut self, device: usize) -> Result<(), Violation> {
        self.summary.device_crashes += 1;
        for tab in self.tabs_of(device) {
            self.kill_tab(device, tab)?;
        }
        self.open_tab(device)
    }

    /// A device is lost for good, and a new one comes in its place. What only it had is gone with it.
    pub(super) fn replace(&mut self, device: usize) -> Result<(), Violation> {
        self.summary.replaced += 1;
        self.tabs_of(device).into_iter().for_each(|tab| self.let_go_of_wire(device, tab));
        let new = Device::new(device, &self.names, self.settings.mutant, is_native(device));
        if let Some(slot) = self.devices.get_mut(device) {
            *slot = new;
        }
        self.trace.note(format!("device {device}"), || "is lost and replaced by a new one".to_owned());
        self.open_tab(device)
    }

    /// A device's clock jumps, forward or back.
    pub(super) fn move_clock(&mut self, device: usize) -> Result<(), Violation> {
        self.summary.clock_jumps += 1;
        let ahead_ms = self.rng.i64(-900_000..900_000);
        self.devices.get_mut(device).into_iter().for_each(|device| device.ahead_ms = ahead_ms);
        self.trace.note(format!("device {device}"), || format!("has its clock set {ahead_ms} ms ahead"));
        Ok(())
    }

    pub(super) fn fail_writes(&mut self, device: usize) -> Result<(), Violation> {
        self.summary.failed_writes += 1;
        let until_ms = self.now_ms + self.rng.u64(10..3_000);
        self.devices.get_mut(device).into_iter().for_each(|device| device.disk_fails_until_ms = until_ms);
        self.trace.note(format!("device {device}"), || format!("has a full disk until {until_ms} ms"));
        Ok(())
    }

    pub(super) fn work_on_disk(&mut self, device: usize, tab: u64) -> Result<(), Violation> {
        let fails = self.devices.get(device).is_some_and(|device| self.now_ms < device.disk_fails_until_ms);
        self.with_tab(device, tab, |tab, shared, around| tab.work_on_disk(fails, shared, around))?;
        self.merge_what_waits(device, tab).map(drop)
    }

    pub(super) fn adopt(&mut self, device: usize, tab: u64) -> Result<bool, Violation> {
        let adopted = self.with_tab(device, tab, |tab, shared, around| tab.adopt(shared, around))?;
        self.summary.adopted += u64::from(adopted == Some(true));
        Ok(adopted == Some(true))
    }

    pub(super) fn put_aside(&mut self, device: usize, tab: u64) -> Result<bool, Violation> {
        let done = self.with_tab(device, tab, |tab, shared, around| tab.put_aside(shared, around))?;
        self.summary.put_aside += u64::from(done == Some(true));
        Ok(done == Some(true))
    }

    pub(super) fn merge(&mut self, device: usize, tab: u64) -> Result<(), Violation> {
        let Some(actor) = self.devices.get(device) else { return Ok(()) };
        let disks = actor.shared.disks.iter().enumerate();
        let branches: Vec<(usize, u64)> =
            disks.flat_map(|(document, disk)| disk.branches.keys().map(move |id| (document, *id))).collect();
        if branches.is_empty() {
            return Ok(());
        }
        let Some((document, branch)) = branches.get(self.rng.usize(0..branches.len())).copied() else {
            return Ok(());
        };
        let name = format!("device {device} tab {tab}");
        self.trace.note(name, || format!("is to merge a branch of document {document}"));
        let device_of = self.devices.get_mut(device);
        device_of
            .and_then(|device| device.with(tab, |tab, shared| tab.want_merged(document, branch, shared)));
        self.merge_what_waits(device, tab).map(drop)
    }

    /// Branches that the application wants merged are merged as soon as that can be done.
    pub(super) fn merge_what_waits(&mut self, device: usize, tab: u64) -> Result<bool, Violation> {
        let merged = self.with_tab(device, tab, |tab, shared, around| tab.merge(shared, around))?;
        self.summary.merged += merged.unwrap_or(0);
        Ok(merged.is_some_and(|merged| merged > 0))
    }
}
