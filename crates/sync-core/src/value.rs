//! Documents as plain values.

use crate::counter;
use crate::path::Kind;
use std::collections::HashMap;
use yrs::branch::BranchPtr;
use yrs::types::TypeRef;
use yrs::{Any, Array, ArrayRef, GetString, Map, MapRef, Out, ReadTxn, TextRef, XmlFragment, XmlOut};

/// What a shared type is: what it was made as, or for a root type of which only content is known, what its
/// content says. `None` when it is empty, or of a kind that only Yjs editors use.
pub fn kind_of(branch: BranchPtr, tx: &impl ReadTxn) -> Option<Kind> {
    match branch.type_ref() {
        TypeRef::Text => Some(Kind::Text),
        // Reading a list that holds an emoji as text never ends in yrs 0.28.1: it counts characters where
        // it should count UTF-16 units. Nobody writes text into a list but to do harm.
        TypeRef::Array if !TextRef::from(branch).get_string(tx).is_empty() => None,
        TypeRef::Array => Some(Kind::List),
        TypeRef::Map => Some(Kind::Map),
        TypeRef::Undefined => {
            if MapRef::from(branch).len(tx) > 0 {
                Some(Kind::Map)
            } else if branch.content_len() == 0 {
                None
            } else if TextRef::from(branch).get_string(tx).is_empty() {
                Some(Kind::List)
            } else {
                Some(Kind::Text)
            }
        }
        _ => None,
    }
}

/// The branch behind a shared type.
pub fn branch_of(out: &Out) -> Option<BranchPtr> {
    match out {
        Out::YText(shared) => Some(BranchPtr::from(shared.as_ref() as &yrs::branch::Branch)),
        Out::YArray(shared) => Some(BranchPtr::from(shared.as_ref())),
        Out::YMap(shared) => Some(BranchPtr::from(shared.as_ref())),
        Out::UndefinedRef(branch) => Some(*branch),
        _ => None,
    }
}

/// A plain copy. Counters are numbers; of what only editors use, the text.
pub fn plain(out: &Out, tx: &impl ReadTxn) -> Any {
    match (out, branch_of(out)) {
        (Out::Any(value), _) => value.clone(),
        (_, Some(branch)) => match kind_of(branch, tx) {
            Some(Kind::Text) => Any::from(TextRef::from(branch).get_string(tx)),
            Some(Kind::List) => {
                Any::Array(ArrayRef::from(branch).iter(tx).map(|item| plain(&item, tx)).collect())
            }
            Some(Kind::Map) => plain_map(&MapRef::from(branch), tx),
            None => Any::Null,
        },
        (out, _) => match XmlOut::try_from(out.clone()) {
            Ok(node) => {
                let mut text = String::new();
                push_text(&mut text, &node, tx);
                Any::from(text)
            }
            Err(_) => Any::Null,
        },
    }
}

/// The text of an XML node, without tags, attributes and formats: yrs's own rendering of those would be 3.5 kB of the npm
/// package (2026-11).
fn push_text(text: &mut String, node: &XmlOut, tx: &impl ReadTxn) {
    match node {
        XmlOut::Text(shared) => text.push_str(&AsRef::<TextRef>::as_ref(shared).get_string(tx)),
        XmlOut::Element(shared) => shared.children(tx).for_each(|child| push_text(text, &child, tx)),
        XmlOut::Fragment(shared) => shared.children(tx).for_each(|child| push_text(text, &child, tx)),
    }
}

fn plain_map(map: &MapRef, tx: &impl ReadTxn) -> Any {
    let entries: HashMap<String, Any> =
        map.iter(tx).map(|(key, value)| (key.to_owned(), plain(&value, tx))).collect();
    collapse(entries)
}

/// A counter's entries as its number, other maps as they are.
pub fn collapse(entries: HashMap<String, Any>) -> Any {
    if counter::is_counter(entries.iter().map(|(key, value)| (key.as_str(), value))) {
        let sum = counter::sum(entries.iter().map(|(key, value)| (key.as_str(), value)));
        return Any::from(sum);
    }
    Any::from(entries)
}

/// All root types with content, as plain values.
pub fn document(tx: &impl ReadTxn) -> HashMap<String, Any> {
    tx.root_refs()
        .map(|(name, root)| (name.to_owned(), plain(&root, tx)))
        .filter(|(_, value)| *value != Any::Null)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use yrs::{Doc, Text, Transact, WriteTxn, XmlElementPrelim, XmlTextPrelim};

    #[test]
    fn xml_that_an_editor_made_is_its_text() {
        let doc = Doc::new();
        let mut transaction = doc.transact_mut();
        let root = transaction.get_or_insert_xml_fragment("x");
        let paragraph = root.push_back(&mut transaction, XmlElementPrelim::empty("p"));
        let bold = yrs::types::Attrs::from([("bold".into(), true.into())]);
        let text = paragraph.push_back(&mut transaction, XmlTextPrelim::new("a "));
        text.insert_with_attributes(&mut transaction, 2, "paragraph", bold);
        root.push_back(&mut transaction, XmlTextPrelim::new(", and more"));
        let fragment = Out::YXmlFragment(root);
        assert_eq!(plain(&fragment, &transaction), Any::from("a paragraph, and more"));
        assert_eq!(plain(&Out::YXmlElement(paragraph), &transaction), Any::from("a paragraph"));
    }
}
