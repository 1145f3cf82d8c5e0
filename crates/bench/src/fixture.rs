//! A large document, as many people write one: words inserted all over it, some of them deleted again.

use crate::replica::Replica;
use crate::typing::{FIRST_CLIENT, units};
use anyhow::Result;
use std::collections::BTreeMap;
use yrs::types::Delta;
use yrs::{Any, In, Text};

/// Authors in turn.
const AUTHORS: u64 = 8;

/// Edits in one update, so that making it takes seconds: each update is one walk through the text.
const EDITS_EACH: usize = 100;

/// The document and the updates that make it.
pub(crate) struct Fixture {
    /// In the order in which they were made.
    pub(crate) updates: Vec<Vec<u8>>,
    /// What they make.
    pub(crate) text: String,
    /// Bytes of the whole document as one update.
    pub(crate) bytes: usize,
    /// For each client the clock after its last unit.
    pub(crate) clocks: BTreeMap<u64, u32>,
}

impl Fixture {
    /// Makes a document of about `bytes`; the same one each time.
    pub(crate) fn new(bytes: usize) -> Result<Self> {
        let mut random = fastrand::Rng::with_seed(20_261_121);
        let mut authors: Vec<Replica> = (0..AUTHORS).map(|n| Replica::of_client(FIRST_CLIENT + n)).collect();
        let mut whole = Replica::new();
        let mut updates = Vec::new();
        let mut len = 0;
        loop {
            let index = updates.len() % authors.len();
            let Some(author) = authors.get_mut(index) else { break };
            // What the others wrote since this author's last turn.
            let missed: Vec<Vec<u8>> =
                updates.iter().rev().take(AUTHORS as usize - 1).rev().cloned().collect();
            author.apply_all(missed.iter().map(Vec::as_slice))?;
            let (delta, next) = edits(&mut random, len);
            let update = author.edit(|text, transaction| text.apply_delta(transaction, delta));
            whole.apply(&update)?;
            updates.push(update);
            len = next;
            if updates.len() % 20 == 0 && whole.state().len() >= bytes {
                break;
            }
        }
        let state = whole.state();
        let mut clocks = BTreeMap::new();
        units(&state, |client, _, to| {
            let clock = clocks.entry(client).or_insert(0);
            *clock = to.max(*clock);
        })?;
        Ok(Fixture { updates, text: whole.text(), bytes: state.len(), clocks })
    }
}

/// Words of 3 to 40 letters at ascending places, and every fifth time a deletion instead; and the length after them.
fn edits(random: &mut fastrand::Rng, len: u32) -> (Vec<Delta<In>>, u32) {
    let mut delta = Vec::new();
    let (mut left, mut next) = (len, len);
    for index in 0..EDITS_EACH {
        let stride = left / u32::try_from(EDITS_EACH - index).unwrap_or(1);
        let skip = random.u32(0..=stride);
        if skip > 0 {
            delta.push(Delta::Retain(skip, None));
            left -= skip;
        }
        if left > 8 && random.u8(0..5) == 0 {
            delta.push(Delta::Deleted(6));
            left -= 6;
            next -= 6;
        } else {
            let word: String = (0..random.usize(3..=40)).map(|_| random.lowercase()).collect();
            next += u32::try_from(word.len()).unwrap_or(0);
            delta.push(Delta::Inserted(In::Any(Any::from(word)), None));
        }
    }
    (delta, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_updates_make_the_text() -> Result<()> {
        let fixture = Fixture::new(50_000)?;
        let mut replica = Replica::new();
        replica.apply_all(fixture.updates.iter().map(Vec::as_slice))?;
        assert_eq!(replica.text(), fixture.text);
        assert!(fixture.bytes >= 50_000);
        Ok(())
    }
}
