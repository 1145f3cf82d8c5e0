//! The tests' own record of what the relay has promised, kept outside of it.

use crate::raw::fetch;
use anyhow::bail;
use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use tidewell_sync_core::document_name::DocumentName;
use tokio::sync::watch;

/// Why something must be in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// Its sender was told that it is durable.
    Acknowledged,
    /// Another client had been sent it.
    Received,
}

/// What must be in the store.
#[derive(Debug, Clone)]
pub enum Promise {
    /// An update, unit by unit.
    Update(Bytes),
    /// A piece of the text `t`.
    Text(String),
}

#[derive(Debug, Default)]
struct Promises {
    all: BTreeMap<(DocumentName, Proof), Vec<Promise>>,
    /// How many of them the last look found.
    verified: BTreeMap<(DocumentName, Proof), usize>,
}

/// Promises of one kind that were not looked for yet, behind so many that were.
struct Unverified {
    proof: Proof,
    before: usize,
    new: Vec<Promise>,
}

/// Everything that was acknowledged or received, by document.
#[derive(Debug)]
pub struct Record {
    promises: Mutex<Promises>,
    count: watch::Sender<u64>,
    /// What is killed as soon as there are so many promises.
    trap: Mutex<Option<(u64, Pid)>>,
}

impl Default for Record {
    fn default() -> Self {
        Record { promises: Mutex::default(), count: watch::channel(0).0, trap: Mutex::default() }
    }
}

impl Record {
    /// Notes a promise.
    pub fn note(&self, document: &DocumentName, proof: Proof, promise: Promise) {
        let mut promises = self.promises.lock().unwrap();
        promises.all.entry((document.clone(), proof)).or_default().push(promise);
        self.count.send_modify(|count| *count += 1);
        let mut trap = self.trap.lock().unwrap();
        if let Some((_, relay)) = trap.take_if(|(at, _)| *at <= *self.count.borrow()) {
            // It may be dead already.
            let _ = kill_process(relay, Signal::KILL);
        }
    }

    /// Has a relay killed with -9 at the very moment at which `at` promises were made: what it says before
    /// it is true does not become true any more.
    pub fn kill_at(&self, at: u64, relay: Pid) {
        *self.trap.lock().unwrap() = Some((at, relay));
    }

    /// Number of promises, now and whenever it grows.
    pub fn count(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }

    /// Joins each document with fresh clients and looks for everything that was promised since the last
    /// look, or from the beginning. Answers how many promises it looked for.
    pub async fn verify(&self, address: SocketAddr, from_beginning: bool) -> anyhow::Result<usize> {
        let documents: Vec<DocumentName> = {
            let mut promises = self.promises.lock().unwrap();
            if from_beginning {
                promises.verified.clear();
            }
            let mut names: Vec<_> = promises.all.keys().map(|(document, _)| document.clone()).collect();
            names.dedup();
            names
        };
        let mut looked_for = 0;
        for document in documents {
            // What is promised from here on is looked for the next time.
            let promises =
                [Proof::Acknowledged, Proof::Received].map(|proof| self.since_last_look(&document, proof));
            if promises.iter().all(|promises| promises.new.is_empty()) {
                continue;
            }
            let fetched = fetch(address, &document).await?;
            let text = fetched.text()?;
            for Unverified { proof, before, new } in promises {
                for (index, promise) in new.iter().enumerate() {
                    let is_there = match promise {
                        Promise::Update(update) => fetched.admitted.covers(update)?,
                        Promise::Text(piece) => text.contains(piece.as_str()),
                    };
                    if !is_there {
                        bail!(
                            "{document} lacks what was {proof:?} as number {}: {promise:?}",
                            before + index
                        );
                    }
                }
                looked_for += new.len();
                let mut all = self.promises.lock().unwrap();
                all.verified.insert((document.clone(), proof), before + new.len());
            }
        }
        Ok(looked_for)
    }

    fn since_last_look(&self, document: &DocumentName, proof: Proof) -> Unverified {
        let promises = self.promises.lock().unwrap();
        let key = (document.clone(), proof);
        let before = promises.verified.get(&key).copied().unwrap_or(0);
        let new = promises.all.get(&key).map(|all| all[before..].to_vec()).unwrap_or_default();
        Unverified { proof, before, new }
    }

    /// Number of promises of each kind.
    pub fn totals(&self) -> BTreeMap<Proof, usize> {
        let promises = self.promises.lock().unwrap();
        let mut totals = BTreeMap::new();
        for ((_, proof), all) in &promises.all {
            *totals.entry(*proof).or_default() += all.len();
        }
        totals
    }
}
