//! A client that speaks `tidewell.v1`: many documents on one socket.

use super::catch_ups::{CatchUps, LeftBehind, Part};
use super::inbox::Inbox;
use super::pace::Pace;
use super::socket::{Event, Frame, Intent, Socket};
use super::{End, unshared};
use crate::authority::Pass;
use crate::connections::Registered;
use crate::limits::{
    CHANNEL_BYTES, COUNT_AGAIN_EVERY, HALF_MESSAGE_STEP_BYTES, HELLO_WITHIN, MESSAGES_AT_ONCE_MAX,
    OUTGOING_BYTES_MAX, REPLIES_BYTES_MAX, SENT_FRAME_BYTES_MAX,
};
use crate::meter::Meter;
use crate::quotas::Tenant;
use crate::relay::Relay;
use crate::room_handle::{JoinError, RoomHandle};
use crate::wake::Wake;
use crate::writer::now_ms;
use axum::extract::ws::WebSocket;
use bytes::Bytes;
use rustc_hash::FxHashMap;
use std::borrow::Cow;
use std::sync::Arc;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::limits::{CHANNELS_MAX, FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, UPDATE_BYTES_MAX};
use tidewell_sync_core::protocol::{
    Access, ClientMessage, Position, Reassembly, RelayMessage, Resume, VERSION, split,
};
use tidewell_sync_core::room::{MemberId, Outgoing, PushKind};
use tidewell_sync_core::state_vector::StateVector;
use tokio::task::yield_now;
use tokio::time::Instant;

struct Connection {
    relay: Arc<Relay>,
    wake: Arc<Wake>,
    socket: Socket,
    channels: FxHashMap<u32, Channel>,
    reassembly: Reassembly,
    inbox: Inbox,
    /// Messages that leave with the next batch.
    out: Vec<u8>,
    catch_ups: CatchUps,
    /// Rooms that took more from this connection than the store has; it is not read meanwhile.
    full: Vec<Arc<RoomHandle>>,
    has_pushed: bool,
    pace: Pace,
    /// What its token allows; `None` before `Hello`.
    pass: Option<Pass>,
    /// Ends with the connection.
    registered: Registered,
}

enum Channel {
    Open {
        room: Arc<RoomHandle>,
        member: MemberId,
        access: Access,
        /// A push was refused: what follows it builds on it and is not taken either.
        is_refused: bool,
        /// A question of the room that the client may not answer yet.
        unasked: Option<Box<StateVector>>,
    },
    /// It was refused or is to be opened again with a state vector. What is still on its way is dropped.
    Waiting,
}

/// Serves a connection to its end.
pub(crate) async fn serve(socket: WebSocket, meter: Meter, relay: Arc<Relay>, registered: Registered) {
    let wake = registered.wake().clone();
    let gauge = relay.metrics.connections_tidewell.clone();
    gauge.increment(1);
    let mut socket = Socket::new(socket, meter, relay.metrics.clone());
    socket.set_deadline(Some((HELLO_WITHIN, Code::Timeout)));
    let mut connection = Box::new(Connection {
        relay,
        wake,
        socket,
        channels: FxHashMap::default(),
        reassembly: Reassembly::default(),
        inbox: Inbox::default(),
        out: Vec::new(),
        catch_ups: CatchUps::default(),
        full: Vec::new(),
        has_pushed: false,
        pace: Pace::default(),
        pass: None,
        registered,
    });
    let end = connection.run().await;
    // Boxed: what is rare takes no place in the task of an idle connection.
    Box::pin(connection.finish(end)).await;
    gauge.decrement(1);
}

impl Connection {
    async fn run(&mut self) -> End {
        loop {
            if let Err(end) = self.take().await {
                return end;
            }
            self.registered.holds(self.held_bytes());
            self.wake.opens(self.channels.len() * CHANNEL_BYTES);
            let waits_until = self.pace.waits_until(&self.relay.metrics);
            let may_read = waits_until.is_none() && self.may_read();
            let half_bytes = self.reassembly.bytes() + self.socket.half_bytes();
            let is_heard = may_read && half_bytes < HALF_MESSAGE_STEP_BYTES;
            let goes_on = !self.inbox.is_empty() && self.may_take();
            if goes_on {
                // Others on this thread first.
                yield_now().await;
            }
            let is_shared = self.socket.is_shared() || self.catch_ups.is_shared();
            let counts_at = is_shared.then(|| Instant::now() + COUNT_AGAIN_EVERY);
            let looks = [waits_until, self.pace.tells_at(is_heard), counts_at];
            let look_at = looks.into_iter().flatten().min();
            let intent = Intent { may_read, has_more: self.has_more(), goes_on, look_at };
            let event = self.socket.next(&self.registered, intent).await;
            if let Err(end) = self.look_at_pass() {
                return end;
            }
            match event {
                Event::Frames(frames) => {
                    for frame in frames {
                        if let Err(end) = self.frame(frame).await {
                            return end;
                        }
                    }
                }
                Event::Free => {}
                Event::End(end) => return end,
            }
            let is_to_tell = !is_heard && self.pace.is_to_tell();
            if self.socket.is_flushed() {
                self.collect().await;
                if is_to_tell && self.out.is_empty() {
                    RelayMessage::Pong { nonce: 0 }.write(&mut self.out);
                }
                self.write();
            }
        }
    }

