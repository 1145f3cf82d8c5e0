//! Schedules that random choices do not bring about: their steps are taken one by one, and then everything comes to rest.

use super::Simulation;
use crate::{Mutant, Settings, Violation};
use tidewell_sync_core::protocol::Access;
use yrs::{Array, Map, WriteTxn};

type Outcome = Result<(), Violation>;

/// Browsers, one native client and a relay, which do nothing by themselves.
struct Script(Simulation);

const BROWSER: usize = 0;
const OTHER_BROWSER: usize = 1;
const NATIVE: usize = 2;

impl Script {
    fn new(mutant: Option<Mutant>) -> Self {
        let settings = Settings { devices: 3, documents: 1, mutant, ..Settings::default() };
        let mut simulation = Simulation::new(0, settings, false);
        simulation.weather.has_short_tokens = false;
        Script(simulation)
    }

    /// Opens another tab.
    fn open(&mut self, device: usize) -> Result<u64, Violation> {
        self.0.open_tab(device)?;
        Ok(self.0.last_tab)
    }

    /// Sets a key, which builds on nothing that others wrote.
    fn set(&mut self, device: usize, tab: u64, key: &'static str) -> Outcome {
        self.0.with_tab(device, tab, |tab, shared, around| {
            tab.edit(
                0,
                Vec::new(),
                |transaction| {
                    transaction.get_or_insert_map("map").insert(transaction, key, "set");
                },
                shared,
                around,
            )
        })?;
        Ok(())
    }

    /// Adds a number to the list.
    fn add(&mut self, device: usize, tab: u64, value: i64) -> Outcome {
        self.0.with_tab(device, tab, |tab, shared, around| {
            tab.edit(
                0,
                vec![value],
                |transaction| {
                    transaction.get_or_insert_array("list").push_back(transaction, value);
                },
                shared,
                around,
            )
        })?;
        Ok(())
    }

    /// Hears everything that other tabs have told.
    fn hear(&mut self, device: usize, tab: u64) -> Outcome {
        while self.0.with_tab(device, tab, |tab, shared, around| tab.hear(shared, around))? == Some(true) {}
        Ok(())
    }

    /// Everything that waits to be written is on disk.
    fn write(&mut self, device: usize, tab: u64) -> Outcome {
        self.0.work_on_disk(device, tab)?;
        self.0.work_on_disk(device, tab)
    }

    /// The relay commits and speaks, and everything that is on its way arrives. Nobody writes.
    fn deliver(&mut self) -> Outcome {
        while self.0.relay.is_writing() || self.0.wires.values().any(crate::wire::Wire::is_busy) {
            self.turn()?;
        }
        // What came has led to something more to say, at most a catch-up in a few parts.
        for _ in 0..10 {
            self.turn()?;
        }
        Ok(())
    }

    fn turn(&mut self) -> Outcome {
        self.0.work_on_commit()?;
        self.0.speak()?;
        let wires: Vec<u64> = self.0.wires.keys().copied().collect();
        for wire in wires {
            self.0.deliver_up(wire)?;
            self.0.deliver_down(wire)?;
        }
        self.0.check()
    }

    /// Makes a connection, on which the document is brought up to date.
    fn connect(&mut self, device: usize, tab: u64) -> Outcome {
        self.0.pass(60_000);
        assert!(self.0.connect(device, tab)?, "device {device} tab {tab} makes no connection");
        self.deliver()
    }

    fn rest(&mut self) -> Outcome {
        self.0.come_to_rest()?;
        self.0.check_at_rest()
    }
}

/// A tab stores nothing, follows a restored relay, and then takes over from one that stored commits of the history
/// before, with higher numbers.
fn a_tab_begins_to_store_after_a_restore(mutant: Option<Mutant>) -> Outcome {
    let mut script = Script::new(mutant);
    let keeper = script.open(BROWSER)?;
    let author = script.open(OTHER_BROWSER)?;
    let native = script.open(NATIVE)?;
    for (device, tab) in [(BROWSER, keeper), (OTHER_BROWSER, author), (NATIVE, native)] {
        script.connect(device, tab)?;
    }
    script.0.relay.back_up(&script.0.oracle);
    for key in ["a", "b", "c", "d", "e", "f"] {
        script.set(OTHER_BROWSER, author, key)?;
        script.deliver()?;
    }
    script.write(BROWSER, keeper)?;
    script.write(OTHER_BROWSER, author)?;
    let stored = script.0.relay.sequences();
    let second = script.open(BROWSER)?;

    script.0.restore()?;
    script.deliver()?;
    script.connect(OTHER_BROWSER, author)?;
    script.connect(NATIVE, native)?;
    script.connect(BROWSER, second)?;
    script.set(OTHER_BROWSER, author, "only in memory")?;
    script.deliver()?;
    assert!(script.0.relay.sequences() < stored, "the restored relay has overtaken the stored cursor");

    script.0.kill_tab(BROWSER, keeper)?;
    script.set(NATIVE, native, "stored")?;
    script.deliver()?;
    script.write(BROWSER, second)?;
    script.0.kill_tab(BROWSER, second)?;
    script.open(BROWSER)?;
    script.rest()
}

