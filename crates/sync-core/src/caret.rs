//! Where someone types, by the names of the units there instead of by position.
//!
//! yrs finds a position by walking the list from its start, and a text that was typed by people is a list of
//! thousands of items. What a name stands for it finds at once. So the insertions and deletions of somebody
//! who types on are written as an update, as another device would send them: the first edit at a place is
//! made by yrs and walks, and names the units; those that follow it need no walk.
//!
//! That takes knowing which unit stands beside which, and an update tells: text that was typed on has each
//! unit after the one before it, until something else is inserted there, and that names the unit to its left
//! as its origin. (The lines from items to their origins do not cross in YATA, so nothing else can come
//! between.) Where this is not certain, yrs walks.

use crate::admission::Admitted;
use crate::lib0::{Reader, write_buffer};
use crate::update::{
    ContentKind, Id, Item, Ranges, Scan, StructKind, read_struct, write_delete_ranges, write_item_head,
    write_section_head,
};
use rustc_hash::FxHashSet;
use yrs::updates::decoder::Decode;
use yrs::{BranchID, ReadTxn, TransactionMut, Update};

/// Units that a deletion looks at; for more, yrs's walk is the cheaper one.
const LOOKED_AT_MAX: u32 = 4096;

/// A place between two units of a text.
#[derive(Debug)]
struct Caret {
    text: BranchID,
    /// Its position.
    index: u32,
    /// The neighbours in the list, deleted or not, if they are known; nothing is to the right at the end.
    gap: Option<(Id, Option<Id>)>,
    /// Where deleting goes on to the left: between it and the gap everything is deleted.
    back: Option<Id>,
    /// The same to the right.
    forth: Option<Id>,
}

/// An edit by position, whose update will name the units.
#[derive(Debug)]
struct Walked {
    text: BranchID,
    /// The position behind what was inserted, or of what was deleted.
    index: u32,
    len: u32,
    is_insertion: bool,
}

/// What is known of one document's texts, besides what yrs knows.
#[derive(Debug, Default)]
pub(crate) struct Typing {
    /// Units that the text does not, or not certainly, go on behind with their client's next unit.
    ends: FxHashSet<Id>,
    /// True when there is or was a format in the document.
    has_formats: bool,
    /// True when nothing here can be relied on any more.
    is_lost: bool,
    caret: Option<Caret>,
    walked: Option<Walked>,
    /// Edits by position so far.
    #[cfg(test)]
    pub(crate) walks: u32,
}

impl Typing {
    /// True when no text of the document has formats.
    pub(crate) fn is_plain(&self) -> bool {
        !self.has_formats && !self.is_lost
    }

    /// Takes note of an update that was applied.
    pub(crate) fn note(&mut self, update: &[u8]) {
        // What was applied can be read.
        let Ok(scan) = Scan::new(update) else { return self.lost() };
        for section in &scan.sections {
            let (client, mut clock) = (section.client, section.clock);
            let mut reader = Reader::at(update, section.start);
            for _ in 0..section.count {
                let Ok(read) = read_struct(&mut reader, clock) else { return self.lost() };
                let before = read.clock.checked_sub(1).map(|clock| Id { client, clock });
                clock = read.end();
                let mut goes_on = false;
                let mut is_text = false;
                if let StructKind::Item(item) = &read.kind {
                    is_text = item.kind == ContentKind::String;
                    goes_on = is_text && item.origin == before;
                    self.has_formats |= item.is_format();
                    self.ends.extend(item.origin.filter(|_| !goes_on));
                }
                self.ends.extend(before.filter(|_| !goes_on));
                if !is_text {
                    self.ends.insert(Id { client, clock: clock - 1 });
                }
            }
        }
    }

    /// Something else has changed these texts.
    pub(crate) fn changed(&mut self, mut is_changed: impl FnMut(&BranchID) -> bool) {
        if self.caret.as_ref().is_some_and(|caret| is_changed(&caret.text)) {
            self.caret = None;
        }
    }

    /// What yrs has and what was admitted are not the same any more: from here on yrs walks.
    pub(crate) fn lost(&mut self) {
        self.is_lost = true;
        self.caret = None;
    }

    /// Learns from the update of a transaction, which is admitted and noted, where its edits by position
    /// were made.
    pub(crate) fn learn(&mut self, update: &[u8], admitted: &Admitted) {
        if let Some(walked) = self.walked.take().filter(|_| !self.is_lost) {
            self.caret = self.found(walked, update, admitted);
        }
    }

    fn found(&self, walked: Walked, update: &[u8], admitted: &Admitted) -> Option<Caret> {
        let scan = Scan::new(update).ok()?;
        let Walked { text, index, len, is_insertion } = walked;
        if is_insertion {
            let [section] = scan.sections.as_slice() else { return None };
            let mut reader = Reader::at(update, section.start);
            let (mut clock, mut only) = (section.clock, None);
            for _ in 0..section.count {
                let read = read_struct(&mut reader, clock).ok()?;
                clock = read.end();
                if let StructKind::Item(Item { kind: ContentKind::String, right_origin, .. }) = read.kind
                    && only.replace((read.len, clock, right_origin)).is_some()
                {
                    return None;
                }
            }
            let (_, end, right) = only.filter(|(found, ..)| *found == len)?;
            let left = Id { client: section.client, clock: end - 1 };
            return Some(Caret { text, index, gap: Some((left, right)), back: Some(left), forth: right });
        }
        let [(client, start, end)] = *scan.deletes else { return None };
        if !scan.sections.is_empty() || end - start != len {
            return None;
        }
        let (first, last) = (Id { client, clock: start }, Id { client, clock: end - 1 });
        let (back, forth) = (self.before(first), self.after(last, admitted));
        let gap = match (back, forth) {
            (Some(back), _) => Some((back, Some(first))),
            (_, Some(_)) => Some((last, forth)),
            _ => None,
        };
        Some(Caret { text, index, gap, back, forth })
    }