    /// What is kept for this client alone while it is on its way.
    fn held_bytes(&self) -> usize {
        let halves = self.reassembly.bytes() + self.socket.half_bytes();
        let leaving = self.out.len() + self.socket.waiting_bytes() + self.catch_ups.held_bytes();
        self.inbox.bytes() + halves + leaving
    }

    /// The token may have ended, its key have been taken out, or what it allows on a document be revoked.
    fn look_at_pass(&mut self) -> Result<(), End> {
        if let Some(code) = self.socket.passed_deadline() {
            return Err(code.into());
        }
        if let Some(pass) = &mut self.pass
            && self.relay.authority.look_again(pass)?
        {
            self.grant_anew();
        }
        Ok(())
    }

    /// There is more to write.
    fn has_more(&self) -> bool {
        !self.out.is_empty() || self.catch_ups.has_next(&self.registered)
    }

    /// Of what has come nothing is taken while it goes too fast, or while the peer leaves our replies unread.
    fn may_take(&self) -> bool {
        self.out.len() <= REPLIES_BYTES_MAX && !self.pace.has_to_wait()
    }

    /// Reading stops until what has come is taken, and while the store is behind.
    fn may_read(&mut self) -> bool {
        self.full.retain(|room| room.is_full());
        let is_store_full = self.has_pushed && self.relay.writer.is_full();
        // Half a message costs the more the longer it gets.
        let half_bytes = self.reassembly.bytes() + self.socket.half_bytes();
        let is_held_back = half_bytes > 0 && self.registered.is_held_back();
        let is_taken = self.inbox.is_empty() && self.may_take();
        is_taken && self.full.is_empty() && !is_store_full && !is_held_back
    }

    async fn frame(&mut self, frame: Frame) -> Result<(), End> {
        let Frame::Binary(frame) = frame else { return Err(Code::InvalidFrame.into()) };
        self.pace.takes_bytes(&self.relay.rates, frame.len());
        match self.reassembly.take(frame)? {
            Some(messages) => {
                self.inbox.push(messages);
                // Until it is known who that is nothing else counts. Then each look takes a bounded number.
                if self.pass.is_none() { self.take().await } else { Ok(()) }
            }
            // Nobody has more than a frame kept before it is known who that is.
            None if self.pass.is_none() => Err(violation("a fragment came before Hello")),
            None => Ok(()),
        }
    }

    /// Takes what has come, up to what has to wait, and not so much that others do.
    async fn take(&mut self) -> Result<(), End> {
        for _ in 0..MESSAGES_AT_ONCE_MAX {
            if self.inbox.is_empty() || !self.may_take() {
                break;
            }
            let mut tenant = None;
            let message = self.inbox.take(ClientMessage::take_first, |message| {
                tenant = waiting_tenant(&self.channels, message);
                tenant.is_some()
            })?;
            self.pace.waits_for(tenant.as_deref());
            let Some(message) = message else { break };
            self.message(message).await?;
        }
        Ok(())
    }

    async fn message(&mut self, message: ClientMessage) -> Result<(), End> {
        match message {
            ClientMessage::Open { .. } | ClientMessage::Push { .. } | ClientMessage::Have { .. } => {
                self.pace.takes_updates(&self.relay.rates, 1);
            }
            ClientMessage::Refresh { .. } => self.pace.takes_refresh(&self.relay.rates),
            _ => {}
        }
        match message {
            ClientMessage::Hello { version, token } => self.hello(version, &token),
            _ if self.pass.is_none() => Err(violation("the first message must be Hello")),
            ClientMessage::Open { channel, document, position } => {
                self.open(channel, document, position).await
            }
            ClientMessage::Close { channel } => {
                if let Some(Channel::Open { room, member, .. }) = self.channels.remove(&channel) {
                    room.leave(member);
                    // It wakes this connection no more: nobody would look again when it has caught up.
                    self.full.retain(|full| !Arc::ptr_eq(full, &room));
                }
                Ok(())
            }
            ClientMessage::Push { channel, number, update } => {
                self.push(channel, PushKind::Edit, number, update)
            }
            ClientMessage::Have { channel, number, update } => {
                self.push(channel, PushKind::Answer, number, update)
            }
            ClientMessage::Ping { nonce } => {
                RelayMessage::Pong { nonce }.write(&mut self.out);
                Ok(())
            }
            ClientMessage::Refresh { token } => self.refresh(&token),
        }
    }

