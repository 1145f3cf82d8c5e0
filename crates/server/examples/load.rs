//! Load for a relay, and what it did: `load ADDRESS PID SCENARIO`.
//!
//! Scenarios: `fanout` (1 document, 50 readers, 4 writers with 32 updates in flight each), `many` (2,000
//! documents, 2 clients each, 2 updates a second each), `idle` (connections and documents of 1 KB),
//! `cold` (a 1.2 MB document: first client and 50 at once), `burst` (20,000 updates of one writer).

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::protocol::{ClientMessage, Position, Reassembly, RelayMessage, SUBPROTOCOL, VERSION};
use tidewell_sync_core::state_vector::StateVector;
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

struct Sender(SplitSink<Socket, Message>);

struct Receiver {
    stream: SplitStream<Socket>,
    reassembly: Reassembly,
}

impl Sender {
    async fn send(&mut self, messages: &[ClientMessage]) -> Result<()> {
        let mut frame = Vec::new();
        messages.iter().for_each(|message| message.write(&mut frame));
        Ok(self.0.send(Message::Binary(frame.into())).await?)
    }
}

impl Receiver {
    async fn next(&mut self) -> Result<Vec<RelayMessage>> {
        loop {
            let message = self.stream.next().await.context("closed")??;
            let Message::Binary(frame) = message else { continue };
            let frame = self.reassembly.take(frame).map_err(|code| anyhow::anyhow!("{code}"))?;
            if let Some(frame) = frame {
                return RelayMessage::read_all(&frame).map_err(|code| anyhow::anyhow!("{code}"));
            }
        }
    }
}

fn open(channel: u32, document: &str) -> Result<ClientMessage> {
    let document = DocumentName::parse(document).map_err(|code| anyhow::anyhow!("{code}"))?;
    let position = Position::StateVector(StateVector::default());
    Ok(ClientMessage::Open { channel, document, position })
}

async fn connect(address: &str, documents: &[String]) -> Result<(Sender, Receiver, u64)> {
    let mut request = format!("ws://{address}/v1/sync").into_client_request()?;
    request.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse()?);
    let config = WebSocketConfig::default().read_buffer_size(8 << 10);
    let (socket, _) = tokio_tungstenite::connect_async_with_config(request, Some(config), true).await?;
    let (sink, stream) = socket.split();
    let (mut sender, mut receiver) = (Sender(sink), Receiver { stream, reassembly: Reassembly::default() });
    let mut messages = vec![ClientMessage::Hello { version: VERSION, token: String::new() }];
    for (channel, document) in documents.iter().enumerate() {
        messages.push(open(channel as u32, document)?);
    }
    sender.send(&messages).await?;
    let (mut opened, mut sequence) = (0, 0);
    while opened < documents.len() {
        for message in receiver.next().await? {
            if let RelayMessage::Opened { sequence: at, .. } = message {
                opened += 1;
                sequence = at;
            }
        }
    }
    Ok((sender, receiver, sequence))
}

/// One typed character after the last, as Yjs writes it.
fn typed(client: u64, clock: u32) -> Bytes {
    use tidewell_sync_core::lib0::write_uint;
    let mut out = vec![1, 1];
    write_uint(&mut out, client);
    write_uint(&mut out, u64::from(clock));
    if clock == 0 {
        out.extend_from_slice(&[0x04, 1, 1, b't', 1, b'x']);
    } else {
        out.push(0x84);
        write_uint(&mut out, client);
        write_uint(&mut out, u64::from(clock - 1));
        out.extend_from_slice(&[1, b'x']);
    }
    out.push(0);
    out.into()
}

/// User and system time of a process, in microseconds.
fn cpu_us(process: &str) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().context("stat")?.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(ticks * 10_000)
}

fn rss_kb(process: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS")).context("rss")?;
    Ok(line.split_whitespace().nth(1).context("rss")?.parse()?)
}

fn percentile(latencies: &mut [u64], share: f64) -> f64 {
    latencies.sort_unstable();
    let index = ((latencies.len() as f64 - 1.0) * share) as usize;
    latencies.get(index).map_or(0.0, |us| *us as f64 / 1000.0)
}

fn report(what: &str, process: &str, cpu_before: u64, start: Instant, delivered: u64) -> Result<()> {
    let (cpu, seconds) = (cpu_us(process)? - cpu_before, start.elapsed().as_secs_f64());
    println!(
        "{what}: {:.0} D/s, {:.2} CPU us/D, {:.0} % CPU, RSS {} kB",
        delivered as f64 / seconds,
        cpu as f64 / delivered.max(1) as f64,
        cpu as f64 / seconds / 10_000.0,
        rss_kb(process)?
    );
    Ok(())
}

