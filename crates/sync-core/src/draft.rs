//! A draft: the edits of one turn before any of them is written.
//!
//! It owns what the turn has changed so far, checks every edit when it is made, reads its own writes, and
//! is written to the document in one yrs transaction at the end. Dropping it leaves nothing behind, which
//! yrs itself cannot do. Writing a draft never fails: whatever could make yrs panic was refused before.

mod apply;
mod new_value;
mod pieces;
mod read;
mod text;

pub use new_value::NewValue;

use crate::code::Code;
use crate::counter::{Entry, KEY_PREFIX};
use crate::limits::{DRAFT_BYTES_MAX, KEY_BYTES_MAX, TYPE_DEPTH_MAX};
use crate::path::{Kind, Path, Step};
use crate::value::{branch_of, kind_of};
use new_value::{check_formats, check_key, check_plain};
use pieces::{Chunk, Piece, Pieces};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use text::{TextChunk, TextPieces};
use yrs::branch::BranchPtr;
use yrs::types::{Attrs, TypeRef};
use yrs::{Any, Array, ArrayRef, BranchID, Map, MapRef, Out, ReadTxn};

/// One change of a text in a delta as Quill writes them.
#[derive(Debug, Clone, PartialEq)]
pub enum TextChange {
    /// Goes on by so many UTF-16 units, and changes formats on the way.
    Retain(u32, Attrs),
    /// Puts text in.
    Insert(String, Attrs),
    /// Puts a value in that takes one position.
    Embed(Any, Attrs),
    /// Takes so many UTF-16 units out.
    Delete(u32),
}

/// Names a shared type within the draft.
type NodeId = usize;

/// A shared type that the draft has touched or makes.
#[derive(Debug)]
struct Node {
    /// Which it is in the document; `None` when the draft makes it.
    base: Option<BranchID>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Text(TextPieces),
    List(Pieces<Vec<Cell>, ()>),
    /// Keys that change; `None` is deleted.
    Map(HashMap<Arc<str>, Option<Cell>>),
}

/// One new element of a list or entry of a map.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Value(Any),
    Shared(NodeId),
}

impl Chunk for Vec<Cell> {
    fn len(&self) -> u32 {
        u32::try_from(Vec::len(self)).unwrap_or(u32::MAX)
    }

    fn split_off(&mut self, at: u32) -> Self {
        Vec::split_off(self, at as usize)
    }

    fn absorb(&mut self, at: u32, other: Self) -> Result<(), Self> {
        self.splice(at as usize..at as usize, other);
        Ok(())
    }
}

/// Where a step leads.
enum Below {
    Nothing,
    Value(Any),
    Node(NodeId),
    Branch(BranchPtr),
}

/// A shared type on a path.
#[derive(Clone, Copy)]
enum At {
    Node(NodeId),
    Branch(BranchPtr),
    /// A root type without content.
    NewRoot,
}

/// The edits of one turn.
#[derive(Debug)]
pub struct Draft {
    nodes: Vec<Node>,
    existing: HashMap<BranchID, NodeId>,
    /// Key of this device's entry in counters.
    counter_key: Arc<str>,
    bytes: usize,
    edits: u32,
}

impl Draft {
    /// An empty draft. `counter_key` names this replica's entry in counters; no other replica that is
    /// open may have it.
    pub fn new(counter_key: &str) -> Self {
        let counter_key = match counter_key.strip_prefix(KEY_PREFIX) {
            Some(_) => counter_key.into(),
            None => format!("{KEY_PREFIX}{counter_key}").into(),
        };
        Draft { nodes: Vec::new(), existing: HashMap::new(), counter_key, bytes: 0, edits: 0 }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.nodes.clear();
        self.existing.clear();
        (self.bytes, self.edits) = (0, 0);
    }

    /// True when nothing was edited.
    pub fn is_empty(&self) -> bool {
        self.edits == 0
    }

    /// Puts `text` at `index` (UTF-16 units) of a text. Without `formats` it takes those before it.
    pub fn text_insert(
        &mut self,
        tx: &impl ReadTxn,
        path: &Path,
        index: u32,
        text: &str,
        formats: Option<Attrs>,
    ) -> Result<(), Code> {
        if let Some(formats) = &formats {
            check_formats(formats)?;
        }
        let node = self.shared(tx, path, Kind::Text)?;
        let bytes = self.room_for(text.len())?;
        let pieces = self.text(node)?;
        in_range(index..index, pieces.len())?;
        pieces.insert(index, TextChunk::text(text, formats));
        self.count(bytes);
        Ok(())
    }

