use crate::document_name::DocumentName;
use crate::draft::{Draft, NewValue, TextChange};
use crate::path::{Path, Step};
use crate::replica::{Persist, Replica, ReplicaEffect, new_doc};
use bytes::Bytes;
use proptest::prelude::*;
use std::sync::{Arc, Mutex};
use yrs::types::text::YChange;
use yrs::types::{Attrs, Delta};
use yrs::updates::decoder::Decode;
use yrs::{Any, Doc, GetString, Observable, Out, ReadTxn, Text, Transact, Update, WriteTxn};

const ROOTS: [&str; 2] = ["t", "u"];

fn replica(client_id: u64) -> Replica {
    Replica::new(DocumentName::parse("a/b").expect("a name"), 0, client_id)
}

fn updates(replica: &mut Replica) -> Vec<Bytes> {
    let update = |effect| match effect {
        ReplicaEffect::Persist(Persist::Edit(row)) => Some(row.update),
        _ => None,
    };
    replica.drain().into_iter().filter_map(update).collect()
}

fn text(doc: &Doc, root: &str) -> String {
    let tx = doc.transact();
    tx.get_text(root).map(|text| text.get_string(&tx)).unwrap_or_default()
}

fn formatted(doc: &Doc, root: &str) -> Vec<(Out, Option<Attrs>)> {
    let tx = doc.transact();
    let parts = tx.get_text(root).map(|text| text.diff(&tx, YChange::identity)).unwrap_or_default();
    parts.into_iter().map(|part| (part.insert, part.attributes.map(|formats| *formats))).collect()
}

/// The deltas that observers of a document's texts are told, by text.
type Told = Arc<Mutex<[Vec<Vec<Delta>>; ROOTS.len()]>>;

fn watch(doc: &Doc) -> Told {
    let told = Told::default();
    for (index, root) in ROOTS.into_iter().enumerate() {
        let told = told.clone();
        let text = doc.get_or_insert_text(root);
        text.observe("test", move |tx, event| {
            told.lock().expect("no panic")[index].push(event.delta(tx).to_vec())
        });
    }
    told
}

/// What one person does in one turn.
#[derive(Debug, Clone)]
enum Turn {
    /// Goes elsewhere, perhaps to the other text.
    Jump(u16, bool),
    Type(String),
    Backspace(u32),
    Delete(u32),
    /// Types over what stands behind.
    Replace(u32, String),
    Format(u32, bool),
    Embed,
    /// Inserts at one place and deletes at another.
    Two(u16, String),
    /// A turn here, and one in the other text before it or behind it.
    Both(Box<Turn>, Box<Turn>, u16, bool),
    /// Another device types or deletes, knowing what it was told so far.
    Remote(u16, String, u32),
    /// Both devices are told everything.
    Sync,
}

fn turn() -> impl Strategy<Value = Turn> {
    let both = (turn_in_one(), turn_in_one(), any::<u16>(), any::<bool>());
    prop_oneof![
        9 => turn_in_one(),
        1 => both.prop_map(|(here, there, at, is_before)| Turn::Both(here.into(), there.into(), at, is_before)),
    ]
}

fn turn_in_one() -> impl Strategy<Value = Turn> {
    let typed = || "[a-zé😀]{1,3}";
    prop_oneof![
        3 => (any::<u16>(), any::<bool>()).prop_map(|(at, other)| Turn::Jump(at, other)),
        8 => typed().prop_map(Turn::Type),
        6 => (1u32..3).prop_map(Turn::Backspace),
        3 => (1u32..3).prop_map(Turn::Delete),
        2 => (0u32..3, typed()).prop_map(|(len, text)| Turn::Replace(len, text)),
        1 => (1u32..4, any::<bool>()).prop_map(|(len, on)| Turn::Format(len, on)),
        1 => Just(Turn::Embed),
        1 => (any::<u16>(), typed()).prop_map(|(at, text)| Turn::Two(at, text)),
        2 => (any::<u16>(), typed(), 0u32..3).prop_map(|(at, text, len)| Turn::Remote(at, text, len)),
        2 => Just(Turn::Sync),
    ]
}

/// The edits of a turn, by position: where, how many units out, what in.
#[derive(Debug)]
enum Edit {
    Insert(u32, String),
    Delete(u32, u32),
    Format(u32, u32, Attrs),
    Embed(u32),
}

