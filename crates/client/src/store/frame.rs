//! Frames: what one commit writes, whole or not at all.
//!
//! `frame = salt:4 length:4 checksum:4 payload`, numbers little-endian; the checksum (CRC-32) covers salt,
//! length and payload; the salt is random and the file's own. A frame is synced to disk before the next
//! one of its file is written. So bytes that are no frame are the torn end of a commit that was never
//! answered for, if no whole frame follows them, and damage if one does.

/// Bytes before the payload.
pub(super) const HEAD_BYTES: usize = 12;

/// Largest payload, in bytes: a snapshot of the largest update, and a commit beside it.
pub(super) const PAYLOAD_BYTES_MAX: usize = 256 << 20;

fn checksum(salt: [u8; 4], length: [u8; 4], payload: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt);
    hasher.update(&length);
    hasher.update(payload);
    hasher.finalize().to_le_bytes()
}

/// The bytes of a frame; `None` when the payload is too large for one.
pub(super) fn write(salt: [u8; 4], payload: &[u8]) -> Option<Vec<u8>> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return None;
    }
    let length = u32::try_from(payload.len()).ok()?.to_le_bytes();
    let mut out = Vec::with_capacity(HEAD_BYTES + payload.len());
    out.extend_from_slice(&salt);
    out.extend_from_slice(&length);
    out.extend_from_slice(&checksum(salt, length, payload));
    out.extend_from_slice(payload);
    Some(out)
}

/// The payload of the frame that begins at `at`, if there is a whole one.
pub(super) fn read(bytes: &[u8], at: usize, salt: [u8; 4]) -> Option<&[u8]> {
    let rest = bytes.get(at..)?;
    let (found, rest) = rest.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let payload = rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    (*found == salt && payload.len() <= PAYLOAD_BYTES_MAX && *sum == checksum(salt, *length, payload))
        .then_some(payload)
}

/// True when a whole frame begins anywhere behind `at`.
pub(super) fn any_after(bytes: &[u8], at: usize, salt: [u8; 4]) -> bool {
    let candidates = bytes.get(at + 1..).unwrap_or(&[]).windows(salt.len()).enumerate();
    candidates
        .filter(|(_, found)| *found == salt)
        .any(|(offset, _)| read(bytes, at + 1 + offset, salt).is_some())
}
