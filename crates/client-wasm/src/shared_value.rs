//! Documents as frozen JavaScript values, of which only the changed ones are made anew.

use crate::plain::{set, to_js};
use js_sys::{Array, Object};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tidewell_sync_core::counter;
use tidewell_sync_core::path::Kind;
use tidewell_sync_core::value::{branch_of, kind_of, plain};
use wasm_bindgen::JsValue;
use yrs::branch::BranchPtr;
use yrs::types::TypeRef;
use yrs::{Any, Array as _, ArrayRef, BranchID, GetString, Map as _, MapRef, Out, ReadTxn, TextRef};

/// Values below this are not worth looking for garbage among.
const SWEEP_FROM: usize = 4096;

/// What was made for one shared type.
struct Made {
    value: JsValue,
    /// Its plain objects and arrays by address, with what keeps the address theirs.
    plain: HashMap<usize, (Any, JsValue)>,
}

/// Values of one document.
#[derive(Default)]
pub(crate) struct SharedValues {
    fresh: HashMap<BranchID, Made>,
    /// Values that changed: their unchanged parts are taken over.
    stale: HashMap<BranchID, Made>,
    sweep_at: usize,
}

impl SharedValues {
    /// These shared types have changed.
    pub(crate) fn changed(&mut self, touched: &HashSet<BranchID>) {
        for id in touched {
            if let Some(made) = self.fresh.remove(id) {
                self.stale.insert(id.clone(), made);
            }
        }
    }

    /// Forgets what belongs to shared types that are gone.
    pub(crate) fn sweep(&mut self, tx: &impl ReadTxn) {
        self.stale.clear();
        if self.fresh.len() > self.sweep_at.max(SWEEP_FROM) {
            self.fresh.retain(|id, _| id.get_branch(tx).is_some_and(|branch| !branch.is_deleted()));
            self.sweep_at = self.fresh.len() * 2;
        }
    }

    pub(crate) fn value_of(&mut self, out: &Out, tx: &impl ReadTxn) -> JsValue {
        match branch_of(out) {
            Some(branch) => self.branch(branch, tx),
            None => to_js(&plain(out, tx)),
        }
    }

    pub(crate) fn branch(&mut self, branch: BranchPtr, tx: &impl ReadTxn) -> JsValue {
        let id = branch.id();
        if let Some(made) = self.fresh.get(&id) {
            return made.value.clone();
        }
        let old = self.stale.remove(&id).map(|made| made.plain).unwrap_or_default();
        let mut plain = HashMap::new();
        let value = match kind_of(branch, tx) {
            Some(Kind::Text) => JsValue::from_str(&TextRef::from(branch).get_string(tx)),
            Some(Kind::List) => {
                let items = Array::new();
                for out in ArrayRef::from(branch).iter(tx) {
                    items.push(&self.element(&out, tx, &old, &mut plain));
                }
                Object::freeze(&items).into()
            }
            Some(Kind::Map) => self.map(&MapRef::from(branch), tx, &old, &mut plain),
            None => JsValue::NULL,
        };
        // A root type without a type tells nobody that it changed.
        if !matches!(branch.type_ref(), TypeRef::Undefined) {
            self.fresh.insert(id, Made { value: value.clone(), plain });
        }
        value
    }

    fn map(
        &mut self,
        map: &MapRef,
        tx: &impl ReadTxn,
        old: &HashMap<usize, (Any, JsValue)>,
        plain: &mut HashMap<usize, (Any, JsValue)>,
    ) -> JsValue {
        let entries: Vec<(&str, Out)> = map.iter(tx).collect();
        let of_counter =
            |(key, out): &(&str, Out)| key.starts_with(counter::KEY_PREFIX) && matches!(out, Out::Any(_));
        if !entries.is_empty() && entries.iter().all(of_counter) {
            let entries = counter::entries(map, tx);
            let by_key = || entries.iter().map(|(key, value)| (key.as_str(), value));
            if counter::is_counter(by_key()) {
                return to_js(&Any::from(counter::sum(by_key())));
            }
        }
        let object = Object::new();
        for (key, out) in entries {
            set(&object, key, &self.element(&out, tx, old, plain));
        }
        Object::freeze(&object).into()
    }

    fn element(
        &mut self,
        out: &Out,
        tx: &impl ReadTxn,
        old: &HashMap<usize, (Any, JsValue)>,
        plain: &mut HashMap<usize, (Any, JsValue)>,
    ) -> JsValue {
        let Out::Any(any) = out else { return self.value_of(out, tx) };
        let address = match any {
            Any::Map(entries) => Arc::as_ptr(entries).addr(),
            Any::Array(values) => Arc::as_ptr(values).cast::<Any>().addr(),
            Any::Buffer(bytes) => Arc::as_ptr(bytes).cast::<u8>().addr(),
            _ => return to_js(any),
        };
        let value = match old.get(&address) {
            Some((_, value)) => value.clone(),
            None => to_js(any),
        };
        plain.insert(address, (any.clone(), value.clone()));
        value
    }
}
