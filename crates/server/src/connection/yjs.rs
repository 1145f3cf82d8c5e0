//! A stock y-websocket client: one document on one socket, each message in a frame of its own.

use super::inbox::Inbox;
use super::pace::Pace;
use super::socket::{Event, Frame, Intent, Socket};
use super::{End, unshared};
use crate::authority::Pass;
use crate::catch_up::{CatchUpError, Owner, catch_up};
use crate::connections::Registered;
use crate::limits::{COUNT_AGAIN_EVERY, HALF_MESSAGE_STEP_BYTES, MESSAGES_AT_ONCE_MAX, QUESTION_UPDATES};
use crate::meter::Meter;
use crate::metrics::Limit;
use crate::pace::Bucket;
use crate::relay::Relay;
use crate::room_handle::RoomHandle;
use crate::tickets::Ticket;
use crate::wake::Wake;
use axum::extract::ws::WebSocket;
use bytes::Bytes;
use std::sync::Arc;
use tidewell_sync_core::awareness;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::protocol::Access;
use tidewell_sync_core::room::{Behind, MemberId, Outgoing, PushKind};
use tidewell_sync_core::update::EMPTY;
use tidewell_sync_core::y_protocol::YMessage;
use tokio::task::yield_now;
use tokio::time::Instant;

/// The only channel.
const CHANNEL: u32 = 0;

/// Presence of nobody: what a client that is not heard now hears, so that it does not give the relay up.
const NOBODY: &[u8] = &[0];

struct Connection {
    relay: Arc<Relay>,
    wake: Arc<Wake>,
    socket: Socket,
    room: Arc<RoomHandle>,
    member: MemberId,
    access: Access,
    pass: Pass,
    has_pushed: bool,
    pace: Pace,
    inbox: Inbox,
    presence: Bucket,
    /// Others have not been told the newest presence.
    has_untold_presence: bool,
    /// What the client has, until it may be brought up to date.
    behind: Option<Behind>,
    /// The client's question is answered as soon as it has been sent everything up to here: then it counts itself as
    /// synced.
    answers_at: Option<u64>,
    /// Ends with the connection.
    registered: Registered,
}

/// Serves a connection to its end.
pub(crate) async fn serve(
    socket: WebSocket,
    meter: Meter,
    relay: Arc<Relay>,
    ticket: Ticket,
    registered: Registered,
) {
    let Ticket { document, access, pass } = ticket;
    let wake = registered.wake().clone();
    let gauge = relay.metrics.connections_yjs.clone();
    let mut socket = Socket::new(socket, meter, relay.metrics.clone());
    if let Err(full) = registered.belongs_to(pass.session()) {
        full.counted(&relay.metrics);
        relay.metrics.refused(Code::Overloaded);
        return socket.close([], Code::Overloaded).await;
    }
    let (room, member) = loop {
        match relay.rooms.open(&document).await {
            Err(code) => {
                relay.metrics.refused(code);
                return socket.close([], code).await;
            }
            Ok(room) => {
                if let Ok(joined) = room.join_stock(wake.clone(), CHANNEL) {
                    break (room, joined.member);
                }
            }
        }
    };
    gauge.increment(1);
    registered.has_joined();
    socket.set_deadline(pass.ends_in().map(|within| (within, Code::TokenExpired)));
    let mut connection = Box::new(Connection {
        relay,
        wake,
        socket,
        room,
        member,
        access,
        pass,
        has_pushed: false,
        pace: Pace::default(),
        inbox: Inbox::default(),
        presence: Bucket::default(),
        has_untold_presence: false,
        behind: None,
        answers_at: None,
        registered,
    });
    let end = connection.run().await;
    connection.room.leave(member);
    // Boxed: what is rare takes no place in the task of an idle connection.
    Box::pin(connection.finish(end)).await;
    gauge.decrement(1);
}

