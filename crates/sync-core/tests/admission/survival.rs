//! Whatever admission lets in, yrs survives, and goes on to work.

use crate::dice::Dice;
use crate::history::{History, Shape, apply, new_doc, state};
use crate::mutation::Parts;
use crate::oracle::{Guarded, state_vector};
use bytes::Bytes;
use std::sync::OnceLock;
use tidewell_sync_core::admission::Admitted;
use tidewell_sync_core::state_vector::StateVector;
use tidewell_sync_core::update::{Id, Scan, diff, merge};
use yrs::updates::encoder::Encode;
use yrs::{
    Any, Array, Doc, Map, Observable, ReadTxn, Text, Transact, WriteTxn, XmlElementPrelim, XmlFragment,
    diff_updates_v1, merge_updates_v1,
};

/// Logs that mutants are made of.
fn logs() -> &'static [Vec<Bytes>] {
    static LOGS: OnceLock<Vec<Vec<Bytes>>> = OnceLock::new();
    LOGS.get_or_init(|| {
        let log = |seed| {
            let mut dice = Dice::seeded(seed);
            let shape =
                Shape { authors: 3, edits: 40, subdocuments: seed % 5 == 0, cuts_emoji: seed % 2 == 0 };
            History::random(&mut dice, shape).log
        };
        (0..24).map(log).collect()
    })
}

/// Prints what was offered when something fails, so that it can become a test.
struct Transcript(Vec<Bytes>);

impl Drop for Transcript {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for update in &self.0 {
                let hex: String = update.iter().map(|byte| format!("{byte:02x}")).collect();
                eprintln!("offered {hex}");
            }
        }
    }
}

/// One document that is offered mutants of valid updates, as `dice` has it.
pub(crate) fn survive(dice: &mut Dice) {
    let log = dice.pick(logs()).clone();
    let mut transcript = Transcript(Vec::new());
    let mut guarded = Guarded::new();
    // As the client watches texts.
    let watched = guarded.doc.get_or_insert_text("t");
    watched.observe("watch", |txn, event| {
        event.delta(txn);
    });
    let mut taken: Vec<Bytes> = Vec::new();
    let known = dice.below(log.len());
    let base = merge(&log[..known]).expect("a history is a log").to_owned();
    take(&mut guarded, &base, &mut taken, &mut transcript);
    for _ in 0..1 + dice.below(4) {
        let mutant = mutant(dice, &log, known, &guarded.admitted);
        take(&mut guarded, &mutant, &mut taken, &mut transcript);
    }
    goes_on(&mut guarded, &mut taken, &mut transcript);
    is_kept(&guarded, &taken, dice);
}

fn mutant(dice: &mut Dice, log: &[Bytes], known: usize, admitted: &Admitted) -> Bytes {
    let from = if dice.once_in(2) { known } else { dice.below(log.len()) };
    let until = (from + 1 + dice.below(12)).min(log.len());
    changed(dice, &merge_of(&log[from..until]), log, admitted)
}

/// A valid update in which a few things are not as they were.
fn changed(dice: &mut Dice, update: &Bytes, log: &[Bytes], admitted: &Admitted) -> Bytes {
    let mut parts = Parts::of(update);
    let other = Parts::of(dice.pick(log));
    // IDs that are known, and some just beyond.
    let mut ids: Vec<Id> = Vec::new();
    for (client, clock) in admitted.state_vector().iter() {
        ids.extend((0..clock + 2).map(|clock| Id { client, clock }));
    }
    for _ in 0..1 + dice.below(6) {
        parts.mutate(dice, &ids, &other);
    }
    let mut bytes = parts.written().to_vec();
    if dice.once_in(8) {
        let at = dice.below(bytes.len());
        bytes[at] ^= 1 << dice.below(8);
    }
    bytes.into()
}

fn merge_of(updates: &[Bytes]) -> Bytes {
    merge(updates).unwrap_or_else(|_| updates[0].clone())
}

/// Changes an update that is offered to a document of one of the histories. What is none becomes one of that history's.
#[allow(dead_code, reason = "used by the fuzz targets, which share this file")]
pub(crate) fn changed_offer(dice: &mut Dice, update: &Bytes, log: usize, known: usize) -> Bytes {
    let updates = &logs()[log % logs().len()];
    let update = if Scan::new(update).is_ok() { update } else { dice.pick(updates) };
    changed(dice, update, updates, known_part(log, known))
}

/// The admitted state of one of the histories, as far as it is known.
pub(crate) fn known_part(log: usize, known: usize) -> &'static Admitted {
    static STATES: OnceLock<Vec<Vec<Admitted>>> = OnceLock::new();
    let states = STATES.get_or_init(|| logs().iter().map(|log| states_of(log)).collect());
    let states = &states[log % states.len()];
    &states[known % states.len()]
}

/// What is admitted before and after each update.
fn states_of(log: &[Bytes]) -> Vec<Admitted> {
    let mut states = vec![Admitted::new()];
    let mut admitted = Admitted::new();
    for update in log {
        admitted.admit(update).expect("histories are admissible");
        states.push(admitted.clone());
    }
    states
}