/// The edits of a turn of someone at `at`, and where that leaves them.
fn edits(turn: &Turn, at: u32, len: u32) -> (Vec<Edit>, u32) {
    let units = |text: &str| text.encode_utf16().count() as u32;
    let after = |count: u32| count.min(len - at);
    match turn {
        Turn::Type(text) => (vec![Edit::Insert(at, text.clone())], at + units(text)),
        Turn::Backspace(count) => {
            let count = (*count).min(at);
            (vec![Edit::Delete(at - count, count)], at - count)
        }
        Turn::Delete(count) => (vec![Edit::Delete(at, after(*count))], at),
        // From left to right, as a draft writes them.
        Turn::Replace(count, text) => {
            let end = at + units(text);
            (vec![Edit::Insert(at, text.clone()), Edit::Delete(end, after(*count))], end)
        }
        Turn::Format(count, on) => {
            let bold = Attrs::from([("bold".into(), if *on { Any::Bool(true) } else { Any::Null })]);
            (vec![Edit::Format(at, after(*count), bold)], at)
        }
        Turn::Embed => (vec![Edit::Embed(at)], at + 1),
        Turn::Two(other, text) => {
            let other = u32::from(*other) % (at + 1);
            let delete = Edit::Delete(at + units(text), after(1));
            (vec![Edit::Insert(other, text.clone()), delete], other + units(text))
        }
        Turn::Jump(..) | Turn::Remote(..) | Turn::Sync | Turn::Both(..) => (Vec::new(), at),
    }
}

fn into_draft(draft: &mut Draft, replica: &Replica, path: &Path, edit: &Edit) {
    let tx = replica.doc().transact();
    match edit {
        Edit::Insert(at, text) => draft.text_insert(&tx, path, *at, text, None),
        Edit::Delete(at, len) => draft.text_delete(&tx, path, *at, *len),
        Edit::Format(at, len, formats) => draft.text_format(&tx, path, *at, *len, formats.clone()),
        Edit::Embed(at) => {
            let embed = TextChange::Embed(Any::Bool(true), Attrs::new());
            draft.text_delta(&tx, path, &[TextChange::Retain(*at, Attrs::new()), embed])
        }
    }
    .expect("in range");
}

/// The same edit as stock yrs makes it.
fn by_position(doc: &Doc, all: &[(&str, Vec<Edit>)]) {
    let mut tx = doc.transact_mut();
    for (root, edit) in all.iter().flat_map(|(root, edits)| edits.iter().map(move |edit| (root, edit))) {
        let text = tx.get_or_insert_text(*root);
        match edit {
            Edit::Insert(at, typed) => text.insert(&mut tx, *at, typed),
            Edit::Delete(at, len) => text.remove_range(&mut tx, *at, *len),
            Edit::Format(at, len, formats) if *len > 0 => text.format(&mut tx, *at, *len, formats.clone()),
            Edit::Format(..) => {}
            Edit::Embed(at) => {
                text.insert_embed_with_attributes(&mut tx, *at, Any::Bool(true), Attrs::new());
            }
        }
    }
}

/// Someone at a device, and another device that they hear of now and then.
struct Two {
    own: Replica,
    other: Replica,
    told: Told,
    root: &'static str,
    at: u32,
    sent: Vec<Bytes>,
    received: Vec<Bytes>,
}

impl Two {
    fn new(formats: bool, start: &str) -> Self {
        let (own, mut other) = (replica(7), replica(9));
        other.edit(0, 1, |tx| {
            tx.get_or_insert_text("t").insert(tx, 0, start);
            if formats {
                let bold = Attrs::from([("bold".into(), Any::Bool(true))]);
                tx.get_or_insert_text("u").insert_with_attributes(tx, 0, "bold", bold);
            }
        });
        let told = watch(own.doc());
        let received = updates(&mut other);
        Two { own, other, told, root: "t", at: 0, sent: Vec::new(), received }
    }

    fn sync(&mut self) {
        for update in std::mem::take(&mut self.received) {
            self.own.sibling_edit(&update).expect("valid");
        }
        for update in std::mem::take(&mut self.sent) {
            self.other.sibling_edit(&update).expect("own updates are valid");
        }
    }

    fn turn(&mut self, turn: &Turn) -> Result<(), TestCaseError> {
        let len = self.own.doc().get_or_insert_text(self.root).len(&self.own.doc().transact());
        self.at = self.at.min(len);
        match turn {
            Turn::Jump(at, other) => {
                if *other {
                    self.root = ROOTS[usize::from(self.root == ROOTS[0])];
                    self.at = 0;
                } else {
                    self.at = u32::from(*at) % (len + 1);
                }
            }
            Turn::Remote(at, typed, len) => {
                self.other.edit(0, 1, |tx| {
                    let text = tx.get_or_insert_text(self.root);
                    let (end, at) = (text.len(tx), u32::from(*at));
                    let at = at % (end + 1);
                    text.remove_range(tx, at, (*len).min(end - at));
                    text.insert(tx, at, typed);
                });
                self.received.extend(updates(&mut self.other));
            }
            Turn::Sync => self.sync(),
            Turn::Both(here, there, other_at, is_before) => {
                let other = ROOTS[usize::from(self.root == ROOTS[0])];
                let other_len = self.own.doc().get_or_insert_text(other).len(&self.own.doc().transact());
                let (edits, at) = edits(here, self.at, len);
                let (other_edits, _) = self::edits(there, u32::from(*other_at) % (other_len + 1), other_len);
                let mut both = vec![(self.root, edits), (other, other_edits)];
                if *is_before {
                    both.reverse();
                }
                return self.edit(turn, both, at);
            }
            _ => {
                let (edits, at) = edits(turn, self.at, len);
                return self.edit(turn, vec![(self.root, edits)], at);
            }
        }
        Ok(())
    }

