//! Frames one after the other into a reassembly: it never holds more than a message may have.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidewell_sync_core::limits::MESSAGE_BYTES_MAX;
use tidewell_sync_core::protocol::{Reassembly, split};

fuzz_target!(|bytes: &[u8]| {
    let mut reassembly = Reassembly::default();
    let mut rest = Bytes::copy_from_slice(bytes);
    // The first byte of each frame is its length.
    while let Some(len) = rest.first().copied() {
        let end = (1 + usize::from(len)).min(rest.len());
        let frame = rest.slice(1..end);
        rest = rest.slice(end..);
        match reassembly.take(frame) {
            Ok(Some(messages)) => assert!(messages.len() <= MESSAGE_BYTES_MAX),
            Ok(None) => {}
            Err(_) => break,
        }
    }
    let whole = Bytes::from([&[6u8], bytes].concat());
    let frames = split(whole.clone(), 16 + bytes.len() / 3);
    let mut reassembly = Reassembly::default();
    let last = frames.into_iter().map(|frame| reassembly.take(frame)).last();
    assert_eq!(last, Some(Ok(Some(whole))));
});
