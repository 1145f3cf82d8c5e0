//! Frames of relays: what can be read is written again with the same meaning, and nothing panics.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidewell_sync_core::protocol::RelayMessage;

fuzz_target!(|bytes: &[u8]| {
    let Ok(messages) = RelayMessage::read_all(&Bytes::copy_from_slice(bytes)) else { return };
    let mut out = Vec::new();
    messages.iter().for_each(|message| message.write(&mut out));
    assert_eq!(RelayMessage::read_all(&out.into()), Ok(messages));
});