    /// The unit that stands before one of a text.
    fn before(&self, id: Id) -> Option<Id> {
        let before = Id { clock: id.clock.checked_sub(1)?, ..id };
        (!self.ends.contains(&before)).then_some(before)
    }

    /// The unit that stands behind one of a text.
    fn after(&self, id: Id, admitted: &Admitted) -> Option<Id> {
        let after = Id { clock: id.clock + 1, ..id };
        (!self.ends.contains(&id) && admitted.knows(after)).then_some(after)
    }
}

/// The edits of one transaction.
pub(crate) struct Edits<'a> {
    typing: &'a mut Typing,
    admitted: &'a Admitted,
    /// This replica.
    client: u64,
}

impl<'a> Edits<'a> {
    /// `client` is this replica's ID.
    pub(crate) fn new(typing: &'a mut Typing, admitted: &'a Admitted, client: u64) -> Self {
        typing.walked = None;
        Edits { typing, admitted, client }
    }

    /// True when no text of the document has formats, so that what is inserted has none.
    pub(crate) fn is_plain(&self) -> bool {
        self.typing.is_plain()
    }

    /// Inserts without formats of its own, if the place is known.
    pub(crate) fn insert(
        &mut self,
        tx: &mut TransactionMut<'_>,
        text: &BranchID,
        index: u32,
        chunk: &str,
        len: u32,
    ) -> bool {
        let Some(caret) = self.typing.caret.as_mut() else { return false };
        let Some((left, right)) = caret.gap.filter(|_| caret.text == *text && caret.index == index) else {
            return false;
        };
        // Not what was admitted: this transaction may have made something else.
        let (client, clock) = (self.client, tx.store().get_local_state());
        let mut update = Vec::with_capacity(chunk.len() + 48);
        update.push(1);
        write_section_head(&mut update, 1, client, clock);
        write_item_head(&mut update, left, right);
        write_buffer(&mut update, chunk.as_bytes());
        update.push(0);
        if !apply(tx, &update) {
            return false;
        }
        let left = Id { client, clock: clock + len - 1 };
        (caret.gap, caret.back, caret.index) = (Some((left, right)), Some(left), index + len);
        true
    }

    /// Deletes, if the place is known.
    pub(crate) fn delete(
        &mut self,
        tx: &mut TransactionMut<'_>,
        text: &BranchID,
        index: u32,
        len: u32,
    ) -> bool {
        if !self.is_plain() {
            return false;
        }
        let Some(caret) = self.typing.caret.as_ref().filter(|caret| caret.text == *text) else {
            return false;
        };
        let is_back = caret.index == index.saturating_add(len);
        let found = match is_back {
            true => self.visible(caret.back, len, |id| self.typing.before(id)),
            false if caret.index == index => {
                self.visible(caret.forth, len, |id| self.typing.after(id, self.admitted))
            }
            false => None,
        };
        let Some((client, ranges, beyond)) = found else { return false };
        let mut update = vec![0, 1];
        write_delete_ranges(&mut update, client, &ranges);
        if !apply(tx, &update) {
            return false;
        }
        if let Some(caret) = self.typing.caret.as_mut() {
            caret.index = index;
            *(if is_back { &mut caret.back } else { &mut caret.forth }) = beyond;
        }
        true
    }

    /// So many units that are not deleted, from one on, and the one beyond them.
    fn visible(
        &self,
        from: Option<Id>,
        len: u32,
        step: impl Fn(Id) -> Option<Id>,
    ) -> Option<(u64, Ranges, Option<Id>)> {
        let (mut at, mut left, mut ranges) = (from, len, Ranges::default());
        for _ in 0..LOOKED_AT_MAX {
            let id = at?;
            if !self.admitted.has_deleted(id) {
                ranges.extend(&Ranges::one(id.clock, id.clock + 1));
                left -= 1;
            }
            at = step(id);
            if left == 0 {
                return Some((id.client, ranges, at));
            }
        }
        None
    }

    /// yrs has inserted text by position; `index` is behind it.
    pub(crate) fn inserted(&mut self, text: &BranchID, index: u32, len: u32) {
        self.walked(Some(Walked { text: text.clone(), index, len, is_insertion: true }));
    }

    /// yrs has deleted by position.
    pub(crate) fn deleted(&mut self, text: &BranchID, index: u32, len: u32) {
        let is_insertion_known = self.typing.walked.as_ref().is_some_and(|walked| walked.is_insertion);
        if !is_insertion_known {
            let walked = Walked { text: text.clone(), index, len, is_insertion: false };
            self.walked(Some(walked).filter(|_| self.is_plain()));
        }
    }

    /// yrs has edited by position, and nothing is to be learned from where.
    pub(crate) fn elsewhere(&mut self) {
        self.walked(None);
    }

    fn walked(&mut self, walked: Option<Walked>) {
        #[cfg(test)]
        {
            self.typing.walks += 1;
        }
        self.typing.caret = None;
        self.typing.walked = walked;
    }
}

fn apply(tx: &mut TransactionMut<'_>, update: &[u8]) -> bool {
    Update::decode_v1(update).is_ok_and(|update| tx.apply_update(update).is_ok())
}

#[cfg(test)]
mod tests;
