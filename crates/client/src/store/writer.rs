//! The writer: one thread that commits to all logs.
//!
//! It takes everything that waits, writes one frame for each document, syncs, and reports. What cannot
//! be written stays here, in order, and is tried again; nothing of its document is written before it.

use super::directory::Directory;
use super::log::{Contents, Log, LogError};
use super::{compaction, entry};
use crate::branch::Branch;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use tidewell_sync_core::client::ReplicaId;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::replica::{Persist, RowId, Stored};
use tokio::sync::mpsc::UnboundedSender;

/// How long a failed write waits for the next attempt.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Bytes taken together into one round of commits: bounds how long the first of them waits. A frame has no more, unless
/// a single write has: what piles up while the disk fails would become too large for one.
const ROUND_BYTES: usize = 8 << 20;

/// What became of a document's writes. Reports are taken as fast as they come, so they need no limit:
/// there is one for each frame.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) replica: ReplicaId,
    /// How many writes it is about.
    pub(crate) writes: u64,
    /// The last write that is on disk, or why the writes after it are not.
    pub(crate) outcome: Result<u64, Arc<io::Error>>,
}

/// Takes what a log holds.
pub(crate) type Read = Box<dyn FnOnce(Result<(Stored, Vec<Branch>), LogError>) + Send>;

enum Order {
    Adopt(ReplicaId, Log),
    Write(ReplicaId, u64, Persist),
    Branch(ReplicaId, u64, Code, Vec<RowId>),
    Read(ReplicaId, Read),
}

/// Gives orders to the writer's thread. When it is dropped the thread finishes what it has and ends.
pub(crate) struct Writer {
    orders: Sender<Order>,
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start(directory: Arc<Directory>, reports: UnboundedSender<Report>) -> io::Result<Writer> {
        let (orders, inbox) = channel();
        let run = move || Thread { directory, reports, logs: BTreeMap::new() }.run(&inbox);
        std::thread::Builder::new().name("tidewell-store".into()).spawn(run)?;
        Ok(Writer { orders })
    }

    /// Gives it a document's log.
    pub(crate) fn adopt(&self, replica: ReplicaId, log: Log) {
        self.give(Order::Adopt(replica, log));
    }

    /// Writes behind everything before. `number` comes back in a report; each is larger than the last.
    pub(crate) fn write(&self, replica: ReplicaId, number: u64, persist: Persist) {
        self.give(Order::Write(replica, number, persist));
    }

    /// Writes that rows leave the outbox for a branch, as [`Writer::write`] does.
    pub(crate) fn branch(&self, replica: ReplicaId, number: u64, code: Code, rows: Vec<RowId>) {
        self.give(Order::Branch(replica, number, code, rows));
    }

    /// Reads a document's log once everything before is written.
    pub(crate) fn read(&self, replica: ReplicaId, read: Read) {
        self.give(Order::Read(replica, read));
    }

    fn give(&self, order: Order) {
        // The thread ends only when this sender is gone.
        let _ = self.orders.send(order);
    }
}

/// Where a log stands.
#[derive(Debug)]
enum Slot {
    Open(Log),
    /// After a failed compaction it is not known which file bears the name.
    Unknown(PathBuf),
}

/// What is to become one frame.
#[derive(Default)]
struct Waiting {
    entries: Vec<u8>,
    /// How many writes it is, and the number of the last.
    writes: u64,
    through: u64,
}

struct Document {
    slot: Slot,
    /// What waits to be written, in order.
    waiting: VecDeque<Waiting>,
    /// Who wants to read it once that is written.
    reads: Vec<Read>,
}

struct Thread {
    directory: Arc<Directory>,
    reports: UnboundedSender<Report>,
    logs: BTreeMap<ReplicaId, Document>,
}

