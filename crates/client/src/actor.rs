//! The actor: the one task that owns the core client and all documents.
//!
//! Commands, frames, reports of the store and the time come in; the core decides; its effects go out. It
//! never waits for the disk or the relay while something else could be done.

mod open_document;

use crate::branch::Branch;
use crate::client::{Options, Store};
use crate::connection::{Connection, Event};
use crate::document::{DocumentError, SavedError, Shared};
use crate::status::{self, Status};
use crate::store::writer::{Report, Writer};
use crate::store::{Directory, LogError};
use open_document::{OpenDocument, Opening};
use rustls::ClientConfig;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tidewell_sync_core::client::{Client, Effect, ReplicaId, backoff_ms};
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

/// Runs on the core, with the time.
pub(crate) type Run = Box<dyn FnOnce(&mut Client, u64) + Send>;

pub(crate) type Reply<T> = oneshot::Sender<T>;

/// What handles ask for.
pub(crate) enum Command {
    Open { name: DocumentName, reply: Reply<Result<Shared, DocumentError>> },
    Run(Run),
    SavedDevice { replica: ReplicaId, reply: Reply<Result<(), SavedError>> },
    Branches { replica: ReplicaId, reply: Reply<Result<Vec<Branch>, LogError>> },
    SavedRelay { replica: ReplicaId, reply: Reply<Result<(), SavedError>> },
    Pause,
    Resume,
    Close { reply: Reply<Result<(), SavedError>> },
}

/// Commands that are run before their effects are taken: their edits share frames and commits.
const TURN_COMMANDS_MAX: usize = 256;

/// Writes given to the store and not yet on disk. Above it no more commands are taken until the disk
/// has caught up. A disk that fails does not count: then there is nothing to wait for, edits go on in
/// memory, and the status says so.
const UNSAVED_WRITES_MAX: u64 = 16_384;

/// How often the core is told that time has passed.
const TICK: Duration = Duration::from_secs(1);

/// Milliseconds since 1970 that never go backwards.
struct Clock {
    start: Instant,
    start_ms: u64,
}

