//! Text deltas across the boundary, as Quill writes them.

use crate::plain::{formats_to_js, from_js, position, set, to_js};
use js_sys::{Array, Object, Reflect};
use tidewell_sync_core::code::Code;
use tidewell_sync_core::draft::TextChange;
use tidewell_sync_core::value::plain;
use wasm_bindgen::{JsCast, JsValue};
use yrs::types::{Attrs, Delta};
use yrs::{Any, ReadTxn};

/// What happened to a watched text in one transaction.
pub(crate) struct TextDelta {
    /// The watch that it is for.
    pub(crate) watch: u32,
    pub(crate) changes: Vec<TextChange>,
}

/// Takes what yrs tells in an observer, where the transaction is still there to read embedded types.
pub(crate) fn from_yrs(delta: &[Delta], tx: &impl ReadTxn) -> Vec<TextChange> {
    let formats = |formats: &Option<Box<Attrs>>| formats.as_deref().cloned().unwrap_or_default();
    let change = |part: &Delta| match part {
        Delta::Inserted(out, attrs) => match plain(out, tx) {
            Any::String(text) => TextChange::Insert(text.to_string(), formats(attrs)),
            value => TextChange::Embed(value, formats(attrs)),
        },
        Delta::Deleted(len) => TextChange::Delete(*len),
        Delta::Retain(len, attrs) => TextChange::Retain(*len, formats(attrs)),
    };
    delta.iter().map(change).collect()
}

/// Makes an array of frozen operations.
pub(crate) fn to_js_array(changes: &[TextChange]) -> JsValue {
    let one = |change: &TextChange| {
        let object = Object::new();
        let formats = match change {
            TextChange::Insert(text, formats) => {
                set(&object, "insert", &JsValue::from_str(text));
                formats
            }
            TextChange::Embed(value, formats) => {
                set(&object, "insert", &to_js(value));
                formats
            }
            TextChange::Retain(len, formats) => {
                set(&object, "retain", &JsValue::from_f64(f64::from(*len)));
                formats
            }
            TextChange::Delete(len) => {
                set(&object, "delete", &JsValue::from_f64(f64::from(*len)));
                return JsValue::from(Object::freeze(&object));
            }
        };
        if !formats.is_empty() {
            set(&object, "attributes", &formats_to_js(formats));
        }
        Object::freeze(&object).into()
    };
    Object::freeze(&changes.iter().map(one).collect::<Array>()).into()
}

/// Reads an array of operations. Each has exactly one of `insert`, `retain` and `delete`.
pub(crate) fn from_js_array(value: &JsValue) -> Result<Vec<TextChange>, Code> {
    let parts: &Array = value.dyn_ref().ok_or(Code::InvalidValue)?;
    parts.iter().map(|part| change_from_js(&part)).collect()
}

fn change_from_js(part: &JsValue) -> Result<TextChange, Code> {
    let get = |key: &str| Reflect::get(part, &key.into()).map_err(|_| Code::InvalidValue);
    let (insert, retain, delete) = (get("insert")?, get("retain")?, get("delete")?);
    let length = |value: &JsValue| value.as_f64().ok_or(Code::InvalidRange).and_then(position);
    let formats = || crate::plain::formats_from_js(get("attributes")?).map(Option::unwrap_or_default);
    match (insert.is_undefined(), retain.is_undefined(), delete.is_undefined()) {
        (false, true, true) => match insert.as_string() {
            Some(text) => Ok(TextChange::Insert(text, formats()?)),
            None => Ok(TextChange::Embed(from_js(&insert)?, formats()?)),
        },
        (true, false, true) => Ok(TextChange::Retain(length(&retain)?, formats()?)),
        (true, true, false) => Ok(TextChange::Delete(length(&delete)?)),
        _ => Err(Code::InvalidValue),
    }
}
