use super::*;
use crate::store::tests::{Power, directory_on};
use bytes::Bytes;
use std::path::Path;
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

/// An actor with one document, of whose edit the relay has committed some and acknowledges nothing before its answer is
/// complete (RM5).
async fn with_an_edit(folder: &Path, directory: Directory) -> (Actor, ReplicaId) {
    let options =
        Options { paused: true, ..Options::new("ws://127.0.0.1:1/v1/sync", Store::Directory(folder.into())) };
    let (_commands, inbox) = mpsc::channel(1);
    let (mut actor, _connection) = Actor::new(options, None, Some(Arc::new(directory)), inbox).unwrap();
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
    hear(&mut actor, &RelayMessage::Need { channel, state_vector: StateVector::default() });
    hear(&mut actor, &RelayMessage::Updates { channel, through: 1, updates: Vec::new() });
    assert_eq!(actor.core.replica(id).unwrap().cursor().map(|cursor| cursor.sequence), Some(1));
    (actor, id)
}

#[tokio::test]
async fn a_document_asks_for_what_the_relay_has_of_its_branch() {
    let folder = tempfile::tempdir().unwrap();
    let (mut actor, id) = with_an_edit(folder.path(), Directory::open(folder.path()).unwrap()).await;
    hear(&mut actor, &RelayMessage::Refused { channel: id.0, number: 2, code: Code::DocumentFull });

    let refused = actor.refused.recv().await.unwrap();
    actor.branch_off(refused);
    assert_eq!(actor.core.replica(id).unwrap().unsent().edits, 0);
    assert_eq!(positions(actor.core.drain()), [Position::StateVector(StateVector::default())]);
}

#[tokio::test]
async fn whoever_waits_hears_that_edits_are_refused_also_when_the_log_cannot_be_read_to_put_them_aside() {
    let folder = tempfile::tempdir().unwrap();
    let power = Power::default();
    let (mut actor, id) = with_an_edit(folder.path(), directory_on(&power, folder.path())).await;
    while actor.unsaved > 0 {
        let report = actor.reports.recv().await.unwrap();
        actor.report(report);
    }
    power.goes_after(0);
    hear(&mut actor, &RelayMessage::Refused { channel: id.0, number: 2, code: Code::DocumentFull });
    let (reply, mut saved) = oneshot::channel();
    actor.documents.get_mut(&id).unwrap().saved_relay(actor.core.replica(id).unwrap(), reply);
    saved.try_recv().unwrap_err();

    let refused = actor.refused.recv().await.unwrap();
    actor.branch_off(refused);
    let told = saved.try_recv();
    assert!(matches!(told, Ok(Err(SavedError::Refused(Code::DocumentFull)))), "{told:?}");
}
