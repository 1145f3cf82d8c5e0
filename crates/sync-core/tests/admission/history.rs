//! Documents with a history: several authors who edit everything that there is to edit, and hear of
//! each other only now and then.

use crate::dice::Dice;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use yrs::block::ClientID;
use yrs::types::Attrs;
use yrs::updates::decoder::Decode;
use yrs::{
    Any, Array, ArrayPrelim, ArrayRef, Doc, Map, MapPrelim, MapRef, OffsetKind, Options, Out, ReadTxn, Text,
    TextPrelim, TextRef, Transact, TransactionMut, Update, WriteTxn, Xml, XmlElementPrelim, XmlFragment,
    XmlFragmentRef, XmlOut, XmlTextPrelim,
};

/// Client IDs of several sizes, up to the largest.
const CLIENTS: [u64; 8] = [1, 2, 100, 3_000_000_000, 4_294_967_295, 1 << 40, (1 << 53) - 1, 7];

pub(crate) struct History {
    /// Everybody's updates: each comes after what it builds on.
    pub(crate) log: Vec<Bytes>,
    /// What each author holds in the end.
    pub(crate) docs: Vec<Doc>,
    pub(crate) shape: Shape,
}

/// How a history is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) authors: usize,
    pub(crate) edits: usize,
    /// Subdocuments. yrs 0.28.1 uses freed memory when one is collected with its parent, so they are put
    /// in roots only.
    pub(crate) subdocuments: bool,
    /// Edits between the halves of an emoji. Yjs and yrs then put U+FFFD into the document in which the
    /// emoji is cut, and nobody tells the others.
    pub(crate) cuts_emoji: bool,
}

impl Shape {
    pub(crate) fn of(dice: &mut Dice) -> Shape {
        let (subdocuments, cuts_emoji) = (dice.once_in(4), dice.once_in(2));
        Shape { authors: 1 + dice.below(4), edits: 80, subdocuments, cuts_emoji }
    }
}

/// An empty document, set up as replicas are.
pub(crate) fn new_doc(client: u64, skip_gc: bool) -> Doc {
    Doc::with_options(Options {
        client_id: ClientID::new(client),
        guid: "".into(),
        collection_id: None,
        offset_kind: OffsetKind::Utf16,
        skip_gc,
        auto_load: false,
        should_load: true,
        cleanup_formatting: false,
    })
}

/// Applies one update to a document in a transaction of its own.
pub(crate) fn apply(doc: &Doc, update: &[u8]) {
    let update = Update::decode_v1(update).expect("yrs decodes what was admitted");
    doc.transact_mut().apply_update(update).expect("yrs applies what was admitted");
}

/// The whole document as one update.
pub(crate) fn state(doc: &Doc) -> Bytes {
    doc.transact().encode_diff_v1(&yrs::StateVector::default()).into()
}

impl History {
    pub(crate) fn random(dice: &mut Dice, shape: Shape) -> History {
        let first_client = dice.below(CLIENTS.len());
        let docs: Vec<Doc> = (0..shape.authors)
            .map(|author| new_doc(CLIENTS[(first_client + author) % CLIENTS.len()], dice.once_in(3)))
            .collect();
        let mut log: Vec<Bytes> = Vec::new();
        let mut seen = vec![0; shape.authors];
        for _ in 0..shape.edits {
            let author = dice.below(shape.authors);
            if dice.once_in(4) {
                let until = log.len() - dice.below((log.len() - seen[author]).max(1)).min(log.len());
                for update in &log[seen[author].min(until)..until] {
                    apply(&docs[author], update);
                }
                seen[author] = seen[author].max(until);
            }
            let mut transaction = docs[author].transact_mut();
            for _ in 0..1 + dice.below(3) {
                edit(&mut transaction, dice, shape);
            }
            let update = transaction.encode_update_v1();
            drop(transaction);
            if update != [0, 0] {
                log.push(update.into());
            }
        }
        History { log, docs, shape }
    }

