//! Counters: a Y.Map with one entry for each writer, `[increments, decrements]`. The value is the sum.
//!
//! An entry is written by its owner only, so that concurrent writes never meet at one key, where Yjs would
//! drop one of them. The owner is not a replica but a place on a device that is lent to one opening at a
//! time, so that the entries are as many as the tabs that were ever open at once, not as the openings.

use std::collections::HashMap;
use yrs::types::map::Map;
use yrs::{Any, MapRef, Number, Out, ReadTxn};

/// First character of the keys of a counter, by which a map is known to be one.
pub const KEY_PREFIX: char = '±';

/// Largest amount of one entry's increments or decrements: what every JavaScript number holds exactly.
pub const AMOUNT_MAX: i64 = (1 << 53) - 1;

/// What one writer has added and taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Entry {
    /// Sum of what was added.
    pub increments: i64,
    /// Sum of what was taken.
    pub decrements: i64,
}

impl Entry {
    /// Reads an entry; `None` when the value is none.
    pub fn read(value: &Any) -> Option<Entry> {
        let Any::Array(parts) = value else { return None };
        let [increments, decrements] = parts.as_ref() else { return None };
        Some(Entry { increments: amount(increments)?, decrements: amount(decrements)? })
    }

    /// The entry after adding `by`; `None` when a number would get too large to be exact.
    pub fn plus(self, by: i64) -> Option<Entry> {
        let grown = |sum: i64, by: i64| sum.checked_add(by).filter(|sum| *sum <= AMOUNT_MAX);
        if by >= 0 {
            Some(Entry { increments: grown(self.increments, by)?, ..self })
        } else {
            Some(Entry { decrements: grown(self.decrements, by.checked_neg()?)?, ..self })
        }
    }

    /// As it is stored.
    pub fn write(self) -> Any {
        Any::Array([Any::from(self.increments), Any::from(self.decrements)].into())
    }
}

fn amount(value: &Any) -> Option<i64> {
    let amount = match value {
        Any::Number(Number::Int(amount)) => *amount,
        Any::Number(Number::Float(amount)) if amount.fract() == 0.0 && amount.abs() <= AMOUNT_MAX as f64 => {
            *amount as i64
        }
        _ => return None,
    };
    (0..=AMOUNT_MAX).contains(&amount).then_some(amount)
}

/// True when a map with these entries is a counter.
pub fn is_counter<'a>(mut entries: impl Iterator<Item = (&'a str, &'a Any)>) -> bool {
    let is_entry = |(key, value): (&str, &Any)| key.starts_with(KEY_PREFIX) && Entry::read(value).is_some();
    entries.next().is_some_and(is_entry) && entries.all(is_entry)
}

/// The value of a counter's entries. What is no entry counts as nothing.
pub fn sum<'a>(entries: impl Iterator<Item = (&'a str, &'a Any)>) -> i64 {
    entries
        .filter(|(key, _)| key.starts_with(KEY_PREFIX))
        .filter_map(|(_, value)| Entry::read(value))
        .fold(0i64, |sum, entry| sum.saturating_add(entry.increments).saturating_sub(entry.decrements))
}

/// The plain entries of a map.
pub fn entries(map: &MapRef, tx: &impl ReadTxn) -> HashMap<String, Any> {
    map.iter(tx)
        .filter_map(|(key, value)| match value {
            Out::Any(value) => Some((key.to_owned(), value)),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ct1_an_entry_reads_back_what_it_wrote_and_refuses_to_become_inexact() {
        let entry = Entry::default().plus(5).and_then(|entry| entry.plus(-7)).map(Entry::write);
        let entry = entry.as_ref().and_then(Entry::read);
        assert_eq!(entry, Some(Entry { increments: 5, decrements: 7 }));
        assert_eq!(Entry { increments: AMOUNT_MAX, decrements: 0 }.plus(1), None);
        assert_eq!(Entry::default().plus(i64::MIN), None);
    }

    #[test]
    fn ct2_only_a_map_of_entries_is_a_counter() {
        let entry = Entry::default().write();
        let other = Any::from("x");
        assert!(is_counter([("±a", &entry)].into_iter()));
        assert!(!is_counter([("a", &entry)].into_iter()));
        assert!(!is_counter([("±a", &entry), ("b", &other)].into_iter()));
        assert!(!is_counter(std::iter::empty()));
        assert_eq!(sum([("±a", &Any::Array([Any::from(3i64), Any::from(4i64)].into()))].into_iter()), -1);
    }
}
