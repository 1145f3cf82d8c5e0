//! The practical limit: a broadcast on axum without CRDT, checks or storage.

use anyhow::Result;
use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use axum::serve::ListenerExt;
use bytes::Bytes;
use clap::ValueEnum;
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpListener;
use tokio::sync::broadcast::{self, Receiver, Sender};

/// Messages a reader may be behind; the load generator has far fewer in flight.
const BEHIND_MAX: usize = 4096;

/// Messages written at once.
const BATCH_MAX: usize = 1024;

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Write {
    /// Every message by itself.
    Each,
    /// All that wait at once.
    Batch,
}

/// A message, and the connection it came from.
type Sent = (u64, Bytes);

#[derive(Clone)]
struct Bare {
    write: Write,
    rooms: Arc<Mutex<HashMap<String, Sender<Sent>>>>,
    connections: Arc<AtomicU64>,
}

/// Serves until it is killed.
pub(crate) async fn serve(address: SocketAddr, write: Write) -> Result<()> {
    let bare = Bare { write, rooms: Arc::default(), connections: Arc::default() };
    let router = Router::new().route("/{room}", get(enter)).with_state(bare);
    let listener = TcpListener::bind(address).await?.tap_io(|stream| {
        // Only latency is at stake.
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, router).await?)
}

async fn enter(State(bare): State<Bare>, Path(room): Path<String>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.read_buffer_size(8 << 10).on_upgrade(move |socket| relay(bare, room, socket))
}

async fn relay(bare: Bare, room: String, socket: WebSocket) {
    let id = bare.connections.fetch_add(1, Ordering::Relaxed);
    let sender = {
        let mut rooms = bare.rooms.lock();
        rooms.entry(room).or_insert_with(|| broadcast::channel(BEHIND_MAX).0).clone()
    };
    let receiver = sender.subscribe();
    let (mut sink, mut stream) = socket.split();
    if sink.send(Message::Binary(Bytes::new())).await.is_err() {
        return;
    }
    let writing = tokio::spawn(async move {
        // An error means that the reader is gone or too slow: its connection ends, and the generator says so.
        let _ = match bare.write {
            Write::Each => write_each(id, receiver, sink).await,
            Write::Batch => write_batches(id, receiver, sink).await,
        };
    });
    while let Some(Ok(message)) = stream.next().await {
        if let Message::Binary(frame) = message {
            // Fails only without receivers, and there is at least our own.
            let _ = sender.send((id, frame));
        }
    }
    writing.abort();
}

async fn write_each(
    id: u64,
    mut receiver: Receiver<Sent>,
    mut sink: SplitSink<WebSocket, Message>,
) -> Result<()> {
    loop {
        let (from, frame) = receiver.recv().await?;
        if from != id {
            sink.send(Message::Binary(frame)).await?;
        }
    }
}

async fn write_batches(
    id: u64,
    mut receiver: Receiver<Sent>,
    mut sink: SplitSink<WebSocket, Message>,
) -> Result<()> {
    loop {
        let mut next = Some(receiver.recv().await?);
        for _ in 0..BATCH_MAX {
            let Some((from, frame)) = next.take() else { break };
            if from != id {
                sink.feed(Message::Binary(frame)).await?;
            }
            next = receiver.try_recv().ok();
        }
        if let Some((from, frame)) = next
            && from != id
        {
            sink.feed(Message::Binary(frame)).await?;
        }
        sink.flush().await?;
    }
}