    /// A document that has everything.
    pub(crate) fn replayed(&self) -> Doc {
        let doc = new_doc(9, false);
        self.log.iter().for_each(|update| apply(&doc, update));
        doc
    }
}

const WORDS: [&str; 9] =
    ["a", "hello ", "é", "日本", "x", "\n", "a longer sentence, typed at once", "🙂", "👩‍👩‍👧"];

fn word(dice: &mut Dice, shape: Shape) -> &'static str {
    WORDS[dice.below(if shape.cuts_emoji { 9 } else { 7 })]
}

fn edit(txn: &mut TransactionMut<'_>, dice: &mut Dice, shape: Shape) {
    match dice.below(20) {
        0..=7 => {
            let text = txn.get_or_insert_text("t");
            edit_text(txn, dice, shape, &text);
        }
        8..=10 => {
            let array = txn.get_or_insert_array("a");
            edit_array(txn, dice, shape, &array, 0);
        }
        11..=14 => {
            let map = txn.get_or_insert_map("m");
            edit_map(txn, dice, shape, &map, 0);
        }
        15..=18 => {
            let fragment = txn.get_or_insert_xml_fragment("x");
            edit_xml(txn, dice, shape, &fragment);
        }
        _ if shape.subdocuments => {
            let map = txn.get_or_insert_map("docs");
            if dice.once_in(3) {
                map.remove(txn, "d");
            } else {
                map.insert(txn, "d", Doc::new());
            }
        }
        _ => {}
    }
}

fn edit_text(txn: &mut TransactionMut<'_>, dice: &mut Dice, shape: Shape, text: &TextRef) {
    let len = text.len(txn);
    // Anywhere, also between the halves of an emoji.
    let at = dice.below(len as usize + 1) as u32;
    let span = (dice.below(6) as u32).min(len - at);
    match dice.below(9) {
        0..=2 => text.insert(txn, at, word(dice, shape)),
        3 => text.push(txn, word(dice, shape)),
        4 if span > 0 => text.remove_range(txn, at, span),
        5 => text.insert_with_attributes(txn, at, word(dice, shape), attributes(dice, shape)),
        6 if span > 0 => text.format(txn, at, span, attributes(dice, shape)),
        7 => drop(text.insert_embed(txn, at, any(dice, shape, 0))),
        _ => text.insert(txn, len, "z"),
    }
}

fn attributes(dice: &mut Dice, shape: Shape) -> Attrs {
    let value = match dice.below(4) {
        0 => Any::Null,
        1 => Any::Bool(true),
        2 => Any::from("🙂 \"quoted\""),
        _ => any(dice, shape, 1),
    };
    Attrs::from([(Arc::from(*dice.pick(&["bold", "link", "é"])), value)])
}

/// A value; buffers and undefined only where they are not written as JSON.
fn any(dice: &mut Dice, shape: Shape, depth: usize) -> Any {
    match dice.below(if depth < 3 { 9 } else { 7 }) {
        0 => Any::Null,
        1 => Any::Bool(false),
        2 => Any::from(word(dice, shape)),
        3 => Any::from(dice.below(100) as i64 - 50),
        4 => Any::from((1i64 << 40) + dice.below(9) as i64),
        5 => Any::from(0.25),
        6 => Any::from(1e100),
        7 => Any::Array((0..dice.below(4)).map(|_| any(dice, shape, depth + 1)).collect::<Vec<_>>().into()),
        _ => {
            let entries = (0..dice.below(4)).map(|n| (format!("k{n}"), any(dice, shape, depth + 1)));
            Any::Map(Arc::new(entries.collect::<HashMap<_, _>>()))
        }
    }
}

