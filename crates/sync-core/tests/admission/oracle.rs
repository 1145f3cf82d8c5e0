//! What yrs makes of admitted pieces, as plain values that can be compared.

use crate::history::{apply, new_doc, state};
use bytes::Bytes;
use tidewell_sync_core::admission::{Admission, Admitted};
use tidewell_sync_core::state_vector::StateVector;
use tidewell_sync_core::update::{DeleteSet, Scan};
use yrs::types::ToJson;
use yrs::types::text::YChange;
use yrs::{Doc, GetString, ReadTxn, Text, Transact};

/// A document behind its door: pieces are applied as they are admitted.
pub(crate) struct Guarded {
    pub(crate) admitted: Admitted,
    pub(crate) doc: Doc,
}

impl Guarded {
    pub(crate) fn new() -> Self {
        Guarded { admitted: Admitted::new(), doc: new_doc(11, false) }
    }

    /// Admits an update that must not be refused, applies its pieces and checks that yrs has nothing
    /// left to wait for after each of them.
    pub(crate) fn take(&mut self, update: &Bytes) -> Admission {
        let admission = self.admitted.admit(update).expect("this update is admissible");
        for piece in &admission.pieces {
            apply(&self.doc, piece);
            assert!(!self.doc.transact().has_missing_updates(), "a piece is not closed");
        }
        assert_eq!(self.admitted.state_vector(), state_vector(&self.doc));
        admission
    }

    /// As [`Guarded::take`], and all of it was taken.
    pub(crate) fn take_whole(&mut self, update: &Bytes) -> Admission {
        let admission = self.take(update);
        assert_eq!(admission.missing, [], "something was trimmed");
        admission
    }

    /// Checks that everything admitted as deleted is deleted in yrs.
    pub(crate) fn check_deletes(&self) {
        let deleted = deletes(&self.doc);
        for (client, ranges) in self.admitted.deletes() {
            let found = deleted.iter().find(|(of, _)| *of == client).map(|(_, ranges)| ranges);
            assert!(found.is_some_and(|found| found.covers(ranges)), "client {client} lacks deletions");
        }
    }
}

/// The state vector of a yrs document.
pub(crate) fn state_vector(doc: &Doc) -> StateVector {
    doc.transact().state_vector().iter().map(|(client, clock)| (client.get(), *clock)).collect()
}

/// The deletions of a yrs document.
pub(crate) fn deletes(doc: &Doc) -> DeleteSet {
    Scan::new(&state(doc)).expect("yrs writes readable states").delete_set()
}

/// Everything that a user could see of a document.
pub(crate) fn contents(doc: &Doc) -> String {
    let (text, array, map, xml) = (
        doc.get_or_insert_text("t"),
        doc.get_or_insert_array("a"),
        doc.get_or_insert_map("m"),
        doc.get_or_insert_xml_fragment("x"),
    );
    let txn = doc.transact();
    let runs: Vec<String> = text
        .diff(&txn, YChange::identity)
        .into_iter()
        .map(|run| {
            let attributes = run.attributes.map(|attributes| {
                let entries = attributes.iter().map(|(key, value)| (key.to_string(), value.clone()));
                sorted(&yrs::Any::Map(std::sync::Arc::new(entries.collect())))
            });
            format!("{} {attributes:?}", sorted(&run.insert.to_json(&txn)))
        })
        .collect();
    let (array, map) = (sorted(&array.to_json(&txn)), sorted(&map.to_json(&txn)));
    format!("{runs:#?}\n{array}\n{map}\n{}", xml.get_string(&txn))
}

/// Both documents show the same and have the same history.
pub(crate) fn assert_same(left: &Doc, right: &Doc) {
    let (left_shows, right_shows) = (contents(left), contents(right));
    if let Some((left, right)) =
        left_shows.lines().zip(right_shows.lines()).find(|(left, right)| left != right)
    {
        panic!("the documents differ, first in:\n{left}\n{right}");
    }
    assert_eq!(left_shows.len(), right_shows.len());
    assert_eq!(state_vector(left), state_vector(right));
    assert_eq!(deletes(left), deletes(right));
}

/// JSON-like text with the keys of maps in order.
fn sorted(any: &yrs::Any) -> String {
    match any {
        yrs::Any::Map(entries) => {
            let mut entries: Vec<_> =
                entries.iter().map(|(key, value)| format!("{key:?}: {}", sorted(value))).collect();
            entries.sort();
            format!("{{{}}}", entries.join(", "))
        }
        yrs::Any::Array(values) => format!("{:?}", values.iter().map(sorted).collect::<Vec<_>>()),
        // Whole numbers come back as integers or as floats, depending on their size.
        yrs::Any::Number(number) => format!("{:?}", number.as_f64()),
        other => format!("{other:?}"),
    }
}
