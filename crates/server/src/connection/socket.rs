//! A WebSocket that is read while it is written.
//!
//! One batch is on its way out at a time. While the peer is slow to take it the socket is still read, so
//! that two ends with full buffers do not wait for each other.

use super::End;
use crate::catch_up::Owner;
use crate::connections::Registered;
use crate::limits::{
    CLOSE_WITHIN, FRAMES_AT_ONCE_BYTES, FRAMES_AT_ONCE_MAX, HALF_MESSAGE_STEP_BYTES, PING_AFTER,
    SENT_FRAME_BYTES_MAX, SILENCE_MAX,
};
use crate::meter::Meter;
use crate::metrics::Metrics;
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures_util::{Sink, StreamExt};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::protocol::SharedMessage;
use tidewell_sync_core::y_protocol::YMessage;
use tokio::time::{Instant, Sleep, sleep_until};

/// What happened on a socket.
pub(super) enum Event {
    /// Frames came, in this order.
    Frames(Vec<Frame>),
    /// Rooms have something to collect, or the relay wants to be heard, and nothing is on its way out. Or half a message
    /// has grown, or there is more to take.
    Free,
    /// The connection ends.
    End(End),
}

/// What the connection wants of its socket.
#[derive(Clone, Copy)]
pub(super) struct Intent {
    /// Frames are to be read.
    pub(super) may_read: bool,
    /// There is more to write as soon as the batch is out.
    pub(super) has_more: bool,
    /// There is more to take of what has come.
    pub(super) goes_on: bool,
    /// The connection looks again then, whatever happens.
    pub(super) look_at: Option<Instant>,
}

pub(super) enum Frame {
    Binary(Bytes),
    Text,
}

/// What waits to be written.
enum Outgoing {
    Frame(Bytes),
    /// Becomes frames one at a time.
    Shared(SharedMessage, Owner),
    /// Becomes a frame when its turn comes: until then its bytes may be shared.
    Stock(YMessage, Owner),
}

impl Outgoing {
    /// Bytes of its largest frame.
    fn frame_bytes(&self) -> usize {
        match self {
            Outgoing::Frame(frame) => frame.len(),
            Outgoing::Shared(message, _) => message.bytes().min(SENT_FRAME_BYTES_MAX),
            Outgoing::Stock(message, _) => message.bytes(),
        }
    }
}

/// Bytes before the payload of a client's ping, pong or close: two, and the mask.
const CONTROL_HEAD_BYTES: usize = 6;

pub(super) struct Socket {
    socket: WebSocket,
    outgoing: VecDeque<Outgoing>,
    is_flushed: bool,
    /// The peer takes what is written more slowly than it comes.
    is_blocked: bool,
    /// A ping was sent and nothing has come since.
    is_pinged: bool,
    heard_at: Instant,
    timer: Pin<Box<Sleep>>,
    /// For [`Intent::look_at`]; few connections ever have one.
    pause: Option<Pin<Box<Sleep>>>,
    /// Then the connection ends with this code.
    deadline: Option<(Instant, Code)>,
    /// How reading ended; what came before is taken first.
    end: Option<End>,
    /// The peer broke the rules of WebSockets, for which this is the close code.
    violation: Option<u16>,
    meter: Meter,
    /// What the meter said when the last message was whole, and what came since that is no part of one.
    whole_at: usize,
    /// The connection knows that half a message has so many bytes.
    known_half_bytes: usize,
    /// What the longest message of a stock client takes beyond other frames: it is one frame, for which tungstenite keeps a
    /// buffer for as long as the connection lives.
    long_frame_bytes: usize,
    metrics: Arc<Metrics>,
}

impl Socket {
    pub(super) fn new(socket: WebSocket, meter: Meter, metrics: Arc<Metrics>) -> Self {
        let (now, whole_at) = (Instant::now(), meter.bytes());
        Socket {
            socket,
            outgoing: VecDeque::new(),
            is_flushed: true,
            is_blocked: false,
            is_pinged: false,
            heard_at: now,
            timer: Box::pin(sleep_until(now + PING_AFTER)),
            pause: None,
            deadline: None,
            end: None,
            violation: None,
            meter,
            whole_at,
            known_half_bytes: 0,
            long_frame_bytes: 0,
            metrics,
        }
    }

