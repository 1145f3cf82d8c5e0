//! Frames of stock y-websocket clients: what can be read is written again with the same meaning.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidewell_sync_core::y_protocol::YMessage;

fuzz_target!(|bytes: &[u8]| {
    let Ok(messages) = YMessage::read_all(&Bytes::copy_from_slice(bytes)) else { return };
    for message in messages {
        assert_eq!(YMessage::read_all(&message.to_frame()), Ok(vec![message]));
    }
});
