//! Updates that were valid before someone changed a few things in them.
//!
//! Most random changes of bytes are refused for their structure, which proves little. These changes keep
//! the structure and break the meaning: IDs become nearby ones, structs move, vanish, repeat or turn into
//! something else, and deletions hit what they should not.

use crate::crafted::{Deletes, Section, gc, skip, uint, update_and_deletes};
use crate::dice::Dice;
use bytes::Bytes;
use tidewell_sync_core::lib0::{Reader, write_uint};
use tidewell_sync_core::update::{Id, Item, Parent, Scan, StructKind, read_struct};

/// An update taken apart.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parts {
    sections: Vec<Section>,
    deletes: Vec<Deletes>,
}

impl Parts {
    /// Takes a valid update apart.
    pub(crate) fn of(update: &Bytes) -> Parts {
        let scan = Scan::new(update).expect("only valid updates are mutated");
        let mut sections = Vec::new();
        for section in &scan.sections {
            let mut reader = Reader::at(update, section.start);
            let (mut clock, mut structs) = (section.clock, Vec::new());
            for _ in 0..section.count {
                let start = reader.position();
                clock = read_struct(&mut reader, clock).expect("it was scanned").end();
                structs.push(reader.since(start).to_vec());
            }
            sections.push((section.client, u64::from(section.clock), structs));
        }
        let ranges = scan.delete_set().into_iter();
        let lengths = |(start, end): (u32, u32)| (u64::from(start), u64::from(end - start));
        let deletes = ranges.map(|(client, ranges)| (client, ranges.iter().map(lengths).collect())).collect();
        Parts { sections, deletes }
    }

    pub(crate) fn written(&self) -> Bytes {
        update_and_deletes(&self.sections, &self.deletes)
    }

    /// Changes one thing. `ids` are such as the document knows; `other` is another update to take from.
    pub(crate) fn mutate(&mut self, dice: &mut Dice, ids: &[Id], other: &Parts) {
        match dice.below(16) {
            0..=5 => self.change_struct(dice, ids, other),
            6 => self.sections.extend(other.sections.first().cloned()),
            7 => dice.shuffle(&mut self.sections),
            8 => {
                if let Some((client, ..)) = pick(dice, &mut self.sections) {
                    *client = some_id(dice, ids).client;
                }
            }
            9 => {
                if let Some((_, clock, _)) = pick(dice, &mut self.sections) {
                    *clock = (*clock + dice.below(5) as u64).saturating_sub(2);
                }
            }
            10 | 11 => {
                let Id { client, clock } = some_id(dice, ids);
                let len = 1 + dice.below(4) as u64;
                let clock = u64::from(clock);
                match self.deletes.iter_mut().find(|(other, _)| *other == client) {
                    Some((_, ranges)) => ranges.push((clock, len)),
                    None => self.deletes.push((client, vec![(clock, len)])),
                }
            }
            12 => {
                if let Some((_, ranges)) = pick(dice, &mut self.deletes) {
                    ranges.pop();
                }
            }
            _ => self.change_order(dice, other),
        }
    }

    /// Structs of one client change places, repeat, vanish or come from elsewhere.
    fn change_order(&mut self, dice: &mut Dice, other: &Parts) {
        let choice = dice.below(5);
        let Some((_, _, structs)) = pick(dice, &mut self.sections) else { return };
        let at = dice.below(structs.len() + 1);
        match choice {
            0 => dice.shuffle(structs),
            1 if at < structs.len() => structs.insert(at, structs[at].clone()),
            2 if at < structs.len() => drop(structs.remove(at)),
            3 => structs.truncate(at),
            _ => {
                let foreign = other.sections.iter().flat_map(|(_, _, structs)| structs).collect::<Vec<_>>();
                if !foreign.is_empty() {
                    structs.insert(at, (*dice.pick(&foreign)).clone());
                }
            }
        }
    }

