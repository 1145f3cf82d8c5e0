//! Frames of clients: what can be read is written again in the same words, and nothing panics.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidewell_sync_core::protocol::ClientMessage;

fuzz_target!(|bytes: &[u8]| {
    let Ok(messages) = ClientMessage::read_all(&Bytes::copy_from_slice(bytes)) else { return };
    let mut out = Vec::new();
    messages.iter().for_each(|message| message.write(&mut out));
    assert_eq!(ClientMessage::read_all(&out.into()), Ok(messages));
});