fn edit_array(txn: &mut TransactionMut<'_>, dice: &mut Dice, shape: Shape, array: &ArrayRef, depth: usize) {
    let len = array.len(txn);
    let at = dice.below(len as usize + 1) as u32;
    if depth < 4 && len > 0 && dice.once_in(2) {
        let child = array.get(txn, at.min(len - 1));
        return edit_child(txn, dice, shape, child, depth);
    }
    match dice.below(7) {
        0 => drop(array.insert(txn, at, any(dice, shape, 0))),
        1 => array.insert_range(txn, at, (0..4i64).collect::<Vec<_>>()),
        2 => drop(array.insert(txn, at, MapPrelim::from([("n", 1)]))),
        3 => drop(array.insert(txn, at, ArrayPrelim::from([1, 2, 3]))),
        4 => drop(array.insert(txn, at, TextPrelim::new(word(dice, shape)))),
        5 if at < len => array.remove_range(txn, at, 1 + (dice.below(3) as u32).min(len - at - 1)),
        _ => drop(array.insert(txn, at, Any::Buffer(Arc::from([1u8, 2, 255])))),
    }
}

fn edit_map(txn: &mut TransactionMut<'_>, dice: &mut Dice, shape: Shape, map: &MapRef, depth: usize) {
    let key = *dice.pick(&["k", "é", "name", ""]);
    if depth < 4 && dice.once_in(2) {
        let child = map.get(txn, key);
        return edit_child(txn, dice, shape, child, depth);
    }
    match dice.below(7) {
        0 | 1 => drop(map.insert(txn, key, any(dice, shape, 0))),
        2 => drop(map.insert(txn, key, MapPrelim::from([("n", 1)]))),
        3 => drop(map.insert(txn, key, ArrayPrelim::from([1, 2, 3]))),
        4 => drop(map.insert(txn, key, TextPrelim::new(word(dice, shape)))),
        5 => drop(map.remove(txn, key)),
        _ => drop(map.insert(txn, key, Any::Undefined)),
    }
}

fn edit_child(txn: &mut TransactionMut<'_>, dice: &mut Dice, shape: Shape, child: Option<Out>, depth: usize) {
    match child {
        Some(Out::YText(text)) => edit_text(txn, dice, shape, &text),
        Some(Out::YArray(array)) => edit_array(txn, dice, shape, &array, depth + 1),
        Some(Out::YMap(map)) => edit_map(txn, dice, shape, &map, depth + 1),
        _ => {}
    }
}

fn edit_xml(txn: &mut TransactionMut<'_>, dice: &mut Dice, shape: Shape, fragment: &XmlFragmentRef) {
    let len = fragment.len(txn);
    let at = dice.below(len as usize + 1) as u32;
    if len > 0 && dice.once_in(2) {
        match fragment.get(txn, at.min(len - 1)) {
            Some(XmlOut::Element(element)) => match dice.below(5) {
                0 => drop(element.insert(txn, 0, XmlTextPrelim::new(word(dice, shape)))),
                1 => drop(element.insert(txn, 0, XmlElementPrelim::empty("li"))),
                2 => drop(element.insert_attribute(txn, "href", word(dice, shape))),
                3 => element.remove_attribute(txn, &"href"),
                _ if element.len(txn) > 0 => element.remove_range(txn, 0, 1),
                _ => {}
            },
            Some(XmlOut::Text(text)) => match dice.below(4) {
                0 => text.push(txn, word(dice, shape)),
                1 => drop(text.insert_attribute(txn, "lang", "en")),
                2 => text.insert_with_attributes(
                    txn,
                    0,
                    word(dice, shape),
                    Attrs::from([("bold".into(), Any::Bool(true))]),
                ),
                _ if text.len(txn) > 0 => text.remove_range(txn, 0, 1),
                _ => {}
            },
            _ => {}
        }
        return;
    }
    match dice.below(4) {
        0 | 1 => drop(fragment.insert(txn, at, XmlElementPrelim::empty(*dice.pick(&["p", "UL"])))),
        2 => drop(fragment.insert(txn, at, XmlTextPrelim::new(word(dice, shape)))),
        _ if at < len => fragment.remove_range(txn, at, 1),
        _ => {}
    }
}
