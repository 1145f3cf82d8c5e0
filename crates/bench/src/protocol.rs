//! What each relay speaks, reduced to what the load generator needs: updates in, updates out, acknowledgements.

use anyhow::{Result, anyhow, bail};
use bytes::Bytes;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::lib0::{Reader, write_buffer, write_uint};
use tidewell_sync_core::protocol::{
    ClientMessage, Position, Reassembly, RelayMessage, Resume, SUBPROTOCOL, VERSION,
};
use tidewell_sync_core::state_vector::StateVector;

/// An update without anything in it.
const EMPTY_UPDATE: &[u8] = &[0, 0];

/// The state vector of somebody who knows nothing.
const EMPTY_STATE_VECTOR: &[u8] = &[0];

/// Message types of y-protocols.
const SYNC: u64 = 0;
const AUTH: u64 = 2;
const STEP_1: u64 = 0;
const STEP_2: u64 = 1;
const UPDATE: u64 = 2;

/// Hocuspocus's own message types.
const SYNC_REPLY: u64 = 4;
const SYNC_STATUS: u64 = 8;
/// Submessages of its `AUTH`.
const TOKEN: u64 = 0;
const PERMISSION_DENIED: u64 = 1;

/// The channel of our protocol that every connection of the benchmarks uses.
const CHANNEL: u32 = 1;

/// Which protocol a relay speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// y-websocket's: a document is a path, a message a frame.
    YWebsocket,
    /// Hocuspocus's: y-websocket's with the document's name before every message, and a token.
    Hocuspocus,
    /// Ours, acknowledged.
    Tidewell,
    /// An update is a frame; an empty frame says that one is in the room.
    Bare,
}

impl Protocol {
    /// The WebSocket subprotocol to ask for.
    pub(crate) fn subprotocol(self) -> Option<&'static str> {
        (self == Protocol::Tidewell).then_some(SUBPROTOCOL)
    }

    /// True when the relay tells a writer what is durable.
    pub(crate) fn acknowledges(self) -> bool {
        self == Protocol::Tidewell
    }
}

/// What a frame said.
#[derive(Debug)]
pub(crate) enum Said {
    /// Edits.
    Update(Bytes),
    /// The relay has told all it knew when the connection came.
    Synced,
    /// Pushes up to this number, which count from 1, are durable.
    Acknowledged(u64),
    /// The relay wants this frame.
    Answer(Bytes),
}

/// One connection's side of a protocol.
#[derive(Debug)]
pub(crate) struct Speaker {
    protocol: Protocol,
    document: String,
    pushed: u64,
    fragments: Reassembly,
    /// Commits that the relay had when it let us in; `None` before and after we know them all.
    expects_through: Option<u64>,
}

impl Speaker {
    /// For one document.
    pub(crate) fn new(protocol: Protocol, document: &str) -> Self {
        let document = document.to_owned();
        Speaker { protocol, document, pushed: 0, fragments: Reassembly::default(), expects_through: None }
    }

    /// The first frames of a connection.
    pub(crate) fn greeting(&self) -> Result<Vec<Bytes>> {
        Ok(match self.protocol {
            Protocol::Bare => Vec::new(),
            Protocol::YWebsocket => vec![self.sync(STEP_1, EMPTY_STATE_VECTOR)],
            Protocol::Hocuspocus => {
                let mut token = self.head();
                write_uint(&mut token, AUTH);
                write_uint(&mut token, TOKEN);
                write_buffer(&mut token, b"");
                vec![token.into(), self.sync(STEP_1, EMPTY_STATE_VECTOR)]
            }
            Protocol::Tidewell => {
                let document = DocumentName::parse(&self.document).map_err(|code| anyhow!("{code:?}"))?;
                let position = Position::StateVector(StateVector::default());
                let mut frame = Vec::new();
                ClientMessage::Hello { version: VERSION, token: String::new() }.write(&mut frame);
                ClientMessage::Open { channel: CHANNEL, document, position }.write(&mut frame);
                vec![frame.into()]
            }
        })
    }