/// A tab dies after it has made a branch's edits anew and before it has written that.
fn a_tab_dies_while_it_merges(mutant: Option<Mutant>) -> Outcome {
    let mut script = Script::new(mutant);
    let first = script.open(BROWSER)?;
    let other = script.open(OTHER_BROWSER)?;
    script.0.authority.grant(BROWSER, 0, Some(Access::Read));
    script.connect(BROWSER, first)?;
    script.connect(OTHER_BROWSER, other)?;
    script.add(BROWSER, first, 1)?;
    script.write(BROWSER, first)?;
    script.deliver()?;
    while script.0.put_aside(BROWSER, first)? {}
    script.write(BROWSER, first)?;

    script.0.authority.grant(BROWSER, 0, Some(Access::Write));
    let second = script.open(BROWSER)?;
    script.0.kill_tab(BROWSER, first)?;
    script.connect(BROWSER, second)?;
    script.0.merge(BROWSER, second)?;
    script.deliver()?;
    script.0.kill_tab(BROWSER, second)?;

    let third = script.open(BROWSER)?;
    script.connect(BROWSER, third)?;
    script.0.merge(BROWSER, third)?;
    script.rest()?;
    assert!(script.0.summary.merged == 2, "the branch is there until its end is written");
    Ok(())
}

/// A row is at the relay and nowhere else on its device, which has merged the branch that it was in.
fn a_relay_is_restored_after_a_merge() -> Outcome {
    let mut script = Script::new(None);
    let keeper = script.open(BROWSER)?;
    let merging = script.open(BROWSER)?;
    let other = script.open(OTHER_BROWSER)?;
    script.connect(OTHER_BROWSER, other)?;
    script.connect(BROWSER, merging)?;
    script.0.relay.back_up(&script.0.oracle);
    script.add(BROWSER, merging, 1)?;
    script.write(BROWSER, merging)?;
    // It is committed, and nobody hears of that.
    let wires: Vec<u64> = script.0.wires.keys().copied().collect();
    wires.into_iter().try_for_each(|wire| script.0.deliver_up(wire))?;
    while script.0.relay.is_writing() {
        script.0.work_on_commit()?;
    }
    script.0.with_relay(|relay, around| relay.crash(around))?;
    script.deliver()?;

    script.0.authority.grant(BROWSER, 0, Some(Access::Read));
    script.connect(BROWSER, merging)?;
    for tab in [merging, keeper] {
        script.hear(BROWSER, tab)?;
        while script.0.put_aside(BROWSER, tab)? {}
        script.write(BROWSER, tab)?;
        script.deliver()?;
    }
    script.hear(BROWSER, merging)?;
    script.0.merge(BROWSER, merging)?;
    script.write(BROWSER, merging)?;
    script.write(BROWSER, merging)?;
    assert_eq!(script.0.summary.merged, 1, "the branch is still there");

    script.0.kill_tab(BROWSER, merging)?;
    script.0.kill_tab(BROWSER, keeper)?;
    script.0.kill_tab(OTHER_BROWSER, other)?;
    script.0.restore()?;
    script.rest()
}

#[test]
fn what_a_merge_left_out_comes_back_to_a_restored_relay() {
    assert_eq!(a_relay_is_restored_after_a_merge(), Ok(()));
}

#[test]
fn a_tab_that_begins_to_store_does_not_trust_a_cursor_of_another_lineage() {
    assert_eq!(a_tab_begins_to_store_after_a_restore(None), Ok(()));
    let caught = a_tab_begins_to_store_after_a_restore(Some(Mutant::KeeperIgnoresLineage));
    let what = "covers commits that are not here";
    assert_eq!(caught, Err(Violation::Cursor { device: BROWSER, what }));
}

#[test]
fn a_branch_is_not_merged_twice_when_a_tab_dies() {
    assert_eq!(a_tab_dies_while_it_merges(None), Ok(()));
    let caught = a_tab_dies_while_it_merges(Some(Mutant::SendBeforeBranchEnds));
    assert_eq!(caught, Err(Violation::Twice { value: 1 }));
}
