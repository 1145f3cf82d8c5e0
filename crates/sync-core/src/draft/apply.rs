//! Writing a draft into the document.

use super::pieces::Piece;
use super::{Cell, Content, Draft, Node, text};
use crate::caret::Edits;
use yrs::branch::BranchPtr;
use yrs::{
    Any, Array, ArrayPrelim, ArrayRef, BranchID, Map, MapPrelim, MapRef, TextPrelim, TextRef, TransactionMut,
    WriteTxn,
};

impl Draft {
    /// Writes everything and is empty afterwards.
    pub(crate) fn apply(&mut self, tx: &mut TransactionMut<'_>, edits: &mut Edits<'_>) {
        let nodes = std::mem::take(&mut self.nodes);
        self.clear();
        for node in &nodes {
            let Some(base) = &node.base else { continue };
            let branch = match (base, &node.content) {
                (BranchID::Root(name), Content::Text(_)) => BranchPtr::from(
                    AsRef::<yrs::branch::Branch>::as_ref(&tx.get_or_insert_text(name.clone())),
                ),
                (BranchID::Root(name), Content::List(_)) => {
                    BranchPtr::from(tx.get_or_insert_array(name.clone()).as_ref())
                }
                (BranchID::Root(name), Content::Map(_)) => {
                    BranchPtr::from(tx.get_or_insert_map(name.clone()).as_ref())
                }
                (nested, _) => match nested.get_branch(tx) {
                    // What the same draft took out of its list or map is not written to any more.
                    Some(branch) if !branch.is_deleted() => branch,
                    _ => continue,
                },
            };
            write(&nodes, node, branch, tx, edits);
        }
    }
}

fn write(nodes: &[Node], node: &Node, branch: BranchPtr, tx: &mut TransactionMut<'_>, edits: &mut Edits<'_>) {
    match &node.content {
        Content::Text(pieces) => {
            let shared = TextRef::from(branch);
            text::apply(pieces, &shared, branch.id(), tx, edits);
        }
        Content::List(pieces) => {
            let shared = ArrayRef::from(branch);
            let (mut index, mut base) = (0, 0);
            for piece in pieces.iter() {
                match piece {
                    Piece::Keep(range, ()) => {
                        if range.start > base {
                            shared.remove_range(tx, index, range.start - base);
                        }
                        base = range.end;
                        index += range.end - range.start;
                    }
                    Piece::Insert(cells) => {
                        index += insert_cells(nodes, cells, &shared, index, tx, edits);
                    }
                }
            }
            if pieces.base_len() > base {
                shared.remove_range(tx, index, pieces.base_len() - base);
            }
        }
        Content::Map(entries) => {
            let shared = MapRef::from(branch);
            for (key, cell) in entries {
                match cell {
                    None => drop(shared.remove(tx, key)),
                    Some(Cell::Value(value)) => drop(shared.insert(tx, key.clone(), value.clone())),
                    Some(Cell::Shared(node)) => {
                        let Some(node) = nodes.get(*node) else { continue };
                        let made = match &node.content {
                            Content::Text(_) => {
                                branch_of(&shared.insert(tx, key.clone(), TextPrelim::new("")))
                            }
                            Content::List(_) => {
                                branch_of(&shared.insert(tx, key.clone(), ArrayPrelim::default()))
                            }
                            Content::Map(_) => {
                                branch_of(&shared.insert(tx, key.clone(), MapPrelim::default()))
                            }
                        };
                        write(nodes, node, made, tx, edits);
                    }
                }
            }
        }
    }
}

/// Inserts new elements from `index` on; answers how many.
fn insert_cells(
    nodes: &[Node],
    cells: &[Cell],
    list: &ArrayRef,
    index: u32,
    tx: &mut TransactionMut<'_>,
    edits: &mut Edits<'_>,
) -> u32 {
    let mut inserted = 0;
    let mut run: Vec<Any> = Vec::new();
    for cell in cells {
        match cell {
            Cell::Value(value) => run.push(value.clone()),
            Cell::Shared(node) => {
                inserted += insert_run(&mut run, list, index + inserted, tx);
                let Some(node) = nodes.get(*node) else { continue };
                let at = index + inserted;
                let made = match &node.content {
                    Content::Text(_) => branch_of(&list.insert(tx, at, TextPrelim::new(""))),
                    Content::List(_) => branch_of(&list.insert(tx, at, ArrayPrelim::default())),
                    Content::Map(_) => branch_of(&list.insert(tx, at, MapPrelim::default())),
                };
                inserted += 1;
                write(nodes, node, made, tx, edits);
            }
        }
    }
    inserted + insert_run(&mut run, list, index + inserted, tx)
}

fn insert_run(run: &mut Vec<Any>, list: &ArrayRef, index: u32, tx: &mut TransactionMut<'_>) -> u32 {
    let len = u32::try_from(run.len()).unwrap_or(u32::MAX);
    if len > 0 {
        list.insert_range(tx, index, run.drain(..));
    }
    len
}

fn branch_of(shared: &impl AsRef<yrs::branch::Branch>) -> BranchPtr {
    BranchPtr::from(shared.as_ref())
}
