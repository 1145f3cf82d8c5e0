//! Delete sets: for each client, which clocks are deleted.

use super::{InvalidUpdate, has_repeated, positions_by_client};
use crate::lib0::Reader;
use crate::limits::{CLIENT_ID_END, CLOCK_END, UPDATE_CLIENTS_MAX};

/// Sorted clock ranges `[start, end)` that neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u32, u32)>);

/// Above this many new ranges a walk through both lists is cheaper than insertion one by one.
const INSERTIONS_MAX: usize = 8;

impl Ranges {
    /// One range; nothing when it is empty.
    pub fn one(start: u32, end: u32) -> Self {
        let mut ranges = Ranges::default();
        ranges.push((start, end));
        ranges
    }

    /// Adds a range that begins no earlier than those before it, perhaps within them. An empty one is dropped.
    fn push(&mut self, (start, end): (u32, u32)) {
        match self.0.last_mut() {
            _ if start >= end => {}
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => self.0.push((start, end)),
        }
    }

    /// The ranges in order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        self.0.iter().copied()
    }

    /// True when nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of ranges.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when `clock` is in it.
    pub fn contains(&self, clock: u32) -> bool {
        let index = self.0.partition_point(|(_, end)| *end <= clock);
        self.0.get(index).is_some_and(|(start, _)| *start <= clock)
    }

    /// What `self` has and `known` has not.
    pub fn without(&self, known: &Ranges) -> Ranges {
        let mut out = Vec::new();
        for (mut start, end) in self.iter() {
            let mut index = known.0.partition_point(|(_, known_end)| *known_end <= start);
            while let Some((known_start, known_end)) = known.0.get(index).copied() {
                if known_start >= end {
                    break;
                }
                if start < known_start {
                    out.push((start, known_start));
                }
                start = known_end;
                index += 1;
                if start >= end {
                    break;
                }
            }
            if start < end {
                out.push((start, end));
            }
        }
        Ranges(out)
    }

    /// Takes all of `other` in.
    pub fn extend(&mut self, other: &Ranges) {
        if other.len() > INSERTIONS_MAX {
            let mut both = Ranges::default();
            let mut new = other.iter().peekable();
            for range in self.iter() {
                while let Some(earlier) = new.next_if(|new| new.0 < range.0) {
                    both.push(earlier);
                }
                both.push(range);
            }
            new.for_each(|range| both.push(range));
            *self = both;
        } else {
            other.iter().for_each(|range| self.insert(range));
        }
    }

    fn insert(&mut self, (mut start, mut end): (u32, u32)) {
        let from = self.0.partition_point(|(_, range_end)| *range_end < start);
        let mut to = from;
        while let Some((range_start, range_end)) = self.0.get(to).copied() {
            if range_start > end {
                break;
            }
            start = start.min(range_start);
            end = end.max(range_end);
            to += 1;
        }
        self.0.splice(from..to, [(start, end)]);
    }

    /// True when everything in `other` is in `self`.
    pub fn covers(&self, other: &Ranges) -> bool {
        other.without(self).is_empty()
    }
}

/// For each client, its deleted ranges; in the order of clients, of which none is without ranges.
pub type DeleteSet = Vec<(u64, Ranges)>;

fn pack(start: u32, end: u32) -> u64 {
    u64::from(start) << 32 | u64::from(end)
}

/// Sorts ranges `(client, start, end)` by client. Empty ones are dropped.
pub fn delete_set(mut ranges: Vec<(u64, u32, u32)>) -> DeleteSet {
    ranges.retain(|(_, start, end)| start < end);
    if !ranges.is_sorted() {
        // By range and then by client, with the one kind of sorting.
        let by_range = positions_by_client(ranges.iter().map(|(_, start, end)| pack(*start, *end)));
        let by_client = by_range.iter().filter_map(|(_, at)| ranges.get(*at)).map(|(client, ..)| *client);
        ranges = positions_by_client(by_client)
            .into_iter()
            .filter_map(|(client, at)| {
                by_range.get(at).map(|(range, _)| (client, (range >> 32) as u32, *range as u32))
            })
            .collect();
    }
    let mut set: DeleteSet = Vec::new();
    for (client, start, end) in ranges {
        match set.last_mut() {
            Some((last, ranges)) if *last == client => ranges.push((start, end)),
            _ => set.push((client, Ranges::one(start, end))),
        }
    }
    set
}

/// A delete set as written.
#[derive(Debug, Default)]
pub struct WrittenDeletes {
    /// `(client, start, end)`, unsorted, perhaps overlapping.
    pub ranges: Vec<(u64, u32, u32)>,
    /// False when a client is there twice or without ranges, or its ranges are not in order and apart.
    /// yrs keeps only the last list of a client and searches it as if it were sorted.
    pub is_canonical: bool,
}

/// Reads a delete set.
pub fn read_delete_set(reader: &mut Reader<'_>) -> Result<WrittenDeletes, InvalidUpdate> {
    let mut out = WrittenDeletes { ranges: Vec::new(), is_canonical: true };
    let mut clients = Vec::new();
    let client_count = reader.count(2)?;
    if client_count > UPDATE_CLIENTS_MAX {
        return Err(InvalidUpdate::Clients);
    }
    for _ in 0..client_count {
        let client = reader.uint()?;
        if client >= CLIENT_ID_END {
            return Err(InvalidUpdate::Client);
        }
        clients.push(client);
        let count = reader.count(2)?;
        out.is_canonical &= count > 0;
        let mut next = 0;
        for _ in 0..count {
            let clock = reader.uint32()?;
            let len = reader.uint32()?;
            out.is_canonical &= len > 0 && clock >= next;
            next = match clock.checked_add(len) {
                Some(end) if end < CLOCK_END => end,
                _ => return Err(InvalidUpdate::Clock),
            };
            out.ranges.push((client, clock, next));
        }
    }
    out.is_canonical &= !has_repeated(clients.into_iter());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn clocks(ranges: &Ranges) -> BTreeSet<u32> {
        ranges.iter().flat_map(|(start, end)| start..end).collect()
    }

    fn some_ranges() -> impl Strategy<Value = Ranges> {
        prop::collection::vec((0u32..60, 0u32..6), 0..14).prop_map(|mut list| {
            list.sort_unstable();
            let mut ranges = Ranges::default();
            list.into_iter().for_each(|(start, len)| ranges.push((start, start + len)));
            ranges
        })
    }

    proptest! {
        #[test]
        fn ranges_behave_like_sets_of_clocks(a in some_ranges(), b in some_ranges()) {
            let (set_a, set_b) = (clocks(&a), clocks(&b));
            prop_assert_eq!(clocks(&a.without(&b)), &set_a - &set_b);
            let mut both = a.clone();
            both.extend(&b);
            prop_assert_eq!(clocks(&both), &set_a | &set_b);
            let as_list: Vec<_> = both.iter().collect();
            prop_assert!(as_list.windows(2).all(|w| w[0].1 < w[1].0), "sorted and apart: {:?}", as_list);
            prop_assert_eq!(a.covers(&b), set_b.is_subset(&set_a));
            for clock in 0..70 {
                prop_assert_eq!(a.contains(clock), set_a.contains(&clock));
            }
        }
    }
}