    /// Ends the connection with a code after a time; `None` lifts it.
    pub(super) fn set_deadline(&mut self, deadline: Option<(Duration, Code)>) {
        // A time that no clock reaches is none.
        self.deadline = deadline.and_then(|(within, code)| Some((Instant::now().checked_add(within)?, code)));
        let next = self.heard_at + PING_AFTER;
        self.timer.as_mut().reset(self.deadline.map_or(next, |(deadline, _)| deadline.min(next)));
    }

    /// The code of a deadline that has passed. Whoever sends without a pause is told here, not by the timer.
    pub(super) fn passed_deadline(&self) -> Option<Code> {
        self.deadline.filter(|(deadline, _)| Instant::now() >= *deadline).map(|(_, code)| code)
    }

    /// Puts a frame into the batch that is written next.
    pub(super) fn send(&mut self, frame: Bytes) {
        self.outgoing.push_back(Outgoing::Frame(frame));
        self.is_flushed = false;
    }

    /// Puts a message into the batch that is written next.
    pub(super) fn send_shared(&mut self, message: SharedMessage, owner: Owner) {
        self.outgoing.push_back(Outgoing::Shared(message, owner));
        self.is_flushed = false;
    }

    /// Puts a message for a stock client into the batch that is written next.
    pub(super) fn send_stock(&mut self, message: YMessage, owner: Owner) {
        self.outgoing.push_back(Outgoing::Stock(message, owner));
        self.is_flushed = false;
    }

    /// Bytes that wait to be written, without those that are shared with others, and of the buffer for long frames.
    pub(super) fn waiting_bytes(&self) -> usize {
        let bytes = |outgoing: &Outgoing| match outgoing {
            Outgoing::Frame(frame) => frame.len(),
            Outgoing::Shared(message, owner) => owner.share(message.bytes()),
            Outgoing::Stock(message, owner) => owner.share(message.bytes()),
        };
        self.outgoing.iter().map(bytes).sum::<usize>() + self.long_frame_bytes
    }

    /// Others share some of what waits to be written: when they have gone it counts for more.
    pub(super) fn is_shared(&self) -> bool {
        self.outgoing.iter().any(|outgoing| {
            let (Outgoing::Shared(_, owner) | Outgoing::Stock(_, owner)) = outgoing else { return false };
            matches!(owner, Owner::Holders(_))
        })
    }

    /// Bytes that have come of a message that is not whole, about: the buffers below begin with others, and a frame's head
    /// counts too.
    pub(super) fn half_bytes(&self) -> usize {
        self.meter.bytes().saturating_sub(self.whole_at)
    }

    /// True when everything has been handed to the system.
    pub(super) fn is_flushed(&self) -> bool {
        self.is_flushed
    }

    /// Writes what is to be written and waits for what comes next.
    pub(super) async fn next(&mut self, registered: &Registered, intent: Intent) -> Event {
        poll_fn(|context| self.poll_next(context, registered, intent)).await
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        registered: &Registered,
        intent: Intent,
    ) -> Poll<Event> {
        let wake = registered.wake();
        wake.register(context);
        if let Some((code, after_ms)) = wake.sent_away() {
            return Poll::Ready(Event::End(End::Away { code, after_ms }));
        }
        if wake.is_kicked() {
            return Poll::Ready(Event::End(Code::Kicked.into()));
        }
        if !self.is_flushed && self.poll_write(context, Some(registered)).is_err() {
            return Poll::Ready(Event::End(End::Gone));
        }
        if !intent.may_read {
            // Whoever is not listened to is not silent.
            self.heard();
        } else if let Poll::Ready(event) = self.poll_read(context) {
            return Poll::Ready(event);
        }
        if self.half_bytes() >= self.known_half_bytes + HALF_MESSAGE_STEP_BYTES {
            self.known_half_bytes = self.half_bytes();
            return Poll::Ready(Event::Free);
        }
        if wake.take_nudge() || (self.is_flushed && (intent.has_more || wake.is_marked())) {
            return Poll::Ready(Event::Free);
        }
        if self.poll_pause(context, intent.look_at) || intent.goes_on {
            return Poll::Ready(Event::Free);
        }
        self.poll_timer(context)
    }

