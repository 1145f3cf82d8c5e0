use super::*;
use crate::document_name::DocumentName;
use crate::replica::{Persist, Replica, ReplicaEffect};
use crate::value;
use bytes::Bytes;
use proptest::prelude::*;
use yrs::{GetString, Text, Transact, WriteTxn};

fn draft() -> Draft {
    Draft::new("a")
}

fn replica(client_id: u64) -> Replica {
    Replica::new(DocumentName::parse("a/b").expect("a name"), 0, client_id)
}

/// The update that the draft makes.
fn apply(replica: &mut Replica, draft: &mut Draft) -> Option<Bytes> {
    replica.write(0, 1, draft);
    replica.drain().into_iter().find_map(|effect| match effect {
        ReplicaEffect::Persist(Persist::Edit(row)) => Some(row.update),
        _ => None,
    })
}

fn units(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

#[derive(Debug, Clone)]
enum Edit {
    Insert(u16, String),
    Delete(u16, u16),
    Format(u16, u16),
    Turn,
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => (any::<u16>(), "[a-zé😀]{1,4}").prop_map(|(at, text)| Edit::Insert(at, text)),
        2 => (any::<u16>(), 0u16..5).prop_map(|(at, len)| Edit::Delete(at, len)),
        1 => (any::<u16>(), 0u16..5).prop_map(|(at, len)| Edit::Format(at, len)),
        1 => Just(Edit::Turn),
    ]
}

/// Moves a position out of a surrogate pair, where an edit would change characters.
fn outside_of_pairs(text: &[u16], mut at: usize) -> usize {
    while text.get(at).is_some_and(|unit| (0xdc00..0xe000).contains(unit)) {
        at += 1;
    }
    at
}

proptest! {
    #[test]
    fn dr1_a_text_reads_the_same_in_the_draft_as_after_it_and_as_edits_one_by_one(
        edits in proptest::collection::vec(edit(), 1..60), formats in any::<bool>(),
    ) {
        let (mut replica, path, mut draft) = (replica(1), Path::root("t"), draft());
        let doc = replica.doc().clone();
        let mut model: Vec<u16> = Vec::new();
        let mut updates = Vec::new();
        for edit in &edits {
            let tx = doc.transact();
            let position = |at: u16| outside_of_pairs(&model, usize::from(at) % (model.len() + 1));
            match edit {
                Edit::Insert(at, text) => {
                    let at = position(*at);
                    draft.text_insert(&tx, &path, at as u32, text, None).expect("in range");
                    model.splice(at..at, units(text));
                }
                Edit::Delete(at, len) | Edit::Format(at, len) => {
                    let from = position(*at);
                    let to = outside_of_pairs(&model, (from + usize::from(*len)).min(model.len()));
                    let (index, len) = (from as u32, (to - from) as u32);
                    if matches!(edit, Edit::Delete(..)) {
                        draft.text_delete(&tx, &path, index, len).expect("in range");
                        model.drain(from..to);
                    } else if formats {
                        let bold = Attrs::from([("bold".into(), Any::Bool(true))]);
                        draft.text_format(&tx, &path, index, len, bold).expect("in range");
                    }
                }
                Edit::Turn => {
                    drop(tx);
                    updates.extend(apply(&mut replica, &mut draft));
                    let text = doc.transact().get_text("t").map(|text| text.get_string(&doc.transact()));
                    prop_assert_eq!(units(&text.unwrap_or_default()), model.clone());
                    continue;
                }
            }
            prop_assert_eq!(draft.len(&tx, &path, Kind::Text), Ok(model.len() as u32));
            let read = draft.value(&tx, &path).expect("there");
            prop_assert_eq!(read.unwrap_or(Any::from("")), Any::from(String::from_utf16_lossy(&model)));
        }
        updates.extend(apply(&mut replica, &mut draft));
        let mut admitted = crate::admission::Admitted::new();
        for update in updates {
            prop_assert!(admitted.admit(&update).expect("valid").is_complete());
        }
    }

    #[test]
    fn dr2_lists_and_maps_read_the_same_in_the_draft_as_after_it(
        steps in proptest::collection::vec((0u8..8, any::<u16>(), 0i64..100), 1..50),
    ) {
        let (mut replica, list, mut draft) = (replica(1), Path::root("l"), draft());
        let doc = replica.doc().clone();
        for (kind, at, number) in steps {
            let tx = doc.transact();
            let len = draft.len(&tx, &list, Kind::List).expect("a list");
            let at = u32::from(at) % (len + 1);
            let inner = list.join(Step::Index(at));
            let value = match kind {
                0 | 1 => NewValue::Plain(Any::from(number)),
                2 => NewValue::Map(vec![("n".into(), NewValue::Plain(Any::from(number)))]),
                _ => NewValue::List(vec![NewValue::Text(number.to_string()), NewValue::Counter(number)]),
            };
            match kind {
                0..=3 => draft.list_insert(&tx, &list, at, vec![value]).expect("in range"),
                4 if at < len => draft.list_delete(&tx, &list, at, 1).expect("in range"),
                5 => drop(draft.map_set(&tx, &inner, "k", value)),
                6 => drop(draft.list_insert(&tx, &inner, 0, vec![value])),
                _ => {
                    let before = draft.value(&tx, &list);
                    drop(tx);
                    apply(&mut replica, &mut draft);
                    let after = value::document(&doc.transact()).remove("l");
                    let empty = Some(Any::Array([].into()));
                    prop_assert_eq!(before.expect("a list").or(empty.clone()), after.or(empty));
                }
            }
        }
    }
}

