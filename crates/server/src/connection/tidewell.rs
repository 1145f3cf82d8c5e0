//! A client that speaks `tidewell.v1`: many documents on one socket.

use super::pace::Pace;
use super::socket::{Event, Frame, Intent, Socket};
use super::{End, rest_of, unshared};
use crate::authority::Pass;
use crate::catch_up::{CatchUp, catch_up};
use crate::connections::Registered;
use crate::limits::{
    HALF_MESSAGE_STEP_BYTES, HELLO_WITHIN, OUTGOING_BYTES_MAX, REPLIES_BYTES_MAX, SENT_FRAME_BYTES_MAX,
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
use std::collections::VecDeque;
use std::sync::Arc;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::limits::{CHANNELS_MAX, FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, UPDATE_BYTES_MAX};
use tidewell_sync_core::protocol::{
    Access, ClientMessage, Position, Reassembly, RelayMessage, Resume, VERSION, split,
};
use tidewell_sync_core::room::{Behind, MemberId, Outgoing, PushKind};
use tidewell_sync_core::state_vector::StateVector;

struct Connection {
    relay: Arc<Relay>,
    wake: Arc<Wake>,
    socket: Socket,
    channels: FxHashMap<u32, Channel>,
    reassembly: Reassembly,
    /// Messages that came and were not taken: one of them is for a tenant that has to wait.
    inbox: VecDeque<Bytes>,
    /// Messages that leave with the next batch.
    out: Vec<u8>,
    /// Members that are behind, and are read for when the catch-ups before them have left.
    behind: VecDeque<LeftBehind>,
    /// Large catch-ups, which leave part by part.
    catch_ups: VecDeque<PartsLeft>,
    /// Rooms that took more from this connection than the store has; it is not read meanwhile.
    full: Vec<Arc<RoomHandle>>,
    has_pushed: bool,
    pace: Pace,
    /// What its token allows; `None` before `Hello`.
    pass: Option<Pass>,
    /// Ends with the connection.
    registered: Registered,
}

/// A member that is to be brought up to date.
struct LeftBehind {
    channel: u32,
    room: Arc<RoomHandle>,
    member: MemberId,
    behind: Behind,
}

/// A member that is being brought up to date.
struct PartsLeft {
    channel: u32,
    room: Arc<RoomHandle>,
    member: MemberId,
    /// What the member knows until it has the last part.
    known: u64,
    ready: CatchUp,
    sent: usize,
    /// Bytes of the parts that are not sent.
    bytes_left: usize,
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
        inbox: VecDeque::new(),
        out: Vec::new(),
        behind: VecDeque::new(),
        catch_ups: VecDeque::new(),
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
            if let Err(end) = self.take_inbox().await {
                return end;
            }
            self.registered.holds(self.held_bytes());
            let waits_until = self.pace.waits_until(&self.relay.metrics);
            let may_read = waits_until.is_none() && self.may_read();
            let half_bytes = self.reassembly.bytes() + self.socket.half_bytes();
            let is_heard = may_read && half_bytes < HALF_MESSAGE_STEP_BYTES;
            let look_at = waits_until.into_iter().chain(self.pace.tells_at(is_heard)).min();
            let intent = Intent { may_read, has_more: self.has_more(), look_at };
            let event = self.socket.next(&self.wake, intent).await;
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

    /// What is kept for this client alone.
    fn held_bytes(&self) -> usize {
        let parts: usize = self.catch_ups.iter().map(|catch_up| catch_up.bytes_left).sum();
        let halves = self.reassembly.bytes() + self.socket.half_bytes();
        let inbox: usize = self.inbox.iter().map(Bytes::len).sum();
        inbox + self.out.len() + halves + self.socket.waiting_bytes() + parts
    }

    /// The token may have ended, or its key have been taken out.
    fn look_at_pass(&mut self) -> Result<(), End> {
        if let Some(code) = self.socket.passed_deadline() {
            return Err(code.into());
        }
        match &mut self.pass {
            Some(pass) => Ok(self.relay.authority.look_again(pass)?),
            None => Ok(()),
        }
    }

    fn has_more(&self) -> bool {
        !self.out.is_empty() || !self.catch_ups.is_empty() || !self.behind.is_empty()
    }

    /// Reading stops while the store is behind, or while the peer leaves our replies unread.
    fn may_read(&mut self) -> bool {
        self.full.retain(|room| room.is_full());
        let is_store_full = self.has_pushed && self.relay.writer.is_full();
        // Half a message costs the more the longer it gets.
        let half_bytes = self.reassembly.bytes() + self.socket.half_bytes();
        let is_held_back = half_bytes > 0 && self.registered.is_held_back();
        self.full.is_empty() && !is_store_full && !is_held_back && self.out.len() <= REPLIES_BYTES_MAX
    }

    async fn frame(&mut self, frame: Frame) -> Result<(), End> {
        let Frame::Binary(frame) = frame else { return Err(Code::InvalidFrame.into()) };
        self.pace.takes_bytes(&self.relay.rates, frame.len());
        match self.reassembly.take(frame)? {
            Some(messages) => {
                if self.inbox.is_empty() {
                    self.take(messages).await?;
                } else {
                    self.inbox.push_back(messages);
                }
                Ok(())
            }
            // Nobody has more than a frame kept before it is known who that is.
            None if self.pass.is_none() => Err(violation("a fragment came before Hello")),
            None => Ok(()),
        }
    }

    /// Takes what has waited, in its order.
    async fn take_inbox(&mut self) -> Result<(), End> {
        self.pace.waits_for(None);
        while let Some(messages) = self.inbox.pop_front() {
            self.take(messages).await?;
            if self.pace.is_for_tenant() {
                break;
            }
        }
        Ok(())
    }

    /// Takes messages up to a push for a tenant that has to wait.
    async fn take(&mut self, mut messages: Bytes) -> Result<(), End> {
        let whole = messages.len();
        loop {
            let before = messages.clone();
            let Some(message) = ClientMessage::take_first(&mut messages) else { return Ok(()) };
            let message = message?;
            if let Some(tenant) = self.waiting_tenant(&message) {
                self.pace.waits_for(Some(tenant));
                self.inbox.push_front(rest_of(whole, before));
                return Ok(());
            }
            self.message(message).await?;
        }
    }

    /// The tenant that a message has to wait for.
    fn waiting_tenant(&self, message: &ClientMessage) -> Option<Arc<Tenant>> {
        let (ClientMessage::Push { channel, update, .. } | ClientMessage::Have { channel, update, .. }) =
            message
        else {
            return None;
        };
        match self.channels.get(channel)? {
            Channel::Open { room, access: Access::Write, is_refused: false, .. } => {
                room.waiting_tenant(update).cloned()
            }
            _ => None,
        }
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
        Ok(self.relay.authority.look_again(self.pass.insert(pass))?)
    }

    /// Takes another token in place of the first. What is open may do more or less with it.
    fn refresh(&mut self, token: &str) -> Result<(), End> {
        let before = self.pass.take();
        self.admit(token)?;
        let Some(pass) = &self.pass else { return Ok(()) };
        if before.is_some_and(|before| before.subject() != pass.subject()) {
            return Err(End::Code(
                Code::InvalidToken,
                Cow::Borrowed("another subject needs a connection of its own"),
            ));
        }
        let changed = |(number, channel): (&u32, &Channel)| match channel {
            Channel::Open { room, access: before, .. } => {
                let access = pass.access(room.document());
                (access != Some(*before)).then_some((*number, access))
            }
            Channel::Waiting => None,
        };
        let mut changes: Vec<_> = self.channels.iter().filter_map(changed).collect();
        changes.sort_unstable_by_key(|(channel, _)| *channel);
        changes.into_iter().for_each(|(channel, access)| self.grant(channel, access));
        Ok(())
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
        let Some(access) = self.pass.as_ref().and_then(|pass| pass.access(&document)) else {
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
        Ok(())
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
            self.read_ahead().await;
            let Some(catch_up) = self.catch_ups.pop_front() else { break };
            bytes += self.send_part(catch_up);
        }
    }

    /// Reads for members that are behind until there is enough to send: what all of them lack together may be more
    /// than fits into memory.
    async fn read_ahead(&mut self) {
        let mut bytes: usize = self.catch_ups.iter().map(|catch_up| catch_up.bytes_left).sum();
        while bytes < OUTGOING_BYTES_MAX
            && let Some(LeftBehind { channel, room, member, behind }) = self.behind.pop_front()
        {
            if !self.is_here(channel, member) {
                continue;
            }
            let known = match &behind {
                Behind::After(sequence) => *sequence,
                Behind::StateVector(_) => 0,
            };
            match Box::pin(catch_up(&room, &self.relay.readers, behind)).await {
                Ok(ready) => {
                    let bytes_left = ready.parts.iter().map(Bytes::len).sum();
                    bytes += bytes_left;
                    self.catch_ups.push_back(PartsLeft {
                        channel,
                        room,
                        member,
                        known,
                        ready,
                        sent: 0,
                        bytes_left,
                    });
                }
                Err(error) => {
                    tracing::error!(document = %room.document(), %error, "a catch-up failed");
                    room.leave(member);
                    self.channels.insert(channel, Channel::Waiting);
                    self.refuse(channel, 0, Code::LoadFailed);
                }
            }
        }
    }

    /// True when the channel is open for this member; it may have been closed, and opened again for another.
    fn is_here(&self, channel: u32, member: MemberId) -> bool {
        matches!(self.channels.get(&channel), Some(Channel::Open { member: m, .. }) if *m == member)
    }

    /// Sends a member the next part; answers its size. Only the last part brings the member further.
    fn send_part(&mut self, mut catch_up: PartsLeft) -> usize {
        let PartsLeft { channel, member, .. } = catch_up;
        if !self.is_here(channel, member) {
            return 0;
        }
        let parts = &catch_up.ready.parts;
        let part = parts.get(catch_up.sent).cloned();
        catch_up.sent += 1;
        let bytes = part.as_ref().map_or(0, Bytes::len);
        catch_up.bytes_left = catch_up.bytes_left.saturating_sub(bytes);
        let is_last = catch_up.sent >= parts.len();
        let through =
            if is_last { catch_up.room.caught_up(member, catch_up.ready.through) } else { catch_up.known };
        if !is_last {
            self.catch_ups.push_back(catch_up);
        }
        match part {
            // What is shared is not copied; what is small is not worth a frame of its own.
            Some(part) if bytes > SENT_FRAME_BYTES_MAX => {
                self.write();
                self.socket.send_shared(RelayMessage::shared_update(channel, through, part));
            }
            part => {
                let updates = part.into_iter().collect();
                self.say(&RelayMessage::Updates { channel, through, updates });
            }
        }
        bytes
    }

    fn tell(&mut self, channel: u32, room: &Arc<RoomHandle>, member: MemberId, outgoing: Outgoing) {
        if let Some(ready) = outgoing.ready {
            let (through, updates) = (ready.through, ready.updates);
            self.say(&RelayMessage::Updates { channel, through, updates });
        }
        if let Some(behind) = outgoing.behind {
            self.behind.push_back(LeftBehind { channel, room: room.clone(), member, behind });
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
                self.inbox.clear();
                self.catch_ups.clear();
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
