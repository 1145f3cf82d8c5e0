//! A device's client: many replicas on one connection.
//!
//! Frames come in and go out here; all messages of one turn leave in one frame. It decides when to say
//! what, never when to connect: it is told of connections and of the time.

use crate::code::Code;
use crate::document_map::DocumentMap;
use crate::limits::FRAME_BYTES_MAX;
use crate::protocol::{self, ClientMessage, Reassembly, RelayMessage};
use crate::replica::{Link, Persist, Replica, ReplicaEffect};
use crate::token::{expires_ms, refresh_after_ms};
use bytes::Bytes;

/// Names an open replica of this client; it is also its channel on every connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub u32);

/// What the client asks of its owner, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write to the device's store. Neither this nor sending waits for the other.
    Persist(ReplicaId, Persist),
    /// Send a frame on the connection.
    Send(Bytes),
    /// Put a document's outbox aside as a local branch, and load it anew; see [`ReplicaEffect::Branch`].
    Branch(ReplicaId, Code),
    /// A document's content changed.
    Changed(ReplicaId),
    /// A document's status changed.
    Status(ReplicaId),
    /// Ask the application for another token, and have it with [`Client::refresh`].
    Token,
    /// Close the connection, for this reason; `None` when nothing is wrong.
    Close(Option<Code>),
}

/// Silence after which a client asks whether the relay is still there, in milliseconds. Below the 30 s
/// after which many proxies and phones drop an idle connection.
pub const PING_AFTER_MS: u64 = 20_000;

/// Silence after that question, after which the connection counts as lost, in milliseconds.
pub const LOST_AFTER_MS: u64 = 10_000;

/// How long a document that was refused for a transient reason waits before it is opened again.
pub const REOPEN_AFTER_MS: u64 = 5_000;

/// How long a client waits for the token that it has asked for before it asks again.
pub const TOKEN_AFTER_MS: u64 = 5_000;

/// Shortest and longest bound of the wait before a connection is tried again, in milliseconds.
const BACKOFF_MS: std::ops::RangeInclusive<u64> = 250..=30_000;

