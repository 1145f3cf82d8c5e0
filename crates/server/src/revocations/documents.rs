//! Documents on which tokens are revoked, by patterns of their names: a tree of segments. A look at one goes along its name,
//! and two ways where a pattern has a star: as many steps at most as its tenant, and patterns that begin with a star, have
//! places.

use crate::limits::TENANT_REVOCATIONS_MAX;
use crate::token::name_pattern::NamePattern;
use rustc_hash::FxHashMap;
use tidewell_sync_core::document_name::DocumentName;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct RevokedDocuments(Node);

/// What names have in common up to a segment. A star is a segment.
#[derive(Debug, Default)]
struct Node {
    /// Of the document that ends here: tokens made before this second allow nothing on it.
    here_s: u64,
    /// Likewise of all documents whose names go on.
    below_s: u64,
    next: FxHashMap<Box<str>, Node>,
    /// Nodes below this one.
    count: usize,
}

impl RevokedDocuments {
    /// Places that they take.
    pub(super) fn count(&self) -> usize {
        self.0.count
    }

    /// True when a pattern takes no place that is not taken.
    pub(super) fn hold(&self, pattern: &NamePattern) -> bool {
        self.0.holds(&segments(pattern.as_str()))
    }

    /// True when the tenant of a pattern may take another place.
    pub(super) fn has_place_for(&self, pattern: &NamePattern) -> bool {
        let tenant = pattern.as_str().split('/').next().and_then(|tenant| self.0.next.get(tenant));
        tenant.is_none_or(|tenant| tenant.count < TENANT_REVOCATIONS_MAX)
    }

    /// Adds one. A pattern with `**` takes the place of those that go on from there and reach no further.
    pub(super) fn add(&mut self, pattern: &NamePattern, before_s: u64) {
        self.0.add(&segments(pattern.as_str()), before_s);
    }

    /// Forgets what reaches no further than a second.
    pub(super) fn forget(&mut self, before_s: u64) {
        self.0.forget(before_s);
    }

    /// Tokens made before this second allow nothing on a document; 0 where none is revoked.
    pub(super) fn before_s(&self, document: &DocumentName) -> u64 {
        self.0.before_s(&segments(document.as_str()), |node| node.here_s)
    }

    /// Tokens made before this second allow nothing on all that a pattern matches.
    pub(super) fn before_s_of_all(&self, pattern: &NamePattern) -> u64 {
        match segments(pattern.as_str()).as_slice() {
            [before @ .., "**"] => self.0.before_s(before, |node| node.below_s),
            all => self.0.before_s(all, |node| node.here_s),
        }
    }
}

impl Node {
    fn holds(&self, segments: &[&str]) -> bool {
        match segments {
            [] | ["**"] => true,
            [first, rest @ ..] => self.next.get(*first).is_some_and(|node| node.holds(rest)),
        }
    }

    fn add(&mut self, segments: &[&str], before_s: u64) {
        match segments {
            [] => self.here_s = self.here_s.max(before_s),
            ["**"] => {
                self.below_s = self.below_s.max(before_s);
                self.forget_below(self.below_s);
            }
            [first, rest @ ..] => {
                let known = self.next.len();
                let node = self.next.entry((*first).into()).or_default();
                let before = node.count;
                node.add(rest, before_s);
                self.count = self.count - before + node.count;
                self.count += self.next.len() - known;
            }
        }
    }

    fn forget(&mut self, before_s: u64) {
        for reached_s in [&mut self.here_s, &mut self.below_s] {
            if *reached_s <= before_s {
                *reached_s = 0;
            }
        }
        self.forget_below(before_s);
    }

    fn forget_below(&mut self, before_s: u64) {
        self.next.retain(|_, node| {
            node.forget(before_s);
            node.here_s > 0 || node.below_s > 0 || !node.next.is_empty()
        });
        self.count = self.next.values().map(|node| 1 + node.count).sum();
    }

    /// The latest second on the ways along a name, whose end has its own.
    fn before_s(&self, segments: &[&str], of_end: fn(&Node) -> u64) -> u64 {
        let Some((first, rest)) = segments.split_first() else { return of_end(self) };
        let along = |segment: &str| self.next.get(segment).map_or(0, |node| node.before_s(rest, of_end));
        // No node is come to twice, or a name of nothing but stars took for ever.
        let along_star = if *first == "*" { 0 } else { along("*") };
        self.below_s.max(along(first)).max(along_star)
    }
}

