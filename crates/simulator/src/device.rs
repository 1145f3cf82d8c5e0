//! A device: a disk, a clock, and the processes that share them.

use crate::disk::{Row, RowName};
use crate::oracle::Oracle;
use crate::relay::Relay;
use crate::tab::{Shared, Surroundings, Tab};
use crate::{Mutant, Violation};
use bytes::Bytes;
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::replica::Replica;
use yrs::any::Number;
use yrs::{Any, Array, GetString, Map, Out, Text, Transact, TransactionMut, WriteTxn};

/// Tabs of one device that live at the same time.
const TABS_MAX: usize = 3;

/// Bytes of a value that brings pushes and recent commits to their limits.
const LARGE_VALUE_BYTES: usize = 300 << 10;

pub(crate) struct Device {
    pub(crate) shared: Shared,
    pub(crate) tabs: BTreeMap<u64, Tab>,
    /// Its clock, in milliseconds beyond the true time.
    pub(crate) ahead_ms: i64,
    /// Writes to its disk fail until this time.
    pub(crate) disk_fails_until_ms: u64,
}

impl Device {
    pub(crate) fn new(index: usize, names: &[DocumentName], mutant: Option<Mutant>, is_native: bool) -> Self {
        let shared = Shared::new(index, names, mutant, is_native);
        Device { shared, tabs: BTreeMap::new(), ahead_ms: 0, disk_fails_until_ms: 0 }
    }

