//! The scanner of updates: what it takes, yrs decodes, with the same clocks.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use tidewell_sync_core::update::Scan;
use yrs::updates::decoder::Decode;

fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    let Ok(scan) = Scan::new(&bytes) else { return };
    let theirs = yrs::Update::decode_v1(&bytes).expect("yrs decodes what the scanner takes");
    if scan.is_canonical {
        assert_eq!(theirs.delete_set().is_empty(), scan.deletes.is_empty());
    }
    for section in scan.sections.iter().filter(|section| section.clock == 0 && section.count > 0) {
        let clock = theirs.state_vector().get(&yrs::block::ClientID::new(section.client));
        let mut reader = tidewell_sync_core::lib0::Reader::at(&bytes, section.start);
        let mut end = 0;
        for _ in 0..section.count {
            let read = tidewell_sync_core::update::read_struct(&mut reader, end).expect("it was scanned");
            if matches!(read.kind, tidewell_sync_core::update::StructKind::Skip) {
                break;
            }
            end = read.end();
        }
        assert_eq!(clock, end);
    }
});

fuzz_mutator!(|input: &mut [u8], len: usize, len_max: usize, seed: u32| {
    tidewell_fuzz::change_update(input, len, len_max, seed)
});