/// How long to wait before connection attempt `attempt` (0 is the first after a loss): full jitter, a
/// uniform part of a bound that doubles (Brooker, "Exponential Backoff and Jitter", AWS 2015).
/// `random` is uniform over all of `u64`.
pub fn backoff_ms(attempt: u32, random: u64) -> u64 {
    let doubled = BACKOFF_MS.start().saturating_mul(1 << attempt.min(16));
    let bound = doubled.min(*BACKOFF_MS.end());
    random % (bound + 1)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connection {
    None,
    /// Hello was sent.
    Greeting,
    /// The relay said welcome; frames may have this size.
    Live {
        frame_bytes_max: usize,
    },
}

/// Many replicas on one connection.
pub struct Client {
    replicas: DocumentMap<Replica>,
    next_replica: u32,
    connection: Connection,
    reassembly: Reassembly,
    lineage: Option<u64>,
    /// What the relay was shown last.
    token: String,
    /// When another token is to be asked for.
    token_ms: Option<u64>,
    /// The relay's clock at the welcome, and this device's: devices' clocks are wrong more often.
    welcome_ms: (u64, u64),
    /// Messages of this turn.
    outgoing: Vec<u8>,
    /// The device's clock at the last call.
    clock_ms: u64,
    heard_ms: u64,
    /// When the relay was asked whether it is there, if it has said nothing since.
    asked_ms: Option<u64>,
    reopen_ms: Option<u64>,
    /// Earliest time of the next connection, told by a relay that went away.
    return_ms: u64,
    effects: Vec<Effect>,
    /// Replicas whose content or status changed in this turn; told once.
    changed: DocumentMap<()>,
    status: DocumentMap<()>,
}

impl Default for Client {
    fn default() -> Self {
        Client::new()
    }
}

impl Client {
    /// A client without documents or connection.
    pub fn new() -> Self {
        Client {
            replicas: DocumentMap::default(),
            next_replica: 0,
            connection: Connection::None,
            reassembly: Reassembly::default(),
            lineage: None,
            token: String::new(),
            token_ms: None,
            welcome_ms: (0, 0),
            outgoing: Vec::new(),
            clock_ms: 0,
            heard_ms: 0,
            asked_ms: None,
            reopen_ms: None,
            return_ms: 0,
            effects: Vec::new(),
            changed: DocumentMap::default(),
            status: DocumentMap::default(),
        }
    }

    /// The name for the next replica, to make it with.
    pub fn next_id(&self) -> ReplicaId {
        ReplicaId(self.next_replica)
    }

    /// Takes a replica in that was made with [`Client::next_id`], and opens it when connected.
    pub fn add(&mut self, mut replica: Replica) -> ReplicaId {
        let id = ReplicaId(self.next_replica);
        self.next_replica += 1;
        if self.connection != Connection::None {
            replica.connected(self.lineage);
        }
        self.replicas.insert(id.0, replica);
        self.settle(id);
        id
    }

    /// Closes a document. What the relay has not acknowledged stays on disk.
    pub fn remove(&mut self, id: ReplicaId) -> Option<Replica> {
        let replica = self.replicas.remove(id.0)?;
        if matches!(replica.link(), Link::Opening | Link::Live | Link::Refused(_)) {
            self.say(&ClientMessage::Close { channel: id.0 });
            // Now there is room for one that was too many.
            if self.replicas().any(|(_, other)| other.link() == Link::Refused(Code::ChannelsExceeded)) {
                self.reopen_ms.get_or_insert(self.clock_ms);
            }
        }
        Some(replica)
    }

    /// Puts another replica of the same document, made with the same channel, in the place of one, and opens it when
    /// connected.
    pub fn replace(&mut self, id: ReplicaId, mut replica: Replica) {
        let Some(before) = self.remove(id) else { return };
        if self.connection != Connection::None {
            replica.follow(&before, self.lineage);
        }
        self.replicas.insert(id.0, replica);
        self.changed.insert(id.0, ());
        self.status.insert(id.0, ());
        self.settle(id);
    }

    /// An open replica, for reading.
    pub fn replica(&self, id: ReplicaId) -> Option<&Replica> {
        self.replicas.get(id.0)
    }

    /// All open replicas.
    pub fn replicas(&self) -> impl Iterator<Item = (ReplicaId, &Replica)> {
        self.replicas.iter().map(|(id, replica)| (ReplicaId(id), replica))
    }

    /// Runs something on a replica and takes up what it asks for.
    pub fn with<T>(&mut self, id: ReplicaId, run: impl FnOnce(&mut Replica) -> T) -> Option<T> {
        let result = self.replicas.get_mut(id.0).map(run);
        self.settle(id);
        result
    }

    /// True when the relay has said welcome.
    pub fn is_live(&self) -> bool {
        matches!(self.connection, Connection::Live { .. })
    }

    /// Earliest time of the next connection, in milliseconds since 1970.
    pub fn return_ms(&self) -> u64 {
        self.return_ms
    }

    /// A connection is there: greets, and opens every document in the same frame.
    pub fn connected(&mut self, token: String, now_ms: u64) {
        self.look_at_clock(now_ms);
        self.connection = Connection::Greeting;
        self.reassembly = Reassembly::default();
        (self.heard_ms, self.asked_ms) = (now_ms, None);
        (self.token, self.token_ms) = (token.clone(), None);
        self.say(&ClientMessage::Hello { version: protocol::VERSION, token });
        let lineage = self.lineage;
        self.for_each(|replica| replica.connected(lineage));
    }

    /// The application has another token: it takes the place of the connection's, and what was forbidden is tried
    /// again. Without a connection nothing is done; the next one is made with a token of its own.
    pub fn refresh(&mut self, token: String, now_ms: u64) {
        self.look_at_clock(now_ms);
        if !self.is_live() {
            return;
        }
        self.token = token.clone();
        self.plan_refresh(now_ms);
        self.say(&ClientMessage::Refresh { token });
        let lineage = self.lineage;
        self.for_each(|replica| replica.token_changed(lineage));
    }

    /// A clock that was set back takes with it all that was planned by it: otherwise a silent relay would not be asked,
    /// and a refused document not opened again, before the clock is where it was.
    fn look_at_clock(&mut self, now_ms: u64) {
        let back_ms = self.clock_ms.saturating_sub(now_ms);
        self.clock_ms = now_ms;
        if back_ms > 0 {
            let planned = [&mut self.asked_ms, &mut self.token_ms, &mut self.reopen_ms];
            let planned = planned.into_iter().flatten();
            for at in planned.chain([&mut self.heard_ms, &mut self.return_ms, &mut self.welcome_ms.1]) {
                *at = at.saturating_sub(back_ms);
            }
        }
    }

    fn plan_refresh(&mut self, now_ms: u64) {
        let (relay_ms, welcome_ms) = self.welcome_ms;
        let relay_now_ms = relay_ms.saturating_add(now_ms.saturating_sub(welcome_ms));
        self.token_ms = expires_ms(&self.token).map(|expires_ms| {
            let life_ms = expires_ms.saturating_sub(relay_now_ms);
            // A token that has no time left is not asked for as fast as it comes.
            now_ms.saturating_add(refresh_after_ms(&self.token, life_ms).max(1_000))
        });
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        self.connection = Connection::None;
        self.outgoing.clear();
        self.for_each(Replica::disconnected);
    }

    /// A frame came. What is wrong with it ends the connection, and nothing else.
    pub fn frame(&mut self, frame: Bytes, now_ms: u64) {
        self.look_at_clock(now_ms);
        if self.connection == Connection::None {
            return;
        }
        (self.heard_ms, self.asked_ms) = (now_ms, None);
        let messages = self.reassembly.take(frame).and_then(|whole| match whole {
            Some(whole) => RelayMessage::read_all(&whole),
            None => Ok(Vec::new()),
        });
        let outcome = messages
            .and_then(|messages| messages.into_iter().try_for_each(|message| self.message(message, now_ms)));
        if let Err(code) = outcome {
            self.effects.push(Effect::Close(Some(code)));
        }
    }

    fn message(&mut self, message: RelayMessage, now_ms: u64) -> Result<(), Code> {
        match message {
            RelayMessage::Welcome { lineage, time_ms, frame_bytes_max, .. } => {
                let frame_bytes_max = usize::try_from(frame_bytes_max).unwrap_or(FRAME_BYTES_MAX);
                self.connection = Connection::Live { frame_bytes_max: frame_bytes_max.min(FRAME_BYTES_MAX) };
                self.lineage = Some(lineage);
                self.welcome_ms = (time_ms, now_ms);
                self.plan_refresh(now_ms);
                self.for_each(|replica| replica.welcomed(lineage));
            }
            RelayMessage::Opened { channel, access, epoch, sequence, resume } => {
                self.on(channel, |replica| replica.opened(access, epoch, sequence, resume));
            }
            RelayMessage::Updates { channel, through, updates } => {
                self.on(channel, |replica| {
                    if let Err(code) = replica.received(through, updates) {
                        replica.refused(code);
                    }
                });
            }
            RelayMessage::Ack { channel, number, sequence } => {
                self.on(channel, |replica| replica.acknowledged(number, sequence));
            }
            RelayMessage::Need { channel, state_vector } => {
                self.on(channel, |replica| replica.needed(&state_vector));
            }
            RelayMessage::Refused { channel, number, code } => {
                self.on(channel, |replica| replica.push_refused(number, code));
                if code.is_transient() {
                    self.reopen_ms.get_or_insert(now_ms + REOPEN_AFTER_MS);
                }
            }
            RelayMessage::GoAway { after_ms } => {
                self.return_ms = now_ms.saturating_add(after_ms);
                self.effects.push(Effect::Close(None));
            }
            RelayMessage::Error { code, .. } => return Err(code),
            RelayMessage::Granted { .. } | RelayMessage::Pong { .. } => {}
        }
        Ok(())
    }

    /// Time has passed: asks a silent relay whether it is there, gives up on a lost one, and opens
    /// documents again that were refused for a while. To be called about once a second.
    pub fn tick(&mut self, now_ms: u64) {
        self.look_at_clock(now_ms);
        if self.connection == Connection::None {
            return;
        }
        // Between two calls a page may have slept: a silence means something only after a question.
        match self.asked_ms {
            Some(asked_ms) if now_ms.saturating_sub(asked_ms) >= LOST_AFTER_MS => {
                self.effects.push(Effect::Close(Some(Code::Timeout)));
            }
            None if now_ms.saturating_sub(self.heard_ms) >= PING_AFTER_MS => {
                self.asked_ms = Some(now_ms);
                self.say(&ClientMessage::Ping { nonce: 0 });
            }
            _ => {}
        }
        if self.is_live() && self.token_ms.is_some_and(|at| at <= now_ms) {
            self.token_ms = Some(now_ms.saturating_add(TOKEN_AFTER_MS));
            self.effects.push(Effect::Token);
        }
        if self.reopen_ms.is_some_and(|at| at <= now_ms) {
            self.reopen_ms = None;
            let lineage = self.lineage;
            self.for_each(|replica| {
                let is_tried_again = |code: Code| code.is_transient() || code == Code::ChannelsExceeded;
                if matches!(replica.link(), Link::Refused(code) if is_tried_again(code)) {
                    replica.open_again(lineage);
                }
            });
        }
    }

    /// Takes the effects so far: what to write in its order, what changed, then frames in their order.
    pub fn drain(&mut self) -> Vec<Effect> {
        for (id, ()) in std::mem::take(&mut self.changed).iter() {
            self.effects.push(Effect::Changed(ReplicaId(id)));
        }
        for (id, ()) in std::mem::take(&mut self.status).iter() {
            self.effects.push(Effect::Status(ReplicaId(id)));
        }
        self.flush();
        std::mem::take(&mut self.effects)
    }

    fn flush(&mut self) {
        if self.outgoing.is_empty() {
            return;
        }
        let frame_bytes_max = match self.connection {
            Connection::Live { frame_bytes_max } => frame_bytes_max,
            _ => FRAME_BYTES_MAX,
        };
        let frame = Bytes::from(std::mem::take(&mut self.outgoing));
        self.effects.extend(protocol::split(frame, frame_bytes_max).into_iter().map(Effect::Send));
    }

    fn say(&mut self, message: &ClientMessage) {
        if self.connection != Connection::None {
            let before = self.outgoing.len();
            message.write(&mut self.outgoing);
            // What is sent together fits into a frame, as a relay asks of the first one, or is a single message.
            if before > 0 && self.outgoing.len() > FRAME_BYTES_MAX {
                let last = self.outgoing.split_off(before);
                self.flush();
                self.outgoing = last;
            }
            // A frame's worth is enough.
            if self.outgoing.len() > FRAME_BYTES_MAX / 2 {
                self.flush();
            }
        }
    }

    /// Messages for a channel that was closed meanwhile are late, not wrong.
    fn on(&mut self, channel: u32, run: impl FnOnce(&mut Replica)) {
        self.with(ReplicaId(channel), run);
    }

    fn for_each(&mut self, mut run: impl FnMut(&mut Replica)) {
        let ids: Vec<ReplicaId> = self.replicas().map(|(id, _)| id).collect();
        for id in ids {
            self.with(id, &mut run);
        }
    }

    /// Takes up what a replica asks for.
    fn settle(&mut self, id: ReplicaId) {
        let Some(replica) = self.replicas.get_mut(id.0) else { return };
        for effect in replica.drain() {
            match effect {
                ReplicaEffect::Persist(persist) => self.effects.push(Effect::Persist(id, persist)),
                ReplicaEffect::Send(message) => self.say(&message),
                ReplicaEffect::Branch(code) => self.effects.push(Effect::Branch(id, code)),
                ReplicaEffect::Changed => self.changed.insert(id.0, ()),
                ReplicaEffect::Status => self.status.insert(id.0, ()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
