//! What JavaScript sees of the Tidewell core: plain functions and values, bound by wasm-bindgen.
//!
//! It decides nothing by itself: it turns JavaScript values into calls of `tidewell-sync-core` and the
//! results back, and never calls JavaScript that applications have written. What follows from a call is
//! taken afterwards with `Core::drain`. Errors are the names of codes.
//!
//! For WebAssembly only: there is one thread, and yrs is built without the `sync` feature that the native
//! crates switch on.
#![cfg(target_arch = "wasm32")]

mod core;
mod delta;
mod document;
mod editing;
mod effect;
mod plain;
mod reading;
mod shared_value;

pub use crate::core::Core;

use bytes::Bytes;
use tidewell_sync_core::branch;
use tidewell_sync_core::client;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::replica::{LoadReport, Replica, Stored};
use wasm_bindgen::prelude::{JsValue, wasm_bindgen};

/// The version of this module. The npm package has the same one and refuses a module that differs.
#[wasm_bindgen]
#[must_use]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

/// How long to wait before a connection is tried again; `random` is uniform in [0, 1).
#[wasm_bindgen]
#[must_use]
pub fn backoff_ms(attempt: u32, random: f64) -> f64 {
    client::backoff_ms(attempt, (random * 9_007_199_254_740_992.0) as u64) as f64
}

/// One update with what all of `rows` bring. Nothing when one cannot be read or something is missing between
/// them: then the rows must stay as they are.
#[wasm_bindgen]
pub fn compact(rows: Vec<js_sys::Uint8Array>) -> Option<Vec<u8>> {
    let (replica, report) = load(&rows)?;
    let is_whole = !report.has_gap && report.unreadable_received.is_empty();
    is_whole.then(|| replica.encode().to_vec())
}

/// One update with what all of `rows` of a branch bring, for those who have what they build on.
///
/// # Errors
/// `invalid_update`, `update_incomplete`.
#[wasm_bindgen]
pub fn branch_update(rows: Vec<js_sys::Uint8Array>) -> Result<Vec<u8>, JsValue> {
    branch::as_one_update(&to_updates(&rows)).map(|update| update.to_vec()).map_err(fail)
}

/// Positions of those `rows` that build on something of `refused` that is not in `received`, directly or on each other.
#[wasm_bindgen]
#[must_use]
pub fn dependents(
    refused: Vec<js_sys::Uint8Array>,
    rows: Vec<js_sys::Uint8Array>,
    received: Vec<js_sys::Uint8Array>,
) -> Vec<u32> {
    let Some((replica, _)) = load(&received) else { return Vec::new() };
    branch::dependents(&to_updates(&refused), &to_updates(&rows), replica.admitted())
}

fn load(rows: &[js_sys::Uint8Array]) -> Option<(Replica, LoadReport)> {
    let mut replica = Replica::new(DocumentName::parse("read").ok()?, 0, 0);
    let report = replica.load(Stored { cursor: None, received: to_updates(rows), outbox: Vec::new() });
    Some((replica, report))
}

fn to_updates(rows: &[js_sys::Uint8Array]) -> Vec<Bytes> {
    rows.iter().map(|row| Bytes::from(row.to_vec())).collect()
}

/// An error as JavaScript gets it.
fn fail(code: Code) -> JsValue {
    JsValue::from_str(code.name())
}