impl Connection {
    async fn run(&mut self) -> End {
        loop {
            if let Err(end) = self.take() {
                return end;
            }
            let held_bytes = self.inbox.bytes() + self.socket.half_bytes() + self.socket.waiting_bytes();
            self.registered.holds(held_bytes);
            let waits_until = self.pace.waits_until(&self.relay.metrics);
            let may_read = waits_until.is_none() && self.may_read();
            let is_short = self.socket.half_bytes() < HALF_MESSAGE_STEP_BYTES;
            let is_heard = may_read && is_short && self.behind.is_none();
            let goes_on = !self.inbox.is_empty() && !self.pace.has_to_wait();
            if goes_on {
                // Others on this thread first.
                yield_now().await;
            }
            let counts_at = self.socket.is_shared().then(|| Instant::now() + COUNT_AGAIN_EVERY);
            let looks = [waits_until, counts_at, self.tell_presence(), self.pace.tells_at(is_heard)];
            let look_at = looks.into_iter().flatten().min();
            let intent = Intent { may_read, has_more: self.may_catch_up(), goes_on, look_at };
            let event = self.socket.next(&self.registered, intent).await;
            if let Err(end) = self.look_at_pass() {
                return end;
            }
            match event {
                Event::Frames(frames) => {
                    if let Err(end) = frames.into_iter().try_for_each(|frame| self.frame(frame)) {
                        return end;
                    }
                }
                Event::Free => {}
                Event::End(end) => return end,
            }
            if !is_heard && self.pace.is_to_tell() && self.socket.is_flushed() {
                self.send(YMessage::Awareness(Bytes::from_static(NOBODY)));
            }
            if self.socket.is_flushed()
                && let Err(end) = self.collect().await
            {
                return end;
            }
        }
    }

    /// The token may have ended, its key have been taken out, or what it allows on the document be revoked.
    fn look_at_pass(&mut self) -> Result<(), End> {
        if let Some(code) = self.socket.passed_deadline() {
            return Err(code.into());
        }
        let authority = &self.relay.authority;
        if authority.look_again(&mut self.pass)?
            && authority.access(&self.pass, self.room.document()).is_none()
        {
            // Transient: a page that has a newer token brings a ticket of that.
            return Err(Code::TokenExpired.into());
        }
        Ok(())
    }

    /// Reading stops until what has come is taken, and while the store is behind.
    fn may_read(&self) -> bool {
        let is_store_full = self.has_pushed && (self.relay.writer.is_full() || self.room.is_full());
        // Half a message costs the more the longer it gets.
        let is_held_back = self.socket.half_bytes() > 0 && self.registered.is_held_back();
        self.inbox.is_empty() && !is_store_full && !is_held_back
    }

    /// The client is to be brought up to date now. What nobody may make the relay keep waits; the connection is nudged when
    /// it may.
    fn may_catch_up(&self) -> bool {
        self.behind.is_some() && !self.registered.is_held_back()
    }

    /// Has others told what was held back, or answers when they may be.
    fn tell_presence(&mut self) -> Option<Instant> {
        if !self.has_untold_presence {
            return None;
        }
        let now = Instant::now();
        let later = self.presence.free_at(now);
        if later.is_none() {
            self.has_untold_presence = false;
            self.presence.take(self.relay.rates.presence, 1, now);
            self.room.tell_awareness();
        }
        later
    }

    /// Takes what a client says of presence. The newest is kept at once, and others are told as often as they may be.
    fn awareness(&mut self, update: &Bytes) -> Result<(), End> {
        let entries = awareness::decode(update)?;
        if self.room.awareness(self.member, entries) {
            let had_untold = std::mem::replace(&mut self.has_untold_presence, true);
            if self.tell_presence().is_some() && !had_untold {
                self.relay.metrics.hit(Limit::Presence);
            }
        }
        Ok(())
    }

    fn frame(&mut self, frame: Frame) -> Result<(), End> {
        let Frame::Binary(frame) = frame else { return Err(Code::InvalidFrame.into()) };
        self.pace.takes_bytes(&self.relay.rates, frame.len());
        self.inbox.push(frame);
        Ok(())
    }

    /// Takes what has come, up to what has to wait, and not so much that others do.
    fn take(&mut self) -> Result<(), End> {
        for _ in 0..MESSAGES_AT_ONCE_MAX {
            if self.inbox.is_empty() || self.pace.has_to_wait() {
                break;
            }
            let mut tenant = None;
            let message = self.inbox.take(YMessage::take_first, |message| {
                if let YMessage::SyncStep2(update) | YMessage::Update(update) = message
                    && self.access == Access::Write
                {
                    tenant = self.room.waiting_tenant(update).cloned();
                }
                tenant.is_some()
            })?;
            self.pace.waits_for(tenant.as_deref());
            let Some(message) = message else { break };
            self.message(message)?;
        }
        Ok(())
    }

    fn message(&mut self, message: YMessage) -> Result<(), End> {
        match message {
            YMessage::SyncStep1(vector) => {
                self.pace.takes_updates(&self.relay.rates, QUESTION_UPDATES);
                self.room.asked(self.member, vector);
            }
            YMessage::SyncStep2(update) => self.push(PushKind::Answer, update)?,
            YMessage::Update(update) => self.push(PushKind::Edit, update)?,
            // Every stock client tells of its presence as soon as it is there: that is no reason to send a reader away.
            YMessage::Awareness(_) if self.access == Access::Read => {}
            YMessage::Awareness(update) => self.awareness(&update)?,
            YMessage::QueryAwareness => self.room.query_awareness(self.member),
            YMessage::Auth(_) => {}
        }
        Ok(())
    }

