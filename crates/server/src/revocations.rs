//! Tokens that are not accepted any more, or not for some documents, although they have not expired.

mod documents;

use crate::limits::REVOCATIONS_MAX;
use crate::token::claims::Claims;
use crate::token::name_pattern::NamePattern;
use documents::RevokedDocuments;
use rustc_hash::{FxHashMap, FxHashSet};
use tidewell_sync_core::document_name::DocumentName;

/// What is revoked. Everything "before a second" includes what says no second of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Revocation {
    /// All tokens made before a second.
    Everything { before_s: u64 },
    /// A subject's tokens made before a second.
    Subject { subject: String, before_s: u64 },
    /// One token, by its own name.
    Token { token_id: String },
    /// What tokens made before a second allow on the documents that a pattern matches.
    Documents { pattern: NamePattern, before_s: u64 },
}

impl Revocation {
    /// True when another one revokes nothing else.
    pub(crate) fn includes(&self, other: &Revocation) -> bool {
        use Revocation::{Documents, Everything, Subject, Token};
        match (self, other) {
            (
                Everything { before_s },
                Everything { before_s: other_s } | Subject { before_s: other_s, .. },
            )
            | (Everything { before_s }, Documents { before_s: other_s, .. }) => before_s >= other_s,
            (Subject { subject, before_s }, Subject { subject: other, before_s: other_s }) => {
                subject == other && before_s >= other_s
            }
            (Token { token_id }, Token { token_id: other }) => token_id == other,
            (Documents { pattern, before_s }, Documents { pattern: other, before_s: other_s }) => {
                pattern.covers(other) && before_s >= other_s
            }
            _ => false,
        }
    }
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    before_s: u64,
    subjects: FxHashMap<String, u64>,
    token_ids: FxHashSet<String>,
    documents: RevokedDocuments,
}

impl Revocations {
    /// True when there is a place for one. One that is revoked more than before takes none.
    pub(crate) fn have_place_for(&self, revocation: &Revocation) -> bool {
        let taken = self.subjects.len() + self.token_ids.len() + self.documents.count();
        let is_full = taken >= REVOCATIONS_MAX;
        match revocation {
            Revocation::Everything { .. } => true,
            Revocation::Subject { subject, .. } => !is_full || self.subjects.contains_key(subject),
            Revocation::Token { token_id } => !is_full || self.token_ids.contains(token_id),
            Revocation::Documents { pattern, .. } => {
                self.documents.hold(pattern) || (!is_full && self.documents.has_place_for(pattern))
            }
        }
    }

    /// True when one changes nothing.
    pub(crate) fn include(&self, revocation: &Revocation) -> bool {
        match revocation {
            Revocation::Everything { before_s } => self.before_s >= *before_s,
            Revocation::Subject { subject, before_s } => {
                self.subjects.get(subject).is_some_and(|known_s| known_s >= before_s)
            }
            Revocation::Token { token_id } => self.token_ids.contains(token_id),
            Revocation::Documents { pattern, before_s } => {
                self.documents.before_s_of_all(pattern) >= *before_s
            }
        }
    }

    /// Adds one.
    pub(crate) fn add(&mut self, revocation: Revocation) {
        match revocation {
            Revocation::Everything { before_s } => {
                self.before_s = self.before_s.max(before_s);
                let before_s = self.before_s;
                self.subjects.retain(|_, other| *other > before_s);
                self.documents.forget(before_s);
            }
            Revocation::Subject { subject, before_s } => {
                let entry = self.subjects.entry(subject).or_default();
                *entry = (*entry).max(before_s);
            }
            Revocation::Token { token_id } => {
                self.token_ids.insert(token_id);
            }
            Revocation::Documents { pattern, before_s } => self.documents.add(&pattern, before_s),
        }
    }

    /// True for a token that is revoked.
    pub(crate) fn cover(&self, claims: &Claims) -> bool {
        is_of_before(claims, self.before_s)
            || self.subjects.get(&claims.subject).is_some_and(|before_s| is_of_before(claims, *before_s))
            || claims.token_id.as_ref().is_some_and(|id| self.token_ids.contains(id))
    }

    /// True for a token that allows nothing on a document any more.
    pub(crate) fn cover_on(&self, claims: &Claims, document: &DocumentName) -> bool {
        is_of_before(claims, self.documents.before_s(document))
    }

    /// True for a token that allows nothing on any document of a pattern any more.
    pub(crate) fn cover_on_all(&self, claims: &Claims, pattern: &NamePattern) -> bool {
        is_of_before(claims, self.documents.before_s_of_all(pattern))
    }
}

