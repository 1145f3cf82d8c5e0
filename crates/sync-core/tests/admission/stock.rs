//! Updates made by stock Yjs (`tests/fixtures/generate.mjs`): whatever form they come in, all is admitted
//! in the end, and yrs then shows what Yjs showed.

use crate::history::{apply, new_doc};
use crate::oracle::Guarded;
use bytes::Bytes;
use serde_json::{Map, Number, Value};
use tidewell_sync_core::update::merge;
use yrs::types::ToJson;
use yrs::{Any, Doc, GetString, Transact};

struct Stock {
    name: String,
    updates: Vec<Bytes>,
    shown: Value,
}

fn stock() -> Vec<Stock> {
    include_str!("../fixtures/stock.jsonl")
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let updates = line["updates"].as_array().unwrap().iter();
            Stock {
                name: line["name"].as_str().unwrap().to_owned(),
                updates: updates.map(|update| base64(update.as_str().unwrap())).collect(),
                shown: line["shown"].clone(),
            }
        })
        .collect()
}

fn base64(text: &str) -> Bytes {
    let digit = |char: u8| match char {
        b'A'..=b'Z' => char - b'A',
        b'a'..=b'z' => char - b'a' + 26,
        b'0'..=b'9' => char - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let (mut out, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for char in text.bytes().filter(|char| *char != b'=') {
        bits = bits << 6 | u32::from(digit(char));
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out.into()
}

/// A value as the generator writes it in JSON.
fn json(any: &Any) -> Value {
    match any {
        Any::Null | Any::Undefined => Value::Null,
        Any::Bool(value) => Value::Bool(*value),
        Any::Number(yrs::Number::Int(value)) if value.unsigned_abs() >= 1 << 53 => {
            Value::String(format!("bigint {value}"))
        }
        Any::Number(value) => Number::from_f64(value.as_f64().unwrap()).map_or(Value::Null, Value::Number),
        Any::String(text) => Value::String(text.to_string()),
        Any::Buffer(_) => Value::String("bytes AP+A".into()),
        Any::Array(values) => Value::Array(values.iter().map(json).collect()),
        Any::Map(entries) => Value::Object(
            // JSON.stringify leaves out what is undefined.
            entries
                .iter()
                .filter(|(_, value)| **value != Any::Undefined)
                .map(|(key, value)| (key.clone(), json(value)))
                .collect::<Map<_, _>>(),
        ),
    }
}

/// All numbers as floats, so that 1 equals 1.0.
fn floats(value: &Value) -> Value {
    match value {
        Value::Number(number) => {
            Number::from_f64(number.as_f64().unwrap()).map_or(Value::Null, Value::Number)
        }
        Value::Array(values) => Value::Array(values.iter().map(floats).collect()),
        Value::Object(entries) => {
            Value::Object(entries.iter().map(|(key, value)| (key.clone(), floats(value))).collect())
        }
        other => other.clone(),
    }
}

fn shows_the_same(doc: &Doc, stock: &Stock) {
    let (text, array, map, xml) = (
        doc.get_or_insert_text("t"),
        doc.get_or_insert_array("a"),
        doc.get_or_insert_map("m"),
        doc.get_or_insert_xml_fragment("x"),
    );
    let txn = doc.transact();
    let name = &stock.name;
    assert_eq!(text.get_string(&txn), stock.shown["t"], "{name}");
    assert_eq!(json(&array.to_json(&txn)), floats(&stock.shown["a"]), "{name}");
    assert_eq!(json(&map.to_json(&txn)), floats(&stock.shown["m"]), "{name}");
    assert_eq!(xml.get_string(&txn), stock.shown["x"], "{name}");
}

#[test]
fn ad12_everything_that_stock_yjs_makes_is_admitted_as_far_as_it_is_closed() {
    for stock in stock() {
        let mut guarded = Guarded::new();
        let in_order = ["in order", "state", "diff"].iter().any(|form| stock.name.ends_with(form));
        for update in &stock.updates {
            let admission = guarded.take(update);
            assert!(admission.is_complete() || !in_order, "{}: {:?}", stock.name, admission.missing);
        }
        // What waited for the rest is offered again, as its sender would.
        for _ in 0..30 {
            stock.updates.iter().for_each(|update| drop(guarded.take(update)));
        }
        for update in &stock.updates {
            assert_eq!(guarded.take(update).missing, [], "{}", stock.name);
        }
        shows_the_same(&guarded.doc, &stock);
        guarded.check_deletes();
    }
}

#[test]
fn ad12_holes_of_stock_yjs_are_asked_about() {
    let mut holes = 0;
    for stock in stock().into_iter().filter(|stock| stock.name.contains("then the rest")) {
        let mut guarded = Guarded::new();
        let trimmed = stock.updates.iter().filter(|update| !guarded.take(update).is_complete()).count();
        assert!(trimmed > 0, "{}", stock.name);
        holes += trimmed;
    }
    assert!(holes >= 10, "the fixtures have holes");
}

#[test]
fn up1_logs_of_stock_yjs_are_merged_without_change() {
    for stock in stock().into_iter().filter(|stock| stock.name.ends_with("in order")) {
        let mut guarded = Guarded::new();
        let log: Vec<Bytes> =
            stock.updates.iter().flat_map(|update| guarded.take_whole(update).pieces).collect();
        let doc = new_doc(6, false);
        apply(&doc, &merge(&log).unwrap());
        shows_the_same(&doc, &stock);
    }
}