    fn hello(&mut self, version: u64, token: &str) -> Result<(), End> {
        if self.pass.is_some() {
            return Err(violation("Hello came twice"));
        }
        if version != VERSION {
            return Err(Code::UnsupportedVersion.into());
        }
        self.admit(token)?;
        self.registered.has_joined();
        let size = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        let welcome = RelayMessage::Welcome {
            lineage: self.relay.lineage,
            time_ms: now_ms(),
            frame_bytes_max: size(FRAME_BYTES_MAX),
            update_bytes_max: size(UPDATE_BYTES_MAX),
        };
        welcome.write(&mut self.out);
        Ok(())
    }

    fn admit(&mut self, token: &str) -> Result<(), End> {
        let pass = self.relay.authority.admit(token)?;
        self.socket.set_deadline(pass.ends_in().map(|within| (within, Code::TokenExpired)));
        if let Err(full) = self.registered.belongs_to(pass.session()) {
            return Err(full.counted(&self.relay.metrics));
        }
        // It may have been revoked while nobody knew that it was here.
        self.relay.authority.look_again(self.pass.insert(pass))?;
        Ok(())
    }

    /// Takes another token in place of the first. What is open may do more or less with it.
    fn refresh(&mut self, token: &str) -> Result<(), End> {
        let before = self.pass.take();
        self.admit(token)?;
        if before.as_ref().and_then(Pass::subject) != self.pass.as_ref().and_then(Pass::subject) {
            return Err(End::Code(
                Code::InvalidToken,
                Cow::Borrowed("another subject needs a connection of its own"),
            ));
        }
        self.grant_anew();
        Ok(())
    }

    /// Tells of each open channel that may do more or less than before.
    fn grant_anew(&mut self) {
        let Some(pass) = &self.pass else { return };
        let changed = |(number, channel): (&u32, &Channel)| match channel {
            Channel::Open { room, access: before, .. } => {
                let access = self.relay.authority.access(pass, room.document());
                (access != Some(*before)).then_some((*number, access))
            }
            Channel::Waiting => None,
        };
        let mut changes: Vec<_> = self.channels.iter().filter_map(changed).collect();
        changes.sort_unstable_by_key(|(channel, _)| *channel);
        changes.into_iter().for_each(|(channel, access)| self.grant(channel, access));
    }

    /// What a channel may do from now on.
    fn grant(&mut self, channel: u32, granted: Option<Access>) {
        let Some(Channel::Open { room, member, access, unasked, .. }) = self.channels.get_mut(&channel)
        else {
            return;
        };
        let Some(granted) = granted else {
            room.leave(*member);
            // As after `Close`: it wakes this connection no more.
            self.full.retain(|full| !Arc::ptr_eq(full, room));
            self.channels.insert(channel, Channel::Waiting);
            return self.refuse(channel, 0, Code::Forbidden);
        };
        *access = granted;
        let question = if granted == Access::Write { unasked.take() } else { None };
        RelayMessage::Granted { channel, access: granted }.write(&mut self.out);
        if let Some(state_vector) = question {
            RelayMessage::Need { channel, state_vector: *state_vector }.write(&mut self.out);
        }
    }