impl Clock {
    fn new() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Clock { start: Instant::now(), start_ms: u64::try_from(since.as_millis()).unwrap_or(0) }
    }

    fn now_ms(&self) -> u64 {
        self.start_ms.saturating_add(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// The connection's state.
enum Wire {
    Paused,
    /// Tried again at this time, in milliseconds.
    Waiting {
        until_ms: u64,
        code: Option<Code>,
    },
    Open(Connection),
}

pub(crate) struct Actor {
    options: Options,
    tls: Option<Arc<ClientConfig>>,
    clock: Clock,
    core: Client,
    inbox: mpsc::Receiver<Command>,
    directory: Option<Arc<Directory>>,
    writer: Option<Writer>,
    reports: mpsc::UnboundedReceiver<Report>,
    documents: BTreeMap<ReplicaId, OpenDocument>,
    names: BTreeMap<DocumentName, ReplicaId>,
    /// Documents being opened, one after the other: the first is being loaded.
    opening: VecDeque<Opening>,
    /// Documents whose outbox is to be put aside, as their logs have them.
    refused: mpsc::UnboundedReceiver<open_document::RefusedDocument>,
    refused_in: mpsc::UnboundedSender<open_document::RefusedDocument>,
    loaded: mpsc::Receiver<open_document::LoadResult>,
    load_done: mpsc::Sender<open_document::LoadResult>,
    wire: Wire,
    /// Connections that did not come to a welcome since the last that did.
    attempts: u32,
    connection: watch::Sender<status::Connection>,
    /// Writes given to the store so far, and those of them that are on their way.
    written: u64,
    unsaved: u64,
}

impl Actor {
    pub(crate) fn new(
        options: Options,
        tls: Option<Arc<ClientConfig>>,
        directory: Option<Arc<Directory>>,
        inbox: mpsc::Receiver<Command>,
    ) -> io::Result<(Actor, watch::Receiver<status::Connection>)> {
        let (reports_in, reports) = mpsc::unbounded_channel();
        let writer = match &directory {
            Some(directory) => Some(Writer::start(directory.clone(), reports_in)?),
            None => None,
        };
        let wire = if options.paused { Wire::Paused } else { Wire::Waiting { until_ms: 0, code: None } };
        let (connection, connection_out) = watch::channel(status::Connection::Paused);
        let (load_done, loaded) = mpsc::channel(1);
        let (refused_in, refused) = mpsc::unbounded_channel();
        let actor = Actor {
            options,
            tls,
            clock: Clock::new(),
            core: Client::new(),
            inbox,
            directory,
            writer,
            reports,
            documents: BTreeMap::new(),
            names: BTreeMap::new(),
            opening: VecDeque::new(),
            refused,
            refused_in,
            loaded,
            load_done,
            wire,
            attempts: 0,
            connection,
            written: 0,
            unsaved: 0,
        };
        Ok((actor, connection_out))
    }

    /// Runs until the client is closed or nobody holds a handle any more.
    pub(crate) async fn run(mut self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let closing = loop {
            self.connect_if_due();
            self.settle();
            let wait = self.wait_before_connecting();
            tokio::select! {
                command = self.inbox.recv(), if self.takes_commands() => match command {
                    None => break None,
                    Some(command) => if let Some(reply) = self.commands(command) { break Some(reply) },
                },
                event = event_of(&mut self.wire) => self.event(event),
                Some(report) = self.reports.recv() => self.report(report),
                Some(loaded) = self.loaded.recv() => self.loaded(loaded),
                Some(refused) = self.refused.recv() => self.branch_off(refused),
                _ = ticks.tick() => self.tick(),
                () = sleep(wait) => {}
            }
        };
        let outcome = self.close().await;
        if let Some(reply) = closing {
            let _ = reply.send(outcome);
        }
    }

    fn takes_commands(&self) -> bool {
        self.unsaved < UNSAVED_WRITES_MAX || self.documents.values().any(OpenDocument::has_failed)
    }

    /// Runs a command and those that wait behind it; answers who asked to close.
    fn commands(&mut self, first: Command) -> Option<Reply<Result<(), SavedError>>> {
        let mut next = Some(first);
        for _ in 0..TURN_COMMANDS_MAX {
            match next.take() {
                None => break,
                Some(Command::Close { reply }) => return Some(reply),
                Some(command) => self.command(command),
            }
            next = self.inbox.try_recv().ok();
        }
        match next {
            Some(Command::Close { reply }) => Some(reply),
            Some(command) => {
                self.command(command);
                None
            }
            None => None,
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Open { name, reply } => self.open(name, reply),
            Command::Run(run) => run(&mut self.core, self.clock.now_ms()),
            Command::SavedDevice { replica, reply } => {
                // The writes that the edits before this ask for are counted first.
                self.settle();
                match self.documents.get_mut(&replica) {
                    Some(document) => document.saved_device(reply),
                    None => drop(reply),
                }
            }
            Command::Branches { replica, reply } => {
                self.settle();
                match &self.writer {
                    Some(writer) => {
                        let answer = |read: Result<(_, Vec<Branch>), LogError>| {
                            // Who asked may have gone.
                            let _ = reply.send(read.map(|(_, branches)| branches));
                        };
                        writer.read(replica, Box::new(answer));
                    }
                    None => drop(reply.send(Ok(Vec::new()))),
                }
            }
            Command::SavedRelay { replica, reply } => {
                match (self.documents.get_mut(&replica), self.core.replica(replica)) {
                    (Some(document), Some(replica)) => document.saved_relay(replica, reply),
                    _ => drop(reply),
                }
            }
            Command::Pause => {
                self.core.disconnected();
                self.wire = Wire::Paused;
            }
            Command::Resume => {
                self.attempts = 0;
                if !matches!(self.wire, Wire::Open(_)) {
                    self.wire = Wire::Waiting { until_ms: 0, code: None };
                }
            }
            // Taken before it comes here.
            Command::Close { reply } => drop(reply),
        }
    }

    fn event(&mut self, event: Event) {
        let now_ms = self.clock.now_ms();
        match event {
            Event::Connected => self.core.connected(self.options.token.clone(), now_ms),
            Event::Frame(frame) => {
                self.core.frame(frame, now_ms);
                if self.core.is_live() {
                    self.attempts = 0;
                }
            }
            Event::Lost(code) => self.lost(code),
        }
    }

    /// The connection is over: it is tried again after a while.
    fn lost(&mut self, code: Option<Code>) {
        self.core.disconnected();
        let now_ms = self.clock.now_ms();
        if code.is_some_and(|code| !code.is_transient()) {
            // What is wrong will not be better in a moment.
            self.attempts = self.attempts.max(5);
        }
        let backoff_ms = backoff_ms(self.attempts, rand::random());
        self.attempts = self.attempts.saturating_add(1);
        let until_ms = now_ms.saturating_add(backoff_ms).max(self.core.return_ms());
        self.wire = Wire::Waiting { until_ms, code };
    }

    fn wait_before_connecting(&self) -> Option<Duration> {
        match self.wire {
            Wire::Waiting { until_ms, .. } => {
                Some(Duration::from_millis(until_ms.saturating_sub(self.clock.now_ms())))
            }
            Wire::Paused | Wire::Open(_) => None,
        }
    }

    fn connect_if_due(&mut self) {
        if let Wire::Waiting { until_ms, .. } = self.wire
            && until_ms <= self.clock.now_ms()
        {
            self.wire = Wire::Open(Connection::start(self.options.url.clone(), self.tls.clone()));
        }
    }

    fn tick(&mut self) {
        self.core.tick(self.clock.now_ms());
        self.documents.values_mut().for_each(OpenDocument::forget_who_has_gone);
    }

    fn report(&mut self, report: Report) {
        let Some(document) = self.documents.get_mut(&report.replica) else { return };
        if report.outcome.is_ok() {
            self.unsaved = self.unsaved.saturating_sub(report.writes);
        }
        document.reported(report.outcome);
        document.tell_status(&self.core, report.replica, *self.connection.borrow());
    }

    /// Carries out what the core asks for, and what it asks for because of that.
    fn settle(&mut self) {
        loop {
            let effects = self.core.drain();
            if effects.is_empty() {
                break;
            }
            effects.into_iter().for_each(|effect| self.carry_out(effect));
        }
        self.tell_connection();
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Persist(id, persist) => {
                let (Some(writer), Some(document)) = (&self.writer, self.documents.get_mut(&id)) else {
                    return;
                };
                self.written += 1;
                self.unsaved += 1;
                document.writing(self.written);
                writer.write(id, self.written, persist);
            }
            Effect::Send(frame) => {
                if let Wire::Open(connection) = &self.wire {
                    connection.send(frame);
                }
            }
            Effect::Changed(id) => {
                if let Some(document) = self.documents.get_mut(&id) {
                    document.tell_change();
                }
            }
            Effect::Branch(id, code) => self.begin_branch(id, code),
            Effect::Status(id) => self.tell_status(id),
            // There is but the one in the options.
            Effect::Token => {}
            Effect::Close(code) => self.lost(code),
        }
    }

    fn tell_status(&mut self, id: ReplicaId) {
        if let Some(document) = self.documents.get_mut(&id) {
            document.tell_status(&self.core, id, *self.connection.borrow());
        }
    }

    fn tell_connection(&mut self) {
        let now = match &self.wire {
            Wire::Paused => status::Connection::Paused,
            Wire::Waiting { code, .. } => status::Connection::Waiting(*code),
            Wire::Open(_) if self.core.is_live() => status::Connection::Live,
            Wire::Open(_) => status::Connection::Connecting,
        };
        let is_new = self.connection.send_if_modified(|before| std::mem::replace(before, now) != now);
        if is_new {
            let ids: Vec<ReplicaId> = self.documents.keys().copied().collect();
            ids.into_iter().for_each(|id| self.tell_status(id));
        }
    }

    /// Ends: closes the connection, and waits until everything is on disk, or could not be written.
    async fn close(mut self) -> Result<(), SavedError> {
        self.settle();
        self.wire = Wire::Paused;
        // Without a writer its reports end once it has tried to write everything.
        drop(self.writer.take());
        while let Some(report) = self.reports.recv().await {
            self.report(report);
        }
        self.documents.values().try_for_each(OpenDocument::at_its_end)
    }
}

async fn event_of(wire: &mut Wire) -> Event {
    match wire {
        Wire::Open(connection) => connection.event().await,
        Wire::Paused | Wire::Waiting { .. } => std::future::pending().await,
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// What a document's device is before anything was written.
fn device_of(store: &Store) -> status::Device {
    match store {
        Store::Memory => status::Device::Memory,
        Store::Directory(_) => status::Device::Saved,
    }
}

fn first_status(store: &Store, connection: status::Connection) -> Status {
    Status {
        connection,
        link: tidewell_sync_core::replica::Link::Closed,
        device: device_of(store),
        unsent: tidewell_sync_core::replica::Unsent::default(),
    }
}

#[cfg(test)]
mod tests;
