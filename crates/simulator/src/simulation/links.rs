//! Connections: they are made, used, and closed at one end after the other; and the tokens that are shown on them.

use super::Simulation;
use crate::Violation;
use crate::wire::{Arrival, Wire};

impl Simulation {
    pub(super) fn connect(&mut self, device: usize, tab: u64) -> Result<bool, Violation> {
        let lineage = self.relay.store.lineage;
        let Some(actor) = self.devices.get(device) else { return Ok(false) };
        let clock_ms = actor.clock_ms(self.now_ms);
        let may_connect =
            actor.tabs.get(&tab).is_some_and(|tab| tab.wire.is_none() && tab.return_ms() <= clock_ms);
        if !may_connect {
            return Ok(false);
        }
        self.summary.connections += 1;
        self.last_wire += 1;
        let id = self.last_wire;
        self.wires.insert(id, Wire::new(device, tab));
        self.relay.connected(id, self.now_ms);
        self.trace.note(format!("device {device} tab {tab}"), || format!("makes connection {id}"));
        let token = self.mint(device);
        self.with_tab(device, tab, |tab, shared, around| {
            tab.connected((id, lineage), token, shared, around)
        })?;
        Ok(true)
    }

    fn mint(&mut self, device: usize) -> String {
        let life_ms = if self.weather.has_short_tokens {
            self.rng.u64(500..30_000)
        } else {
            self.rng.u64(600_000..3_600_000)
        };
        self.authority.mint(device, self.now_ms + self.relay.ahead_ms + life_ms)
    }

    /// The application answers with another token, if it was asked.
    pub(super) fn refresh(&mut self, device: usize, tab: u64) -> Result<bool, Violation> {
        let actor = self.devices.get(device).and_then(|device| device.tabs.get(&tab));
        if !actor.is_some_and(|tab| tab.wants_token) {
            return Ok(false);
        }
        self.summary.refreshes += 1;
        let token = self.mint(device);
        self.trace.note(format!("device {device} tab {tab}"), || "has another token".to_owned());
        self.with_tab(device, tab, |tab, shared, around| tab.refresh(token, shared, around))?;
        Ok(true)
    }

    /// What a process wants to send goes on its wire, and a connection that it gives up is closed.
    pub(super) fn send(&mut self, device: usize, tab: u64) -> Result<(), Violation> {
        let Some(actor) = self.devices.get_mut(device).and_then(|device| device.tabs.get_mut(&tab)) else {
            return Ok(());
        };
        let Some((wire, _)) = actor.wire else {
            actor.take_frames();
            return Ok(());
        };
        let (frames, gives_up) = (actor.take_frames(), actor.wants_close);
        self.wires.get_mut(&wire).into_iter().for_each(|wire| wire.send_up(frames.clone()));
        if gives_up {
            self.trace.note(format!("device {device} tab {tab}"), || format!("gives connection {wire} up"));
            self.hang_up(device, tab)?;
        }
        Ok(())
    }

    pub(super) fn deliver_up(&mut self, id: u64) -> Result<(), Violation> {
        let Some(wire) = self.wires.get_mut(&id) else { return Ok(()) };
        match wire.arrives_up() {
            Arrival::Frame(frame) => self.with_relay(|relay, around| relay.frame(id, frame, around)),
            Arrival::Closed => {
                wire.close_relay();
                self.relay.disconnected(id);
                self.forget_gone();
                Ok(())
            }
            Arrival::Nothing => Ok(()),
        }
    }

    pub(super) fn deliver_down(&mut self, id: u64) -> Result<(), Violation> {
        let Some(wire) = self.wires.get_mut(&id) else { return Ok(()) };
        let (device, tab) = (wire.device, wire.tab);
        match wire.arrives_down() {
            Arrival::Frame(frame) => {
                let acknowledged =
                    self.with_tab(device, tab, |tab, shared, around| tab.frame(frame, shared, around))?;
                self.summary.acknowledged += acknowledged.unwrap_or(0);
                self.merge_what_waits(device, tab).map(drop)
            }
            Arrival::Closed => {
                self.trace.note(format!("device {device} tab {tab}"), || format!("loses connection {id}"));
                self.hang_up(device, tab)
            }
            Arrival::Nothing => Ok(()),
        }
    }

    /// One end closes a connection; the other finds it so once everything before it has come, if it comes.
    pub(super) fn close_wire(&mut self, id: u64) -> Result<(), Violation> {
        let Some(wire) = self.wires.get_mut(&id) else { return Ok(()) };
        self.summary.closed += 1;
        if self.rng.bool() {
            let (device, tab) = (wire.device, wire.tab);
            self.trace.note(format!("device {device} tab {tab}"), || format!("closes connection {id}"));
            return self.hang_up(device, tab);
        }
        self.trace.note("the relay", || format!("closes connection {id}"));
        wire.close_relay();
        self.relay.disconnected(id);
        self.forget_gone();
        Ok(())
    }

    /// The device's end of the connection is closed.
    fn hang_up(&mut self, device: usize, tab: u64) -> Result<(), Violation> {
        let wire = self.with_quiet_tab(device, tab, |tab, shared, around| {
            let wire = tab.wire;
            tab.disconnected(shared, around)?;
            Ok(wire)
        })?;
        if let Some((wire, _)) = wire.flatten() {
            self.wires.get_mut(&wire).into_iter().for_each(Wire::close_device);
            self.forget_gone();
        }
        Ok(())
    }

    pub(super) fn let_go_of_wire(&mut self, device: usize, tab: u64) {
        let own = self.wires.values_mut().filter(|wire| wire.device == device && wire.tab == tab);
        own.for_each(Wire::close_device);
        self.forget_gone();
    }

    pub(super) fn forget_gone(&mut self) {
        self.wires.retain(|_, wire| !wire.is_gone());
    }
}