    fn change_struct(&mut self, dice: &mut Dice, ids: &[Id], other: &Parts) {
        let Some((_, clock, structs)) = pick(dice, &mut self.sections) else { return };
        let index = dice.below(structs.len());
        let clock = *clock as u32;
        let Some(written) = structs.get_mut(index) else { return };
        let copy = Bytes::copy_from_slice(written);
        let Ok(read) = read_struct(&mut Reader::new(&copy), clock.min(1 << 30)) else { return };
        let StructKind::Item(item) = read.kind else {
            *written = match dice.below(3) {
                0 => gc(1 + dice.below(5) as u64),
                1 => skip(u64::from(read.len)),
                _ => gc(u64::from(read.len)),
            };
            return;
        };
        let mut loose = Loose::of(&item, &copy);
        match dice.below(12) {
            0 | 1 => loose.origin = Some(some_id(dice, ids)),
            2 | 3 => loose.right = Some(some_id(dice, ids)),
            4 => loose.origin = None,
            5 => loose.right = None,
            6 => (loose.origin, loose.right) = (loose.right, loose.origin),
            7 => loose.parent = Some(some_id(dice, ids)),
            8 => loose.key = if loose.key.is_some() { None } else { Some("k".into()) },
            9 => loose.change_content(dice),
            10 => {
                let foreign = other.sections.iter().flat_map(|(_, _, structs)| structs).collect::<Vec<_>>();
                if !foreign.is_empty() {
                    loose.take_content((*dice.pick(&foreign)).clone());
                }
            }
            _ => {
                *written = match dice.below(3) {
                    0 => gc(u64::from(read.len)),
                    1 => skip(u64::from(read.len)),
                    _ => loose.deleted(read.len),
                };
                return;
            }
        }
        *written = loose.written();
    }
}

fn pick<'a, T>(dice: &mut Dice, list: &'a mut [T]) -> Option<&'a mut T> {
    let index = dice.below(list.len());
    list.get_mut(index)
}

fn some_id(dice: &mut Dice, ids: &[Id]) -> Id {
    if ids.is_empty() { Id { client: 1, clock: 0 } } else { *dice.pick(ids) }
}

/// An item whose parts can be set each by itself.
struct Loose {
    origin: Option<Id>,
    right: Option<Id>,
    root: String,
    parent: Option<Id>,
    key: Option<String>,
    kind: u8,
    content: Vec<u8>,
}

impl Loose {
    fn of(item: &Item<'_>, written: &[u8]) -> Loose {
        let (root, parent) = match item.parent {
            Some(Parent::Root(name)) => (name.to_owned(), None),
            Some(Parent::Item(id)) => ("t".to_owned(), Some(id)),
            None => ("t".to_owned(), None),
        };
        let mut loose = Loose {
            origin: item.origin,
            right: item.right_origin,
            root,
            parent,
            key: item.key.map(str::to_owned),
            kind: written[0] & 0x1f,
            content: Vec::new(),
        };
        // All before the content is written in one way only, so its length is known.
        loose.content = written[loose.written().len()..].to_vec();
        loose
    }

    fn written(&self) -> Vec<u8> {
        let flag = |bit: u8, is_set: bool| if is_set { bit } else { 0 };
        let mut out = vec![
            self.kind
                | flag(0x80, self.origin.is_some())
                | flag(0x40, self.right.is_some())
                | flag(0x20, self.key.is_some()),
        ];
        let write_id = |out: &mut Vec<u8>, id: Id| {
            write_uint(out, id.client);
            write_uint(out, u64::from(id.clock));
        };
        [self.origin, self.right].into_iter().flatten().for_each(|id| write_id(&mut out, id));
        if self.origin.is_none() && self.right.is_none() {
            match self.parent {
                Some(id) => {
                    out.push(0);
                    write_id(&mut out, id);
                }
                None => {
                    out.push(1);
                    out.extend(crate::crafted::string(&self.root));
                }
            }
            if let Some(key) = &self.key {
                out.extend(crate::crafted::string(key));
            }
        }
        out.extend_from_slice(&self.content);
        out
    }

    fn change_content(&mut self, dice: &mut Dice) {
        (self.kind, self.content) = match dice.below(8) {
            0 => (7, vec![*dice.pick(&[0, 1, 2, 4, 6])]),
            1 => (7, vec![3, 1, b'p']),
            2 => (4, crate::crafted::string(["a", "ab", "🙂c", "long enough"][dice.below(4)])),
            3 => (8, vec![2, 125, 1, 126]),
            4 => (8, vec![1, 119, 1, b'v']),
            5 => (6, [crate::crafted::string("bold"), crate::crafted::string("true")].concat()),
            6 => (3, vec![2, 1, 2]),
            _ => (5, crate::crafted::string("{\"a\":1}")),
        };
    }

    fn take_content(&mut self, foreign: Vec<u8>) {
        let copy = Bytes::from(foreign);
        if let Ok(read) = read_struct(&mut Reader::new(&copy), 0)
            && let StructKind::Item(item) = read.kind
        {
            let other = Loose::of(&item, &copy);
            (self.kind, self.content) = (other.kind, other.content);
        }
    }

    fn deleted(mut self, len: u32) -> Vec<u8> {
        (self.kind, self.content) = (1, uint(u64::from(len)));
        self.written()
    }
}