fn is_of_before(claims: &Claims, before_s: u64) -> bool {
    claims.issued_at_s.unwrap_or(0) < before_s
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

    fn documents(pattern: &str, before_s: u64) -> Revocation {
        Revocation::Documents { pattern: pattern.parse().unwrap(), before_s }
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
        let known = [subject("ada", 100), Revocation::Token { token_id: "7".to_owned() }];
        assert!(known.iter().all(|revocation| revocations.include(revocation)));
        let new = [subject("ada", 101), subject("bob", 1), Revocation::Token { token_id: "8".to_owned() }];
        assert!(!new.iter().any(|revocation| revocations.include(revocation)));
        revocations.add(Revocation::Everything { before_s: 60 });
        assert!(revocations.cover(&claims("bob", "1", Some(59))));
        assert!(revocations.cover(&claims("ada", "1", Some(99))), "hers reaches further");
        revocations.add(Revocation::Everything { before_s: 40 });
        assert!(revocations.cover(&claims("bob", "1", Some(59))));
    }

    #[test]
    fn one_includes_another_that_revokes_nothing_else() {
        let token = || Revocation::Token { token_id: "7".to_owned() };
        let all = |before_s| Revocation::Everything { before_s };
        for (wide, narrow) in [
            (all(20), all(10)),
            (all(20), subject("ada", 20)),
            (all(20), documents("acme/**", 20)),
            (subject("ada", 20), subject("ada", 10)),
            (token(), token()),
            (documents("acme/**", 20), documents("acme/list/*", 20)),
        ] {
            assert!(wide.includes(&narrow), "{wide:?} {narrow:?}");
            assert!(wide == narrow || !narrow.includes(&wide), "{wide:?} {narrow:?}");
        }
        for (one, other) in [
            (subject("ada", 20), subject("bob", 10)),
            (subject("ada", 20), subject("ada", 21)),
            (all(20), token()),
            (token(), Revocation::Token { token_id: "8".to_owned() }),
            (documents("acme/**", 20), documents("acme/list", 21)),
        ] {
            assert!(!one.includes(&other), "{one:?} {other:?}");
        }
    }

    #[test]
    fn a_document_that_is_revoked_is_so_for_tokens_of_before_alone() {
        let mut revocations = Revocations::default();
        revocations.add(documents("acme/list/*", 100));
        let [list, other] = ["acme/list/42", "acme/other"].map(|name| DocumentName::parse(name).unwrap());
        let [old, new, undated] = [Some(99), Some(100), None].map(|at_s| claims("ada", "1", at_s));
        assert!(revocations.cover_on(&old, &list) && revocations.cover_on(&undated, &list));
        assert!(!revocations.cover_on(&new, &list) && !revocations.cover_on(&old, &other));
        assert!(!revocations.cover(&old), "it is good for others");
        assert!(revocations.include(&documents("acme/list/42", 100)));
        assert!(!revocations.include(&documents("acme/list/42", 101)));
        assert!(!revocations.include(&documents("acme/**", 1)));
        let [part, whole] = ["acme/list/42", "acme/**"].map(|text| text.parse().unwrap());
        assert!(revocations.cover_on_all(&old, &part) && !revocations.cover_on_all(&old, &whole));
    }

    #[test]
    fn revocations_take_a_bounded_place_and_one_of_everything_makes_room() {
        let mut revocations = Revocations::default();
        revocations.add(documents("acme/list", 10));
        for index in 2..REVOCATIONS_MAX {
            assert!(revocations.have_place_for(&subject(&index.to_string(), 10)));
            revocations.add(subject(&index.to_string(), 10));
        }
        let more = [
            subject("one more", 10),
            Revocation::Token { token_id: "7".to_owned() },
            documents("acme/other", 10),
        ];
        assert!(more.iter().all(|revocation| !revocations.have_place_for(revocation)));
        let known = [subject("2", 20), documents("acme/list", 20), documents("acme/**", 10)];
        assert!(known.iter().all(|revocation| revocations.have_place_for(revocation)));
        revocations.add(subject("2", 20));
        let everything = Revocation::Everything { before_s: 10 };
        assert!(revocations.have_place_for(&everything));
        revocations.add(everything);
        assert!(more.iter().all(|revocation| revocations.have_place_for(revocation)));
        assert_eq!(revocations.documents.count(), 0);
        assert!(revocations.cover(&claims("2", "1", Some(19))));
    }
}
