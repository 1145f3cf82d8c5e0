//! Edits as data, for random tests that are driven from outside, and what a document holds as JSON.
//!
//! Roots: `t` is a text, `m` a map, `a` an array, `x` an XML fragment. Positions are parts of the length,
//! from 0 to 1, because whoever asks need not know the document.

use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use tidewell_client::yrs::types::text::{TextPrelim, YChange};
use tidewell_client::yrs::types::{Attrs, ToJson};
use tidewell_client::yrs::updates::encoder::Encode;
use tidewell_client::yrs::{
    Any, Array, GetString, Map, Out, ReadTxn, StateVector, Text, Transaction, TransactionMut, WriteTxn, Xml,
    XmlElementPrelim, XmlFragment, XmlOut, XmlTextPrelim,
};

/// One operation of an edit.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Operation {
    /// Into the text.
    Insert { at: f64, text: String, attributes: Option<HashMap<String, Value>> },
    /// An embed into the text.
    Embed { at: f64, value: Value },
    /// From the text.
    Delete { at: f64, length: u32 },
    /// A part of the text; `null` takes an attribute away.
    Format { at: f64, length: u32, attributes: HashMap<String, Value> },
    /// A value of the map.
    Set { key: String, value: Value },
    /// A text of its own as a value of the map.
    SetText { key: String, text: String },
    /// From the map.
    Unset { key: String },
    /// Into the array.
    Add { at: f64, value: Value },
    /// From the array.
    Remove { at: f64, length: u32 },
    /// An element with a text in it, into the fragment.
    Element { at: f64, tag: String, text: String },
    /// An attribute of an element of the fragment.
    Attribute { at: f64, key: String, value: String },
    /// From the fragment.
    Prune { at: f64 },
}

/// A position in something of `length`, up to and with its end.
fn position(at: f64, length: u32) -> u32 {
    (at * f64::from(length + 1)) as u32
}

/// The part of `length` units at most that begins at a position in something of `all`.
fn part(at: f64, length: u32, all: u32) -> Option<(u32, u32)> {
    let start = position(at, all.checked_sub(1)?);
    Some((start, length.min(all - start)))
}

/// A JSON value as yrs has it: whole numbers as JavaScript writes them.
fn any(value: &Value) -> Any {
    Any::from_json(&value.to_string()).unwrap()
}

fn attrs(attributes: &HashMap<String, Value>) -> Attrs {
    attributes.iter().map(|(key, value)| (key.as_str().into(), any(value))).collect()
}

/// Carries out an operation.
pub fn apply(transaction: &mut TransactionMut<'_>, operation: &Operation) {
    match operation {
        Operation::Insert { .. }
        | Operation::Embed { .. }
        | Operation::Delete { .. }
        | Operation::Format { .. } => {
            apply_to_text(transaction, operation);
        }
        Operation::Set { key, value } => {
            transaction.get_or_insert_map("m").insert(transaction, key.as_str(), any(value));
        }
        Operation::SetText { key, text } => {
            transaction.get_or_insert_map("m").insert(
                transaction,
                key.as_str(),
                TextPrelim::new(text.as_str()),
            );
        }
        Operation::Unset { key } => {
            transaction.get_or_insert_map("m").remove(transaction, key);
        }
        Operation::Add { at, value } => {
            let array = transaction.get_or_insert_array("a");
            let index = position(*at, array.len(transaction));
            array.insert(transaction, index, any(value));
        }
        Operation::Remove { at, length } => {
            let array = transaction.get_or_insert_array("a");
            if let Some((index, length)) = part(*at, *length, array.len(transaction)) {
                array.remove_range(transaction, index, length);
            }
        }
        Operation::Element { .. } | Operation::Attribute { .. } | Operation::Prune { .. } => {
            apply_to_xml(transaction, operation);
        }
    }
}

fn apply_to_text(transaction: &mut TransactionMut<'_>, operation: &Operation) {
    let root = transaction.get_or_insert_text("t");
    let all = root.len(transaction);
    match operation {
        Operation::Insert { at, text, attributes: None } => {
            root.insert(transaction, position(*at, all), text)
        }
        Operation::Insert { at, text, attributes: Some(attributes) } => {
            root.insert_with_attributes(transaction, position(*at, all), text, attrs(attributes));
        }
        Operation::Embed { at, value } => {
            root.insert_embed(transaction, position(*at, all), any(value));
        }
        Operation::Delete { at, length } => {
            if let Some((index, length)) = part(*at, *length, all) {
                root.remove_range(transaction, index, length);
            }
        }
        Operation::Format { at, length, attributes } => {
            if let Some((index, length)) = part(*at, *length, all) {
                root.format(transaction, index, length, attrs(attributes));
            }
        }
        _ => {}
    }
}

fn apply_to_xml(transaction: &mut TransactionMut<'_>, operation: &Operation) {
    let root = transaction.get_or_insert_xml_fragment("x");
    let all = root.len(transaction);
    match operation {
        Operation::Element { at, tag, text } => {
            let element = root.insert(transaction, position(*at, all), XmlElementPrelim::empty(tag.as_str()));
            element.insert(transaction, 0, XmlTextPrelim::new(text.as_str()));
        }
        Operation::Attribute { at, key, value } => {
            let node = part(*at, 1, all).and_then(|(index, _)| root.get(transaction, index));
            if let Some(XmlOut::Element(element)) = node {
                element.insert_attribute(transaction, key.as_str(), value.as_str());
            }
        }
        Operation::Prune { at } => {
            if let Some((index, _)) = part(*at, 1, all) {
                root.remove_range(transaction, index, 1);
            }
        }
        _ => {}
    }
}

fn json_of(any: &Any) -> Value {
    let mut text = String::new();
    any.to_json(&mut text);
    serde_json::from_str(&text).unwrap()
}

/// What a document holds as yrs reads it, the whole of it as an update for others to read, and its state
/// vector, both in hexadecimal.
pub fn dump(transaction: &Transaction<'_>) -> Value {
    let text = transaction.get_text("t").map(|text| {
        let parts = text.diff(transaction, YChange::identity).into_iter().map(|part| {
            let insert = match part.insert {
                Out::Any(any) => json_of(&any),
                other => json_of(&other.to_json(transaction)),
            };
            match part.attributes {
                None => json!({ "insert": insert }),
                Some(attributes) => {
                    let attributes: serde_json::Map<String, Value> =
                        attributes.iter().map(|(key, any)| (key.to_string(), json_of(any))).collect();
                    json!({ "insert": insert, "attributes": attributes })
                }
            }
        });
        parts.collect::<Vec<Value>>()
    });
    let map = transaction.get_map("m").map(|map| json_of(&map.to_json(transaction)));
    let array = transaction.get_array("a").map(|array| json_of(&array.to_json(transaction)));
    let xml = transaction.get_xml_fragment("x").map(|xml| xml.get_string(transaction));
    json!({
        "text": text.unwrap_or_default(),
        "map": map.unwrap_or_else(|| json!({})),
        "array": array.unwrap_or_else(|| json!([])),
        "xml": xml.unwrap_or_default(),
        "update": hex(&transaction.encode_diff_v1(&StateVector::default())),
        "state_vector": hex(&transaction.state_vector().encode_v1()),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