    /// Takes `len` UTF-16 units out of a text.
    pub fn text_delete(&mut self, tx: &impl ReadTxn, path: &Path, index: u32, len: u32) -> Result<(), Code> {
        let node = self.shared(tx, path, Kind::Text)?;
        let pieces = self.text(node)?;
        let range = range(index, len)?;
        in_range(range.clone(), pieces.len())?;
        pieces.delete(range);
        self.count(0);
        Ok(())
    }

    /// Puts formats on a part of a text; a null takes one away.
    pub fn text_format(
        &mut self,
        tx: &impl ReadTxn,
        path: &Path,
        index: u32,
        len: u32,
        formats: Attrs,
    ) -> Result<(), Code> {
        check_formats(&formats)?;
        let node = self.shared(tx, path, Kind::Text)?;
        let pieces = self.text(node)?;
        let range = range(index, len)?;
        in_range(range.clone(), pieces.len())?;
        pieces.change(range, |piece| text::reformat(piece, &formats));
        self.count(0);
        Ok(())
    }

    /// Applies a delta to a text: all of it or, if a part cannot be, nothing.
    pub fn text_delta(&mut self, tx: &impl ReadTxn, path: &Path, delta: &[TextChange]) -> Result<(), Code> {
        let node = self.shared(tx, path, Kind::Text)?;
        let (mut left, mut bytes) = (self.text(node)?.len(), 0);
        for change in delta {
            match change {
                TextChange::Retain(len, formats) => {
                    check_formats(formats)?;
                    left = left.checked_sub(*len).ok_or(Code::InvalidRange)?;
                }
                TextChange::Delete(len) => left = left.checked_sub(*len).ok_or(Code::InvalidRange)?,
                TextChange::Insert(text, formats) => {
                    check_formats(formats)?;
                    bytes += text.len();
                }
                TextChange::Embed(value, formats) => {
                    check_formats(formats)?;
                    bytes += new_value::check_json(value)?;
                }
            }
        }
        let bytes = self.room_for(bytes)?;
        let pieces = self.text(node)?;
        let mut index = 0;
        for change in delta {
            match change {
                TextChange::Retain(len, formats) => {
                    if !formats.is_empty() {
                        pieces.change(index..index + len, |piece| text::reformat(piece, formats));
                    }
                    index += len;
                }
                TextChange::Delete(len) => pieces.delete(index..index + len),
                TextChange::Insert(text, formats) => {
                    let chunk = TextChunk::text(text, Some(formats.clone()));
                    let len = chunk.len();
                    pieces.insert(index, chunk);
                    index += len;
                }
                TextChange::Embed(value, formats) => {
                    pieces.insert(index, TextChunk::embed(value.clone(), Some(formats.clone())));
                    index += 1;
                }
            }
        }
        self.count(bytes);
        Ok(())
    }

    /// Puts values at `index` of a list.
    pub fn list_insert(
        &mut self,
        tx: &impl ReadTxn,
        path: &Path,
        index: u32,
        values: Vec<NewValue>,
    ) -> Result<(), Code> {
        let node = self.shared(tx, path, Kind::List)?;
        in_range(index..index, self.list(node)?.len())?;
        let bytes = self.check_values(path, &values)?;
        let cells = values.into_iter().map(|value| self.cell(value)).collect();
        self.list(node)?.insert(index, cells);
        self.count(bytes);
        Ok(())
    }

    /// Takes `len` elements out of a list.
    pub fn list_delete(&mut self, tx: &impl ReadTxn, path: &Path, index: u32, len: u32) -> Result<(), Code> {
        let node = self.shared(tx, path, Kind::List)?;
        let list = self.list(node)?;
        let range = range(index, len)?;
        in_range(range.clone(), list.len())?;
        list.delete(range);
        self.count(0);
        Ok(())
    }

    /// Sets an entry of a map.
    pub fn map_set(
        &mut self,
        tx: &impl ReadTxn,
        path: &Path,
        key: &str,
        value: NewValue,
    ) -> Result<(), Code> {
        check_key(key)?;
        let node = self.shared(tx, path, Kind::Map)?;
        let bytes = self.check_values(path, std::slice::from_ref(&value))? + key.len();
        let cell = self.cell(value);
        self.map(node)?.insert(key.into(), Some(cell));
        self.count(bytes);
        Ok(())
    }

    /// Takes an entry out of a map. Does nothing when there is none.
    pub fn map_delete(&mut self, tx: &impl ReadTxn, path: &Path, key: &str) -> Result<(), Code> {
        let node = self.shared(tx, path, Kind::Map)?;
        let is_in_document = matches!(self.below_base(tx, node, key), Some(Some(_)));
        let entries = self.map(node)?;
        if is_in_document {
            entries.insert(key.into(), None);
        } else {
            entries.remove(key);
        }
        self.count(0);
        Ok(())
    }