impl Thread {
    fn run(mut self, inbox: &Receiver<Order>) {
        loop {
            let is_behind = self.logs.values().any(|document| !document.waiting.is_empty());
            let first = if is_behind {
                inbox.recv_timeout(RETRY_AFTER)
            } else {
                inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            let is_over = matches!(first, Err(RecvTimeoutError::Disconnected));
            let mut bytes = 0;
            for order in first.ok().into_iter().chain(inbox.try_iter()) {
                bytes += self.take(order);
                if bytes > ROUND_BYTES {
                    break;
                }
            }
            self.commit();
            if is_over {
                return;
            }
        }
    }

    /// Notes an order; answers how many bytes there are to write for it.
    fn take(&mut self, order: Order) -> usize {
        match order {
            Order::Adopt(replica, log) => {
                let slot = Slot::Open(log);
                self.logs.insert(replica, Document { slot, waiting: VecDeque::new(), reads: Vec::new() });
                0
            }
            Order::Write(replica, number, persist) => {
                self.note(replica, number, |waiting| entry::write(waiting, &persist))
            }
            Order::Branch(replica, number, code, rows) => {
                self.note(replica, number, |waiting| entry::write_branched(waiting, code, &rows))
            }
            Order::Read(replica, read) => {
                if let Some(document) = self.logs.get_mut(&replica) {
                    document.reads.push(read);
                }
                0
            }
        }
    }

    fn note(&mut self, replica: ReplicaId, number: u64, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        let Some(document) = self.logs.get_mut(&replica) else { return 0 };
        let mut waiting = document.waiting.pop_back().unwrap_or_default();
        let before = waiting.entries.len();
        write(&mut waiting.entries);
        let bytes = waiting.entries.len() - before;
        if before > 0 && waiting.entries.len() > ROUND_BYTES {
            let entries = waiting.entries.split_off(before);
            document.waiting.push_back(waiting);
            waiting = Waiting { entries, ..Waiting::default() };
        }
        waiting.writes += 1;
        waiting.through = number;
        document.waiting.push_back(waiting);
        bytes
    }

    fn commit(&mut self) {
        for (replica, document) in &mut self.logs {
            if document.waiting.is_empty() {
                document.answer_reads(&self.directory);
                continue;
            }
            while let Some(&Waiting { writes, through, .. }) = document.waiting.front() {
                let outcome = document.commit_first(&self.directory).map(|()| through).map_err(Arc::new);
                if let Err(error) = &outcome {
                    tracing::warn!(path = %document.path().display(), %error, "edits could not be written");
                }
                let has_failed = outcome.is_err();
                let _ = self.reports.send(Report { replica: *replica, writes, outcome });
                if has_failed {
                    break;
                }
            }
            document.answer_reads(&self.directory);
            document.compact_if_worth_it(&self.directory);
        }
    }
}

impl Document {
    fn path(&self) -> &PathBuf {
        match &self.slot {
            Slot::Open(log) => &log.path,
            Slot::Unknown(path) => path,
        }
    }

    /// Writes what has waited longest. After an error it goes on waiting.
    fn commit_first(&mut self, directory: &Directory) -> io::Result<()> {
        if let Slot::Unknown(path) = &self.slot {
            let (log, _) = Log::open(&directory.disk, path).map_err(into_io)?;
            self.slot = Slot::Open(log);
        }
        if let (Slot::Open(log), Some(first)) = (&mut self.slot, self.waiting.front()) {
            log.append(&directory.disk, &first.entries)?;
            self.waiting.pop_front();
        }
        Ok(())
    }

    fn answer_reads(&mut self, directory: &Directory) {
        if !self.waiting.is_empty() {
            return;
        }
        for read in std::mem::take(&mut self.reads) {
            let contents = Log::open(&directory.disk, self.path());
            read(contents.map(|(_, Contents { stored, branches, .. })| (stored, branches)));
        }
    }

    fn compact_if_worth_it(&mut self, directory: &Directory) {
        let Slot::Open(log) = &mut self.slot else { return };
        if !self.waiting.is_empty() || !log.is_worth_compacting() {
            return;
        }
        match compaction::compact(&directory.disk, log) {
            Ok(Some(compacted)) => *log = compacted,
            Ok(None) => log.compaction_declined(),
            Err(error) => {
                tracing::warn!(path = %log.path.display(), %error, "a log could not be compacted");
                self.slot = Slot::Unknown(log.path.clone());
            }
        }
    }
}

fn into_io(error: LogError) -> io::Error {
    match error {
        LogError::Io { source, .. } => source,
        damaged @ LogError::Damaged { .. } => io::Error::new(io::ErrorKind::InvalidData, damaged.to_string()),
    }
}
