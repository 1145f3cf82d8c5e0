//! A WebSocket (RFC 6455) whose frames are written as they are told, right or wrong, and read strictly.

use crate::Failure;
use crate::check::{ensure, fail};
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// Connected bytes.
pub trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// Of a frame.
pub mod opcode {
    /// More of a message.
    pub const CONTINUATION: u8 = 0;
    /// A message of text.
    pub const TEXT: u8 = 1;
    /// A message of bytes.
    pub const BINARY: u8 = 2;
    /// The close handshake.
    pub const CLOSE: u8 = 8;
    /// Is to be answered.
    pub const PING: u8 = 9;
    /// The answer.
    pub const PONG: u8 = 10;
}

/// The key of RFC 6455's example, and its answer.
const KEY: (&str, &str) = ("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");

/// Longest head of an answer that is read.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Largest frame that is read: more than any relay's limit.
const FRAME_BYTES_MAX: u64 = 64 << 20;

/// A frame. A client's are masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The message ends with it.
    pub is_last: bool,
    /// The three reserved bits.
    pub reserved: u8,
    /// See [`opcode`].
    pub opcode: u8,
    /// Masked, as clients must.
    pub is_masked: bool,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A whole message, or a control frame, as a client sends it.
    pub fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        Frame { is_last: true, reserved: 0, opcode, is_masked: true, payload: payload.into() }
    }

    /// The same, with more of the message to follow.
    pub fn unfinished(self) -> Self {
        Frame { is_last: false, ..self }
    }

    /// A close with a code.
    pub fn close(code: u16, reason: &str) -> Self {
        Frame::new(opcode::CLOSE, [&code.to_be_bytes(), reason.as_bytes()].concat())
    }

    /// As it is written.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![(u8::from(self.is_last) << 7) | (self.reserved << 4) | self.opcode];
        let mask = u8::from(self.is_masked) << 7;
        match (u8::try_from(self.payload.len()), u16::try_from(self.payload.len())) {
            (Ok(len @ 0..126), _) => out.push(mask | len),
            (_, Ok(len)) => {
                out.push(mask | 126);
                out.extend_from_slice(&len.to_be_bytes());
            }
            _ => {
                out.push(mask | 127);
                out.extend_from_slice(&u64::try_from(self.payload.len()).unwrap_or(u64::MAX).to_be_bytes());
            }
        }
        if self.is_masked {
            // Against caches of proxies on the way; what it is makes no difference to the other side.
            const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
            out.extend_from_slice(&MASK);
            out.extend(self.payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        } else {
            out.extend_from_slice(&self.payload);
        }
        out
    }
}

/// What came from the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A message of text.
    Text(String),
    /// A message of bytes.
    Binary(Vec<u8>),
    /// A ping, which was answered.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// A close, with its code and reason if it had them.
    Close(Option<(u16, String)>),
    /// The connection is over.
    Ended,
}

/// The request for a WebSocket.
#[derive(Debug, Clone)]
pub struct Upgrade {
    path: String,
    headers: Vec<(String, String)>,
}

impl Upgrade {
    /// A correct one.
    pub fn new(path: String, host: String) -> Self {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let headers = vec![
            header("Host", &host),
            header("Connection", "Upgrade"),
            header("Upgrade", "websocket"),
            header("Sec-WebSocket-Version", "13"),
            header("Sec-WebSocket-Key", KEY.0),
        ];
        Upgrade { path, headers }
    }

    /// With another value for a header.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        let mut upgrade = self.without(name);
        upgrade.headers.push((name.to_owned(), value.to_owned()));
        upgrade
    }

    /// Without a header.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self
    }

    /// Asks, and answers the head of the response.
    pub fn ask(&self, stream: &mut dyn Stream) -> Result<String, Failure> {
        let mut request = format!("GET {} HTTP/1.1\r\n", self.path);
        self.headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
        stream.write_all(format!("{request}\r\n").as_bytes())?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            ensure!(stream.read(&mut byte)? == 1, "the connection ended within the answer's head");
            head.extend_from_slice(&byte);
            ensure!(head.len() <= HEAD_BYTES_MAX, "the answer's head does not end");
        }
        String::from_utf8(head).map_err(|_| Failure("the answer's head is no text".to_owned()))
    }

    /// Asks, and checks the answer.
    pub fn open(&self, mut stream: Box<dyn Stream>, within: Duration) -> Result<Socket, Failure> {
        let head = self.ask(&mut *stream)?;
        let status = head.lines().next().unwrap_or("");
        ensure!(status.starts_with("HTTP/1.1 101 "), "{} is answered with {status:?}", self.path);
        let accept = header_of(&head, "sec-websocket-accept");
        ensure!(accept == Some(KEY.1), "Sec-WebSocket-Accept is {accept:?}");
        let is_upgrade =
            |name, value: &str| header_of(&head, name).is_some_and(|found| found.eq_ignore_ascii_case(value));
        ensure!(is_upgrade("upgrade", "websocket"), "there is no Upgrade: websocket");
        ensure!(is_upgrade("connection", "upgrade"), "there is no Connection: upgrade");
        ensure!(header_of(&head, "sec-websocket-extensions").is_none(), "an extension that nobody asked for");
        let subprotocol = header_of(&head, "sec-websocket-protocol").map(str::to_owned);
        Ok(Socket { stream, within, subprotocol, message: None })
    }
}

fn header_of<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(found, value)| found.eq_ignore_ascii_case(name).then(|| value.trim()))
}

