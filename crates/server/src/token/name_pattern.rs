//! Patterns of document and ledger names, as grants have them.

use serde::{Deserialize, Serialize};
use std::str::FromStr;
use thiserror::Error;
use tidewell_sync_core::document_name::DocumentName;

/// `acme/list/42` names one document; `*` stands for one whole segment, `**` at the end for one or more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct NamePattern(String);

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum InvalidPattern {
    /// It would match no name.
    #[error("a name pattern must have 1 to 512 bytes of UTF-8 and no control characters")]
    NoName,
    /// `a*` reads as if it matched a part of a segment.
    #[error("* stands for a whole segment, ** for all that follow: acme/*/notes, acme/**")]
    Star,
}

impl NamePattern {
    pub(crate) fn matches(&self, name: &str) -> bool {
        let (mut pattern, mut name) = (self.0.split('/'), name.split('/'));
        loop {
            match (pattern.next(), name.next()) {
                (Some("**"), Some(_)) | (None, None) => return true,
                (Some("*"), Some(_)) => {}
                (Some(expected), Some(segment)) if expected == segment => {}
                _ => return false,
            }
        }
    }

    /// True when it matches all that another one matches.
    pub(crate) fn covers(&self, other: &NamePattern) -> bool {
        // A star stands for another star too, and for a double one only a double one.
        let is_open = |pattern: &NamePattern| pattern.0.split('/').next_back() == Some("**");
        self.matches(&other.0) && (is_open(self) || !is_open(other))
    }

    /// The pattern of all names.
    pub(crate) fn everything() -> Self {
        NamePattern("**".to_owned())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NamePattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        DocumentName::parse(text).map_err(|_| InvalidPattern::NoName)?;
        let count = text.split('/').count();
        let is_valid = |(index, segment): (usize, &str)| match segment {
            "*" => true,
            "**" => index + 1 == count,
            other => !other.contains('*'),
        };
        if text.split('/').enumerate().all(is_valid) {
            Ok(NamePattern(text.to_owned()))
        } else {
            Err(InvalidPattern::Star)
        }
    }
}

impl TryFrom<String> for NamePattern {
    type Error = InvalidPattern;

    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        text.parse()
    }
}

impl From<NamePattern> for String {
    fn from(pattern: NamePattern) -> String {
        pattern.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_segments_and_nothing_beside_them() {
        let cases = [
            ("acme/list", "acme/list", true),
            ("acme/list", "acme/list/42", false),
            ("acme/list", "acme/lis", false),
            ("acme/list", "Acme/list", false),
            ("acme/*", "acme/list", true),
            ("acme/*", "acme", false),
            ("acme/*", "acme/list/42", false),
            ("acme/*/42", "acme/list/42", true),
            ("acme/*/42", "acme/list/43", false),
            ("acme/**", "acme/list/42", true),
            ("acme/**", "acme/list", true),
            ("acme/**", "acme", false),
            ("acme/**", "acmes/list", false),
            ("acme/**", "other/acme/list", false),
            ("**", "anything/at/all", true),
            ("*", "acme", true),
            ("*", "acme/list", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(pattern.parse::<NamePattern>().unwrap().matches(name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_covers_another_one_if_it_matches_all_that_the_other_does() {
        let cases = [
            ("**", "**", true),
            ("**", "acme/*", true),
            ("*", "**", false),
            ("*", "acme", true),
            ("acme/**", "acme/**", true),
            ("acme/**", "acme/*/**", true),
            ("acme/**", "acme/list/42", true),
            ("acme/**", "acme", false),
            ("acme/**", "**", false),
            ("acme/*", "acme/**", false),
            ("acme/*", "acme/*", true),
            ("acme/*/**", "acme/**", false),
            ("acme/*/**", "acme/list/**", true),
            ("acme/list", "acme/*", false),
            ("acme/list", "acme/list", true),
            ("acme/list", "acme/list/**", false),
        ];
        for (pattern, other, expected) in cases {
            let [whole, part] = [pattern, other].map(|text| text.parse::<NamePattern>().unwrap());
            assert_eq!(whole.covers(&part), expected, "{pattern} {other}");
        }
    }

    #[test]
    fn a_star_inside_a_segment_or_a_double_one_before_the_end_is_no_pattern() {
        for text in ["acme*", "a/b*/c", "**/a", "a/**/b", "a/***"] {
            assert_eq!(text.parse::<NamePattern>(), Err(InvalidPattern::Star), "{text}");
        }
        for text in ["", "a\nb", "x".repeat(513).as_str()] {
            assert_eq!(text.parse::<NamePattern>(), Err(InvalidPattern::NoName), "{text:?}");
        }
    }
}
