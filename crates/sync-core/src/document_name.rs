//! Names of documents.

use crate::code::Code;
use crate::limits::DOCUMENT_NAME_BYTES_MAX;
use std::fmt;
use std::sync::Arc;

/// A valid name: 1 to 512 bytes of UTF-8 without control characters. `/` separates segments; the first
/// segment is the tenant. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentName(Arc<str>);

impl DocumentName {
    /// Takes `name` if it is valid, otherwise answers [`Code::InvalidName`].
    pub fn parse(name: &str) -> Result<Self, Code> {
        let valid =
            !name.is_empty() && name.len() <= DOCUMENT_NAME_BYTES_MAX && !name.chars().any(char::is_control);
        if valid { Ok(DocumentName(name.into())) } else { Err(Code::InvalidName) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DocumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for DocumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nm1_a_name_has_1_to_512_bytes_and_no_control_characters() {
        assert!(DocumentName::parse("acme/list/42").is_ok());
        assert!(DocumentName::parse("日本語/📄").is_ok());
        assert!(DocumentName::parse(&"x".repeat(512)).is_ok());
        for bad in ["", "a\nb", "a\u{0}b", "a\u{7f}b", "a\u{85}b", &"x".repeat(513), &"é".repeat(257)] {
            assert_eq!(DocumentName::parse(bad), Err(Code::InvalidName), "{bad:?}");
        }
    }
}
