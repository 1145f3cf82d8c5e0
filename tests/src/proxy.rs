//! A proxy that breaks links on command.
//!
//! It listens on a port of its own and forwards to a target, which may change or be down. What it can do
//! to a link is what networks do: end it, reset it, swallow everything without a word, be slow.

use serde::Deserialize;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// Bytes that are moved at once.
const CHUNK_BYTES: usize = 16 << 10;

/// Chunks that wait for their time in one direction; then the sender is slowed by TCP.
const CHUNKS_MAX: usize = 256;

/// What can be done to the links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Fault {
    /// Ends all links in good order, as a proxy that restarts does.
    Cut,
    /// Resets all links.
    Reset,
    /// While on, links stay open and nothing passes: what is sent is swallowed. What was swallowed never
    /// arrives, so switching it off resets the links it was on for.
    HalfOpen {
        /// Whether it is on.
        on: bool,
    },
    /// Everything arrives this much later.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// Each direction of each link carries no more than this; `null` is no limit.
    Bandwidth {
        /// Bytes per second.
        bytes_per_second: Option<u64>,
    },
    /// Each link is reset once it has carried this many bytes in both directions together.
    DropAfter {
        /// Bytes; `null` is never.
        bytes: Option<u64>,
    },
    /// New links go here; `null` resets them. Links that are there stay.
    Target {
        /// Where the relay listens.
        address: Option<SocketAddr>,
    },
}

#[derive(Debug, Clone, Copy)]
struct Settings {
    target: Option<SocketAddr>,
    is_half_open: bool,
    delay: Duration,
    bytes_per_second: Option<u64>,
    drop_after: Option<u64>,
    /// Counts of what ends all links that are there.
    cuts: u64,
    resets: u64,
}

/// A running proxy. It ends, with all links, when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    settings: watch::Sender<Settings>,
    links: watch::Receiver<usize>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port of the loopback interface.
    pub async fn start(target: Option<SocketAddr>) -> io::Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (settings, settings_out) = watch::channel(Settings {
            target,
            is_half_open: false,
            delay: Duration::ZERO,
            bytes_per_second: None,
            drop_after: None,
            cuts: 0,
            resets: 0,
        });
        let (count, links) = watch::channel(0);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (settings, count) = (settings_out.clone(), count.clone());
                tokio::spawn(async move {
                    count.send_modify(|count| *count += 1);
                    serve(client, settings).await;
                    count.send_modify(|count| *count -= 1);
                });
            }
        });
        Ok(Proxy { address, settings, links, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Number of links, now and whenever it changes.
    pub fn links(&self) -> watch::Receiver<usize> {
        self.links.clone()
    }

    /// Does something to the links.
    pub fn apply(&self, fault: Fault) {
        self.settings.send_modify(|settings| match fault {
            Fault::Cut => settings.cuts += 1,
            Fault::Reset => settings.resets += 1,
            Fault::HalfOpen { on } => {
                settings.resets += u64::from(settings.is_half_open && !on);
                settings.is_half_open = on;
            }
            Fault::Delay { ms } => settings.delay = Duration::from_millis(ms),
            Fault::Bandwidth { bytes_per_second } => settings.bytes_per_second = bytes_per_second,
            Fault::DropAfter { bytes } => settings.drop_after = bytes,
            Fault::Target { address } => settings.target = address,
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.apply(Fault::Reset);
    }
}

/// How a link ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Orderly,
    Reset,
}

async fn serve(mut client: TcpStream, mut settings: watch::Receiver<Settings>) {
    let target = settings.borrow_and_update().target;
    let relay = match target {
        Some(target) => TcpStream::connect(target).await,
        None => Err(io::ErrorKind::ConnectionRefused.into()),
    };
    let Ok(mut relay) = relay else { return reset(client) };
    let _ = (client.set_nodelay(true), relay.set_nodelay(true));
    if forward(&mut client, &mut relay, settings).await == End::Reset {
        reset(client);
        reset(relay);
    }
}

/// Drops a socket such that its peer sees a reset.
fn reset(socket: TcpStream) {
    let _ = socket.set_zero_linger();
}

async fn forward(client: &mut TcpStream, relay: &mut TcpStream, settings: watch::Receiver<Settings>) -> End {
    let carried = AtomicU64::new(0);
    let (from_client, to_client) = client.split();
    let (from_relay, to_relay) = relay.split();
    let up = Direction { settings: settings.clone(), carried: &carried };
    let down = Direction { settings: settings.clone(), carried: &carried };
    let both = async { tokio::try_join!(up.run(from_client, to_relay), down.run(from_relay, to_client)) };
    tokio::select! {
        end = ended(settings) => end,
        result = both => if result.is_ok() { End::Orderly } else { End::Reset },
    }
}

/// Waits for a command that ends this link.
async fn ended(mut settings: watch::Receiver<Settings>) -> End {
    let first = *settings.borrow();
    let has_ended = |now: &Settings| now.cuts != first.cuts || now.resets != first.resets;
    match settings.wait_for(has_ended).await {
        Ok(now) if now.resets == first.resets => End::Orderly,
        _ => End::Reset,
    }
}

struct Direction<'a> {
    settings: watch::Receiver<Settings>,
    /// Bytes that the link has carried both ways.
    carried: &'a AtomicU64,
}

impl Direction<'_> {
    /// Carries bytes until the sender ends, then ends towards the receiver; an error resets the link.
    async fn run(&self, from: ReadHalf<'_>, to: WriteHalf<'_>) -> io::Result<()> {
        let (chunks, delayed) = mpsc::channel(CHUNKS_MAX);
        tokio::try_join!(self.read(from, chunks), self.write(to, delayed)).map(|_| ())
    }

    async fn read(&self, mut from: ReadHalf<'_>, chunks: mpsc::Sender<(Instant, Vec<u8>)>) -> io::Result<()> {
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            let length = from.read(&mut chunk).await?;
            if length == 0 {
                return Ok(());
            }
            chunk.truncate(length);
            let due = Instant::now() + self.settings.borrow().delay;
            if chunks.send((due, chunk)).await.is_err() {
                return Ok(());
            }
        }
    }

    async fn write(
        &self,
        mut to: WriteHalf<'_>,
        mut chunks: mpsc::Receiver<(Instant, Vec<u8>)>,
    ) -> io::Result<()> {
        while let Some((due, mut chunk)) = chunks.recv().await {
            sleep_until(due).await;
            let settings = *self.settings.borrow();
            if settings.is_half_open {
                continue;
            }
            let before = self.carried.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            let left = settings.drop_after.map(|most| most.saturating_sub(before));
            let is_last = left.is_some_and(|left| left <= chunk.len() as u64);
            chunk.truncate(left.map_or(chunk.len(), |left| usize::try_from(left).unwrap_or(usize::MAX)));
            to.write_all(&chunk).await?;
            if is_last {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            if let Some(rate) = settings.bytes_per_second {
                sleep(Duration::from_secs_f64(chunk.len() as f64 / rate.max(1) as f64)).await;
            }
        }
        to.shutdown().await
    }
}

#[cfg(test)]
mod tests;