fn segments(name: &str) -> Vec<&str> {
    name.split('/').collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::REVOCATIONS_MAX;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    fn pattern(text: &str) -> NamePattern {
        text.parse().unwrap()
    }

    fn name(text: &str) -> DocumentName {
        DocumentName::parse(text).unwrap()
    }

    /// Up to four segments out of a few, stars among them where they may be.
    fn any_pattern(random: &mut StdRng) -> NamePattern {
        let mut segments: Vec<_> =
            (0..random.random_range(1..=4)).map(|_| ["a", "b", "", "*"][random.random_range(0..4)]).collect();
        if random.random_range(0..3) == 0 {
            segments.push("**");
        }
        segments.join("/").parse().unwrap_or_else(|_| any_pattern(random))
    }

    #[test]
    fn a_look_finds_what_the_patterns_say_one_by_one() {
        for seed in 0..300 {
            let mut random = StdRng::seed_from_u64(seed);
            let (mut revoked, mut all) = (RevokedDocuments::default(), Vec::new());
            for _ in 0..random.random_range(0..12) {
                let (pattern, before_s) = (any_pattern(&mut random), random.random_range(0..9));
                revoked.add(&pattern, before_s);
                all.push((pattern, before_s));
                if random.random_range(0..8) == 0 {
                    let forgotten_s = random.random_range(0..5);
                    revoked.forget(forgotten_s);
                    all.retain(|(_, before_s)| *before_s > forgotten_s);
                }
            }
            let latest = |such: &dyn Fn(&NamePattern) -> bool| {
                all.iter()
                    .filter(|(pattern, _)| such(pattern))
                    .map(|(_, before_s)| *before_s)
                    .max()
                    .unwrap_or(0)
            };
            for _ in 0..40 {
                let asked = any_pattern(&mut random);
                // Stars are letters of a document's name like others.
                let document = name(asked.as_str());
                let expected = latest(&|pattern| pattern.matches(document.as_str()));
                assert_eq!(revoked.before_s(&document), expected, "seed {seed}, {document}");
                let expected = latest(&|pattern| pattern.covers(&asked));
                assert_eq!(revoked.before_s_of_all(&asked), expected, "seed {seed}, {asked:?}");
            }
        }
    }

    #[test]
    fn a_tenant_has_a_part_of_the_places_and_one_pattern_makes_room_for_it() {
        let mut revoked = RevokedDocuments::default();
        let [mut index, mut taken] = [0; 2];
        while revoked.has_place_for(&pattern("acme/list")) {
            revoked.add(&pattern(&format!("acme/list/{index}")), 10);
            (index, taken) = (index + 1, revoked.count());
        }
        assert_eq!(taken, TENANT_REVOCATIONS_MAX + 1, "each document, the list and the tenant");
        assert!(taken < REVOCATIONS_MAX / 2);
        assert!(revoked.hold(&pattern("acme/list/0")) && !revoked.hold(&pattern("acme/list/new")));
        assert!(revoked.has_place_for(&pattern("other/list")));
        revoked.add(&pattern("acme/list/0"), 30);
        assert!(revoked.hold(&pattern("acme/**")));
        revoked.add(&pattern("acme/**"), 20);
        assert_eq!(revoked.count(), 3, "what reaches further stays");
        assert_eq!(revoked.before_s(&name("acme/list/0")), 30);
        assert_eq!(revoked.before_s(&name("acme/list/1")), 20);
        assert!(revoked.has_place_for(&pattern("acme/list/new")));
    }

    #[test]
    fn a_name_of_nothing_but_stars_is_looked_up_at_once() {
        let mut revoked = RevokedDocuments::default();
        let stars = "*/".repeat(255) + "*";
        revoked.add(&pattern(&stars), 7);
        assert_eq!(revoked.before_s(&name(&stars)), 7);
        assert_eq!(revoked.before_s(&name(&"a/".repeat(255))), 7);
    }
}
