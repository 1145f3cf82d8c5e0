//! Reading and writing lib0's variable-length encoding, as Yjs uses it.
//!
//! The reader accepts only the shortest form of each number (all known writers produce it), so that
//! two readers cannot understand the same bytes differently.

use bytes::{Buf, Bytes};
use thiserror::Error;

/// Why bytes cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReadError {
    /// The bytes end before the value does, or a count promises more than the bytes that remain.
    #[error("the bytes end too early")]
    End,
    /// A number is not in its shortest form or is out of its range.
    #[error("a number is out of range or not in its shortest form")]
    Number,
    /// A string is not valid UTF-8.
    #[error("a string is not valid UTF-8")]
    Utf8,
}

/// A cursor over bytes that a peer sent. Never panics, never allocates.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from their beginning.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    /// Reads `bytes` from `at`; beyond the end there is nothing to read.
    pub fn at(bytes: &'a [u8], at: usize) -> Self {
        Reader { bytes, at: at.min(bytes.len()) }
    }

    /// Offset of the next byte.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// True when all bytes have been read.
    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// The bytes from `start` to the current position.
    pub fn since(&self, start: usize) -> &'a [u8] {
        self.bytes.get(start..self.at).unwrap_or(&[])
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, ReadError> {
        let byte = *self.bytes.get(self.at).ok_or(ReadError::End)?;
        self.at += 1;
        Ok(byte)
    }

    /// Exactly `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], ReadError> {
        let end = self.at.checked_add(len).ok_or(ReadError::End)?;
        let taken = self.bytes.get(self.at..end).ok_or(ReadError::End)?;
        self.at = end;
        Ok(taken)
    }

    /// An unsigned number below 2^53, as JavaScript can hold it.
    pub fn uint(&mut self) -> Result<u64, ReadError> {
        let first = self.u8()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut number = u64::from(first & 0x7f);
        let mut shift = 7;
        loop {
            let byte = self.u8()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                let shortest = byte != 0;
                return if shortest && number < 1 << 53 { Ok(number) } else { Err(ReadError::Number) };
            }
            shift += 7;
            if shift > 49 {
                return Err(ReadError::Number);
            }
        }
    }

    /// An unsigned number below 2^32.
    pub fn uint32(&mut self) -> Result<u32, ReadError> {
        u32::try_from(self.uint()?).map_err(|_| ReadError::Number)
    }

    /// Skips a signed number of magnitude below 2^53.
    pub fn skip_int(&mut self) -> Result<(), ReadError> {
        let first = self.u8()?;
        if first < 0x80 {
            return Ok(());
        }
        let mut number = u64::from(first & 0x3f);
        let mut shift = 6;
        loop {
            let byte = self.u8()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                let shortest = byte != 0;
                return if shortest && number < 1 << 53 { Ok(()) } else { Err(ReadError::Number) };
            }
            shift += 7;
            if shift > 48 {
                return Err(ReadError::Number);
            }
        }
    }

    /// A count of things that take at least `bytes_each_min` bytes each: never more than can follow.
    pub fn count(&mut self, bytes_each_min: usize) -> Result<usize, ReadError> {
        let count = usize::try_from(self.uint()?).map_err(|_| ReadError::End)?;
        match count.checked_mul(bytes_each_min) {
            Some(bytes) if bytes <= self.remaining() => Ok(count),
            _ => Err(ReadError::End),
        }
    }

    /// Bytes behind their length.
    pub fn buffer(&mut self) -> Result<&'a [u8], ReadError> {
        let len = self.count(1)?;
        self.take(len)
    }

    /// UTF-8 behind its length in bytes.
    pub fn string(&mut self) -> Result<&'a str, ReadError> {
        std::str::from_utf8(self.buffer()?).map_err(|_| ReadError::Utf8)
    }
}

/// Reads what `bytes` begin with, and leaves what is behind it; `None` when there is nothing. `read` may share the bytes.
pub(crate) fn take_first<T>(bytes: &mut Bytes, read: impl FnOnce(&mut Reader<'_>, &Bytes) -> T) -> Option<T> {
    if bytes.is_empty() {
        return None;
    }
    let mut reader = Reader::new(bytes);
    let first = read(&mut reader, bytes);
    let length = reader.position();
    bytes.advance(length);
    Some(first)
}

/// Appends `number` in its shortest form.
pub fn write_uint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends `bytes` behind their length.
pub fn write_buffer(out: &mut Vec<u8>, bytes: &[u8]) {
    write_uint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_number_that_is_written_reads_back(number in 0u64..1 << 53) {
            let mut out = Vec::new();
            write_uint(&mut out, number);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.uint(), Ok(number));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = Reader::new(&bytes);
            let _ = reader.uint();
            let _ = reader.skip_int();
            let _ = reader.string();
            let _ = reader.count(3);
        }
    }

    #[test]
    fn longer_forms_of_a_number_are_refused() {
        assert_eq!(Reader::new(&[0x80, 0x00]).uint(), Err(ReadError::Number));
        assert_eq!(Reader::new(&[0xff; 12]).uint(), Err(ReadError::Number));
        assert_eq!(Reader::new(&[0x80, 0x00]).skip_int(), Err(ReadError::Number));
    }

    #[test]
    fn two_to_the_53_is_no_number() {
        let mut out = Vec::new();
        write_uint(&mut out, 1 << 53);
        assert_eq!(Reader::new(&out).uint(), Err(ReadError::Number));
        out.clear();
        write_uint(&mut out, (1 << 53) - 1);
        assert_eq!(Reader::new(&out).uint(), Ok((1 << 53) - 1));
    }

    #[test]
    fn a_count_cannot_promise_more_than_the_bytes_that_remain() {
        assert_eq!(Reader::new(&[3, 0, 0]).count(1), Err(ReadError::End));
        assert_eq!(Reader::new(&[2, 0, 0]).count(1), Ok(2));
    }
}
