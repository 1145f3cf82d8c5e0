//! Reading documents, and watching texts.

use crate::core::Core;
use crate::delta::{self, TextDelta};
use crate::document::{Declared, Document};
use crate::fail;
use crate::plain::{path_from_js, set, to_js};
use js_sys::{Array, Object};
use std::rc::Rc;
use tidewell_sync_core::client::ReplicaId;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::path::{Kind, Path, Step};
use tidewell_sync_core::value::{branch_of, kind_of};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use yrs::branch::Branch;
use yrs::types::TypeRef;
use yrs::{
    Array as _, BranchID, Doc, Map as _, MapRef, Observable, Out, ReadTxn, Text as _, TextRef, Transact,
    WriteTxn,
};

/// The kinds by their names in JavaScript.
fn kind(name: &str) -> Result<Declared, Code> {
    match name {
        "text" => Ok(Declared::Shared(Kind::Text)),
        "list" => Ok(Declared::Shared(Kind::List)),
        "map" => Ok(Declared::Shared(Kind::Map)),
        "counter" => Ok(Declared::Counter),
        _ => Err(Code::InvalidPath),
    }
}

impl Declared {
    fn kind(self) -> Kind {
        match self {
            Declared::Shared(kind) => kind,
            Declared::Counter => Kind::Map,
        }
    }

    fn empty(self) -> JsValue {
        match self {
            Declared::Shared(Kind::Text) => JsValue::from_str(""),
            Declared::Shared(Kind::List) => Object::freeze(&js_sys::Array::new()).into(),
            Declared::Shared(Kind::Map) => Object::freeze(&Object::new()).into(),
            Declared::Counter => JsValue::from_f64(0.0),
        }
    }
}

#[wasm_bindgen]
impl Core {
    /// The application uses the root type `root` as `text`, `list`, `map` or `counter`.
    ///
    /// # Errors
    /// `invalid_path` when it is of another type.
    pub fn declare(&mut self, id: u32, root: &str, as_kind: &str) -> Result<(), JsValue> {
        let declared = kind(as_kind).map_err(fail)?;
        let path = Path::root(root);
        self.draft(
            id,
            |draft, tx| {
                if draft.is(tx, &path, declared.kind()) { Ok(()) } else { Err(Code::InvalidPath) }
            },
        )?;
        if let Some(document) = self.documents.get_mut(id)
            && !document.declared.iter().any(|(name, _)| *name == path.root)
        {
            document.declared.push((path.root, declared));
            document.value = None;
        }
        Ok(())
    }

    /// The whole document: a frozen object with an entry for each root type.
    ///
    /// # Errors
    /// `closed`.
    pub fn value(&mut self, id: u32) -> Result<JsValue, JsValue> {
        self.take_note(id);
        let Core { client, documents } = self;
        let (Some(replica), Some(document)) = (client.replica(ReplicaId(id)), documents.get_mut(id)) else {
            return Err(fail(Code::Closed));
        };
        if let Some(value) = &document.value {
            return Ok(value.clone());
        }
        settle_roots(replica.doc());
        let tx = replica.doc().transact();
        let object = Object::new();
        // Sorted there: each kind of sorting takes 4 kB of the module.
        let names: Array = tx.root_refs().map(|(name, _)| JsValue::from_str(name)).collect();
        let Document { values, declared, .. } = document;
        for name in names.sort().iter().filter_map(|name| name.as_string()) {
            let Some(out) = tx.get(name.as_str()) else { continue };
            let value = values.value_of(&out, &tx);
            let is_empty = branch_of(&out)
                .is_some_and(|branch| branch.content_len() == 0 && MapRef::from(branch).len(&tx) == 0);
            if !is_empty && !value.is_null() {
                set(&object, &name, &value);
            }
        }
        for (name, declared) in declared.iter() {
            if js_sys::Reflect::get(&object, &name.as_ref().into()).is_ok_and(|value| value.is_undefined()) {
                set(&object, name, &declared.empty());
            }
        }
        values.sweep(&tx);
        let value: JsValue = Object::freeze(&object).into();
        document.value = Some(value.clone());
        Ok(value)
    }

    /// What is at `path` in the document: a frozen copy, `undefined` when nothing is there.
    ///
    /// # Errors
    /// `invalid_path`, `closed`.
    pub fn read(&mut self, id: u32, path: &JsValue) -> Result<JsValue, JsValue> {
        self.take_note(id);
        let path = path_from_js(path).map_err(fail)?;
        let Core { client, documents } = self;
        let (Some(replica), Some(document)) = (client.replica(ReplicaId(id)), documents.get_mut(id)) else {
            return Err(fail(Code::Closed));
        };
        let tx = replica.doc().transact();
        let mut at = BranchID::get_root(&tx, path.root.as_ref()).map(Out::UndefinedRef);
        for step in &path.steps {
            let below = match (at.as_ref().and_then(branch_of), step) {
                (Some(branch), Step::Key(key)) if kind_of(branch, &tx) == Some(Kind::Map) => {
                    MapRef::from(branch).get(&tx, key)
                }
                (Some(branch), Step::Index(index)) if kind_of(branch, &tx) == Some(Kind::List) => {
                    yrs::ArrayRef::from(branch).get(&tx, *index)
                }
                (None, _) if at.is_none() => None,
                _ => return Err(fail(Code::InvalidPath)),
            };
            at = below;
        }
        Ok(at.map_or(JsValue::UNDEFINED, |out| document.values.value_of(&out, &tx)))
    }

