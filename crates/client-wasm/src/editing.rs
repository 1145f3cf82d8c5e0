//! Edits: into the draft of a document, and with it into the document.

use crate::core::Core;
use crate::document::Document;
use crate::fail;
use crate::plain::{formats_from_js, integer, new_value_from_js, path_from_js, position};
use tidewell_sync_core::client::ReplicaId;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::draft::Draft;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use yrs::{Transact, Transaction};

#[wasm_bindgen]
impl Core {
    /// Puts text into a text. Without `formats` it takes those before it.
    ///
    /// # Errors
    /// `invalid_path`, `invalid_range`, `invalid_value`, `update_too_large`.
    pub fn text_insert(
        &mut self,
        id: u32,
        path: &JsValue,
        index: f64,
        text: &str,
        formats: JsValue,
    ) -> Result<(), JsValue> {
        self.draft(id, |draft, tx| {
            let formats = formats_from_js(formats)?;
            draft.text_insert(tx, &path_from_js(path)?, position(index)?, text, formats)
        })
    }

    /// Takes a part out of a text.
    ///
    /// # Errors
    /// `invalid_path`, `invalid_range`.
    pub fn text_delete(&mut self, id: u32, path: &JsValue, index: f64, len: f64) -> Result<(), JsValue> {
        self.draft(id, |draft, tx| {
            draft.text_delete(tx, &path_from_js(path)?, position(index)?, position(len)?)
        })
    }

    /// Puts formats on a part of a text.
    ///
    /// # Errors
    /// `invalid_path`, `invalid_range`, `invalid_value`.
    pub fn text_format(
        &mut self,
        id: u32,
        path: &JsValue,
        index: f64,
        len: f64,
        formats: JsValue,
    ) -> Result<(), JsValue> {
        self.draft(id, |draft, tx| {
            let formats = formats_from_js(formats)?.ok_or(Code::InvalidValue)?;
            draft.text_format(tx, &path_from_js(path)?, position(index)?, position(len)?, formats)
        })
    }

    /// Applies a delta to a text: all of it or nothing.
    ///
    /// # Errors
    /// `invalid_path`, `invalid_range`, `invalid_value`, `update_too_large`.
    pub fn text_delta(&mut self, id: u32, path: &JsValue, delta: &JsValue) -> Result<(), JsValue> {
        self.draft(id, |draft, tx| {
            draft.text_delta(tx, &path_from_js(path)?, &crate::delta::from_js_array(delta)?)
        })
    }

    /// Puts values into a list.
    ///
    /// # Errors
    /// `invalid_path`, `invalid_range`, `invalid_value`, `update_too_large`.
    pub fn list_insert(
        &mut self,
        id: u32,
        path: &JsValue,
        index: f64,
        values: Vec<JsValue>,
    ) -> Result<(), JsValue> {
        self.draft(id, |draft, tx| {
            let values = values.iter().map(new_value_from_js).collect::<Result<_, _>>()?;
            draft.list_insert(tx, &path_from_js(path)?, position(index)?, values)
        })
    }

    /// Takes elements out of a list.
    ///
    /// # Errors
    /// `invalid_path`, `invalid_range`.
    pub fn list_delete(&mut self, id: u32, path: &JsValue, index: f64, len: f64) -> Result<(), JsValue> {
        self.draft(id, |draft, tx| {
            draft.list_delete(tx, &path_from_js(path)?, position(index)?, position(len)?)
        })
    }

    /// Sets an entry of a map.
    ///
    /// # Errors
    /// `invalid_path`, `invalid_value`, `update_too_large`.
    pub fn map_set(&mut self, id: u32, path: &JsValue, key: &str, value: &JsValue) -> Result<(), JsValue> {
        self.draft(id, |draft, tx| draft.map_set(tx, &path_from_js(path)?, key, new_value_from_js(value)?))
    }

    /// Takes an entry out of a map.
    ///
    /// # Errors
    /// `invalid_path`.
    pub fn map_delete(&mut self, id: u32, path: &JsValue, key: &str) -> Result<(), JsValue> {
        self.draft(id, |draft, tx| draft.map_delete(tx, &path_from_js(path)?, key))
    }

    /// Adds to a counter.
    ///
    /// # Errors
    /// `invalid_path`, `invalid_value`.
    pub fn counter_add(&mut self, id: u32, path: &JsValue, by: f64) -> Result<(), JsValue> {
        self.draft(id, |draft, tx| draft.counter_add(tx, &path_from_js(path)?, integer(Some(by))?))
    }

    /// Forgets the draft.
    pub fn discard(&mut self, id: u32) {
        if let Some(document) = self.documents.get_mut(id) {
            document.draft.clear();
        }
    }

    /// Writes the draft into the document as one transaction; it counts as `edits`.
    pub fn commit(&mut self, id: u32, now_ms: f64, edits: u32) {
        let Core { client, documents } = self;
        let Some(Document { draft, .. }) = documents.get_mut(id) else { return };
        if !draft.is_empty() {
            client.with(ReplicaId(id), |replica| replica.write(now_ms as u64, edits, draft));
            self.take_note(id);
        }
    }

    pub(crate) fn draft<T>(
        &mut self,
        id: u32,
        edit: impl FnOnce(&mut Draft, &Transaction<'_>) -> Result<T, Code>,
    ) -> Result<T, JsValue> {
        let Core { client, documents } = self;
        match (client.replica(ReplicaId(id)), documents.get_mut(id)) {
            (Some(replica), Some(document)) => {
                edit(&mut document.draft, &replica.doc().transact()).map_err(fail)
            }
            _ => Err(fail(Code::Closed)),
        }
    }
}
