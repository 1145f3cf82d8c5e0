//! Reading a draft: the document as it will be.

use super::pieces::Piece;
use super::{At, Below, Cell, Content, Draft, NodeId, text};
use crate::code::Code;
use crate::path::{Kind, Path, Step};
use crate::value::{collapse, kind_of, plain};
use std::collections::HashMap;
use yrs::branch::BranchPtr;
use yrs::{Any, Array, ArrayRef, Map, MapRef, Out, ReadTxn, TextRef};

impl Draft {
    /// What is at `path`: a plain copy of a shared type or a value. `None` when nothing is there.
    pub fn value(&self, tx: &impl ReadTxn, path: &Path) -> Result<Option<Any>, Code> {
        let Some((last, before)) = path.steps.split_last() else {
            return self.find(tx, path).map(|at| self.read(tx, at));
        };
        let parent = Path { root: path.root.clone(), steps: before.to_vec() };
        let at = match self.below(tx, self.find(tx, &parent)?, last)? {
            Below::Nothing => return Ok(None),
            Below::Value(value) => return Ok(Some(value)),
            Below::Node(node) => At::Node(node),
            Below::Branch(branch) => At::Branch(branch),
        };
        Ok(self.read(tx, at))
    }

    /// Positions of a text, elements of a list, or entries of a map.
    pub fn len(&self, tx: &impl ReadTxn, path: &Path, kind: Kind) -> Result<u32, Code> {
        match self.find(tx, path)? {
            At::NewRoot => Ok(0),
            At::Branch(branch) if !super::fits(tx, branch, kind) => Err(Code::InvalidPath),
            At::Branch(branch) => Ok(match kind {
                Kind::Map => MapRef::from(branch).len(tx),
                Kind::Text | Kind::List => branch.content_len(),
            }),
            At::Node(node) => match (self.nodes.get(node).map(|node| &node.content), kind) {
                (Some(Content::Text(pieces)), Kind::Text) => Ok(pieces.len()),
                (Some(Content::List(pieces)), Kind::List) => Ok(pieces.len()),
                (Some(Content::Map(_)), Kind::Map) => {
                    Ok(u32::try_from(self.map_entries(tx, node).len()).unwrap_or(u32::MAX))
                }
                _ => Err(Code::InvalidPath),
            },
        }
    }

    fn read(&self, tx: &impl ReadTxn, at: At) -> Option<Any> {
        match at {
            At::NewRoot => None,
            At::Node(node) => Some(self.read_node(tx, node)),
            At::Branch(branch) => Some(self.read_branch(tx, branch)),
        }
    }

    fn read_out(&self, tx: &impl ReadTxn, out: &Out) -> Any {
        match crate::value::branch_of(out) {
            None => plain(out, tx),
            Some(branch) => self.read_branch(tx, branch),
        }
    }

    fn read_branch(&self, tx: &impl ReadTxn, branch: BranchPtr) -> Any {
        if let Some(node) = self.existing.get(&branch.id()) {
            return self.read_node(tx, *node);
        }
        match kind_of(branch, tx) {
            Some(Kind::List) => {
                Any::Array(ArrayRef::from(branch).iter(tx).map(|out| self.read_out(tx, &out)).collect())
            }
            Some(Kind::Map) => collapse(
                MapRef::from(branch)
                    .iter(tx)
                    .map(|(key, out)| (key.to_owned(), self.read_out(tx, &out)))
                    .collect(),
            ),
            Some(Kind::Text) | None => plain(&Out::UndefinedRef(branch), tx),
        }
    }

    fn read_node(&self, tx: &impl ReadTxn, node: NodeId) -> Any {
        match self.nodes.get(node).map(|node| &node.content) {
            None => Any::Null,
            Some(Content::Text(pieces)) => {
                let base = self.base(tx, node).map(TextRef::from);
                Any::from(text::read(pieces, base.as_ref(), tx))
            }
            Some(Content::List(pieces)) => {
                let base = self.base(tx, node).map(ArrayRef::from);
                let old: Vec<Out> = base.map(|list| list.iter(tx).collect()).unwrap_or_default();
                let mut items = Vec::new();
                for piece in pieces.iter() {
                    match piece {
                        Piece::Keep(range, ()) => {
                            let kept = old.get(range.start as usize..range.end as usize).unwrap_or_default();
                            items.extend(kept.iter().map(|out| self.read_out(tx, out)));
                        }
                        Piece::Insert(cells) => {
                            items.extend(cells.iter().map(|cell| self.read_cell(tx, cell)))
                        }
                    }
                }
                Any::Array(items.into())
            }
            Some(Content::Map(_)) => collapse(self.map_entries(tx, node)),
        }
    }

    fn read_cell(&self, tx: &impl ReadTxn, cell: &Cell) -> Any {
        match cell {
            Cell::Value(value) => value.clone(),
            Cell::Shared(node) => self.read_node(tx, *node),
        }
    }

    fn map_entries(&self, tx: &impl ReadTxn, node: NodeId) -> HashMap<String, Any> {
        let mut entries = HashMap::new();
        let Some(Content::Map(changed)) = self.nodes.get(node).map(|node| &node.content) else {
            return entries;
        };
        if let Some(branch) = self.base(tx, node) {
            for (key, out) in MapRef::from(branch).iter(tx) {
                if !changed.contains_key(key) {
                    entries.insert(key.to_owned(), self.read_out(tx, &out));
                }
            }
        }
        for (key, cell) in changed {
            if let Some(cell) = cell {
                entries.insert(key.to_string(), self.read_cell(tx, cell));
            }
        }
        entries
    }

    /// True when there is a shared type of this kind at `path`, or room for a root type.
    pub fn is(&self, tx: &impl ReadTxn, path: &Path, kind: Kind) -> bool {
        match self.find(tx, path) {
            Ok(At::NewRoot) => true,
            Ok(At::Branch(branch)) => super::fits(tx, branch, kind),
            Ok(At::Node(node)) => self.nodes.get(node).is_some_and(|node| node.content.kind() == kind),
            Err(_) => false,
        }
    }

    /// The path one step further, for reading an entry or element.
    pub fn value_at(&self, tx: &impl ReadTxn, path: &Path, step: Step) -> Result<Option<Any>, Code> {
        self.value(tx, &path.join(step))
    }
}
