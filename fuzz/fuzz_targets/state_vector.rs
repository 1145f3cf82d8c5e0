//! State vectors: what can be read, yrs reads as the same clocks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidewell_sync_core::state_vector::StateVector;
use yrs::updates::decoder::Decode;

fuzz_target!(|bytes: &[u8]| {
    let Ok(vector) = StateVector::decode(bytes) else { return };
    let theirs = yrs::StateVector::decode_v1(bytes).expect("yrs reads what we read");
    for (client, clock) in vector.iter() {
        assert_eq!(theirs.get(&yrs::block::ClientID::new(client)), clock);
    }
    let again = StateVector::decode(&vector.encode()).expect("what was written can be read");
    assert_eq!(again, vector);
});