    /// Adds to a counter; `by` may be negative.
    pub fn counter_add(&mut self, tx: &impl ReadTxn, path: &Path, by: i64) -> Result<(), Code> {
        let node = self.shared(tx, path, Kind::Map)?;
        let key = self.counter_key.clone();
        let entry = match self.below(tx, At::Node(node), &Step::Key(key.clone()))? {
            Below::Value(value) => Entry::read(&value).unwrap_or_default(),
            _ => Entry::default(),
        };
        let entry = entry.plus(by).ok_or(Code::InvalidValue)?;
        self.map(node)?.insert(key, Some(Cell::Value(entry.write())));
        self.count(0);
        Ok(())
    }

    fn count(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.edits += 1;
    }

    fn room_for(&self, bytes: usize) -> Result<usize, Code> {
        if self.bytes + bytes > DRAFT_BYTES_MAX { Err(Code::UpdateTooLarge) } else { Ok(bytes) }
    }

    fn check_values(&self, path: &Path, values: &[NewValue]) -> Result<usize, Code> {
        let depth = path.steps.len() + 1;
        let mut bytes = 0;
        for value in values {
            if depth + value.type_depth() > usize::from(TYPE_DEPTH_MAX) {
                return Err(Code::InvalidValue);
            }
            bytes += value.check()?;
        }
        self.room_for(bytes)
    }

    fn cell(&mut self, value: NewValue) -> Cell {
        let content = match value {
            NewValue::Plain(value) => return Cell::Value(value),
            NewValue::Text(text) => {
                let mut pieces = Pieces::new(0);
                pieces.insert(0, TextChunk::text(&text, None));
                Content::Text(pieces)
            }
            NewValue::List(values) => {
                let mut pieces = Pieces::new(0);
                let cells: Vec<Cell> = values.into_iter().map(|value| self.cell(value)).collect();
                pieces.insert(0, cells);
                Content::List(pieces)
            }
            NewValue::Map(entries) => {
                let entries = entries.into_iter().map(|(key, value)| (key.into(), Some(self.cell(value))));
                Content::Map(entries.collect())
            }
            NewValue::Counter(start) => {
                let entry = Entry::default().plus(start).unwrap_or_default();
                let cell = Cell::Value(entry.write());
                Content::Map(HashMap::from([(self.counter_key.clone(), Some(cell))]))
            }
        };
        self.nodes.push(Node { base: None, content });
        Cell::Shared(self.nodes.len() - 1)
    }

    fn text(&mut self, node: NodeId) -> Result<&mut TextPieces, Code> {
        match self.nodes.get_mut(node).map(|node| &mut node.content) {
            Some(Content::Text(pieces)) => Ok(pieces),
            _ => Err(Code::InvalidPath),
        }
    }

    fn list(&mut self, node: NodeId) -> Result<&mut Pieces<Vec<Cell>, ()>, Code> {
        match self.nodes.get_mut(node).map(|node| &mut node.content) {
            Some(Content::List(pieces)) => Ok(pieces),
            _ => Err(Code::InvalidPath),
        }
    }

    fn map(&mut self, node: NodeId) -> Result<&mut HashMap<Arc<str>, Option<Cell>>, Code> {
        match self.nodes.get_mut(node).map(|node| &mut node.content) {
            Some(Content::Map(entries)) => Ok(entries),
            _ => Err(Code::InvalidPath),
        }
    }

    /// The shared type at `path`, taken into the draft.
    fn shared(&mut self, tx: &impl ReadTxn, path: &Path, kind: Kind) -> Result<NodeId, Code> {
        let at = self.find(tx, path)?;
        let node = match at {
            At::Node(node) => node,
            At::Branch(branch) => self.take_in(tx, branch, kind)?,
            At::NewRoot => {
                let base = BranchID::Root(path.root.clone());
                self.nodes.push(Node { base: Some(base.clone()), content: Content::new(kind, 0) });
                self.existing.insert(base, self.nodes.len() - 1);
                self.nodes.len() - 1
            }
        };
        match self.nodes.get(node) {
            Some(found) if found.content.kind() == kind => Ok(node),
            _ => Err(Code::InvalidPath),
        }
    }

    fn take_in(&mut self, tx: &impl ReadTxn, branch: BranchPtr, kind: Kind) -> Result<NodeId, Code> {
        if !fits(tx, branch, kind) {
            return Err(Code::InvalidPath);
        }
        let base = branch.id();
        let content = Content::new(kind, branch.content_len());
        self.nodes.push(Node { base: Some(base.clone()), content });
        self.existing.insert(base, self.nodes.len() - 1);
        Ok(self.nodes.len() - 1)
    }

