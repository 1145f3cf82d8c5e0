//! yrs-axum as its documentation sets it up, a broadcast group for each path: `tidewell-bench-yrs-axum ADDRESS`.

use axum::Router;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use futures_util::StreamExt;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, RwLock};
use yrs::Doc;
use yrs::sync::Awareness;
use yrs_axum::broadcast::BroadcastGroup;
use yrs_axum::ws::{AxumSink, AxumStream};

/// Messages a reader may be behind. The documentation's 32 lose updates of every fast writer.
const CHANNEL: usize = 4096;

type Rooms = Arc<Mutex<HashMap<String, Arc<BroadcastGroup>>>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("usage: tidewell-bench-yrs-axum ADDRESS")?;
    let router = Router::new().route("/{document}", get(enter)).with_state(Rooms::default());
    Ok(axum::serve(TcpListener::bind(address).await?, router).await?)
}

async fn enter(State(rooms): State<Rooms>, Path(document): Path<String>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(move |socket| serve(rooms, document, socket))
}

async fn serve(rooms: Rooms, document: String, socket: WebSocket) {
    let group = {
        let mut rooms = rooms.lock().await;
        match rooms.get(&document) {
            Some(group) => group.clone(),
            None => {
                let awareness = Arc::new(RwLock::new(Awareness::new(Doc::new())));
                let group = Arc::new(BroadcastGroup::new(awareness, CHANNEL).await);
                rooms.insert(document, group.clone());
                group
            }
        }
    };
    let (sink, stream) = socket.split();
    let sink = Arc::new(Mutex::new(AxumSink::from(sink)));
    let subscription = group.subscribe(sink, AxumStream::from(stream));
    if let Err(error) = subscription.completed().await {
        eprintln!("a connection ended: {error}");
    }
}