    /// Makes a turn's edits, and compares with yrs, which makes them by position in a copy.
    fn edit(&mut self, turn: &Turn, all: Vec<(&str, Vec<Edit>)>, at: u32) -> Result<(), TestCaseError> {
        let copy = new_doc(7);
        let state = Update::decode_v1(&self.own.encode()).expect("own");
        copy.transact_mut().apply_update(state).expect("own");
        let copy_told = watch(&copy);
        *self.told.lock().expect("no panic") = Default::default();
        let mut draft = Draft::new("a");
        for (root, edits) in &all {
            edits.iter().for_each(|edit| into_draft(&mut draft, &self.own, &Path::root(root), edit));
        }
        self.own.write(0, 1, &mut draft);
        by_position(&copy, &all);
        self.at = at;
        for root in ROOTS {
            prop_assert_eq!(formatted(self.own.doc(), root), formatted(&copy, root), "{:?}", turn);
        }
        prop_assert_eq!(&*self.told.lock().expect("no panic"), &*copy_told.lock().expect("no panic"));
        self.sent.extend(updates(&mut self.own));
        Ok(())
    }
}

proptest! {
    #[test]
    fn dr7_edits_by_name_are_those_that_yrs_makes_by_position(
        turns in proptest::collection::vec(turn(), 1..80), formats in any::<bool>(), start in "[a-z😀]{0,12}",
    ) {
        let mut two = Two::new(formats, &start);
        for turn in &turns {
            // Formats would leave the deletions of every later turn to yrs.
            if formats || !matches!(turn, Turn::Format(..)) {
                two.turn(turn)?;
            }
        }
        two.sync();
        let mut again = replica(11);
        again.sibling_edit(&two.own.encode()).expect("valid");
        for root in ROOTS {
            // Whoever cuts a surrogate pair sees its halves as U+FFFD from then on, and nobody else does: as in Yjs.
            let is_cut = |replica: &Replica| text(replica.doc(), root).contains('\u{fffd}');
            if is_cut(&two.own) || is_cut(&two.other) || is_cut(&again) {
                continue;
            }
            prop_assert_eq!(formatted(two.own.doc(), root), formatted(two.other.doc(), root));
            prop_assert_eq!(formatted(two.own.doc(), root), formatted(again.doc(), root));
        }
    }
}

fn type_at(replica: &mut Replica, path: &Path, at: u32, typed: &str) {
    let mut draft = Draft::new("a");
    draft.text_insert(&replica.doc().transact(), path, at, typed, None).expect("in range");
    replica.write(0, 1, &mut draft);
}

fn delete_at(replica: &mut Replica, path: &Path, at: u32, len: u32) {
    let mut draft = Draft::new("a");
    draft.text_delete(&replica.doc().transact(), path, at, len).expect("in range");
    replica.write(0, 1, &mut draft);
}

/// A replica that has got a text of a thousand letters.
fn with_text() -> (Replica, Path) {
    let (mut own, mut other) = (replica(7), replica(9));
    type_at(&mut other, &Path::root("t"), 0, &"abcdefghij".repeat(100));
    own.sibling_edit(&other.encode()).expect("valid");
    (own, Path::root("t"))
}

#[test]
fn dr8_whoever_types_and_deletes_on_in_one_place_walks_to_it_once() {
    let (mut replica, path) = with_text();
    for at in 0..20 {
        type_at(&mut replica, &path, 500 + at, "é");
    }
    for at in (510..520).rev() {
        delete_at(&mut replica, &path, at, 1);
    }
    type_at(&mut replica, &path, 510, "x");
    assert_eq!(replica.typing.walks, 1);
    for at in (90..100).rev() {
        delete_at(&mut replica, &path, at, 1);
    }
    for _ in 0..10 {
        delete_at(&mut replica, &path, 90, 2);
    }
    type_at(&mut replica, &path, 90, "y");
    assert_eq!(replica.typing.walks, 2);
    assert_eq!(text(replica.doc(), "t").get(85..95), Some("fghijyabcd"));
}

