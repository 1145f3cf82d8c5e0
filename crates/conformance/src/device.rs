//! A client of `tidewell.v1` that sends and reads single messages.

use crate::check::{ensure, fail};
use crate::web_socket::{Event, Socket};
use crate::{Failure, Target};
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Instant;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::protocol::{
    Access, ClientMessage, Cursor, Position, Reassembly, RelayMessage, Resume, VERSION, split,
};
use tidewell_sync_core::state_vector::StateVector;

/// Nothing is known.
pub(crate) const NOTHING: fn() -> Position = || Position::StateVector(StateVector::default());

/// A connection of `tidewell.v1`.
pub(crate) struct Device {
    pub(crate) socket: Socket,
    reassembly: Reassembly,
    inbox: VecDeque<RelayMessage>,
    pub(crate) lineage: u64,
    /// Largest frame that the relay takes.
    pub(crate) frame_bytes_max: usize,
    /// Largest frame that came.
    pub(crate) largest: usize,
}

/// What the relay answered to an `Open`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) access: Access,
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    pub(crate) resume: Resume,
}

impl Device {
    /// Connects, and says nothing.
    pub(crate) fn silent(target: &Target) -> Result<Device, Failure> {
        Ok(Device {
            socket: target.sync()?,
            reassembly: Reassembly::default(),
            inbox: VecDeque::new(),
            lineage: 0,
            frame_bytes_max: 0,
            largest: 0,
        })
    }

    /// Connects and is welcomed.
    pub(crate) fn connect(target: &Target) -> Result<Device, Failure> {
        let mut device = Device::silent(target)?;
        device.send(&[hello(target)])?;
        device.welcomed()?;
        Ok(device)
    }

    pub(crate) fn welcomed(&mut self) -> Result<(), Failure> {
        match self.next()? {
            RelayMessage::Welcome { lineage, frame_bytes_max, time_ms, update_bytes_max } => {
                ensure!(time_ms > 0 && update_bytes_max > 0, "the welcome says nothing of time and updates");
                self.lineage = lineage;
                self.frame_bytes_max = usize::try_from(frame_bytes_max).unwrap_or(usize::MAX);
                ensure!(
                    self.frame_bytes_max >= 1024,
                    "frames of {frame_bytes_max} bytes cannot hold a message"
                );
                Ok(())
            }
            other => fail!("{} came instead of Welcome", shown(&other)),
        }
    }

    /// Sends messages together, in fragments if they are too large for a frame.
    pub(crate) fn send(&mut self, messages: &[ClientMessage]) -> Result<(), Failure> {
        let mut frame = Vec::new();
        messages.iter().for_each(|message| message.write(&mut frame));
        let frame_bytes_max = if self.frame_bytes_max == 0 { 1 << 20 } else { self.frame_bytes_max };
        split(frame.into(), frame_bytes_max).iter().try_for_each(|frame| self.socket.send_binary(frame))
    }

    /// The next message.
    pub(crate) fn next(&mut self) -> Result<RelayMessage, Failure> {
        let until = Instant::now() + self.socket.within;
        loop {
            if let Some(message) = self.inbox.pop_front() {
                return Ok(message);
            }
            ensure!(Instant::now() < until, "no message in time");
            match self.socket.event()? {
                Event::Binary(frame) => {
                    self.largest = self.largest.max(frame.len());
                    let unreadable = |_| Failure("a frame cannot be read".to_owned());
                    if let Some(messages) = self.reassembly.take(frame.into()).map_err(unreadable)? {
                        self.inbox.extend(RelayMessage::read_all(&messages).map_err(unreadable)?);
                    }
                }
                Event::Ping(_) | Event::Pong(_) => {}
                Event::Text(_) => fail!("a text came"),
                event => fail!("{event:?} came instead of a message"),
            }
        }
    }

