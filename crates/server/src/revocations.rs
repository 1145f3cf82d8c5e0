//! Tokens that are not accepted any more although they have not expired.

use crate::limits::REVOCATIONS_MAX;
use crate::token::claims::Claims;
use rustc_hash::{FxHashMap, FxHashSet};

/// What is revoked. Everything "before a second" includes what says no second of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Revocation {
    /// All tokens made before a second.
    Everything { before_s: u64 },
    /// A subject's tokens made before a second.
    Subject { subject: String, before_s: u64 },
    /// One token, by its own name.
    Token { token_id: String },
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    before_s: u64,
    subjects: FxHashMap<String, u64>,
    token_ids: FxHashSet<String>,
}

impl Revocations {
    /// Adds one; false when there is no place for it. One that is revoked more than before takes no place.
    pub(crate) fn add(&mut self, revocation: Revocation) -> bool {
        let is_full = self.subjects.len() + self.token_ids.len() >= REVOCATIONS_MAX;
        match revocation {
            Revocation::Everything { before_s } => {
                self.before_s = self.before_s.max(before_s);
                let before_s = self.before_s;
                self.subjects.retain(|_, other| *other > before_s);
            }
            Revocation::Subject { subject, before_s } => {
                if is_full && !self.subjects.contains_key(&subject) {
                    return false;
                }
                let entry = self.subjects.entry(subject).or_default();
                *entry = (*entry).max(before_s);
            }
            Revocation::Token { token_id } => {
                if is_full && !self.token_ids.contains(&token_id) {
                    return false;
                }
                self.token_ids.insert(token_id);
            }
        }
        true
    }

    /// True for a token that is revoked.
    pub(crate) fn cover(&self, claims: &Claims) -> bool {
        let issued_at_s = claims.issued_at_s.unwrap_or(0);
        let is_before = |before_s: u64| issued_at_s < before_s;
        is_before(self.before_s)
            || self.subjects.get(&claims.subject).is_some_and(|before_s| is_before(*before_s))
            || claims.token_id.as_ref().is_some_and(|id| self.token_ids.contains(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claims(subject: &str, id: &str, issued_at_s: Option<u64>) -> Claims {
        let mut claims = json!({ "sub": subject, "exp": 9, "jti": id });
        if let Some(issued_at_s) = issued_at_s {
            claims["iat"] = json!(issued_at_s);
        }
        serde_json::from_value(claims).unwrap()
    }

    fn subject(subject: &str, before_s: u64) -> Revocation {
        Revocation::Subject { subject: subject.to_owned(), before_s }
    }

    #[test]
    fn what_is_revoked_stays_so_and_what_was_made_later_is_not() {
        let mut revocations = Revocations::default();
        assert!(!revocations.cover(&claims("ada", "1", None)));
        revocations.add(subject("ada", 100));
        revocations.add(subject("ada", 50));
        revocations.add(Revocation::Token { token_id: "7".to_owned() });
        assert!(revocations.cover(&claims("ada", "1", Some(99))));
        assert!(!revocations.cover(&claims("ada", "1", Some(100))));
        assert!(revocations.cover(&claims("ada", "1", None)), "it does not say when it was made");
        assert!(!revocations.cover(&claims("bob", "1", Some(99))));
        assert!(revocations.cover(&claims("bob", "7", Some(500))));
        revocations.add(Revocation::Everything { before_s: 60 });
        assert!(revocations.cover(&claims("bob", "1", Some(59))));
        assert!(revocations.cover(&claims("ada", "1", Some(99))), "hers reaches further");
        revocations.add(Revocation::Everything { before_s: 40 });
        assert!(revocations.cover(&claims("bob", "1", Some(59))));
    }

    #[test]
    fn revocations_take_a_bounded_place_and_one_of_everything_makes_room() {
        let mut revocations = Revocations::default();
        assert!((0..REVOCATIONS_MAX).all(|index| revocations.add(subject(&index.to_string(), 10))));
        assert!(!revocations.add(subject("one more", 10)));
        assert!(!revocations.add(Revocation::Token { token_id: "7".to_owned() }));
        assert!(revocations.add(subject("1", 20)), "known already");
        assert!(revocations.add(Revocation::Everything { before_s: 10 }));
        assert!(revocations.add(subject("one more", 30)));
        assert!(revocations.cover(&claims("1", "1", Some(19))));
    }
}
