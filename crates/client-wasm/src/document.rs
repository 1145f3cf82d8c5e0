//! What this module keeps for one open document besides its replica.

use crate::delta::TextDelta;
use crate::shared_value::SharedValues;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use tidewell_sync_core::draft::Draft;
use tidewell_sync_core::path::Kind;
use tidewell_sync_core::replica::Replica;
use wasm_bindgen::JsValue;
use yrs::BranchID;

/// Drafts, values and watches of one document.
pub(crate) struct Document {
    pub(crate) draft: Draft,
    pub(crate) values: SharedValues,
    /// The whole document's value, until something changes.
    pub(crate) value: Option<JsValue>,
    /// Root types that the application has named: they are there, empty, before anything is in them.
    pub(crate) declared: Vec<(Arc<str>, Declared)>,
    pub(crate) next_watch: u32,
    /// The texts that are watched, by the watch. Not their paths: those lead elsewhere when a list has changed.
    pub(crate) watched: Vec<(u32, BranchID)>,
    /// What observers have seen since the last drain.
    pub(crate) deltas: Rc<RefCell<Vec<TextDelta>>>,
}

/// What an application uses a root type as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Declared {
    Shared(Kind),
    Counter,
}

impl Document {
    pub(crate) fn new(counter_key: &str) -> Self {
        Document {
            draft: Draft::new(counter_key),
            values: SharedValues::default(),
            value: None,
            declared: Vec::new(),
            next_watch: 0,
            watched: Vec::new(),
            deltas: Rc::default(),
        }
    }

    /// Takes note of what has changed in the document.
    pub(crate) fn take_note(&mut self, replica: &mut Replica) {
        let touched = replica.take_touched();
        if touched.is_empty() {
            return;
        }
        self.value = None;
        self.values.changed(&touched);
    }
}