    /// The first of the messages that `wanted` takes. What refuses or ends something is not passed over.
    pub(crate) fn until<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&RelayMessage) -> Result<Option<T>, Failure>,
    ) -> Result<T, Failure> {
        let until = Instant::now() + self.socket.within;
        loop {
            let message = self.next().map_err(|failure| Failure(format!("{failure}, instead of {what}")))?;
            if let Some(found) = wanted(&message)? {
                return Ok(found);
            }
            if let RelayMessage::Error { .. } | RelayMessage::Refused { .. } = message {
                fail!("{} came instead of {what}", shown(&message));
            }
            ensure!(Instant::now() < until, "{what} did not come in time");
        }
    }

    /// Opens a document.
    pub(crate) fn open(
        &mut self,
        channel: u32,
        document: &DocumentName,
        position: Position,
    ) -> Result<Opened, Failure> {
        self.send(&[ClientMessage::Open { channel, document: document.clone(), position }])?;
        self.opened(channel)
    }

    pub(crate) fn opened(&mut self, channel: u32) -> Result<Opened, Failure> {
        self.until("Opened", |message| {
            Ok(match message {
                RelayMessage::Opened { channel: found, access, epoch, sequence, resume }
                    if *found == channel =>
                {
                    Some(Opened { access: *access, epoch: *epoch, sequence: *sequence, resume: *resume })
                }
                _ => None,
            })
        })
    }

    /// Opens a document of which nothing is known.
    pub(crate) fn join(&mut self, channel: u32, document: &DocumentName) -> Result<Opened, Failure> {
        self.open(channel, document, NOTHING())
    }

    pub(crate) fn cursor(&self, opened: Opened, sequence: u64) -> Position {
        Position::Cursor(Cursor { epoch: opened.epoch, lineage: self.lineage, sequence })
    }

    pub(crate) fn push(&mut self, channel: u32, number: u64, update: &Bytes) -> Result<(), Failure> {
        self.send(&[ClientMessage::Push { channel, number, update: update.clone() }])
    }

    /// Reads until the acknowledgement of `number`, and answers its sequence.
    pub(crate) fn acknowledged(&mut self, channel: u32, number: u64) -> Result<u64, Failure> {
        self.until("Ack", |message| match message {
            RelayMessage::Ack { channel: found, number: through, sequence } if *found == channel => {
                ensure!(*through <= number, "number {through} is acknowledged, and {number} was the last");
                Ok((*through == number).then_some(*sequence))
            }
            _ => Ok(None),
        })
    }

    /// Pushes, and waits until it is durable; answers its sequence.
    pub(crate) fn commit(&mut self, channel: u32, number: u64, update: &Bytes) -> Result<u64, Failure> {
        self.push(channel, number, update)?;
        self.acknowledged(channel, number)
    }

    /// Reads updates until everything up to `sequence` is here.
    pub(crate) fn updates(&mut self, channel: u32, sequence: u64) -> Result<Vec<Bytes>, Failure> {
        let mut all = Vec::new();
        self.until("Updates", |message| {
            Ok(match message {
                RelayMessage::Updates { channel: found, through, updates } if *found == channel => {
                    all.extend(updates.iter().cloned());
                    (*through >= sequence).then_some(())
                }
                _ => None,
            })
        })?;
        Ok(all)
    }

    /// Waits for a `Pong`: everything sent before it has been handled. Answers what came before it.
    pub(crate) fn settled(&mut self) -> Result<Vec<RelayMessage>, Failure> {
        let nonce = u64::from(rand::random::<u32>()) + 1;
        self.send(&[ClientMessage::Ping { nonce }])?;
        let mut before = Vec::new();
        loop {
            match self.next()? {
                // Nobody asked for it: a relay that has not read for a while says that it is there.
                RelayMessage::Pong { nonce: 0 } => {}
                RelayMessage::Pong { nonce: found } => {
                    ensure!(found == nonce, "a pong with another nonce came");
                    return Ok(before);
                }
                other => before.push(other),
            }
        }
    }

    /// Waits for a `Refused`.
    pub(crate) fn refused(&mut self, channel: u32, number: u64, code: Code) -> Result<(), Failure> {
        let what = format!("Refused(channel {channel}, number {number}, {code})");
        self.until(&what, |message| {
            Ok((*message == RelayMessage::Refused { channel, number, code }).then_some(()))
        })
    }

    /// Reads the `Error` and the close, which must agree.
    pub(crate) fn fails_with(&mut self, code: Code) -> Result<(), Failure> {
        let what = format!("Error({code})");
        self.until(&what, |message| match message {
            RelayMessage::Error { code: found, .. } => {
                ensure!(*found == code, "Error({found}) came instead of {what}");
                Ok(Some(()))
            }
            _ => Ok(None),
        })?;
        closed_with(&mut self.socket, code)
    }
}

/// The first message, as it should be.
pub(crate) fn hello(target: &Target) -> ClientMessage {
    ClientMessage::Hello { version: VERSION, token: target.token.clone() }
}

/// Waits for the close that stands for a code.
pub(crate) fn closed_with(socket: &mut Socket, code: Code) -> Result<(), Failure> {
    let close = socket.closed()?;
    let expected = (code.close_code(), code.name().to_owned());
    ensure!(close.as_ref() == Some(&expected), "the connection ended with {close:?} instead of {expected:?}");
    Ok(())
}

/// A message, without its bytes.
fn shown(message: &RelayMessage) -> String {
    match message {
        RelayMessage::Updates { channel, through, updates } => {
            format!("Updates(channel {channel}, through {through}, {} updates)", updates.len())
        }
        RelayMessage::Error { code, message } => format!("Error({code}: {message})"),
        RelayMessage::Refused { channel, number, code } => {
            format!("Refused(channel {channel}, number {number}, {code})")
        }
        other => format!("{other:?}"),
    }
}