    /// The frame that pushes an update.
    pub(crate) fn push(&mut self, update: Vec<u8>) -> Bytes {
        self.pushed += 1;
        match self.protocol {
            Protocol::Bare => update.into(),
            Protocol::YWebsocket | Protocol::Hocuspocus => self.sync(UPDATE, &update),
            Protocol::Tidewell => {
                let mut frame = Vec::with_capacity(update.len() + 16);
                ClientMessage::Push { channel: CHANNEL, number: self.pushed, update: update.into() }
                    .write(&mut frame);
                frame.into()
            }
        }
    }

    /// Reads a frame.
    pub(crate) fn read(&mut self, frame: Bytes, each: &mut impl FnMut(Said) -> Result<()>) -> Result<()> {
        match self.protocol {
            Protocol::Bare if frame.is_empty() => each(Said::Synced),
            Protocol::Bare => each(Said::Update(frame)),
            Protocol::YWebsocket | Protocol::Hocuspocus => self.read_yjs(&frame, each),
            Protocol::Tidewell => match self.fragments.take(frame).map_err(|code| anyhow!("{code:?}"))? {
                Some(messages) => self.read_tidewell(&messages, each),
                None => Ok(()),
            },
        }
    }

    fn read_yjs(&self, frame: &Bytes, each: &mut impl FnMut(Said) -> Result<()>) -> Result<()> {
        let mut reader = Reader::new(frame);
        while !reader.is_empty() {
            if self.protocol == Protocol::Hocuspocus {
                reader.buffer()?;
            }
            match reader.uint()? {
                SYNC | SYNC_REPLY => {
                    let kind = reader.uint()?;
                    let len = reader.buffer()?.len();
                    let body = frame.slice(reader.position() - len..reader.position());
                    match kind {
                        STEP_1 => each(Said::Answer(self.sync(STEP_2, EMPTY_UPDATE)))?,
                        STEP_2 => {
                            each(Said::Update(body))?;
                            each(Said::Synced)?;
                        }
                        _ => each(Said::Update(body))?,
                    }
                }
                AUTH => {
                    if reader.uint()? == PERMISSION_DENIED {
                        bail!("permission denied: {}", reader.string()?);
                    }
                    return Ok(());
                }
                SYNC_STATUS => {
                    reader.uint()?;
                }
                // Awareness and whatever else there is.
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    fn read_tidewell(&mut self, frame: &Bytes, each: &mut impl FnMut(Said) -> Result<()>) -> Result<()> {
        for message in RelayMessage::read_all(frame).map_err(|code| anyhow!("{code:?}"))? {
            match message {
                RelayMessage::Updates { through, updates, .. } => {
                    for update in updates {
                        each(Said::Update(update))?;
                    }
                    if self.expects_through.is_some_and(|expected| through >= expected) {
                        self.expects_through = None;
                        each(Said::Synced)?;
                    }
                }
                RelayMessage::Ack { number, .. } => each(Said::Acknowledged(number))?,
                RelayMessage::Opened { resume: Resume::Continues, sequence: 0, .. } => each(Said::Synced)?,
                RelayMessage::Opened { resume: Resume::Continues, sequence, .. } => {
                    self.expects_through = Some(sequence);
                }
                RelayMessage::Welcome { .. } | RelayMessage::Pong { .. } => {}
                other => bail!("the relay said {other:?}"),
            }
        }
        Ok(())
    }

    fn sync(&self, kind: u64, body: &[u8]) -> Bytes {
        let mut frame = self.head();
        write_uint(&mut frame, SYNC);
        write_uint(&mut frame, kind);
        write_buffer(&mut frame, body);
        frame.into()
    }

    fn head(&self) -> Vec<u8> {
        let mut head = Vec::new();
        if self.protocol == Protocol::Hocuspocus {
            write_buffer(&mut head, self.document.as_bytes());
        }
        head
    }
}
