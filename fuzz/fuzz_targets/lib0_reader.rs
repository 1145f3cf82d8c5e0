//! The reader of lib0's encoding: it never panics, never reads twice what it has read, and keeps inside its bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidewell_sync_core::lib0::Reader;

fuzz_target!(|bytes: &[u8]| {
    let mut reader = Reader::new(bytes);
    while let Ok(kind) = reader.u8() {
        let before = reader.position();
        let read = match kind % 6 {
            0 => reader.uint().map(drop),
            1 => reader.uint32().map(drop),
            2 => reader.skip_int(),
            3 => reader.count(1).map(|count| assert!(count <= bytes.len())),
            4 => reader.buffer().map(drop),
            _ => reader.string().map(drop),
        };
        if read.is_err() {
            break;
        }
        assert!(reader.position() > before);
        assert_eq!(reader.position() + reader.remaining(), bytes.len());
    }
});