    async fn open(&mut self, channel: u32, document: DocumentName, position: Position) -> Result<(), End> {
        if let Some(Channel::Open { .. }) = self.channels.get(&channel) {
            return Err(violation("a channel was opened twice"));
        }
        if self.channels.len() >= CHANNELS_MAX && !self.channels.contains_key(&channel) {
            self.refuse(channel, 0, Code::ChannelsExceeded);
            return Ok(());
        }
        let access = self.pass.as_ref().and_then(|pass| self.relay.authority.access(pass, &document));
        let Some(access) = access else {
            self.channels.insert(channel, Channel::Waiting);
            self.refuse(channel, 0, Code::Forbidden);
            return Ok(());
        };
        let entry = loop {
            let room = match self.relay.rooms.open(&document).await {
                Ok(room) => room,
                Err(Code::Overloaded) if !self.has_open_channels() => {
                    return Err(End::Away { code: Code::Overloaded, after_ms: self.relay.rooms.return_ms() });
                }
                Err(code) => {
                    self.refuse(channel, 0, code);
                    break Channel::Waiting;
                }
            };
            match room.join(position.clone(), self.wake.clone(), channel) {
                Ok(joined) => {
                    self.opened(channel, access, joined.epoch, joined.sequence, Resume::Continues);
                    let member = joined.member;
                    break Channel::Open { room, member, access, is_refused: false, unasked: None };
                }
                Err(JoinError::NeedsStateVector { epoch, sequence }) => {
                    self.opened(channel, access, epoch, sequence, Resume::NeedsStateVector);
                    break Channel::Waiting;
                }
                Err(JoinError::Evicted) => {}
            }
        };
        self.channels.insert(channel, entry);
        // It may have been revoked while the room did not know of this connection.
        self.look_at_pass()
    }

    fn has_open_channels(&self) -> bool {
        self.channels.values().any(|channel| matches!(channel, Channel::Open { .. }))
    }

    fn opened(&mut self, channel: u32, access: Access, epoch: u64, sequence: u64, resume: Resume) {
        let opened = RelayMessage::Opened { channel, access, epoch, sequence, resume };
        opened.write(&mut self.out);
    }

    fn refuse(&mut self, channel: u32, number: u64, code: Code) {
        self.relay.metrics.refused(code);
        RelayMessage::Refused { channel, number, code }.write(&mut self.out);
    }

    fn push(&mut self, channel: u32, kind: PushKind, number: u64, update: Bytes) -> Result<(), End> {
        let Some(entry) = self.channels.get_mut(&channel) else {
            return Err(violation("a push came on a channel that was never opened"));
        };
        let Channel::Open { room, member, access, is_refused: is_refused @ false, .. } = entry else {
            return Ok(());
        };
        if *access != Access::Write {
            *is_refused = true;
            self.refuse(channel, number, Code::Forbidden);
            return Ok(());
        }
        match room.push(*member, kind, Some(number), &unshared(update)) {
            Ok(()) => {
                self.relay.metrics.updates.increment(1);
                self.has_pushed = true;
                if room.is_full() && !self.full.iter().any(|full| Arc::ptr_eq(full, room)) {
                    self.full.push(room.clone());
                }
            }
            Err(error) => {
                *is_refused = true;
                tracing::debug!(document = %room.document(), %error, "an update was refused");
                self.refuse(channel, number, error.code());
            }
        }
        Ok(())
    }

    /// Asks each marked room what to tell the client, until there is enough to write.
    async fn collect(&mut self) {
        let mut marked = self.wake.take().into_iter();
        for channel in marked.by_ref() {
            let Some(Channel::Open { room, member, .. }) = self.channels.get(&channel) else { continue };
            let (room, member) = (room.clone(), *member);
            let outgoing = room.collect(member);
            self.tell(channel, &room, member, outgoing);
            if self.out.len() >= OUTGOING_BYTES_MAX {
                break;
            }
        }
        self.wake.put_back(marked);
        let mut bytes = self.out.len();
        while bytes < OUTGOING_BYTES_MAX {
            let is_here = |left: &LeftBehind| is_here(&self.channels, left);
            match self.catch_ups.next(&self.relay.readers, &self.registered, is_here).await {
                Some(Ok(part)) => {
                    bytes += part.bytes();
                    self.send_part(part);
                }
                Some(Err(LeftBehind { channel, room, member })) => {
                    room.leave(member);
                    self.channels.insert(channel, Channel::Waiting);
                    self.refuse(channel, 0, Code::LoadFailed);
                }
                None => break,
            }
        }
    }

    fn send_part(&mut self, Part { channel, through, update, owner }: Part) {
        match update {
            // What is shared is not copied; what is small is not worth a frame of its own.
            Some(update) if update.len() > SENT_FRAME_BYTES_MAX => {
                self.write();
                self.socket.send_shared(RelayMessage::shared_update(channel, through, update), owner);
            }
            update => {
                let updates = update.into_iter().collect();
                self.say(&RelayMessage::Updates { channel, through, updates });
            }
        }
    }

