//! A text within a draft.

use super::pieces::{Chunk, Piece, Pieces};
use crate::caret::Edits;
use std::sync::Arc;
use yrs::types::text::YChange;
use yrs::types::{Attrs, Delta};
use yrs::{Any, BranchID, Out, ReadTxn, Text, TextRef, TransactionMut};

/// A run of text, or one embedded value, on its way in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TextChunk {
    content: Content,
    /// Formats that were named; `None` takes those of what stands before it.
    formats: Option<Attrs>,
    /// Formats put on it afterwards.
    changed: Attrs,
}

#[derive(Debug, Clone, PartialEq)]
enum Content {
    /// Text, and its length in UTF-16 units.
    Text(String, u32),
    Embed(Any),
}

/// Formats that change in a kept run.
pub(super) type Reformat = Attrs;

pub(super) type TextPieces = Pieces<TextChunk, Reformat>;

impl TextChunk {
    pub(super) fn text(text: &str, formats: Option<Attrs>) -> Self {
        let len = text.chars().map(|c| c.len_utf16() as u32).sum();
        TextChunk { content: Content::Text(text.to_owned(), len), formats, changed: Attrs::new() }
    }

    pub(super) fn embed(value: Any, formats: Option<Attrs>) -> Self {
        TextChunk { content: Content::Embed(value), formats, changed: Attrs::new() }
    }

    /// The text, if it takes the formats before it. In a plain document those are none.
    fn typed(&self, is_plain: bool) -> Option<&str> {
        let takes_those_before = match &self.formats {
            None => true,
            Some(formats) => is_plain && formats.is_empty(),
        };
        match &self.content {
            Content::Text(text, _) if takes_those_before && self.changed.is_empty() => Some(text),
            _ => None,
        }
    }
}

/// The byte at which a UTF-16 position of `text` lies; inside a surrogate pair, the pair's end.
fn byte_at(text: &str, len_utf16: u32, position: u32) -> usize {
    if text.len() == len_utf16 as usize {
        return position as usize;
    }
    let mut units = 0;
    for (byte, character) in text.char_indices() {
        if units >= position {
            return byte;
        }
        units += character.len_utf16() as u32;
    }
    text.len()
}

impl Chunk for TextChunk {
    fn len(&self) -> u32 {
        match &self.content {
            Content::Text(_, len) => *len,
            Content::Embed(_) => 1,
        }
    }

    fn split_off(&mut self, at: u32) -> Self {
        let content = match &mut self.content {
            Content::Text(text, len) => {
                let rest = split_text(text, *len, at);
                let rest_len = *len - at;
                *len = at;
                Content::Text(rest, rest_len)
            }
            Content::Embed(value) => Content::Embed(value.clone()),
        };
        TextChunk { content, formats: self.formats.clone(), changed: self.changed.clone() }
    }

    fn absorb(&mut self, at: u32, other: Self) -> Result<(), Self> {
        let continues = other.formats.is_none() || (other.formats == self.formats && self.changed.is_empty());
        match (&mut self.content, &other.content) {
            (Content::Text(text, len), Content::Text(more, more_len)) if continues && at > 0 => {
                let byte = byte_at(text, *len, at);
                // Between the halves of a pair nothing can be put without splitting it.
                let is_ascii = text.len() == *len as usize;
                if !is_ascii && text.get(..byte).is_none_or(|before| utf16_len(before) != at) {
                    return Err(other);
                }
                text.insert_str(byte, more);
                *len += more_len;
                Ok(())
            }
            _ => Err(other),
        }
    }
}

fn utf16_len(text: &str) -> u32 {
    text.chars().map(|c| c.len_utf16() as u32).sum()
}

/// Cuts `text` at a UTF-16 position. As in Yjs, each half of a pair that is cut becomes U+FFFD.
fn split_text(text: &mut String, len: u32, at: u32) -> String {
    let byte = byte_at(text, len, at);
    let mut rest = text.split_off(byte);
    if utf16_len(text) > at {
        text.pop();
        text.push('\u{fffd}');
        rest.insert(0, '\u{fffd}');
    }
    rest
}

/// Puts formats on a piece.
pub(super) fn reformat(piece: &mut Piece<TextChunk, Reformat>, formats: &Attrs) {
    let there = match piece {
        Piece::Keep(_, changed) => changed,
        Piece::Insert(chunk) => match &mut chunk.formats {
            Some(formats) => formats,
            None => &mut chunk.changed,
        },
    };
    there.extend(formats.iter().map(|(key, value)| (key.clone(), value.clone())));
}