    /// The same with the draft's edits: a frozen copy.
    ///
    /// # Errors
    /// `invalid_path`, `closed`.
    pub fn draft_read(&mut self, id: u32, path: &JsValue) -> Result<JsValue, JsValue> {
        self.draft(id, |draft, tx| {
            let value = draft.value(tx, &path_from_js(path)?)?;
            Ok(value.map_or(JsValue::UNDEFINED, |value| to_js(&value)))
        })
    }

    /// Positions of a text, elements of a list or entries of a map, with the draft's edits.
    ///
    /// # Errors
    /// `invalid_path`, `closed`.
    pub fn length(&mut self, id: u32, path: &JsValue, as_kind: &str) -> Result<f64, JsValue> {
        self.draft(id, |draft, tx| draft.len(tx, &path_from_js(path)?, kind(as_kind)?.kind()).map(f64::from))
    }

    /// The formatted text at `path` as a delta of insertions.
    ///
    /// # Errors
    /// `invalid_path`, `closed`.
    pub fn text_content(&mut self, id: u32, path: &JsValue) -> Result<JsValue, JsValue> {
        let path = path_from_js(path).map_err(fail)?;
        let replica = self.client.replica(ReplicaId(id)).ok_or_else(|| fail(Code::Closed))?;
        let tx = replica.doc().transact();
        let parts: Vec<yrs::types::Delta> = match text_at(&tx, &path).map_err(fail)? {
            Some(text) => {
                let parts = text.diff(&tx, yrs::types::text::YChange::identity);
                parts.into_iter().map(Into::into).collect()
            }
            None => Vec::new(),
        };
        Ok(delta::to_js_array(&delta::from_yrs(&parts, &tx)))
    }

    /// Tells the deltas of a text from now on, in [`Core::drain`], under the number that this answers.
    ///
    /// # Errors
    /// `invalid_path`, `closed`.
    pub fn watch_text(&mut self, id: u32, path: &JsValue) -> Result<u32, JsValue> {
        let path = path_from_js(path).map_err(fail)?;
        let Core { client, documents } = self;
        let (Some(replica), Some(document)) = (client.replica(ReplicaId(id)), documents.get_mut(id)) else {
            return Err(fail(Code::Closed));
        };
        let found = text_at(&replica.doc().transact(), &path).map_err(fail)?;
        let text = match found {
            Some(text) => text,
            None => replica.doc().transact_mut().get_or_insert_text(path.root.clone()),
        };
        let watch = document.next_watch;
        document.next_watch += 1;
        let branch: &Branch = text.as_ref();
        document.watched.push((watch, branch.id()));
        let deltas = Rc::clone(&document.deltas);
        text.observe(format!("{watch}").as_str(), move |tx, event| {
            let changes = delta::from_yrs(event.delta(tx), tx);
            if !changes.is_empty() {
                deltas.borrow_mut().push(TextDelta { watch, changes });
            }
        });
        Ok(watch)
    }

    /// Ends a watch.
    pub fn unwatch_text(&mut self, id: u32, watch: u32) {
        let Core { client, documents } = self;
        let (Some(replica), Some(document)) = (client.replica(ReplicaId(id)), documents.get_mut(id)) else {
            return;
        };
        let Some(at) = document.watched.iter().position(|(known, _)| *known == watch) else { return };
        let (_, branch) = document.watched.swap_remove(at);
        if let Some(branch) = branch.get_branch(&replica.doc().transact()) {
            TextRef::from(branch).unobserve(format!("{watch}").as_str());
        }
    }
}

/// Gives root types, of which only content is known, the type that it says: their values are kept from then on.
fn settle_roots(doc: &Doc) {
    let undefined: Vec<(String, Kind)> = {
        let tx = doc.transact();
        tx.root_refs()
            .filter_map(|(name, out)| match out {
                Out::UndefinedRef(branch) => Some((name.to_owned(), kind_of(branch, &tx)?)),
                _ => None,
            })
            .collect()
    };
    if undefined.is_empty() {
        return;
    }
    let mut tx = doc.transact_mut();
    for (name, kind) in undefined {
        match kind {
            Kind::Text => drop(tx.get_or_insert_text(name)),
            Kind::List => drop(tx.get_or_insert_array(name)),
            Kind::Map => drop(tx.get_or_insert_map(name)),
        }
    }
}

/// The text at `path`; `None` when it is a root type without content.
fn text_at(tx: &impl ReadTxn, path: &Path) -> Result<Option<TextRef>, Code> {
    let Some(mut branch) = BranchID::get_root(tx, path.root.as_ref()) else {
        return if path.steps.is_empty() { Ok(None) } else { Err(Code::InvalidPath) };
    };
    for step in &path.steps {
        let below = match (kind_of(branch, tx), step) {
            (Some(Kind::Map), Step::Key(key)) => MapRef::from(branch).get(tx, key),
            (Some(Kind::List), Step::Index(index)) => yrs::ArrayRef::from(branch).get(tx, *index),
            _ => None,
        };
        branch = below.as_ref().and_then(branch_of).ok_or(Code::InvalidPath)?;
    }
    match (kind_of(branch, tx), branch.type_ref()) {
        (Some(Kind::Text), TypeRef::Text) => Ok(Some(TextRef::from(branch))),
        // Observers of a root type without a type would never be called.
        (Some(Kind::Text) | None, TypeRef::Undefined) => Ok(None),
        _ => Err(Code::InvalidPath),
    }
}
