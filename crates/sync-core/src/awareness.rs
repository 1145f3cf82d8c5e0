//! Awareness updates of y-protocols: checked, bounded, otherwise opaque.

use crate::code::Code;
use crate::lib0::{ReadError, Reader, write_buffer, write_uint};
use crate::limits::{AWARENESS_BYTES_MAX, AWARENESS_UPDATE_ENTRIES_MAX, CLIENT_ID_END, VALUE_DEPTH_MAX};

/// One client's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Client ID that the sender gave itself.
    pub client: u64,
    /// Counts up with each change.
    pub clock: u32,
    /// JSON text; `null` when the client has gone.
    pub state: String,
}

impl Entry {
    /// Bytes that it takes in an update, at most.
    pub fn bytes_max(&self) -> usize {
        self.state.len() + 24
    }

    /// True when this entry says that the client has gone.
    pub fn is_gone(&self) -> bool {
        self.state == "null"
    }
}

/// Reads an awareness update.
pub fn decode(bytes: &[u8]) -> Result<Vec<Entry>, Code> {
    if bytes.len() > AWARENESS_BYTES_MAX {
        return Err(Code::AwarenessTooLarge);
    }
    let mut reader = Reader::new(bytes);
    let count = reader.count(3).map_err(|_| Code::InvalidAwareness)?;
    if count > AWARENESS_UPDATE_ENTRIES_MAX {
        return Err(Code::AwarenessTooLarge);
    }
    let entries: Result<Vec<Entry>, ReadError> = (0..count).map(|_| entry(&mut reader)).collect();
    match entries {
        Ok(entries) if reader.is_empty() => Ok(entries),
        _ => Err(Code::InvalidAwareness),
    }
}

fn entry(reader: &mut Reader<'_>) -> Result<Entry, ReadError> {
    let client = reader.uint()?;
    let clock = reader.uint32()?;
    let state = reader.string()?.to_owned();
    if client >= CLIENT_ID_END {
        return Err(ReadError::Number);
    }
    // Yjs clients parse the state; what is not JSON would throw in each of them. Not looked at more closely: half a
    // surrogate pair is no text to serde_json, but `JSON.stringify` writes it, of a name that was cut.
    serde_json::from_str::<serde::de::IgnoredAny>(&state).map_err(|_| ReadError::Utf8)?;
    if nests_too_deeply(&state) {
        return Err(ReadError::Utf8);
    }
    Ok(Entry { client, clock, state })
}

/// True for JSON that would exhaust the stack of a client that compares it with what it had.
fn nests_too_deeply(json: &str) -> bool {
    let (mut depth, mut is_text, mut is_escaped) = (0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => is_text = !is_text,
            b'[' | b'{' if !is_text => {
                depth += 1;
                if depth > VALUE_DEPTH_MAX {
                    return true;
                }
            }
            b']' | b'}' if !is_text => depth -= 1,
            _ => {}
        }
    }
    false
}

/// Writes an awareness update.
pub fn encode<'a>(entries: impl ExactSizeIterator<Item = &'a Entry>) -> Vec<u8> {
    let mut out = Vec::new();
    write_uint(&mut out, entries.len() as u64);
    for entry in entries {
        write_uint(&mut out, entry.client);
        write_uint(&mut out, u64::from(entry.clock));
        write_buffer(&mut out, entry.state.as_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn aw1_an_awareness_update_reads_back() {
        let entries = vec![
            Entry { client: 7, clock: 1, state: "{\"name\":\"Ada\"}".into() },
            Entry { client: (1 << 53) - 1, clock: 0, state: "null".into() },
        ];
        let decoded = decode(&encode(entries.iter()));
        assert_eq!(decoded.as_deref(), Ok(entries.as_slice()));
        assert!(decoded.is_ok_and(|entries| entries.iter().filter(|e| e.is_gone()).count() == 1));
    }

    #[test]
    fn aw2_what_is_too_large_or_no_json_is_refused_with_its_code() {
        assert_eq!(decode(&[0x80, 0x80, 0x80, 0x80, 0x01, 0x00]), Err(Code::InvalidAwareness));
        assert_eq!(decode(&vec![0; AWARENESS_BYTES_MAX + 1]), Err(Code::AwarenessTooLarge));
        let many = vec![Entry { client: 1, clock: 1, state: "{}".into() }; AWARENESS_UPDATE_ENTRIES_MAX + 1];
        assert_eq!(decode(&encode(many.iter())), Err(Code::AwarenessTooLarge));
        let no_json = [Entry { client: 1, clock: 1, state: "{".into() }];
        assert_eq!(decode(&encode(no_json.iter())), Err(Code::InvalidAwareness));
    }

    #[test]
    fn aw1_a_name_that_was_cut_inside_a_pair_is_a_state_and_one_that_nests_too_deeply_is_none() {
        let state = |state: String| decode(&encode([Entry { client: 1, clock: 1, state }].iter())).map(drop);
        // As `JSON.stringify` writes half an emoji; brackets inside strings are text.
        assert_eq!(state(r#"{"name":"\ud83d","color":"\"[[\\"}"#.into()), Ok(()));
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(state(nested(VALUE_DEPTH_MAX)), Ok(()));
        assert_eq!(state(nested(VALUE_DEPTH_MAX + 1)), Err(Code::InvalidAwareness));
        let quoted = format!("[\"{}\"]", "[".repeat(VALUE_DEPTH_MAX));
        assert_eq!(state(quoted), Ok(()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&bytes);
        }
    }
}
