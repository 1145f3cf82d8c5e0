//! What happened, in words: for people who replay a seed.

use std::fmt::Display;
use tidewell_sync_core::protocol::{ClientMessage, Position, RelayMessage};

/// One line for each thing that happened, if anybody wants them.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    lines: Option<Vec<String>>,
    pub(crate) step: usize,
    pub(crate) now_ms: u64,
}

impl Trace {
    pub(crate) fn new(is_wanted: bool) -> Self {
        Trace { lines: is_wanted.then(Vec::new), step: 0, now_ms: 0 }
    }

    pub(crate) fn note(&mut self, who: impl Display, what: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            let who = who.to_string();
            lines.push(format!("{:>5} {:>9} ms  {who:<15} {}", self.step, self.now_ms, what()));
        }
    }

    pub(crate) fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or(&[])
    }
}

/// A client's message in words.
pub(crate) fn of_client(message: &ClientMessage) -> String {
    match message {
        ClientMessage::Hello { .. } => "Hello".to_owned(),
        ClientMessage::Open { channel, document, position } => {
            let position = match position {
                Position::Cursor(cursor) => format!("after {}", cursor.sequence),
                Position::StateVector(known) => {
                    format!("by a state vector of {} clients", known.iter().count())
                }
            };
            format!("Open {} on channel {channel} {position}", document.as_str())
        }
        ClientMessage::Close { channel } => format!("Close channel {channel}"),
        ClientMessage::Push { channel, number, update } => {
            format!("Push {number} on channel {channel}, {} bytes", update.len())
        }
        ClientMessage::Have { channel, number, update } => {
            format!("Have {number} on channel {channel}, {} bytes", update.len())
        }
        ClientMessage::Ping { .. } => "Ping".to_owned(),
        ClientMessage::Refresh { .. } => "Refresh".to_owned(),
    }
}

/// A relay's message in words.
pub(crate) fn of_relay(message: &RelayMessage) -> String {
    match message {
        RelayMessage::Welcome { .. } => "Welcome".to_owned(),
        RelayMessage::Opened { channel, sequence, resume, access, .. } => {
            format!("Opened channel {channel} at {sequence} to {access:?}: {resume:?}")
        }
        RelayMessage::Updates { channel, through, updates } => {
            format!("{} updates on channel {channel} through {through}", updates.len())
        }
        RelayMessage::Ack { channel, number, sequence } => {
            format!("Ack of {number} on channel {channel} at {sequence}")
        }
        RelayMessage::Need { channel, .. } => format!("Need on channel {channel}"),
        RelayMessage::Refused { channel, number, code } => {
            format!("Refused {number} on channel {channel}: {code}")
        }
        RelayMessage::Granted { channel, access } => format!("Granted {access:?} on channel {channel}"),
        RelayMessage::GoAway { after_ms } => format!("GoAway for {after_ms} ms"),
        RelayMessage::Error { code, .. } => format!("Error {code}"),
        RelayMessage::Pong { .. } => "Pong".to_owned(),
    }
}
