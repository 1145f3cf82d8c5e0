//! The core's face in a real engine: edits, values and effects across the boundary.
#![cfg(target_arch = "wasm32")]
#![allow(clippy::unwrap_used, reason = "clippy knows tests by #[test], which these cannot carry")]

use js_sys::{Array, BigInt, Function, JSON, Object, Reflect, Uint8Array};
use tidewell_client_wasm::{Core, compact};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

/// A core with one document.
fn open(received: Vec<Uint8Array>) -> (Core, u32) {
    let mut core = Core::new();
    let added =
        core.add("test/doc", js_sys::Math::random() * 9e15, "a", received, &JsValue::UNDEFINED).unwrap();
    let id = Reflect::get(&added, &"id".into()).unwrap().as_f64().unwrap();
    (core, id as u32)
}

fn plain(value: impl Into<JsValue>) -> JsValue {
    Array::of2(&JsValue::from(0), &value.into()).into()
}

fn json(value: &JsValue) -> String {
    JSON::stringify(value).unwrap().into()
}

/// The effects of one kind.
fn drained(core: &mut Core, kind: &str) -> Vec<Array> {
    core.drain()
        .iter()
        .map(JsCast::unchecked_into::<Array>)
        .filter(|effect| effect.get(0).as_string().as_deref() == Some(kind))
        .collect()
}

fn code<T>(result: Result<T, JsValue>) -> String {
    result.err().and_then(|thrown| thrown.as_string()).unwrap_or_default()
}

#[wasm_bindgen_test]
fn the_edits_of_a_turn_leave_as_one_row_and_another_core_reads_them() {
    let (mut core, id) = open(Vec::new());
    let text = JsValue::from_str("notes");
    core.text_insert(id, &text, 0.0, "hello 🌊", JsValue::UNDEFINED).unwrap();
    core.text_delete(id, &text, 5.0, 1.0).unwrap();
    core.map_set(id, &"m".into(), "k", &plain(1)).unwrap();
    core.counter_add(id, &"likes".into(), -2.0).unwrap();
    core.commit(id, 1.0, 4);
    let rows = drained(&mut core, "edit");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].get(4).as_f64(), Some(4.0), "it counts the edits");

    let (mut other, theirs) = open(vec![rows[0].get(3).unchecked_into()]);
    assert_eq!(json(&other.value(theirs).unwrap()), r#"{"likes":-2,"m":{"k":1},"notes":"hello🌊"}"#);
    assert!(drained(&mut other, "edit").is_empty(), "loading writes nothing");
}