    fn push(&mut self, kind: PushKind, update: Bytes) -> Result<(), End> {
        self.pace.takes_updates(&self.relay.rates, 1);
        if self.access != Access::Write {
            // An answer that has nothing to say is no edit.
            return if update == EMPTY { Ok(()) } else { Err(Code::Forbidden.into()) };
        }
        let pushed = self.room.push(self.member, kind, None, &unshared(update));
        pushed.map_err(|error| End::Code(error.code(), error.to_string().into()))?;
        self.relay.metrics.updates.increment(1);
        self.has_pushed = true;
        Ok(())
    }

    async fn collect(&mut self) -> Result<(), End> {
        // The mark is taken whatever has to wait: as long as it is there the socket has something to do.
        let is_marked = !self.wake.take().is_empty();
        if is_marked {
            self.collect_updates();
        }
        if self.may_catch_up()
            && let Some(behind) = self.behind.take()
        {
            self.bring_up_to_date(behind).await?;
        }
        if is_marked {
            let news = self.room.collect_awareness(self.member);
            news.into_iter().for_each(|update| self.send(YMessage::Awareness(update.into())));
        }
        Ok(())
    }

    fn collect_updates(&mut self) {
        let Outgoing { ready, behind, ack: _, need } = self.room.collect(self.member);
        // First, as stock relays do: the answer and what it asks for cross on the way.
        // Whoever may not write is not asked: the answer would be refused.
        if let Some(vector) = need.filter(|_| self.access == Access::Write) {
            self.send(YMessage::SyncStep1(vector));
        }
        if let Some(ready) = ready {
            ready.updates.into_iter().for_each(|update| self.send(YMessage::Update(update)));
            self.was_sent(ready.through);
        }
        // Whoever asks again is answered once.
        self.behind = behind.or(self.behind.take());
    }

    /// Sends the parts as updates; the last one as the answer, if it was asked for and nothing was committed since the
    /// parts were made.
    async fn bring_up_to_date(&mut self, behind: Behind) -> Result<(), End> {
        let is_answer = matches!(behind, Behind::StateVector(_));
        let reading = catch_up(&self.room, &self.relay.readers, &self.registered, &behind);
        let ready = match Box::pin(reading).await {
            Ok(ready) => ready,
            Err(CatchUpError::HeldBack) => {
                self.behind = Some(behind);
                return Ok(());
            }
            Err(error) => {
                tracing::error!(document = %self.room.document(), %error, "a catch-up failed");
                return Err(Code::LoadFailed.into());
            }
        };
        let through = self.room.caught_up(self.member, ready.through);
        let (mut parts, owner) = (ready.parts.iter().cloned(), ready.owner);
        if is_answer {
            // The parts are shared and may be of a moment ago. What was committed since comes before the answer too, or
            // the client would believe that it has everything.
            let sequence = self.room.sequence();
            self.answers_at = (sequence > through).then_some(sequence);
            if self.answers_at.is_none() {
                let last = parts.next_back().unwrap_or_else(|| Bytes::from_static(EMPTY));
                parts.for_each(|part| self.socket.send_stock(YMessage::Update(part), owner.clone()));
                self.socket.send_stock(YMessage::SyncStep2(last), owner);
                return Ok(());
            }
        }
        parts.for_each(|part| self.socket.send_stock(YMessage::Update(part), owner.clone()));
        self.was_sent(through);
        Ok(())
    }

    /// The client has been sent everything up to `through`.
    fn was_sent(&mut self, through: u64) {
        if self.answers_at.take_if(|sequence| *sequence <= through).is_some() {
            self.send(YMessage::SyncStep2(Bytes::from_static(EMPTY)));
        }
    }

    async fn finish(mut self: Box<Self>, end: End) {
        match end {
            End::Gone => self.socket.ended().await,
            End::Code(code, message) => {
                let document = self.room.document();
                tracing::debug!(%document, %code, %message, "a y-websocket client is sent away");
                self.relay.metrics.refused(code);
                self.socket.close([], code).await;
            }
            End::Away { code, .. } => self.socket.close([], code).await,
        }
    }

    /// Sends what is small, or everybody's.
    fn send(&mut self, message: YMessage) {
        self.socket.send_stock(message, Owner::Everybody);
    }
}

/// Tells a client at once why it cannot be served.
pub(crate) async fn refuse(socket: WebSocket, relay: Arc<Relay>, code: Code) {
    relay.metrics.refused(code);
    Socket::new(socket, Meter::default(), relay.metrics.clone()).close([], code).await;
}
