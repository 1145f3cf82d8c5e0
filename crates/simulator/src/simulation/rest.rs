//! The end of a run: faults are over, and everything must come to where it belongs.

use super::Simulation;
use crate::Violation;
use crate::device::{Device, list_of};
use crate::tab::Tab;
use crate::wire::Wire;
use bytes::Bytes;
use std::collections::BTreeSet;

/// Virtual seconds in which silent links are noticed on both ends, tokens are shown, and refused documents opened again.
const SECONDS: u64 = 150;

/// Rounds without a pause, after which things count as restless.
const ROUNDS_MAX: u64 = 20_000;

impl Simulation {
    /// No more faults: everything is connected, written and delivered until nothing moves. Links that are half-open stay
    /// so, until somebody notices.
    pub(super) fn come_to_rest(&mut self) -> Result<(), Violation> {
        self.trace.note("the world", || "comes to rest".to_owned());
        self.relay.mend();
        self.weather.has_short_tokens = false;
        let relay_ms = self.now_ms + self.relay.ahead_ms;
        self.authority.grant_all(relay_ms + 20_000);
        for device in 0..self.devices.len() {
            self.devices.get_mut(device).into_iter().for_each(|device| device.disk_fails_until_ms = 0);
            if self.tabs_of(device).is_empty() {
                self.open_tab(device)?;
            }
        }
        let mut rounds = 0;
        for _ in 0..SECONDS {
            self.pass(1_000);
            self.tick()?;
            while self.round()? {
                rounds += 1;
                if rounds > ROUNDS_MAX {
                    return Err(Violation::Restless);
                }
            }
            self.check()?;
        }
        Ok(())
    }

    /// Everybody does what there is to be done. Answers whether anything was.
    fn round(&mut self) -> Result<bool, Violation> {
        let mut has_moved = self.relay.is_writing();
        self.work_on_commit()?;
        self.speak()?;
        for device in 0..self.devices.len() {
            for tab in self.tabs_of(device) {
                has_moved |= self.connect(device, tab)?;
                has_moved |= self.refresh(device, tab)?;
                has_moved |= self.adopt(device, tab)?;
                has_moved |= self.put_aside(device, tab)?;
                has_moved |= self.is_busy(device, tab);
                self.work_on_disk(device, tab)?;
                let heard = self.with_tab(device, tab, |tab, shared, around| tab.hear(shared, around))?;
                has_moved |= heard == Some(true);
            }
        }
        let wires: Vec<u64> = self.wires.keys().copied().collect();
        for wire in wires {
            has_moved |= self.wires.get(&wire).is_some_and(Wire::is_busy);
            self.deliver_up(wire)?;
            self.deliver_down(wire)?;
        }
        Ok(has_moved)
    }

    fn is_busy(&self, device: usize, tab: u64) -> bool {
        let device = self.devices.get(device);
        device.and_then(|device| Some(device.tabs.get(&tab)?.is_busy(&device.shared))).unwrap_or(false)
    }

    /// True when a number was made anew, and the row that first had it was on its way to the relay.
    fn came_back(&self, document: usize, value: i64) -> bool {
        let history = self.oracle.history(self.relay.store.lineage, document);
        self.devices.iter().map(|device| &device.shared).any(|shared| {
            let mut first = shared.saved.iter().filter(|(of, row)| {
                let values = shared.values.get(&(document, row.name));
                let is_merged = shared.superseded.contains(&(document, row.name));
                *of == document && is_merged && values.is_some_and(|values| values.contains(&value))
            });
            shared.may_come_twice.contains(&value)
                && first.any(|(_, row)| history.is_some_and(|history| history.covers(&row.update)))
        })
    }

    /// True when an update builds on something that no document has any more: only a relay that was restored had it, and
    /// its author is lost, or has had it refused since.
    fn waits_for_what_is_gone(&self, document: usize, update: &Bytes) -> bool {
        let Some(history) = self.oracle.history(self.relay.store.lineage, document) else { return false };
        let missing = history.admitted.clone().admit(update).map(|admission| admission.missing);
        let has =
            |tab: &Tab, id| tab.replicas().nth(document).is_some_and(|replica| replica.admitted().knows(id));
        let tabs = self.devices.iter().flat_map(|device| device.tabs.values());
        missing.unwrap_or_default().iter().any(|id| !tabs.clone().any(|tab| has(tab, *id)))
    }

    pub(super) fn check_at_rest(&mut self) -> Result<(), Violation> {
        let mut lists = Vec::new();
        for (document, doc) in self.relay.store.build()?.into_iter().enumerate() {
            let mut seen = BTreeSet::new();
            for value in list_of(&doc) {
                // What a restored relay has forgotten may have been made anew meanwhile, and come back as well.
                if !seen.insert(value) && self.summary.restores == 0 && !self.came_back(document, value) {
                    return Err(Violation::Twice { value });
                }
            }
            lists.push(seen);
        }
        let was_restored = self.summary.restores > 0;
        let waits = |document: usize, row: &Bytes| was_restored && self.waits_for_what_is_gone(document, row);
        for device in &self.devices {
            device.check_at_rest(&self.relay, &self.oracle, &waits)?;
            device.check_values(&lists, &waits)?;
        }
        let store = self.relay.store.contents()?;
        let mut contents = self.devices.iter().flat_map(Device::contents);
        let Some(first) = contents.next() else { return Ok(()) };
        if contents.any(|other| other != first) {
            for device in &self.devices {
                let name = format!("device {}", device.shared.index);
                device.contents().for_each(|contents| self.trace.note(&name, || format!("has {contents:?}")));
            }
            self.trace.note("the relay", || format!("has {store:?}"));
            return Err(Violation::Diverged);
        }
        if store != first {
            return Err(Violation::StoreDiffers);
        }
        self.summary.characters = first.iter().map(|text| text.chars().count() as u64).sum();
        Ok(())
    }
}
