//! Documents as plain values.

use crate::counter;
use crate::path::Kind;
use std::collections::HashMap;
use yrs::branch::BranchPtr;
use yrs::types::TypeRef;
use yrs::{Any, Array, ArrayRef, GetString, Map, MapRef, Out, ReadTxn, TextRef};

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
        (Out::YXmlElement(shared), _) => Any::from(shared.get_string(tx)),
        (Out::YXmlFragment(shared), _) => Any::from(shared.get_string(tx)),
        (Out::YXmlText(shared), _) => Any::from(shared.get_string(tx)),
        _ => Any::Null,
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