    fn tell(&mut self, channel: u32, room: &Arc<RoomHandle>, member: MemberId, outgoing: Outgoing) {
        if let Some(ready) = outgoing.ready {
            let (through, updates) = (ready.through, ready.updates);
            self.say(&RelayMessage::Updates { channel, through, updates });
        }
        if let Some(behind) = outgoing.behind {
            self.catch_ups.push(LeftBehind { channel, room: room.clone(), member }, behind);
        }
        if let Some(ack) = outgoing.ack {
            let (number, sequence) = (ack.number(), ack.sequence());
            RelayMessage::Ack { channel, number, sequence }.write(&mut self.out);
        }
        if let Some(state_vector) = outgoing.need {
            // Whoever may not write is not asked: the answer would be refused.
            if let Some(Channel::Open { access, unasked, .. }) = self.channels.get_mut(&channel)
                && *access != Access::Write
            {
                *unasked = Some(Box::new(state_vector));
                return;
            }
            RelayMessage::Need { channel, state_vector }.write(&mut self.out);
        }
    }

    /// Adds a message to what leaves next. What leaves together is put together again by the peer, so it
    /// must not be larger than the largest message.
    fn say(&mut self, message: &RelayMessage) {
        let before = self.out.len();
        message.write(&mut self.out);
        if before > 0 && self.out.len() > MESSAGE_BYTES_MAX {
            let last = self.out.split_off(before);
            self.write();
            self.out = last;
        }
    }

    /// Puts all messages into the socket's batch.
    fn write(&mut self) {
        if !self.out.is_empty() {
            let messages = Bytes::from(std::mem::take(&mut self.out));
            split(messages, SENT_FRAME_BYTES_MAX).into_iter().for_each(|frame| self.socket.send(frame));
        }
    }

    async fn finish(mut self: Box<Self>, end: End) {
        match end {
            // What became durable meanwhile is still told.
            End::Away { code: Code::ShuttingDown, .. } => self.collect().await,
            End::Away { .. } => {
                self.reassembly = Reassembly::default();
                self.inbox = Inbox::default();
                self.catch_ups = CatchUps::default();
                self.registered.holds(self.held_bytes());
            }
            _ => {}
        }
        for channel in std::mem::take(&mut self.channels).into_values() {
            if let Channel::Open { room, member, .. } = channel {
                room.leave(member);
            }
        }
        match end {
            End::Gone => self.socket.ended().await,
            End::Code(code, message) => {
                self.relay.metrics.refused(code);
                let message = message.into_owned();
                RelayMessage::Error { code, message }.write(&mut self.out);
                self.write();
                self.socket.close([], code).await;
            }
            End::Away { code, after_ms } => {
                if code == Code::Overloaded {
                    self.relay.metrics.refused(code);
                }
                RelayMessage::GoAway { after_ms }.write(&mut self.out);
                self.write();
                self.socket.close([], code).await;
            }
        }
    }
}

/// True when the channel is open for this member; it may have been closed, and opened again for another.
fn is_here(channels: &FxHashMap<u32, Channel>, left: &LeftBehind) -> bool {
    matches!(channels.get(&left.channel), Some(Channel::Open { member, .. }) if *member == left.member)
}

/// The tenant that a message has to wait for.
fn waiting_tenant(channels: &FxHashMap<u32, Channel>, message: &ClientMessage) -> Option<Arc<Tenant>> {
    let (ClientMessage::Push { channel, update, .. } | ClientMessage::Have { channel, update, .. }) = message
    else {
        return None;
    };
    match channels.get(channel)? {
        Channel::Open { room, access: Access::Write, is_refused: false, .. } => {
            room.waiting_tenant(update).cloned()
        }
        _ => None,
    }
}

fn violation(what: &'static str) -> End {
    End::Code(Code::ProtocolViolation, Cow::Borrowed(what))
}

/// Tells a page of a foreign origin so; nothing is read from it.
pub(crate) async fn refuse(socket: WebSocket, relay: Arc<Relay>, code: Code) {
    relay.metrics.refused(code);
    let mut out = Vec::new();
    RelayMessage::Error { code, message: code.help().to_owned() }.write(&mut out);
    Socket::new(socket, Meter::default(), relay.metrics.clone()).close([Bytes::from(out)], code).await;
}

/// Tells a client when to come back; nothing is read from it.
pub(crate) async fn send_away(socket: WebSocket, relay: Arc<Relay>, after_ms: u64) {
    relay.metrics.refused(Code::Overloaded);
    let mut out = Vec::new();
    RelayMessage::GoAway { after_ms }.write(&mut out);
    Socket::new(socket, Meter::default(), relay.metrics.clone())
        .close([Bytes::from(out)], Code::Overloaded)
        .await;
}