#[test]
fn dr9_what_others_change_in_the_text_moves_the_place_and_what_they_change_elsewhere_does_not() {
    let (mut replica, path) = with_text();
    type_at(&mut replica, &path, 500, "x");
    let mut third = self::replica(11);
    type_at(&mut third, &Path::root("u"), 0, "elsewhere");
    replica.sibling_edit(&third.encode()).expect("valid");
    type_at(&mut replica, &path, 501, "y");
    assert_eq!(replica.typing.walks, 1);
    let mut fourth = self::replica(12);
    fourth.sibling_edit(&replica.encode()).expect("valid");
    type_at(&mut fourth, &path, 0, "before");
    replica.sibling_edit(&fourth.encode()).expect("valid");
    type_at(&mut replica, &path, 502, "z");
    assert_eq!(replica.typing.walks, 2);
    assert_eq!(text(replica.doc(), "t").find("xy"), Some(507));
    assert_eq!(text(replica.doc(), "t").find('z'), Some(502));
}

#[test]
fn dr8_a_turn_may_change_other_things_too() {
    let (mut replica, path) = with_text();
    for at in 500..510 {
        let mut draft = Draft::new("a");
        let tx = replica.doc().transact();
        draft.map_set(&tx, &Path::root("m"), "k", NewValue::Plain(Any::from(at))).expect("a map");
        draft.text_insert(&tx, &path, at, "x", None).expect("in range");
        drop(tx);
        replica.write(0, 1, &mut draft);
    }
    assert_eq!(replica.typing.walks, 1);
    assert_eq!(text(replica.doc(), "t").find("xxxxxxxxxx"), Some(500));
}

#[test]
fn dr8_a_text_inside_a_list_is_typed_in_as_a_root_text_is() {
    let (mut replica, list) = (replica(7), Path::root("l"));
    let mut draft = Draft::new("a");
    let new = NewValue::Text("one".into());
    draft.list_insert(&replica.doc().transact(), &list, 0, vec![new]).expect("a list");
    replica.write(0, 1, &mut draft);
    let (walks, path) = (replica.typing.walks, list.join(Step::Index(0)));
    for at in 3..10 {
        type_at(&mut replica, &path, at, "!");
    }
    delete_at(&mut replica, &path, 9, 1);
    assert_eq!(replica.typing.walks, walks);
    let value = crate::value::document(&replica.doc().transact()).remove("l");
    assert_eq!(value, Some(Any::Array([Any::from("one!!!!!!")].into())));
}

#[test]
fn dr7_content_that_comes_deleted_is_not_taken_for_text() {
    // "a", one collected unit that no delete set names, and "c", typed one after the other by client 9.
    let update =
        [&[1, 3, 9, 0][..], &[0x04, 1, 1, b't', 1, b'a'], &[0x81, 9, 0, 1], &[0x84, 9, 1, 1, b'c'], &[0]];
    let (mut replica, path) = (replica(7), Path::root("t"));
    replica.sibling_edit(&update.concat().into()).expect("valid");
    assert_eq!(text(replica.doc(), "t"), "ac");
    delete_at(&mut replica, &path, 1, 1);
    delete_at(&mut replica, &path, 0, 1);
    assert_eq!(text(replica.doc(), "t"), "");
}

#[test]
fn dr7_after_an_edit_that_admission_refuses_everything_is_made_by_position() {
    let (mut replica, path) = with_text();
    type_at(&mut replica, &path, 500, "x");
    replica.edit(0, 1, |tx| {
        let text = tx.get_or_insert_text("t");
        text.insert(tx, 0, &"y".repeat(crate::limits::UPDATE_BYTES_MAX + 1));
        text.remove_range(tx, 3, crate::limits::UPDATE_BYTES_MAX as u32 - 3);
    });
    let walks = replica.typing.walks;
    for at in 0..3 {
        type_at(&mut replica, &path, at, "z");
    }
    assert_eq!(replica.typing.walks, walks + 3);
    assert!(text(replica.doc(), "t").starts_with("zzzyyyyabc"));
}

#[test]
fn dr9_an_embed_is_not_taken_for_text_that_the_same_turn_typed_elsewhere() {
    let (mut replica, path) = with_text();
    let other = Path::root("u");
    type_at(&mut replica, &other, 0, "uu");
    let mut draft = Draft::new("a");
    let tx = replica.doc().transact();
    draft.text_insert(&tx, &path, 500, "x", None).expect("in range");
    let embed = TextChange::Embed(Any::Bool(true), Attrs::new());
    draft.text_delta(&tx, &other, &[TextChange::Retain(1, Attrs::new()), embed]).expect("in range");
    drop(tx);
    replica.write(0, 1, &mut draft);
    type_at(&mut replica, &other, 2, "y");
    assert_eq!(text(replica.doc(), "u"), "uyu");
    assert_eq!(text(replica.doc(), "t").len(), 1001);
}