    /// The device's clock at a true time.
    pub(crate) fn clock_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_add_signed(self.ahead_ms)
    }

    /// Starts another process, if there may be one. Its ID was never used before.
    pub(crate) fn open_tab(&mut self, id: u64, around: &mut Surroundings<'_>) -> Result<bool, Violation> {
        let most = if self.shared.is_native { 1 } else { TABS_MAX };
        if self.tabs.len() >= most {
            return Ok(false);
        }
        let tab = Tab::start(id, &mut self.shared, around)?;
        self.tabs.insert(id, tab);
        Ok(true)
    }

    /// A process dies at once.
    pub(crate) fn kill_tab(&mut self, id: u64, around: &mut Surroundings<'_>) -> Result<(), Violation> {
        if let Some(tab) = self.tabs.remove(&id) {
            tab.die(&mut self.shared, around)?;
        }
        for tab in self.tabs.values_mut() {
            tab.has_lost_sibling = true;
            tab.keep_if_first(&mut self.shared);
        }
        Ok(())
    }

    /// Any of its processes.
    pub(crate) fn any_tab(&self, rng: &mut Rng) -> Option<u64> {
        let count = self.tabs.len();
        (count > 0).then(|| self.tabs.keys().nth(rng.usize(0..count)).copied()).flatten()
    }

    /// Runs something on a process and what the device's tabs share.
    pub(crate) fn with<T>(&mut self, tab: u64, run: impl FnOnce(&mut Tab, &mut Shared) -> T) -> Option<T> {
        let shared = &mut self.shared;
        self.tabs.get_mut(&tab).map(|tab| run(tab, shared))
    }

    /// A random edit.
    pub(crate) fn edit(
        &mut self,
        tab: u64,
        has_large_values: bool,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Violation> {
        let document = around.rng.usize(0..self.shared.names.len());
        let choice = if has_large_values && around.rng.u32(0..6) == 0 { 10 } else { around.rng.u32(0..10) };
        let letters: String = (0..around.rng.usize(1..5)).map(|_| around.rng.lowercase()).collect();
        let (position, count) = (around.rng.f64(), around.rng.u32(1..4));
        let key = format!("k{}", around.rng.u32(0..3));
        around.oracle.next_value += 1;
        let value = around.oracle.next_value;
        let index = self.shared.index;
        around.trace.note(format!("device {index} tab {tab}"), || {
            let what = match choice {
                0..4 => format!("inserts {letters:?}"),
                4..6 => format!("deletes {count}"),
                6..8 => format!("adds {value} to the list"),
                8..10 => format!("sets {key} to {letters:?}"),
                _ => format!("sets {key} to a large value"),
            };
            format!("{what} in document {document}")
        });
        let run = |transaction: &mut TransactionMut<'_>| {
            let place = |len: u32| (position * f64::from(len + 1)) as u32;
            match choice {
                0..4 => {
                    let text = transaction.get_or_insert_text("text");
                    let at = place(text.len(transaction));
                    text.insert(transaction, at, &letters);
                }
                4..6 => {
                    let text = transaction.get_or_insert_text("text");
                    let len = text.len(transaction);
                    let at = place(len);
                    text.remove_range(transaction, at, count.min(len.saturating_sub(at)));
                }
                6..8 => {
                    let list = transaction.get_or_insert_array("list");
                    let at = place(list.len(transaction));
                    list.insert(transaction, at, value);
                }
                8..10 => {
                    let map = transaction.get_or_insert_map("map");
                    map.insert(transaction, key.as_str(), letters.as_str());
                }
                _ => {
                    let map = transaction.get_or_insert_map("map");
                    map.insert(transaction, key.as_str(), letters.repeat(LARGE_VALUE_BYTES / letters.len()));
                }
            }
        };
        let values = if matches!(choice, 6..8) { vec![value] } else { Vec::new() };
        let done = self.with(tab, |tab, shared| tab.edit(document, values, run, shared, around));
        done.unwrap_or(Ok(()))
    }

    pub(crate) fn check(&self) -> Result<(), Violation> {
        self.tabs.values().try_for_each(|tab| tab.check(&self.shared))
    }

    /// Everything this device saved is at the relay or in a branch, and it knows. A row that `waits` for something
    /// that is gone stays on the device: in the outbox, or among what was received if a relay had it.
    pub(crate) fn check_at_rest(
        &self,
        relay: &Relay,
        oracle: &Oracle,
        waits: &dyn Fn(usize, &Bytes) -> bool,
    ) -> Result<(), Violation> {
        let device = self.shared.index;
        for (document, disk) in self.shared.disks.iter().enumerate() {
            let rows = disk.outbox.values().filter(|row| !waits(document, &row.update)).count() as u64;
            if rows > 0 {
                let links = self.tabs.values().filter_map(|tab| tab.replicas().nth(document));
                let link = format!("{:?}", links.map(Replica::link).collect::<Vec<_>>());
                return Err(Violation::NotAcknowledged { device, rows, link });
            }
            let Some(history) = oracle.history(relay.store.lineage, document) else { continue };
            let mut branched: BTreeSet<_> = disk.branched().map(|row| row.name).collect();
            let refused: Vec<Row> = disk.branched().cloned().collect();
            branched.extend(self.shared.building_on(document, &refused));
            let own = self.shared.saved.iter().filter(|(of, _)| *of == document).map(|(_, row)| row);
            for row in own {
                let is_merged = self.shared.superseded.contains(&(document, row.name));
                let is_here = branched.contains(&row.name) || disk.outbox.contains_key(&row.name);
                let is_at_relay = history.covers(&row.update);
                if !is_merged && !is_here && !is_at_relay && !waits(document, &row.update) {
                    return Err(Violation::EditLost { device });
                }
            }
        }
        Ok(())
    }

    /// Each number that a saved edit has added is in the list at the relay, or in a branch under some name, unless the
    /// edit `waits` for something that is gone.
    pub(crate) fn check_values(
        &self,
        lists: &[BTreeSet<i64>],
        waits: &dyn Fn(usize, &Bytes) -> bool,
    ) -> Result<(), Violation> {
        for (document, disk) in self.shared.disks.iter().enumerate() {
            let refused: Vec<Row> = disk.branched().cloned().collect();
            let kept = refused.iter().map(|row| row.name).chain(disk.outbox.keys().copied());
            let kept = kept.chain(self.shared.building_on(document, &refused)).collect();
            self.check_values_of(document, lists.get(document), &kept, waits)?;
        }
        Ok(())
    }

    fn check_values_of(
        &self,
        document: usize,
        list: Option<&BTreeSet<i64>>,
        kept: &BTreeSet<RowName>,
        waits: &dyn Fn(usize, &Bytes) -> bool,
    ) -> Result<(), Violation> {
        let named = |value: i64| {
            let rows = self.shared.values.iter();
            rows.filter(move |((of, _), values)| *of == document && values.contains(&value))
                .map(|((_, row), _)| row)
        };
        for (_, row) in self.shared.saved.iter().filter(|(of, _)| *of == document) {
            for value in self.shared.values.get(&(document, row.name)).into_iter().flatten() {
                let is_here = list.is_some_and(|list| list.contains(value));
                let is_kept = named(*value).any(|row| kept.contains(row));
                if !is_here && !is_kept && !waits(document, &row.update) {
                    return Err(Violation::EditLost { device: self.shared.index });
                }
            }
        }
        Ok(())
    }

    /// Every document as text, in each process.
    pub(crate) fn contents(&self) -> impl Iterator<Item = Vec<String>> {
        self.tabs.values().map(|tab| tab.replicas().map(|replica| contents_of(replica.doc())).collect())
    }
}

/// A document's text, list and map, as text.
pub(crate) fn contents_of(doc: &yrs::Doc) -> String {
    let (text, map) = (doc.get_or_insert_text("text"), doc.get_or_insert_map("map"));
    let list = list_of(doc);
    let transaction = doc.transact();
    let mut entries: Vec<String> = map
        .iter(&transaction)
        .map(|(key, value)| match value {
            Out::Any(Any::String(value)) => format!("{key}={value}"),
            other => format!("{key}={other:?}"),
        })
        .collect();
    entries.sort();
    format!("{} {list:?} {}", text.get_string(&transaction), entries.join(" "))
}

/// The numbers in a document's list.
pub(crate) fn list_of(doc: &yrs::Doc) -> Vec<i64> {
    let list = doc.get_or_insert_array("list");
    let transaction = doc.transact();
    list.iter(&transaction)
        .filter_map(|value| match value {
            Out::Any(Any::Number(Number::Int(value))) => Some(value),
            Out::Any(Any::Number(Number::Float(value))) => Some(value as i64),
            _ => None,
        })
        .collect()
}