    /// True when it is time to look again.
    fn poll_pause(&mut self, context: &mut Context<'_>, until: Option<Instant>) -> bool {
        let Some(until) = until else {
            self.pause = None;
            return false;
        };
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if pause.deadline() != until {
            pause.as_mut().reset(until);
        }
        let is_over = pause.as_mut().poll(context).is_ready();
        if is_over {
            self.pause = None;
        }
        is_over
    }

    /// Writes what is to be written, long frames when the connection may have them; without one whatever they take.
    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        registered: Option<&Registered>,
    ) -> Result<(), axum::Error> {
        let mut socket = Pin::new(&mut self.socket);
        while !self.outgoing.is_empty() {
            if socket.as_mut().poll_ready(context)?.is_pending() {
                self.is_blocked = true;
                return Ok(());
            }
            // Taking what was held back is a sign of life, perhaps the only one of a peer that only reads.
            if std::mem::take(&mut self.is_blocked) {
                self.heard_at = Instant::now();
                self.is_pinged = false;
            }
            if let (Some(first), Some(registered)) = (self.outgoing.front(), registered) {
                let more = first.frame_bytes().saturating_sub(SENT_FRAME_BYTES_MAX + self.long_frame_bytes);
                if more > 0 && registered.is_held_back() {
                    // What came before it leaves.
                    let _ = socket.as_mut().poll_flush(context)?;
                    return Ok(());
                }
                self.long_frame_bytes += more;
                registered.holds_more(more);
            }
            let frame = match self.outgoing.pop_front() {
                Some(Outgoing::Frame(frame)) => frame,
                Some(Outgoing::Stock(message, _)) => message.to_frame(),
                Some(Outgoing::Shared(mut message, owner)) => {
                    match message.next_frame(SENT_FRAME_BYTES_MAX) {
                        Some(frame) => {
                            self.outgoing.push_front(Outgoing::Shared(message, owner));
                            frame
                        }
                        None => continue,
                    }
                }
                None => break,
            };
            self.metrics.bytes_out.increment(u64::try_from(frame.len()).unwrap_or(0));
            socket.as_mut().start_send(Message::Binary(frame))?;
        }
        if let Poll::Ready(()) = socket.poll_flush(context)? {
            self.is_flushed = true;
            if std::mem::take(&mut self.is_blocked) {
                self.heard();
            }
            if self.outgoing.capacity() > FRAMES_AT_ONCE_MAX {
                self.outgoing = VecDeque::new();
            }
        } else {
            self.is_blocked = true;
        }
        Ok(())
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        let (mut frames, mut bytes) = (Vec::new(), 0);
        while self.end.is_none() && frames.len() < FRAMES_AT_ONCE_MAX && bytes < FRAMES_AT_ONCE_BYTES {
            let frame = match self.socket.poll_next_unpin(context) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(Message::Binary(frame)))) => Frame::Binary(frame),
                Poll::Ready(Some(Ok(Message::Text(_)))) => Frame::Text,
                Poll::Ready(Some(Ok(Message::Ping(bytes) | Message::Pong(bytes)))) => {
                    let frame_bytes = bytes.len() + CONTROL_HEAD_BYTES;
                    self.whole_at = self.meter.bytes().min(self.whole_at + frame_bytes);
                    self.heard();
                    continue;
                }
                Poll::Ready(Some(Err(error))) => {
                    self.violation = violation_of(&error);
                    self.end = Some(end_of(&error));
                    break;
                }
                Poll::Ready(Some(Ok(Message::Close(_))) | None) => {
                    self.end = Some(End::Gone);
                    break;
                }
            };
            self.whole_at = self.meter.bytes();
            self.known_half_bytes = 0;
            if let Frame::Binary(frame) = &frame {
                bytes += frame.len();
            }
            frames.push(frame);
        }
        if frames.is_empty() {
            return self.end.take().map_or(Poll::Pending, |end| Poll::Ready(Event::End(end)));
        }
        self.metrics.bytes_in.increment(u64::try_from(bytes).unwrap_or(0));
        self.heard();
        Poll::Ready(Event::Frames(frames))
    }

    fn heard(&mut self) {
        self.heard_at = Instant::now();
        self.is_pinged = false;
    }

    /// Asks a silent peer whether it is there, and ends the connection if it does not answer.
    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        while self.timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            if let Some(code) = self.passed_deadline() {
                return Poll::Ready(Event::End(code.into()));
            }
            if now >= self.heard_at + SILENCE_MAX {
                return Poll::Ready(Event::End(Code::Timeout.into()));
            }
            if now >= self.heard_at + PING_AFTER && !self.is_pinged && self.is_flushed {
                self.is_pinged = true;
                let mut socket = Pin::new(&mut self.socket);
                let is_ready = matches!(socket.as_mut().poll_ready(context), Poll::Ready(Ok(())));
                if is_ready && socket.start_send(Message::Ping(Bytes::new())).is_ok() {
                    self.is_flushed = false;
                    if self.poll_write(context, None).is_err() {
                        return Poll::Ready(Event::End(End::Gone));
                    }
                }
            }
            let wait = if self.is_pinged { SILENCE_MAX } else { PING_AFTER };
            let next = (self.heard_at + wait).max(now + Duration::from_secs(1));
            self.timer.as_mut().reset(self.deadline.map_or(next, |(deadline, _)| deadline.min(next)));
        }
        Poll::Pending
    }

    /// Sends what is left and a close, and waits for the peer's own: without that it would never see the
    /// reason.
    pub(super) async fn close(&mut self, last: impl IntoIterator<Item = Bytes>, code: Code) {
        // What had to wait for room is not made any more: whoever comes back is sent it.
        let longest = SENT_FRAME_BYTES_MAX + self.long_frame_bytes;
        let waits = self.outgoing.iter().position(|outgoing| outgoing.frame_bytes() > longest);
        self.outgoing.truncate(waits.unwrap_or(usize::MAX));
        last.into_iter().for_each(|frame| self.send(frame));
        let close = CloseFrame { code: code.close_code(), reason: code.name().into() };
        let closing = async {
            let written = poll_fn(|context| match self.poll_write(context, None) {
                Ok(()) if !self.is_flushed => Poll::Pending,
                result => Poll::Ready(result),
            });
            if written.await.is_err() || self.socket.send(Message::Close(Some(close))).await.is_err() {
                return;
            }
            let mut is_answered = false;
            while let Some(Ok(message)) = self.socket.recv().await {
                is_answered |= matches!(message, Message::Close(_));
            }
            if code == Code::FrameTooLarge && !is_answered {
                // Reading ended at our own limit while the peer is still writing. A socket that is dropped with bytes
                // unread is reset, and the peer would never see the close: it would come back and try again.
                std::future::pending::<()>().await;
            }
        };
        // A peer that does not answer is left; nothing of ours is lost with it.
        let _ = tokio::time::timeout(CLOSE_WITHIN, closing).await;
    }

    /// The peer closed: answers its close. Or it broke the rules, and is told so.
    pub(super) async fn ended(&mut self) {
        let closing = async {
            if let Some(code) = self.violation {
                return close_after_violation(&mut self.socket, code).await;
            }
            while let Some(Ok(_)) = self.socket.recv().await {}
        };
        let _ = tokio::time::timeout(CLOSE_WITHIN, closing).await;
    }
}

