//! Document names: valid ones are what they were.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::limits::DOCUMENT_NAME_BYTES_MAX;

fuzz_target!(|text: &str| {
    let Ok(name) = DocumentName::parse(text) else { return };
    assert_eq!(name.as_str(), text);
    assert!((1..=DOCUMENT_NAME_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control));
});