    /// The shared type at `path`, wherever it is.
    fn find(&self, tx: &impl ReadTxn, path: &Path) -> Result<At, Code> {
        let mut at = match self.existing.get(&BranchID::Root(path.root.clone())) {
            Some(node) => At::Node(*node),
            None => match BranchID::get_root(tx, path.root.as_ref()) {
                Some(branch) => At::Branch(branch),
                None if path.root.is_empty() || path.root.len() > KEY_BYTES_MAX => {
                    return Err(Code::InvalidPath);
                }
                None => At::NewRoot,
            },
        };
        for step in &path.steps {
            at = match self.below(tx, at, step)? {
                Below::Node(node) => At::Node(node),
                Below::Branch(branch) => At::Branch(branch),
                Below::Nothing | Below::Value(_) => return Err(Code::InvalidPath),
            };
        }
        Ok(at)
    }

    /// What one step from a shared type leads to.
    fn below(&self, tx: &impl ReadTxn, at: At, step: &Step) -> Result<Below, Code> {
        let found = match (at, step) {
            (At::NewRoot, _) => None,
            (At::Branch(branch), Step::Key(key)) if fits(tx, branch, Kind::Map) => {
                MapRef::from(branch).get(tx, key)
            }
            (At::Branch(branch), Step::Index(index)) if fits(tx, branch, Kind::List) => {
                ArrayRef::from(branch).get(tx, *index)
            }
            (At::Branch(_), _) => return Err(Code::InvalidPath),
            (At::Node(node), step) => match (self.nodes.get(node).map(|node| &node.content), step) {
                (Some(Content::Map(entries)), Step::Key(key)) => match entries.get(key) {
                    Some(Some(cell)) => return Ok(cell.below()),
                    Some(None) => None,
                    None => self.below_base(tx, node, key).flatten(),
                },
                (Some(Content::List(pieces)), Step::Index(index)) => match pieces.at(*index) {
                    Some((Piece::Insert(cells), at)) => {
                        return Ok(cells.get(at as usize).map_or(Below::Nothing, Cell::below));
                    }
                    Some((Piece::Keep(range, ()), at)) => self
                        .base(tx, node)
                        .and_then(|branch| ArrayRef::from(branch).get(tx, range.start + at)),
                    None => None,
                },
                _ => return Err(Code::InvalidPath),
            },
        };
        Ok(match found {
            None => Below::Nothing,
            Some(Out::Any(value)) => Below::Value(value),
            Some(out) => match branch_of(&out) {
                Some(branch) => match self.existing.get(&branch.id()) {
                    Some(node) => Below::Node(*node),
                    None => Below::Branch(branch),
                },
                None => Below::Value(crate::value::plain(&out, tx)),
            },
        })
    }

    /// What the document has for a key of a node's map.
    fn below_base(&self, tx: &impl ReadTxn, node: NodeId, key: &str) -> Option<Option<Out>> {
        self.base(tx, node).map(|branch| MapRef::from(branch).get(tx, key))
    }

    fn base(&self, tx: &impl ReadTxn, node: NodeId) -> Option<BranchPtr> {
        self.nodes.get(node)?.base.as_ref()?.get_branch(tx)
    }
}

impl Cell {
    fn below(&self) -> Below {
        match self {
            Cell::Value(value) => Below::Value(value.clone()),
            Cell::Shared(node) => Below::Node(*node),
        }
    }
}

impl Content {
    fn new(kind: Kind, len: u32) -> Self {
        match kind {
            Kind::Text => Content::Text(Pieces::new(len)),
            Kind::List => Content::List(Pieces::new(len)),
            Kind::Map => Content::Map(HashMap::new()),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Content::Text(_) => Kind::Text,
            Content::List(_) => Kind::List,
            Content::Map(_) => Kind::Map,
        }
    }
}

/// True when a shared type may be used as `kind`: it is one, or a root type that says nothing yet.
fn fits(tx: &impl ReadTxn, branch: BranchPtr, kind: Kind) -> bool {
    match kind_of(branch, tx) {
        Some(found) => found == kind,
        None => matches!(branch.type_ref(), TypeRef::Undefined),
    }
}

fn range(index: u32, len: u32) -> Result<Range<u32>, Code> {
    Ok(index..index.checked_add(len).ok_or(Code::InvalidRange)?)
}

fn in_range(range: Range<u32>, len: u32) -> Result<(), Code> {
    if range.end <= len { Ok(()) } else { Err(Code::InvalidRange) }
}

/// Checks a value that is not part of a draft: nesting, keys, and what cannot be stored.
pub fn check_value(value: &Any) -> Result<(), Code> {
    check_plain(value).map(drop)
}

#[cfg(test)]
mod tests;