/// Offers an update. Checks that a refusal leaves no trace, that the pieces are what was admitted, and that
/// a second offer adds nothing.
pub(crate) fn taken_pieces(admitted: &mut Admitted, update: &Bytes) -> Vec<Bytes> {
    let before = admitted.clone();
    let Ok(admission) = admitted.admit(update) else {
        assert_eq!(before, *admitted, "ad10: a refused update left a trace");
        return Vec::new();
    };
    let mut one_by_one = before;
    for piece in &admission.pieces {
        assert!(one_by_one.admit(piece).expect("a piece is admissible").is_complete());
    }
    assert_eq!(one_by_one, *admitted, "the pieces are not what was admitted");
    let again = admitted.clone().admit(update).expect("it was admitted before");
    assert!(
        again.pieces.is_empty() && again.missing == admission.missing,
        "ad21: a second offer added something"
    );
    admission.pieces
}

/// Offers an update and applies what was admitted, each piece of which is closed.
fn take(guarded: &mut Guarded, update: &Bytes, taken: &mut Vec<Bytes>, transcript: &mut Transcript) {
    transcript.0.push(update.clone());
    let pieces = taken_pieces(&mut guarded.admitted, update);
    for piece in &pieces {
        apply(&guarded.doc, piece);
        assert!(!guarded.doc.transact().has_missing_updates(), "a piece is not closed");
    }
    assert_eq!(guarded.admitted.state_vector(), state_vector(&guarded.doc));
    taken.extend(pieces);
}

/// Somebody else goes on to edit the document.
fn goes_on(guarded: &mut Guarded, taken: &mut Vec<Bytes>, transcript: &mut Transcript) {
    read(&guarded.doc);
    let other = new_doc(555, false);
    apply(&other, &state(&guarded.doc));
    for round in 0..2 {
        let mut txn = other.transact_mut();
        let (text, array, map, xml) = (
            txn.get_or_insert_text("t"),
            txn.get_or_insert_array("a"),
            txn.get_or_insert_map("m"),
            txn.get_or_insert_xml_fragment("x"),
        );
        if round == 0 {
            text.push(&mut txn, "the end");
            text.insert(&mut txn, 0, "the beginning");
            array.push_back(&mut txn, 1);
            map.insert(&mut txn, "k", Any::from("v"));
            xml.push_back(&mut txn, XmlElementPrelim::empty("hr"));
        } else {
            let (text_len, array_len) = (text.len(&txn), array.len(&txn));
            text.remove_range(&mut txn, 0, text_len.min(9));
            array.remove_range(&mut txn, 0, array_len.min(3));
            map.clear(&mut txn);
            let xml_len = xml.len(&txn);
            xml.remove_range(&mut txn, 0, xml_len.min(3));
        }
        let update = Bytes::from(txn.encode_update_v1());
        drop(txn);
        let before = guarded.admitted.clock(555);
        take(guarded, &update, taken, transcript);
        assert!(round == 1 || guarded.admitted.clock(555) > before, "a legitimate edit was trimmed");
    }
    read(&guarded.doc);
}

/// Reads everything in every way that the product reads it.
fn read(doc: &Doc) {
    let txn = doc.transact();
    tidewell_sync_core::value::document(&txn);
    if let Some(text) = txn.get_text("t") {
        text.diff(&txn, yrs::types::text::YChange::identity);
    }
    if let Some(xml) = txn.get_xml_fragment("x") {
        yrs::GetString::get_string(&xml, &txn);
    }
}

/// The log can be merged, cut, encoded and loaded again.
fn is_kept(guarded: &Guarded, taken: &[Bytes], dice: &mut Dice) {
    let merged = merge(taken).expect("pieces are a log");
    let mut again = Guarded::new();
    again.take_whole(&merged);
    assert_eq!(again.admitted, guarded.admitted, "up1: the merged log is another document");
    // Not compared: items whose neighbours stand in the wrong order converge nowhere, Yjs included.
    read(&again.doc);

    let known: StateVector = guarded
        .admitted
        .state_vector()
        .iter()
        .map(|(id, clock)| (id, dice.below(clock as usize + 1) as u32))
        .collect();
    let rest = diff(&merged, &known).expect("what was merged can be read");
    let vector = yrs::StateVector::decode_of(&known).encode_v1();
    let theirs: Bytes = diff_updates_v1(&merged, &vector).expect("yrs cuts what was admitted").into();
    let mut admitted = guarded.admitted.clone();
    for cut in rest.iter().chain([&theirs]) {
        let admission = admitted.admit(cut).expect("a diff is admissible");
        assert!(admission.pieces.is_empty() && admission.is_complete());
    }

    let theirs: Bytes = merge_updates_v1(taken).expect("yrs merges what was admitted").into();
    again.take_whole(&theirs);

    let whole = state(&guarded.doc);
    let mut loaded = Guarded::new();
    loaded.take_whole(&whole);
    assert_eq!(loaded.admitted.state_vector(), guarded.admitted.state_vector());
    assert!(loaded.admitted.covers_deletes_of(&guarded.admitted));
    read(&loaded.doc);
}

trait DecodeOf {
    fn decode_of(vector: &StateVector) -> Self;
}

impl DecodeOf for yrs::StateVector {
    fn decode_of(vector: &StateVector) -> Self {
        <yrs::StateVector as yrs::updates::decoder::Decode>::decode_v1(&vector.encode())
            .expect("a state vector")
    }
}
