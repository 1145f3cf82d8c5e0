//! What JavaScript sees of the Tidewell core: plain functions and values, bound by wasm-bindgen.
//!
//! It decides nothing by itself: it turns JavaScript values into calls of `tidewell-sync-core` and the results back.

use wasm_bindgen::prelude::wasm_bindgen;

/// The version of this module. The npm package has the same one and refuses a module that differs.
#[wasm_bindgen]
#[must_use]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}
