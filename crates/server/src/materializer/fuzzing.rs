//! Both ends of the pipe between the relay and a materializer process, in one process.

use super::{compact, read_answer, read_frame, read_request, write_answer};
use bytes::Bytes;
use tidewell_sync_core::admission::Admitted;

/// Far more than a target is fed.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// Answers what a process reads, frame by frame, and reads the answers.
pub(crate) fn answer(mut input: &[u8]) {
    while let Ok(Some(frame)) = read_frame(&mut input, FRAME_BYTES_MAX) {
        // What a process that has gone wrong writes.
        let _ = read_answer(&Bytes::copy_from_slice(&frame));
        let Ok(updates) = read_request(&frame) else { continue };
        // What is stored, and asked for, is what admission hands on.
        let Ok((admitted, pieces)) =
            Admitted::load(updates.iter().map(|update| Bytes::copy_from_slice(update)))
        else {
            continue;
        };
        let pieces: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
        let answer = Bytes::from(write_answer(&compact::compact(&pieces)));
        match read_answer(&answer) {
            Ok(Ok(snapshot)) => {
                let again = Admitted::load([snapshot]);
                let is_same = again.is_ok_and(|(again, _)| again.state_vector() == admitted.state_vector());
                assert!(is_same, "a snapshot is what it was made of");
            }
            Ok(Err(reason)) => assert_eq!(reason, compact::OTHER_VALUES, "what is whole can be built"),
            Err(error) => panic!("its own answer cannot be read: {error}"),
        }
    }
}

/// The updates of all requests in an input.
#[cfg(test)]
pub(crate) fn updates(mut input: &[u8]) -> Vec<Vec<u8>> {
    let mut updates = Vec::new();
    while let Ok(Some(frame)) = read_frame(&mut input, FRAME_BYTES_MAX) {
        updates.extend(read_request(&frame).into_iter().flatten().map(<[u8]>::to_vec));
    }
    updates
}

/// One request that holds them.
#[cfg(test)]
pub(crate) fn request(updates: &[Vec<u8>]) -> Vec<u8> {
    let updates: Vec<Bytes> = updates.iter().map(|update| Bytes::copy_from_slice(update)).collect();
    let mut framed = Vec::new();
    super::write_frame(&mut framed, &super::request(&updates).collect::<Vec<_>>().concat()).unwrap();
    framed
}
