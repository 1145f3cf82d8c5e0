//! Choices that a seed determines, or the bytes of a fuzzer.

/// A source of choices. The same seed or the same bytes give the same choices.
pub(crate) struct Dice {
    state: u64,
    /// Taken first; a fuzzer changes single choices by changing these.
    bytes: Vec<u8>,
    at: usize,
}

impl Dice {
    pub(crate) fn seeded(seed: u64) -> Self {
        Dice { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, bytes: Vec::new(), at: 0 }
    }

    /// Chooses by `bytes`; when they are used up, every choice is the first.
    #[allow(dead_code, reason = "used by the fuzz targets, which share this file")]
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        Dice { state: 0, bytes: bytes.to_vec(), at: 0 }
    }

    /// True when there are no choices left that differ.
    #[allow(dead_code, reason = "used by the fuzz targets, which share this file")]
    pub(crate) fn is_used_up(&self) -> bool {
        self.state == 0 && self.at >= self.bytes.len()
    }

    pub(crate) fn next(&mut self) -> u64 {
        if self.state == 0 {
            let mut number = 0;
            for _ in 0..2 {
                number = number << 8 | u64::from(self.bytes.get(self.at).copied().unwrap_or(0));
                self.at += 1;
            }
            return number;
        }
        // xorshift64*
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// True once in `times`.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for index in (1..list.len()).rev() {
            list.swap(index, self.below(index + 1));
        }
    }
}
