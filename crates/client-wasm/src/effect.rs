//! Effects as JavaScript gets them: one array for each, which begins with a word.
//!
//! - `['edit', document, row, update, edits, made]`
//! - `['received', document, updates, cursor | undefined]`
//! - `['acknowledged', document, rows, sequence]`
//! - `['send', frame]`
//! - `['branch', document, code]`
//! - `['changed', document]`
//! - `['status', document]`
//! - `['delta', document, watch, operations]`
//! - `['token']`
//! - `['close', code | undefined]`

use js_sys::{Array, Object, Reflect, Uint8Array};
use tidewell_sync_core::client::{Effect, ReplicaId};
use tidewell_sync_core::protocol::Cursor;
use tidewell_sync_core::replica::Persist;
use wasm_bindgen::JsValue;

pub(crate) fn to_js(effect: Effect) -> JsValue {
    let word = |word: &str| JsValue::from_str(word);
    let document = |id: ReplicaId| JsValue::from_f64(f64::from(id.0));
    let bytes = |bytes: &[u8]| JsValue::from(Uint8Array::from(bytes));
    let number = |number: u64| JsValue::from_f64(number as f64);
    let effect = match effect {
        Effect::Persist(id, Persist::Edit(row)) => {
            let edits = JsValue::from_f64(f64::from(row.edits));
            let array =
                Array::of5(&word("edit"), &document(id), &number(row.id.0), &bytes(&row.update), &edits);
            array.push(&number(row.made_ms));
            array
        }
        Effect::Persist(id, Persist::Received { updates, cursor }) => {
            let updates: Array = updates.iter().map(|update| bytes(update)).collect();
            Array::of4(&word("received"), &document(id), &updates, &cursor_to_js(cursor))
        }
        Effect::Persist(id, Persist::Acknowledged { rows, sequence }) => {
            let rows: Array = rows.iter().map(|row| number(row.0)).collect();
            Array::of4(&word("acknowledged"), &document(id), &rows, &number(sequence))
        }
        Effect::Send(frame) => Array::of2(&word("send"), &bytes(&frame)),
        Effect::Branch(id, code) => Array::of3(&word("branch"), &document(id), &word(code.name())),
        Effect::Changed(id) => Array::of2(&word("changed"), &document(id)),
        Effect::Status(id) => Array::of2(&word("status"), &document(id)),
        Effect::Token => Array::of1(&word("token")),
        Effect::Close(code) => {
            let code = code.map_or(JsValue::UNDEFINED, |code| word(code.name()));
            Array::of2(&word("close"), &code)
        }
    };
    effect.into()
}

/// `{ epoch, lineage, sequence }`; the first two as text, because no JavaScript number holds them.
pub(crate) fn cursor_to_js(cursor: Option<Cursor>) -> JsValue {
    let Some(cursor) = cursor else { return JsValue::UNDEFINED };
    let object = Object::new();
    let set = |key: &str, value: JsValue| drop(Reflect::set(&object, &key.into(), &value));
    set("epoch", format!("{:016x}", cursor.epoch).into());
    set("lineage", format!("{:016x}", cursor.lineage).into());
    set("sequence", JsValue::from_f64(cursor.sequence as f64));
    object.into()
}

/// A stored cursor. What cannot be read is no cursor: the document is then opened by its state vector.
pub(crate) fn cursor_from_js(value: &JsValue) -> Option<Cursor> {
    let get = |key: &str| Reflect::get(value, &key.into()).ok();
    let hex = |key: &str| u64::from_str_radix(&get(key)?.as_string()?, 16).ok();
    let sequence = get("sequence")?.as_f64().filter(|sequence| *sequence >= 0.0)?;
    Some(Cursor { epoch: hex("epoch")?, lineage: hex("lineage")?, sequence: sequence as u64 })
}
