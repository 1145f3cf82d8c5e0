//! Native clients for tests that are not written in Rust.
//!
//! Reads one JSON object a line, `{"id": 1, "peer": "a", "do": "open", …}`, and answers each with
//! `{"id": 1, "value": …}` or `{"id": 1, "error": "…"}`; waits are answered when they are over. It ends with
//! its standard input.

use anyhow::{Context, bail};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use tidewell_client::yrs::updates::decoder::Decode;
use tidewell_client::yrs::{Transact, Update};
use tidewell_client::{Client, Document, Options, Store};
use tidewell_sync_core::admission::Admitted;
use tidewell_sync_core::replica::new_doc;
use tidewell_tests::operation::{Operation, apply, dump};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

#[derive(Deserialize)]
struct Request {
    id: u64,
    peer: String,
    #[serde(flatten)]
    what: What,
}

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum What {
    /// Opens a document, in memory unless there is a directory. Its first opening names the peer.
    Open { url: String, document: String, directory: Option<PathBuf> },
    /// Makes one edit of some operations.
    Edit { operations: Vec<Operation> },
    /// What the document holds, and the whole of it as an update.
    Dump,
    /// Waits until it has changed more often than `since`; answers how often.
    Changed { since: u64 },
    /// Waits for the device's disk.
    SavedDevice,
    /// Waits for the relay's disk.
    SavedRelay,
    /// How many edits are not acknowledged.
    Unsent,
    /// Goes offline.
    Pause,
    /// Goes online.
    Resume,
    /// Closes the peer.
    Close,
    /// Offers updates to the admission of a document of their own, again and again until nothing more gets in, and
    /// applies with yrs what does. Needs no peer.
    Admit { updates: Vec<Vec<u8>> },
}

struct Peer {
    client: Client,
    document: Document,
}

type Peers = Arc<Mutex<HashMap<String, Arc<Peer>>>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .init();
    let peers = Peers::default();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut running = JoinSet::new();
    while let Some(line) = lines.next_line().await? {
        let request: Request = serde_json::from_str(&line).with_context(|| line.clone())?;
        let peers = peers.clone();
        running.spawn(async move {
            let answer = match answer(&peers, &request.peer, request.what).await {
                Ok(value) => json!({ "id": request.id, "value": value }),
                Err(error) => json!({ "id": request.id, "error": format!("{error:#}") }),
            };
            println!("{answer}");
        });
        while running.try_join_next().is_some() {}
    }
    Ok(())
}

async fn answer(peers: &Peers, name: &str, what: What) -> anyhow::Result<Value> {
    if let What::Open { url, document, directory } = what {
        let store = directory.map_or(Store::Memory, Store::Directory);
        let client = Client::open(Options::new(url, store)).await?;
        let document = client.document(&document).await?;
        let old = peers.lock().await.insert(name.to_owned(), Arc::new(Peer { client, document }));
        if old.is_some() {
            bail!("{name} was open");
        }
        return Ok(Value::Null);
    }
    if let What::Close = what {
        let peer = peers.lock().await.remove(name).context("no such peer")?;
        peer.client.clone().close().await?;
        return Ok(Value::Null);
    }
    if let What::Admit { updates } = what {
        return admit(updates.into_iter().map(Bytes::from).collect());
    }
    let peer = peers.lock().await.get(name).cloned().with_context(|| format!("{name} is not open"))?;
    let document = &peer.document;
    Ok(match what {
        What::Open { .. } | What::Close | What::Admit { .. } => Value::Null,
        What::Edit { operations } => {
            document
                .edit(move |transaction| operations.iter().for_each(|one| apply(transaction, one)))
                .await?;
            Value::Null
        }
        What::Dump => document.read(dump).await?,
        What::Changed { since } => {
            let mut changes = document.changes();
            let count = *changes.wait_for(|count| *count > since).await?;
            count.into()
        }
        What::SavedDevice => document.saved_device().await.map(|()| Value::Null)?,
        What::SavedRelay => document.saved_relay().await.map(|()| Value::Null)?,
        What::Unsent => document.status().borrow().unsent.edits.into(),
        What::Pause => {
            peer.client.pause().await;
            Value::Null
        }
        What::Resume => {
            peer.client.resume().await;
            Value::Null
        }
    })
}

/// Answers what was refused, the pieces that admission handed on, whether something waits for what never came, and what
/// the pieces make with yrs.
fn admit(updates: Vec<Bytes>) -> anyhow::Result<Value> {
    let (mut admitted, doc) = (Admitted::new(), new_doc(0));
    let (mut refused, mut pieces, mut waiting) = (Vec::new(), Vec::new(), updates);
    loop {
        let before = pieces.len();
        let mut still_waiting = Vec::new();
        for update in waiting {
            match admitted.admit(&update) {
                Err(invalid) => refused.push(invalid.code().name()),
                Ok(admission) => {
                    if !admission.is_complete() {
                        still_waiting.push(update);
                    }
                    pieces.extend(admission.pieces);
                }
            }
        }
        waiting = still_waiting;
        if pieces.len() == before {
            break;
        }
    }
    for piece in &pieces {
        doc.transact_mut().apply_update(Update::decode_v1(piece)?)?;
    }
    let pieces: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
    let content = dump(&doc.transact());
    Ok(json!({ "refused": refused, "pieces": pieces, "waiting": waiting.len(), "yrs": content }))
}
