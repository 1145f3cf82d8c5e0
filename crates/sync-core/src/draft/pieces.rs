//! A sequence on its way from what it was to what it will be.
//!
//! Runs of the old sequence that are kept, and what is put between them. Edits next to each other grow one
//! piece, so that yrs sees a turn's typing as one insertion: it walks the whole text for each it sees.

use std::ops::Range;

/// Something that can be inserted in one go: a run of text, or of a list's elements.
pub(super) trait Chunk: Sized {
    /// Positions that it takes.
    fn len(&self) -> u32;
    /// Cuts it at a position inside it; the rest is returned.
    fn split_off(&mut self, at: u32) -> Self;
    /// Puts `other` into it at a position, which may be its end, if they can be one chunk.
    fn absorb(&mut self, at: u32, other: Self) -> Result<(), Self>;
}

/// One run of the new sequence.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece<C, F> {
    /// From the old sequence, at these positions of it, with what changes in them.
    Keep(Range<u32>, F),
    /// New.
    Insert(C),
}

impl<C: Chunk, F: Clone> Piece<C, F> {
    pub(super) fn len(&self) -> u32 {
        match self {
            Piece::Keep(range, _) => range.end - range.start,
            Piece::Insert(chunk) => chunk.len(),
        }
    }

    fn split_off(&mut self, at: u32) -> Self {
        match self {
            Piece::Keep(range, format) => {
                let middle = range.start + at;
                let rest = Piece::Keep(middle..range.end, format.clone());
                range.end = middle;
                rest
            }
            Piece::Insert(chunk) => Piece::Insert(chunk.split_off(at)),
        }
    }
}

/// The new sequence. What no piece keeps is deleted.
#[derive(Debug)]
pub(super) struct Pieces<C, F> {
    pieces: Vec<Piece<C, F>>,
    base_len: u32,
    len: u32,
    /// A piece and where it starts: people type where they typed before.
    hint: (usize, u32),
}

impl<C: Chunk, F: Clone + Default> Pieces<C, F> {
    /// All of an old sequence of this length.
    pub(super) fn new(base_len: u32) -> Self {
        let pieces = if base_len == 0 { Vec::new() } else { vec![Piece::Keep(0..base_len, F::default())] };
        Pieces { pieces, base_len, len: base_len, hint: (0, 0) }
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn base_len(&self) -> u32 {
        self.base_len
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Piece<C, F>> {
        self.pieces.iter()
    }

    /// The piece that holds position `index`, and where in it; past the last at the end. At a boundary it
    /// is the end of the piece before, because that is where typing goes on.
    fn find(&mut self, index: u32) -> (usize, u32) {
        let (mut at, mut start) = self.hint;
        if start >= index {
            (at, start) = (0, 0);
        }
        while let Some(piece) = self.pieces.get(at) {
            let end = start + piece.len();
            if index <= end {
                break;
            }
            (at, start) = (at + 1, end);
        }
        self.hint = (at, start);
        (at, index - start)
    }

    /// Makes a piece begin at `index`; answers which.
    fn cut(&mut self, index: u32) -> usize {
        let (at, offset) = self.find(index);
        match self.pieces.get_mut(at) {
            None => at,
            Some(_) if offset == 0 => at,
            Some(piece) if offset == piece.len() => at + 1,
            Some(piece) => {
                let rest = piece.split_off(offset);
                self.pieces.insert(at + 1, rest);
                at + 1
            }
        }
    }

    /// Puts a chunk at `index`, which is not beyond the end.
    pub(super) fn insert(&mut self, index: u32, chunk: C) {
        let len = chunk.len();
        if len == 0 {
            return;
        }
        self.len += len;
        let (at, offset) = self.find(index);
        let chunk = match self.pieces.get_mut(at) {
            Some(Piece::Insert(there)) => match there.absorb(offset, chunk) {
                Ok(()) => return,
                Err(chunk) => chunk,
            },
            _ => chunk,
        };
        let at = self.cut(index);
        self.pieces.insert(at, Piece::Insert(chunk));
    }

    /// Takes a range out, which lies inside.
    pub(super) fn delete(&mut self, range: Range<u32>) {
        if range.is_empty() {
            return;
        }
        let first = self.cut(range.start);
        let last = self.cut(range.end);
        self.pieces.drain(first..last);
        self.len -= range.end - range.start;
        self.hint = (0, 0);
    }

    /// Changes what is in a range, which lies inside.
    pub(super) fn change(&mut self, range: Range<u32>, mut change: impl FnMut(&mut Piece<C, F>)) {
        if range.is_empty() {
            return;
        }
        let first = self.cut(range.start);
        let last = self.cut(range.end);
        self.pieces.iter_mut().take(last).skip(first).for_each(&mut change);
    }

    /// The piece that holds the element at `index`, and where in it.
    pub(super) fn at(&self, index: u32) -> Option<(&Piece<C, F>, u32)> {
        let mut start = 0;
        for piece in &self.pieces {
            let end = start + piece.len();
            if index < end {
                return Some((piece, index - start));
            }
            start = end;
        }
        None
    }
}