/// Closes a socket whose peer broke the rules. Nothing can be read from it any more, and a socket that is dropped with bytes
/// unread is reset, whereupon the peer would not see why; so this goes on for as long as it is let.
pub(crate) async fn close_after_violation(socket: &mut WebSocket, code: u16) {
    let close = CloseFrame { code, reason: "".into() };
    if socket.send(Message::Close(Some(close))).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

/// A frame beyond the limit is the one error that the peer can do something about.
fn end_of(error: &axum::Error) -> End {
    if says(error, "too long") { Code::FrameTooLarge.into() } else { End::Gone }
}

/// The close code for an error that the peer made below the messages (RFC 6455, section 7.4.1).
pub(crate) fn violation_of(error: &axum::Error) -> Option<u16> {
    const PROTOCOL_ERROR: u16 = 1002;
    const INVALID_DATA: u16 = 1007;
    if says(error, "UTF-8") {
        return Some(INVALID_DATA);
    }
    says(error, "WebSocket protocol error").then_some(PROTOCOL_ERROR)
}

/// True when an error, or one that led to it, has these words in it: axum hides its type.
fn says(error: &axum::Error, words: &str) -> bool {
    use std::error::Error;
    let mut source: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = source {
        if error.to_string().contains(words) {
            return true;
        }
        source = error.source();
    }
    false
}
