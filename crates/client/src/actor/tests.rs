use super::*;
use bytes::Bytes;
use tidewell_sync_core::limits::{FRAME_BYTES_MAX, UPDATE_BYTES_MAX};
use tidewell_sync_core::protocol::{Access, ClientMessage, Position, RelayMessage, Resume};
use tidewell_sync_core::state_vector::StateVector;
use yrs::{Text, WriteTxn};

/// The core hears what a relay would say.
fn hear(actor: &mut Actor, message: &RelayMessage) {
    let mut frame = Vec::new();
    message.write(&mut frame);
    actor.core.frame(frame.into(), 0);
    actor.settle();
}

/// How documents are opened in these frames.
fn positions(effects: Vec<Effect>) -> Vec<Position> {
    let frames = effects.into_iter().filter_map(|effect| match effect {
        Effect::Send(frame) => Some(frame),
        _ => None,
    });
    let messages = frames.flat_map(|frame: Bytes| ClientMessage::read_all(&frame).unwrap());
    let positions = messages.filter_map(|message| match message {
        ClientMessage::Open { position, .. } => Some(position),
        _ => None,
    });
    positions.collect()
}

#[tokio::test]
async fn a_document_asks_for_what_the_relay_has_of_its_branch() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        paused: true,
        ..Options::new("ws://127.0.0.1:1/v1/sync", Store::Directory(folder.path().into()))
    };
    let directory = Arc::new(Directory::open(folder.path()).unwrap());
    let (_commands, inbox) = mpsc::channel(1);
    let (mut actor, _connection) = Actor::new(options, None, Some(directory), inbox).unwrap();
    let (reply, opened) = oneshot::channel();
    actor.open(DocumentName::parse("acme/list/42").unwrap(), reply);
    let loaded = actor.loaded.recv().await.unwrap();
    actor.loaded(loaded);
    let id = opened.await.unwrap().unwrap().replica;
    let channel = id.0;

    actor.core.connected(String::new(), 0);
    let (frame_bytes_max, update_bytes_max) = (FRAME_BYTES_MAX as u64, UPDATE_BYTES_MAX as u64);
    hear(&mut actor, &RelayMessage::Welcome { lineage: 7, time_ms: 0, frame_bytes_max, update_bytes_max });
    let (access, resume) = (Access::Write, Resume::Continues);
    hear(&mut actor, &RelayMessage::Opened { channel, access, epoch: 1, sequence: 0, resume });
    let edit = |transaction: &mut yrs::TransactionMut<'_>| {
        transaction.get_or_insert_text("t").insert(transaction, 0, "x");
    };
    actor.core.with(id, |replica| replica.edit(0, 1, edit));
    // The relay has committed some of it, and acknowledges nothing before the answer is complete (RM5).
    hear(&mut actor, &RelayMessage::Need { channel, state_vector: StateVector::default() });
    hear(&mut actor, &RelayMessage::Updates { channel, through: 1, updates: Vec::new() });
    assert_eq!(actor.core.replica(id).unwrap().cursor().map(|cursor| cursor.sequence), Some(1));
    hear(&mut actor, &RelayMessage::Refused { channel, number: 2, code: Code::DocumentFull });

    let refused = actor.refused.recv().await.unwrap();
    actor.branch_off(refused);
    assert_eq!(actor.core.replica(id).unwrap().unsent().edits, 0);
    assert_eq!(positions(actor.core.drain()), [Position::StateVector(StateVector::default())]);
}