/// One side of a WebSocket: the client's.
pub struct Socket {
    stream: Box<dyn Stream>,
    /// How long the other side may take for what is waited for.
    pub within: Duration,
    /// What the other side chose.
    pub subprotocol: Option<String>,
    /// The message that has begun: its opcode, and what came of it.
    message: Option<(u8, Vec<u8>)>,
}

impl Socket {
    /// Writes a frame.
    pub fn send(&mut self, frame: &Frame) -> Result<(), Failure> {
        self.send_raw(&frame.to_bytes())
    }

    /// Writes several frames at once.
    pub fn send_all(&mut self, frames: &[Frame]) -> Result<(), Failure> {
        self.send_raw(&frames.iter().flat_map(Frame::to_bytes).collect::<Vec<u8>>())
    }

    /// Writes bytes below the frames.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(bytes)?;
        Ok(self.stream.flush()?)
    }

    /// Writes a message of bytes.
    pub fn send_binary(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.send(&Frame::new(opcode::BINARY, bytes))
    }

    /// Reads a frame; `None` when the connection is over.
    fn frame(&mut self) -> Result<Option<Frame>, Failure> {
        let Some([first, second]) = self.bytes()? else { return Ok(None) };
        let len = match second & 0x7f {
            126 => self.bytes()?.map(|bytes| u64::from(u16::from_be_bytes(bytes))),
            127 => self.bytes()?.map(u64::from_be_bytes),
            len => Some(u64::from(len)),
        };
        let Some(len) = len else { return Ok(None) };
        ensure!(len <= FRAME_BYTES_MAX, "a frame of {len} bytes came");
        let frame = Frame {
            is_last: first & 0x80 != 0,
            reserved: (first >> 4) & 7,
            opcode: first & 0xf,
            is_masked: second & 0x80 != 0,
            payload: vec![0; usize::try_from(len).unwrap_or(0)],
        };
        ensure!(!frame.is_masked, "a frame came masked");
        ensure!(frame.reserved == 0, "reserved bits are set without an extension");
        let is_control = frame.opcode >= 8;
        ensure!(matches!(frame.opcode, 0..=2 | 8..=10), "opcode {} does not exist", frame.opcode);
        ensure!(!is_control || (frame.is_last && len <= 125), "a control frame came in parts or is too long");
        let mut frame = frame;
        Ok(self.fill(&mut frame.payload)?.then_some(frame))
    }

    fn bytes<const N: usize>(&mut self) -> Result<Option<[u8; N]>, Failure> {
        let mut bytes = [0; N];
        Ok(self.fill(&mut bytes)?.then_some(bytes))
    }

    /// False when the connection is over, in whatever way.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<bool, Failure> {
        match self.stream.read_exact(bytes) {
            Ok(()) => Ok(true),
            Err(error) => match error.kind() {
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe => Ok(false),
                _ => Err(error.into()),
            },
        }
    }

    /// What comes next. Pings are answered, and parts of messages put together.
    pub fn event(&mut self) -> Result<Event, Failure> {
        loop {
            let Some(Frame { opcode, is_last, payload, .. }) = self.frame()? else { return Ok(Event::Ended) };
            match opcode {
                opcode::PING => {
                    // Whoever asked may be gone.
                    let _ = self.send(&Frame::new(opcode::PONG, payload.clone()));
                    return Ok(Event::Ping(payload));
                }
                opcode::PONG => return Ok(Event::Pong(payload)),
                opcode::CLOSE => return close_of(&payload).map(Event::Close),
                opcode::CONTINUATION => match &mut self.message {
                    Some((_, message)) => message.extend_from_slice(&payload),
                    None => fail!("a message goes on that has not begun"),
                },
                _ => {
                    ensure!(self.message.is_none(), "a message begins within another");
                    self.message = Some((opcode, payload));
                }
            }
            if let Some((opcode, message)) = self.message.take_if(|_| is_last) {
                return match opcode {
                    opcode::TEXT => String::from_utf8(message)
                        .map(Event::Text)
                        .map_err(|_| Failure("a text came that is not UTF-8".to_owned())),
                    _ => Ok(Event::Binary(message)),
                };
            }
        }
    }

    /// The first of what comes that `wanted` takes.
    pub fn until<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&Event) -> Option<T>,
    ) -> Result<T, Failure> {
        let until = Instant::now() + self.within;
        loop {
            let event = self.event().map_err(|failure| Failure(format!("{failure}, instead of {what}")))?;
            if let Some(found) = wanted(&event) {
                return Ok(found);
            }
            ensure!(!matches!(event, Event::Close(_) | Event::Ended), "{event:?} came instead of {what}");
            ensure!(Instant::now() < until, "{what} did not come in time");
        }
    }

    /// The code and reason of the close that ends the connection; `None` when it has none or just ends.
    pub fn closed(&mut self) -> Result<Option<(u16, String)>, Failure> {
        self.until("the connection's end", |event| match event {
            Event::Close(close) => Some(close.clone()),
            Event::Ended => Some(None),
            _ => None,
        })
    }

    /// Waits for a pong to what is sent now: everything before it has come.
    pub fn ping(&mut self, payload: &[u8]) -> Result<(), Failure> {
        self.send(&Frame::new(opcode::PING, payload))?;
        self.until("a pong", |event| (*event == Event::Pong(payload.to_vec())).then_some(()))
    }
}

fn close_of(payload: &[u8]) -> Result<Option<(u16, String)>, Failure> {
    match payload {
        [] => Ok(None),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            let is_allowed = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
            ensure!(is_allowed, "it closed with {code}, which must not be sent");
            let reason = String::from_utf8(reason.to_vec());
            Ok(Some((code, reason.map_err(|_| Failure("a close's reason is not UTF-8".to_owned()))?)))
        }
        [_] => fail!("a close has one byte"),
    }
}
