//! State vectors: for each client, the first clock that is not known.

use crate::lib0::{ReadError, Reader, write_uint};
use crate::limits::{CLIENT_ID_END, CLOCK_END, UPDATE_CLIENTS_MAX};
use std::collections::BTreeMap;

/// A state vector. A client that is not in it has clock 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateVector(BTreeMap<u64, u32>);

impl StateVector {
    /// Reads the encoding of Yjs. Allocates no more than the bytes that are there allow, and no more than the clients of
    /// the largest document take.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReadError> {
        let mut reader = Reader::new(bytes);
        let mut clocks = BTreeMap::new();
        let count = reader.count(2)?;
        if count > UPDATE_CLIENTS_MAX {
            return Err(ReadError::Number);
        }
        for _ in 0..count {
            let client = reader.uint()?;
            let clock = reader.uint32()?;
            if client >= CLIENT_ID_END || clock >= CLOCK_END {
                return Err(ReadError::Number);
            }
            clocks.insert(client, clock);
        }
        if reader.is_empty() { Ok(StateVector(clocks)) } else { Err(ReadError::End) }
    }

    /// Writes the encoding of Yjs.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(2 + self.0.len() * 8);
        write_uint(&mut out, self.0.len() as u64);
        for (client, clock) in self.0.iter().rev() {
            write_uint(&mut out, *client);
            write_uint(&mut out, u64::from(*clock));
        }
        out
    }

    /// The first clock of `client` that is not known.
    pub fn get(&self, client: u64) -> u32 {
        self.0.get(&client).copied().unwrap_or(0)
    }

    /// Sets the clock of `client`; 0 forgets it.
    pub fn set(&mut self, client: u64, clock: u32) {
        if clock == 0 {
            self.0.remove(&client);
        } else {
            self.0.insert(client, clock);
        }
    }

    /// Forgets the clients of whom this is false.
    pub fn retain(&mut self, is_kept: impl Fn(u64) -> bool) {
        self.0.retain(|client, _| is_kept(*client));
    }

    /// All clients with their clocks.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u32)> {
        self.0.iter().map(|(client, clock)| (*client, *clock))
    }

    /// True when nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when `self` knows something that `other` does not.
    pub fn exceeds(&self, other: &StateVector) -> bool {
        self.iter().any(|(client, clock)| clock > other.get(client))
    }
}

impl FromIterator<(u64, u32)> for StateVector {
    fn from_iter<T: IntoIterator<Item = (u64, u32)>>(clocks: T) -> Self {
        let mut vector = StateVector::default();
        for (client, clock) in clocks.into_iter().filter(|(_, clock)| *clock > 0) {
            vector.0.insert(client, clock);
        }
        vector
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sv1_a_count_that_the_bytes_cannot_hold_is_refused() {
        assert!(StateVector::decode(&[0x80, 0x80, 0x80, 0x80, 0x01, 0x00]).is_err());
        assert!(StateVector::decode(&[0, 0]).is_err(), "nothing may follow");
        let vector = |clients: usize| StateVector((1..=clients as u64).map(|client| (client, 1)).collect());
        assert!(StateVector::decode(&vector(UPDATE_CLIENTS_MAX).encode()).is_ok());
        assert!(
            StateVector::decode(&vector(UPDATE_CLIENTS_MAX + 1).encode()).is_err(),
            "no document has so many"
        );
    }

    proptest! {
        #[test]
        fn a_state_vector_reads_back(clocks in prop::collection::btree_map(0u64..1 << 53, 1u32..1 << 31, 0..20)) {
            let vector: StateVector = clocks.into_iter().collect();
            prop_assert_eq!(StateVector::decode(&vector.encode()), Ok(vector));
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = StateVector::decode(&bytes);
        }
    }
}