#[test]
fn dr3_what_lies_outside_or_is_of_another_type_is_refused_and_leaves_nothing() {
    let (mut replica, mut draft) = (replica(1), draft());
    let doc = replica.doc().clone();
    let (text, map) = (Path::root("t"), Path::root("m"));
    draft.text_insert(&doc.transact(), &text, 0, "ab", None).expect("in range");
    draft.map_set(&doc.transact(), &map, "k", NewValue::Plain(Any::Null)).expect("a map");
    apply(&mut replica, &mut draft);
    let tx = doc.transact();
    assert_eq!(draft.text_insert(&tx, &text, 3, "x", None), Err(Code::InvalidRange));
    assert_eq!(draft.text_delete(&tx, &text, 1, 2), Err(Code::InvalidRange));
    assert_eq!(draft.text_delete(&tx, &text, 1, u32::MAX), Err(Code::InvalidRange));
    assert_eq!(draft.list_insert(&tx, &text, 0, vec![]), Err(Code::InvalidPath));
    assert_eq!(draft.text_insert(&tx, &map.join("k".into()), 0, "x", None), Err(Code::InvalidPath));
    assert_eq!(draft.counter_add(&tx, &text, 1), Err(Code::InvalidPath));
    assert_eq!(draft.map_set(&tx, &Path::root(""), "k", NewValue::Counter(0)), Err(Code::InvalidPath));
    let delta = [TextChange::Insert("x".into(), Attrs::new()), TextChange::Delete(3)];
    assert_eq!(draft.text_delta(&tx, &text, &delta), Err(Code::InvalidRange));
    assert!(draft.is_empty(), "a refused edit leaves nothing");
    assert_eq!(draft.value(&tx, &text), Ok(Some(Any::from("ab"))));
}

#[test]
fn dr4_values_nested_too_deeply_or_too_large_are_refused() {
    let (replica, mut draft) = (replica(1), draft());
    let doc = replica.doc();
    let nest = |depth| (0..depth).fold(Any::Null, |value, _| Any::Array([value].into()));
    let set = |draft: &mut Draft, value| draft.map_set(&doc.transact(), &Path::root("m"), "k", value);
    assert_eq!(set(&mut draft, NewValue::Plain(nest(64))), Ok(()));
    assert_eq!(set(&mut draft, NewValue::Plain(nest(65))), Err(Code::InvalidValue));
    assert_eq!(set(&mut draft, NewValue::Plain(Any::Undefined)), Err(Code::InvalidValue));
    let types = (0..256).fold(NewValue::Text(String::new()), |value, _| NewValue::List(vec![value]));
    assert_eq!(set(&mut draft, types), Err(Code::InvalidValue));
    let large = NewValue::Text("x".repeat(DRAFT_BYTES_MAX + 1));
    assert_eq!(set(&mut draft, large), Err(Code::UpdateTooLarge));
    assert_eq!(set(&mut draft, NewValue::Counter(i64::MIN)), Err(Code::InvalidValue));
}

#[test]
fn dr5_counters_of_two_writers_add_up_and_grow_by_writers_not_by_openings() {
    let (mut a, mut b) = (replica(1), replica(2));
    let path = Path::root("likes");
    for opening in 0..10 {
        for (replica, key) in [(&mut a, "a"), (&mut b, "b")] {
            let (mut draft, doc) = (Draft::new(key), replica.doc().clone());
            draft.counter_add(&doc.transact(), &path, opening).expect("a counter");
            draft.counter_add(&doc.transact(), &path, -1).expect("a counter");
            apply(replica, &mut draft);
        }
    }
    a.sibling_edit(&b.encode()).expect("valid");
    let tx = a.doc().transact();
    assert_eq!(value::document(&tx).get("likes"), Some(&Any::from(70i64)));
    assert_eq!(tx.get_map("likes").map(|map| map.len(&tx)), Some(2));
}

#[test]
fn dr6_typed_text_takes_the_formats_before_it() {
    let (mut replica, mut draft, path) = (replica(1), draft(), Path::root("t"));
    replica.edit(0, 1, |tx| {
        let text = tx.get_or_insert_text("t");
        let bold = Attrs::from([("bold".into(), Any::Bool(true))]);
        text.insert_with_attributes(tx, 0, "bold", bold);
        text.insert_with_attributes(tx, 4, " plain", Attrs::new());
    });
    let doc = replica.doc().clone();
    for (at, text) in [(2, "x"), (4, "y"), (8, "z"), (10, "!")] {
        draft.text_insert(&doc.transact(), &path, at, text, None).expect("in range");
    }
    apply(&mut replica, &mut draft);
    let tx = doc.transact();
    let text = tx.get_text("t").expect("there");
    let parts: Vec<_> = text.diff(&tx, yrs::types::text::YChange::identity);
    let bold: Vec<String> = parts
        .iter()
        .filter(|part| part.attributes.is_some())
        .map(|part| part.insert.clone().to_string(&tx))
        .collect();
    assert_eq!(bold.concat(), "boxlyd");
}