/// Writes the draft of a text into it.
pub(super) fn apply(
    pieces: &TextPieces,
    text: &TextRef,
    id: BranchID,
    tx: &mut TransactionMut<'_>,
    edits: &mut Edits<'_>,
) {
    let steps = steps(pieces);
    let changes = steps.iter().filter(|step| !matches!(step, Step::Keep(_, None))).count();
    // One walk for all changes. It gives inserted text no formats where none are named, and must not be
    // used where it could stand between some.
    if changes > 2 && edits.is_plain() && steps.iter().all(Step::is_plain) {
        edits.elsewhere();
        text.apply_delta(tx, steps.into_iter().map(Step::into_delta));
        return;
    }
    let mut index = 0;
    for step in steps {
        match step {
            Step::Keep(len, formats) => {
                if let Some(formats) = formats {
                    edits.elsewhere();
                    text.format(tx, index, len, formats.clone());
                }
                index += len;
            }
            Step::Delete(len) => {
                if !edits.delete(tx, &id, index, len) {
                    text.remove_range(tx, index, len);
                    edits.deleted(&id, index, len);
                }
            }
            Step::Insert(chunk) => {
                let len = chunk.len();
                let typed = chunk.typed(edits.is_plain());
                if !typed.is_some_and(|typed| edits.insert(tx, &id, index, typed, len)) {
                    insert(chunk, text, tx, index);
                    match chunk.content {
                        Content::Text(..) => edits.inserted(&id, index + len, len),
                        Content::Embed(_) => edits.elsewhere(),
                    }
                }
                index += len;
            }
        }
    }
}

fn insert(chunk: &TextChunk, text: &TextRef, tx: &mut TransactionMut<'_>, index: u32) {
    match (&chunk.content, &chunk.formats) {
        (Content::Text(content, _), None) => text.insert(tx, index, content),
        (Content::Text(content, _), Some(formats)) => {
            text.insert_with_attributes(tx, index, content, formats.clone());
        }
        (Content::Embed(value), None) => {
            text.insert_embed(tx, index, value.clone());
        }
        (Content::Embed(value), Some(formats)) => {
            text.insert_embed_with_attributes(tx, index, value.clone(), formats.clone());
        }
    }
    if !chunk.changed.is_empty() {
        text.format(tx, index, chunk.len(), chunk.changed.clone());
    }
}

enum Step<'a> {
    Keep(u32, Option<&'a Attrs>),
    Delete(u32),
    Insert(&'a TextChunk),
}

impl Step<'_> {
    fn is_plain(&self) -> bool {
        match self {
            Step::Keep(_, formats) => formats.is_none(),
            Step::Delete(_) => true,
            Step::Insert(chunk) => chunk.typed(true).is_some(),
        }
    }

    fn into_delta(self) -> Delta<yrs::In> {
        match self {
            Step::Keep(len, _) => Delta::Retain(len, None),
            Step::Delete(len) => Delta::Deleted(len),
            Step::Insert(chunk) => {
                let value = match &chunk.content {
                    Content::Text(text, _) => Any::String(Arc::from(text.as_str())),
                    Content::Embed(value) => value.clone(),
                };
                Delta::Inserted(yrs::In::Any(value), None)
            }
        }
    }
}

fn steps(pieces: &TextPieces) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut base = 0;
    for piece in pieces.iter() {
        match piece {
            Piece::Keep(range, formats) => {
                if range.start > base {
                    steps.push(Step::Delete(range.start - base));
                }
                let formats = (!formats.is_empty()).then_some(formats);
                steps.push(Step::Keep(range.end - range.start, formats));
                base = range.end;
            }
            Piece::Insert(chunk) => steps.push(Step::Insert(chunk)),
        }
    }
    if pieces.base_len() > base {
        steps.push(Step::Delete(pieces.base_len() - base));
    }
    steps
}

/// The text as the draft has it, without formats and embedded values.
pub(super) fn read(pieces: &TextPieces, base: Option<&TextRef>, tx: &impl ReadTxn) -> String {
    let units = base.map(|text| units_of(text, tx)).unwrap_or_default();
    let mut read: Vec<u16> = Vec::with_capacity(pieces.len() as usize);
    for piece in pieces.iter() {
        match piece {
            Piece::Keep(range, _) => {
                let kept = units.get(range.start as usize..range.end as usize).unwrap_or_default();
                read.extend(kept.iter().flatten());
            }
            Piece::Insert(TextChunk { content: Content::Text(text, _), .. }) => {
                read.extend(text.encode_utf16());
            }
            Piece::Insert(_) => {}
        }
    }
    String::from_utf16_lossy(&read)
}

/// What stands at each position; `None` is an embedded value.
fn units_of(text: &TextRef, tx: &impl ReadTxn) -> Vec<Option<u16>> {
    let mut units = Vec::new();
    for part in text.diff(tx, YChange::identity) {
        match part.insert {
            Out::Any(Any::String(text)) => units.extend(text.encode_utf16().map(Some)),
            _ => units.push(None),
        }
    }
    units
}
