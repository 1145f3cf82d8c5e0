//! A client of the y-websocket door.

use crate::check::{ensure, fail};
use crate::web_socket::{Event, Socket};
use crate::{Failure, Target};
use bytes::Bytes;
use std::time::Instant;
use tidewell_sync_core::awareness::{Entry, decode, encode};
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::state_vector::StateVector;
use tidewell_sync_core::y_protocol::YMessage;

/// A connection at the y-websocket door.
pub(crate) struct Stock {
    pub(crate) socket: Socket,
}

impl Stock {
    pub(crate) fn connect(target: &Target, document: &DocumentName) -> Result<Stock, Failure> {
        Ok(Stock { socket: target.stock(document)? })
    }

    pub(crate) fn send(&mut self, message: &YMessage) -> Result<(), Failure> {
        self.socket.send_binary(&message.to_frame())
    }

    /// The next message, which has its frame for itself.
    pub(crate) fn next(&mut self) -> Result<YMessage, Failure> {
        loop {
            match self.socket.event()? {
                Event::Binary(frame) => {
                    let messages = YMessage::read_all(&frame.into());
                    let messages = messages.map_err(|_| Failure("a frame cannot be read".to_owned()))?;
                    let count = messages.len();
                    return match <[YMessage; 1]>::try_from(messages) {
                        Ok([message]) => Ok(message),
                        Err(_) => fail!("a frame holds {count} messages, and stock clients read one"),
                    };
                }
                Event::Ping(_) | Event::Pong(_) => {}
                event => fail!("{event:?} came instead of a message"),
            }
        }
    }

    pub(crate) fn until<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(YMessage) -> Result<Option<T>, Failure>,
    ) -> Result<T, Failure> {
        let until = Instant::now() + self.socket.within;
        loop {
            let message = self.next().map_err(|failure| Failure(format!("{failure}, instead of {what}")))?;
            if let Some(found) = wanted(message)? {
                return Ok(found);
            }
            ensure!(Instant::now() < until, "{what} did not come in time");
        }
    }

    /// Asks for what is beyond a state vector, and answers all updates up to the answer.
    pub(crate) fn sync(&mut self, known: StateVector) -> Result<Vec<Bytes>, Failure> {
        self.send(&YMessage::SyncStep1(known))?;
        let mut all = Vec::new();
        self.until("SyncStep2", |message| {
            Ok(match message {
                YMessage::SyncStep2(update) => {
                    all.push(update);
                    Some(())
                }
                YMessage::Update(update) => {
                    all.push(update);
                    None
                }
                _ => None,
            })
        })?;
        Ok(all)
    }

    /// Waits for an update that holds this text.
    pub(crate) fn receives(&mut self, text: &str) -> Result<(), Failure> {
        self.until(&format!("an update with {text:?}"), |message| {
            Ok(match message {
                YMessage::Update(update) | YMessage::SyncStep2(update) => {
                    crate::edit::hold(&[update], text).then_some(())
                }
                _ => None,
            })
        })
    }

    pub(crate) fn announce(&mut self, client: u64, clock: u32, state: &str) -> Result<(), Failure> {
        let entry = Entry { client, clock, state: state.into() };
        self.send(&YMessage::Awareness(encode([entry].iter()).into()))
    }

    /// Waits for an awareness entry; none that `forbidden` takes may come before it.
    pub(crate) fn awareness(
        &mut self,
        what: &str,
        wanted: impl Fn(&Entry) -> bool,
        forbidden: impl Fn(&Entry) -> bool,
    ) -> Result<(), Failure> {
        self.until(what, |message| {
            let YMessage::Awareness(update) = message else { return Ok(None) };
            let entries =
                decode(&update).map_err(|code| Failure(format!("awareness is refused with {code}")))?;
            ensure!(!entries.iter().any(&forbidden), "{entries:?} came before {what}");
            Ok(entries.iter().any(&wanted).then_some(()))
        })
    }
}
