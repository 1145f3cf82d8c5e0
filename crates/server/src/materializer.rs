//! Building documents, in processes of their own.
//!
//! yrs can be crashed, hung or made to take all memory by bytes that pass every check we know of. So it
//! runs in a child process of the same binary with limits, and what a document does to it harms that
//! document only. Requests and answers are frames on the child's standard input and output.

mod compact;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod pool;
mod process;

pub(crate) use pool::{CompactError, Pool, Program};
pub use process::{MaterializeError, materialize};

use bytes::Bytes;
use std::io::{self, Read, Write};
use tidewell_sync_core::lib0::{ReadError, Reader, write_buffer, write_uint};

const COMPACT: u64 = 1;
const DONE: u64 = 0;
const FAILED: u64 = 1;

/// What a process is asked, part by part: the state after these updates, as one update. The updates are not copied.
fn request(updates: &[Bytes]) -> impl Iterator<Item = Bytes> {
    let number =
        |number: usize, out: &mut Vec<u8>| write_uint(out, u64::try_from(number).unwrap_or(u64::MAX));
    let mut head = Vec::new();
    write_uint(&mut head, COMPACT);
    number(updates.len(), &mut head);
    let rest = updates.iter().flat_map(move |update| {
        let mut length = Vec::new();
        number(update.len(), &mut length);
        [Bytes::from(length), update.clone()]
    });
    std::iter::once(Bytes::from(head)).chain(rest)
}

fn read_request(frame: &[u8]) -> Result<Vec<&[u8]>, ReadError> {
    let mut reader = Reader::new(frame);
    if reader.uint()? != COMPACT {
        return Err(ReadError::Number);
    }
    let count = reader.count(1)?;
    (0..count).map(|_| reader.buffer()).collect()
}

/// What it answers: the snapshot, or why there is none.
fn write_answer(answer: &Result<Vec<u8>, String>) -> Vec<u8> {
    let mut out = Vec::new();
    match answer {
        Ok(snapshot) => {
            write_uint(&mut out, DONE);
            write_buffer(&mut out, snapshot);
        }
        Err(reason) => {
            write_uint(&mut out, FAILED);
            write_buffer(&mut out, reason.as_bytes());
        }
    }
    out
}

fn read_answer(frame: &Bytes) -> Result<Result<Bytes, String>, ReadError> {
    let mut reader = Reader::new(frame);
    match reader.uint()? {
        DONE => {
            let len = reader.buffer()?.len();
            Ok(Ok(frame.slice(frame.len() - len..)))
        }
        FAILED => Ok(Err(reader.string()?.to_owned())),
        _ => Err(ReadError::Number),
    }
}

/// The head of a frame: its length.
fn frame_head(bytes: usize) -> io::Result<[u8; 4]> {
    let length = u32::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    Ok(length.to_le_bytes())
}

fn frame_bytes(head: [u8; 4], bytes_max: usize) -> io::Result<usize> {
    match usize::try_from(u32::from_le_bytes(head)) {
        Ok(bytes) if bytes <= bytes_max => Ok(bytes),
        _ => Err(io::ErrorKind::FileTooLarge.into()),
    }
}

/// Reads a frame; `None` when the other end has closed.
fn read_frame(input: &mut impl Read, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; 4];
    match input.read_exact(&mut head) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut frame = vec![0; frame_bytes(head, bytes_max)?];
    input.read_exact(&mut frame)?;
    Ok(Some(frame))
}

fn write_frame(output: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    output.write_all(&frame_head(frame.len())?)?;
    output.write_all(frame)?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_read_back() {
        let updates = [Bytes::from_static(b"one"), Bytes::new(), Bytes::from_static(b"three")];
        assert_eq!(
            read_request(&request(&updates).collect::<Vec<_>>().concat()),
            Ok(updates.iter().map(|u| &u[..]).collect())
        );
        for answer in [Ok(b"snapshot".to_vec()), Err("why".to_owned())] {
            let back = read_answer(&write_answer(&answer).into()).unwrap();
            assert_eq!(back.map(|bytes| bytes.to_vec()), answer);
        }
    }

    #[test]
    fn a_frame_beyond_its_limit_is_refused_before_it_is_read() {
        let mut frame = Vec::new();
        write_frame(&mut frame, b"four").unwrap();
        assert_eq!(read_frame(&mut &frame[..], 4).unwrap(), Some(b"four".to_vec()));
        assert!(read_frame(&mut &frame[..], 3).is_err());
        assert_eq!(read_frame(&mut &[][..], 3).unwrap(), None);
    }
}
