//! The module inside a real browser engine.
#![cfg(target_arch = "wasm32")]
#![allow(clippy::unwrap_used, reason = "clippy knows tests by #[test], which these cannot carry")]

use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};
use yrs::{Doc, GetString, ReadTxn, StateVector, Text, Transact, Update, updates::decoder::Decode};

wasm_bindgen_test_configure!(run_in_browser);

#[wasm_bindgen_test]
fn the_module_tells_the_version_of_its_package() {
    assert_eq!(tidewell_client_wasm::version(), env!("CARGO_PKG_VERSION"));
}

#[wasm_bindgen_test]
fn two_documents_in_one_engine_take_different_client_ids_and_converge() {
    let (ada, bob) = (Doc::new(), Doc::new());
    assert_ne!(ada.client_id(), bob.client_id(), "the engine's source of randomness is not reached");

    let text = ada.get_or_insert_text("text");
    text.push(&mut ada.transact_mut(), "from Ada, with ü and 🌊");
    let update = ada.transact().encode_diff_v1(&StateVector::default());

    let copy = bob.get_or_insert_text("text");
    bob.transact_mut().apply_update(Update::decode_v1(&update).unwrap()).unwrap();
    assert_eq!(copy.get_string(&bob.transact()), "from Ada, with ü and 🌊");
}