async fn fanout(address: &str, process: &str) -> Result<()> {
    let document = vec![format!("load/fanout-{}", std::process::id())];
    let delivered = Arc::new(AtomicU64::new(0));
    // How far each reader has come; a slot frees when all are there.
    let reached: Arc<Vec<AtomicU64>> = Arc::new((0..50).map(|_| AtomicU64::new(0)).collect());
    let moved = Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    for index in 0..50 {
        let (sender, mut receiver, _) = connect(address, &document).await?;
        let (delivered, reached, moved) = (delivered.clone(), reached.clone(), moved.clone());
        tasks.spawn(async move {
            let _sender = sender;
            let mut before = 0;
            while let Ok(messages) = receiver.next().await {
                for message in messages {
                    if let RelayMessage::Updates { through, .. } = message {
                        delivered.fetch_add(through - before, Ordering::Relaxed);
                        before = through;
                        reached[index].store(through, Ordering::Release);
                    }
                }
                moved.notify_waiters();
            }
        });
    }
    for writer in 0..4u64 {
        let (mut sender, mut receiver, _) = connect(address, &document).await?;
        let slots = Arc::new(Semaphore::new(32));
        let (freed, reached, moved) = (slots.clone(), reached.clone(), moved.clone());
        tasks.spawn(async move {
            let mut last = 0;
            while let Ok(messages) = receiver.next().await {
                for message in messages {
                    let RelayMessage::Ack { number, sequence, .. } = message else { continue };
                    loop {
                        let notified = moved.notified();
                        if reached.iter().all(|at| at.load(Ordering::Acquire) >= sequence) {
                            break;
                        }
                        notified.await;
                    }
                    freed.add_permits((number - last) as usize);
                    last = number;
                }
            }
        });
        tasks.spawn(async move {
            let mut number = 0;
            while let Ok(permit) = slots.acquire().await {
                permit.forget();
                let mut messages = Vec::new();
                loop {
                    number += 1;
                    let update = typed(1000 + writer, number as u32 - 1);
                    messages.push(ClientMessage::Push { channel: 0, number, update });
                    match slots.try_acquire() {
                        Ok(permit) => permit.forget(),
                        Err(_) => break,
                    }
                }
                // Each in a frame of its own, as an editor types.
                for message in messages {
                    if sender.send(&[message]).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..3 {
        let (cpu, start, before) = (cpu_us(process)?, Instant::now(), delivered.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_secs(3)).await;
        report("fan-out closed", process, cpu, start, delivered.load(Ordering::Relaxed) - before)?;
    }
    Ok(())
}

async fn many(address: &str, process: &str, documents: u64) -> Result<()> {
    let latencies: Arc<parking_lot::Mutex<Vec<u64>>> = Arc::default();
    let zero = Instant::now();
    let mut tasks = JoinSet::new();
    for index in 0..documents {
        let document = vec![format!("load/many-{}-{index}", std::process::id())];
        let sent: Arc<parking_lot::Mutex<Vec<Instant>>> = Arc::default();
        for side in 0..2u64 {
            let (mut sender, mut receiver, _) = connect(address, &document).await?;
            let (stamps, latencies) = (sent.clone(), latencies.clone());
            tasks.spawn(async move {
                while let Ok(messages) = receiver.next().await {
                    for message in messages {
                        if let RelayMessage::Updates { updates, .. } = message
                            && !updates.is_empty()
                            && side == 1
                        {
                            let sent: Vec<Instant> = std::mem::take(&mut *stamps.lock());
                            let mut all = latencies.lock();
                            all.extend(sent.iter().map(|at| at.elapsed().as_micros() as u64));
                        }
                    }
                }
            });
            let stamps = sent.clone();
            tasks.spawn(async move {
                let phase = (index * 2 + side) * 500 / (documents * 2);
                let mut tick = tokio::time::interval_at(
                    (zero + Duration::from_secs(12) + Duration::from_millis(phase)).into(),
                    Duration::from_millis(500),
                );
                for number in 1.. {
                    tick.tick().await;
                    if side == 0 {
                        stamps.lock().push(Instant::now());
                    }
                    let update = typed(1 + side, number as u32 - 1);
                    if sender.send(&[ClientMessage::Push { channel: 0, number, update }]).await.is_err() {
                        return;
                    }
                }
            });
        }
    }
    println!(
        "{documents} documents open after {:.1} s, RSS {} kB",
        zero.elapsed().as_secs_f64(),
        rss_kb(process)?
    );
    tokio::time::sleep_until((zero + Duration::from_secs(15)).into()).await;
    latencies.lock().clear();
    let (cpu, start) = (cpu_us(process)?, Instant::now());
    tokio::time::sleep(Duration::from_secs(8)).await;
    let mut all = latencies.lock().clone();
    report("2,000 documents", process, cpu, start, 2 * all.len() as u64)?;
    println!("p50 {:.2} ms, p99 {:.2} ms", percentile(&mut all, 0.5), percentile(&mut all, 0.99));
    Ok(())
}

async fn idle(address: &str, process: &str) -> Result<()> {
    let mut kept = Vec::new();
    let text = "x".repeat(1000);
    let mut slope = Vec::new();
    for count in 0..=2_000u64 {
        if count % 500 == 0 {
            tokio::time::sleep(Duration::from_secs(13)).await;
            let rss = rss_kb(process)?;
            slope.push(rss);
            println!("{count} connections, each with a document of 1 kB: RSS {rss} kB");
        }
        let document = vec![format!("load/idle-{}-{count}", std::process::id())];
        let (mut sender, mut receiver, _) = connect(address, &document).await?;
        let update = kilobyte(count + 1, &text);
        sender.send(&[ClientMessage::Push { channel: 0, number: 1, update }]).await?;
        while !receiver.next().await?.iter().any(|message| matches!(message, RelayMessage::Ack { .. })) {}
        kept.push((sender, receiver));
    }
    if let (Some(first), Some(last)) = (slope.get(1), slope.last()) {
        println!("{:.1} kB each", (last - first) as f64 / 1500.0);
    }
    Ok(())
}

fn kilobyte(client: u64, text: &str) -> Bytes {
    use tidewell_sync_core::lib0::{write_buffer, write_uint};
    let mut out = vec![1, 1];
    write_uint(&mut out, client);
    out.extend_from_slice(&[0, 0x04, 1, 1, b't']);
    write_buffer(&mut out, text.as_bytes());
    out.push(0);
    out.into()
}

/// Writes `count` updates and waits for the last acknowledgement.
async fn burst(address: &str, process: &str, count: u64) -> Result<()> {
    let document = vec![format!("load/burst-{}", std::process::id())];
    let (reader_sender, mut reader, _) = connect(address, &document).await?;
    let (mut sender, mut receiver, _) = connect(address, &document).await?;
    let (cpu, start) = (cpu_us(process)?, Instant::now());
    let writing = tokio::spawn(async move {
        for number in 1..=count {
            let update = typed(1, number as u32 - 1);
            sender.send(&[ClientMessage::Push { channel: 0, number, update }]).await?;
        }
        anyhow::Ok(sender)
    });
    let reading = tokio::spawn(async move {
        loop {
            for message in reader.next().await? {
                if let RelayMessage::Updates { through, .. } = message
                    && through >= count
                {
                    return anyhow::Ok(());
                }
            }
        }
    });
    'all: loop {
        for message in receiver.next().await? {
            if let RelayMessage::Ack { number, .. } = message
                && number >= count
            {
                break 'all;
            }
        }
    }
    reading.await??;
    println!("burst of {count}: {:.3} s", start.elapsed().as_secs_f64());
    report("burst", process, cpu, start, count)?;
    let _kept = (writing.await??, reader_sender);
    Ok(())
}

/// Joins `document` with nothing, and waits for all of it.
async fn cold(address: &str, document: &str, readers: usize) -> Result<()> {
    let mut tasks = JoinSet::new();
    let start = Instant::now();
    for _ in 0..readers {
        let (address, document) = (address.to_owned(), vec![document.to_owned()]);
        tasks.spawn(async move {
            let (_sender, mut receiver, sequence) = connect(&address, &document).await?;
            let mut bytes = 0;
            loop {
                for message in receiver.next().await? {
                    if let RelayMessage::Updates { through, updates, .. } = message {
                        bytes += updates.iter().map(Bytes::len).sum::<usize>();
                        if through >= sequence {
                            return anyhow::Ok(bytes);
                        }
                    }
                }
            }
        });
    }
    let mut bytes = 0;
    while let Some(read) = tasks.join_next().await {
        bytes = read??;
    }
    println!("{readers} readers of {bytes} bytes: {:.1} ms", start.elapsed().as_secs_f64() * 1000.0);
    Ok(())
}

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, process, scenario, rest @ ..] = arguments.as_slice() else {
        bail!("load ADDRESS PID fanout|many|idle|burst|cold [DOCUMENT READERS]")
    };
    match (scenario.as_str(), rest) {
        ("fanout", _) => fanout(address, process).await,
        ("many", _) => many(address, process, 2000).await,
        ("idle", _) => idle(address, process).await,
        ("burst", _) => burst(address, process, 20_000).await,
        ("cold", [document, readers]) => cold(address, document, readers.parse()?).await,
        _ => bail!("no such scenario"),
    }
}