#[wasm_bindgen_test]
fn a_draft_that_is_discarded_leaves_no_row_and_no_value() {
    let (mut core, id) = open(Vec::new());
    core.list_insert(id, &"l".into(), 0.0, vec![plain("x")]).unwrap();
    assert_eq!(json(&core.draft_read(id, &"l".into()).unwrap()), r#"["x"]"#);
    core.discard(id);
    core.commit(id, 1.0, 1);
    assert!(drained(&mut core, "edit").is_empty());
    assert_eq!(json(&core.value(id).unwrap()), "{}");
}

#[wasm_bindgen_test]
fn values_are_frozen_and_unchanged_parts_stay_the_same_objects() {
    let (mut core, id) = open(Vec::new());
    for key in ["a", "b"] {
        core.map_set(id, &"m".into(), key, &plain(JSON::parse(r#"{"deep":[1]}"#).unwrap())).unwrap();
    }
    core.commit(id, 1.0, 1);
    let get = |value: &JsValue, key: &str| Reflect::get(value, &key.into()).unwrap();
    let before = get(&core.value(id).unwrap(), "m");
    core.map_set(id, &"m".into(), "b", &plain(2)).unwrap();
    core.commit(id, 1.0, 1);
    let after = get(&core.value(id).unwrap(), "m");
    assert!(!Object::is(&before, &after));
    assert!(Object::is(&get(&before, "a"), &get(&after, "a")));
    for part in [after.clone(), get(&after, "a"), get(&get(&after, "a"), "deep")] {
        assert!(Object::is_frozen(part.unchecked_ref::<Object>()));
    }
}

#[wasm_bindgen_test]
fn numbers_that_javascript_cannot_hold_are_bigint_both_ways() {
    let (mut core, id) = open(Vec::new());
    let large = JsValue::from(BigInt::from(i64::MAX));
    core.map_set(id, &"m".into(), "large", &plain(large.clone())).unwrap();
    core.map_set(id, &"m".into(), "small", &plain(BigInt::from(7))).unwrap();
    core.commit(id, 1.0, 1);
    let read = |core: &mut Core, key: &str| core.read(id, &Array::of2(&"m".into(), &key.into())).unwrap();
    assert_eq!(read(&mut core, "large"), large);
    assert_eq!(read(&mut core, "small").as_f64(), Some(7.0));
    let too_large = plain(JsValue::bigint_from_str("99999999999999999999"));
    assert_eq!(code(core.map_set(id, &"m".into(), "k", &too_large)), "invalid_value");
}

#[wasm_bindgen_test]
fn what_cannot_be_read_or_lies_outside_is_refused_with_its_code() {
    let (mut core, id) = open(Vec::new());
    let text = JsValue::from_str("t");
    core.text_insert(id, &text, 0.0, "ab", JsValue::UNDEFINED).unwrap();
    for index in [3.0, -1.0, 0.5, f64::NAN, f64::INFINITY, 1e12] {
        assert_eq!(code(core.text_insert(id, &text, index, "x", JsValue::UNDEFINED)), "invalid_range");
        assert_eq!(code(core.text_delete(id, &text, 0.0, index)), "invalid_range");
    }
    for value in [JsValue::from(7), Function::new_no_args("").into(), plain(Function::new_no_args(""))] {
        assert_eq!(code(core.map_set(id, &"m".into(), "k", &value)), "invalid_value");
    }
    for path in
        [JsValue::from(7), JsValue::NULL, Array::new().into(), Array::of2(&"m".into(), &JsValue::NULL).into()]
    {
        assert_eq!(code(core.text_insert(id, &path, 0.0, "x", JsValue::UNDEFINED)), "invalid_path");
    }
    assert_eq!(code(core.declare(id, "t", "map")), "invalid_path");
    assert_eq!(code(core.sibling(id, &[1, 2, 3], None)), "invalid_update");
    assert_eq!(code(core.value(99)), "closed");
    assert_eq!(code(core.add("", 1.0, "a", Vec::new(), &JsValue::UNDEFINED)), "invalid_name");
}

#[wasm_bindgen_test]
fn a_watched_text_tells_the_edits_of_others_as_deltas() {
    let (mut one, first) = open(Vec::new());
    let (mut two, second) = open(Vec::new());
    let watch = two.watch_text(second, &"t".into()).unwrap();
    one.text_insert(first, &"t".into(), 0.0, "hi", JsValue::UNDEFINED).unwrap();
    one.commit(first, 1.0, 1);
    let update: Uint8Array = drained(&mut one, "edit")[0].get(3).unchecked_into();
    two.sibling(second, &update.to_vec(), None).unwrap();
    let deltas = drained(&mut two, "delta");
    assert_eq!(deltas.len(), 1);
    assert_eq!(deltas[0].get(2).as_f64(), Some(f64::from(watch)));
    assert_eq!(json(&deltas[0].get(3)), r#"[{"insert":"hi"}]"#);
}

#[wasm_bindgen_test]
fn a_watch_that_ended_tells_nothing_though_its_text_has_moved_in_its_list() {
    let (mut core, id) = open(Vec::new());
    let list = JsValue::from_str("l");
    let text = |content: &str| JsValue::from(Array::of2(&JsValue::from(1), &content.into()));
    let title = |index: u32| JsValue::from(Array::of2(&"l".into(), &index.into()));
    core.list_insert(id, &list, 0.0, vec![text("watched")]).unwrap();
    core.commit(id, 1.0, 1);
    let watch = core.watch_text(id, &title(0)).unwrap();
    core.list_insert(id, &list, 0.0, vec![text("before it")]).unwrap();
    core.text_insert(id, &title(1), 0.0, "still ", JsValue::UNDEFINED).unwrap();
    core.commit(id, 2.0, 1);
    assert_eq!(drained(&mut core, "delta").len(), 1);

    core.unwatch_text(id, watch);
    core.text_insert(id, &title(1), 0.0, "no longer ", JsValue::UNDEFINED).unwrap();
    core.commit(id, 3.0, 1);
    assert!(drained(&mut core, "delta").is_empty());
}

#[wasm_bindgen_test]
fn rows_are_folded_only_when_nothing_is_missing_between_them() {
    let (mut core, id) = open(Vec::new());
    let mut rows: Vec<Uint8Array> = Vec::new();
    for word in ["a", "b", "c"] {
        core.text_insert(id, &"t".into(), 0.0, word, JsValue::UNDEFINED).unwrap();
        core.commit(id, 1.0, 1);
        rows.push(drained(&mut core, "edit")[0].get(3).unchecked_into());
    }
    let folded = compact(rows.clone()).unwrap();
    let (mut copy, theirs) = open(vec![Uint8Array::from(folded.as_slice())]);
    assert_eq!(json(&copy.value(theirs).unwrap()), r#"{"t":"cba"}"#);
    rows.remove(1);
    assert_eq!(compact(rows.clone()), None, "a row is missing");
    rows.push(Uint8Array::from([9u8, 9, 9].as_slice()));
    assert_eq!(compact(rows), None, "a row cannot be read");
}
