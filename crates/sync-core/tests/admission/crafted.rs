//! Updates written by hand, byte by byte, so that they can be wrong in one place.

use bytes::Bytes;
use tidewell_sync_core::lib0::{write_buffer, write_uint};

/// Where an item lives.
#[derive(Clone, Copy)]
pub(crate) enum In<'a> {
    Root(&'a str),
    Item(u64, u32),
    /// Said by its neighbours.
    Neighbours,
}

/// An item to be written.
#[derive(Clone, Copy)]
pub(crate) struct Item<'a> {
    pub(crate) origin: Option<(u64, u32)>,
    pub(crate) right: Option<(u64, u32)>,
    pub(crate) parent: In<'a>,
    pub(crate) key: Option<&'a str>,
}

/// An item in a root, without neighbours.
pub(crate) fn in_root(name: &str) -> Item<'_> {
    Item { origin: None, right: None, parent: In::Root(name), key: None }
}

/// An item in a shared type, without neighbours.
pub(crate) fn in_type(client: u64, clock: u32) -> Item<'static> {
    Item { origin: None, right: None, parent: In::Item(client, clock), key: None }
}

/// An item to the right of another.
pub(crate) fn after(client: u64, clock: u32) -> Item<'static> {
    Item { origin: Some((client, clock)), right: None, parent: In::Neighbours, key: None }
}

impl<'a> Item<'a> {
    pub(crate) fn at_key(self, key: &'a str) -> Self {
        Item { key: Some(key), ..self }
    }

    pub(crate) fn before(self, client: u64, clock: u32) -> Self {
        Item { right: Some((client, clock)), ..self }
    }

    fn written(self, kind: u8, content: &[u8]) -> Vec<u8> {
        let flag = |bit: u8, is_set: bool| if is_set { bit } else { 0 };
        let is_explicit = self.origin.is_none() && self.right.is_none();
        let mut out = vec![
            kind | flag(0x80, self.origin.is_some())
                | flag(0x40, self.right.is_some())
                | flag(0x20, self.key.is_some()),
        ];
        for (client, clock) in [self.origin, self.right].into_iter().flatten() {
            write_uint(&mut out, client);
            write_uint(&mut out, u64::from(clock));
        }
        match self.parent {
            In::Root(name) if is_explicit => {
                out.push(1);
                write_buffer(&mut out, name.as_bytes());
            }
            In::Item(client, clock) if is_explicit => {
                out.push(0);
                write_uint(&mut out, client);
                write_uint(&mut out, u64::from(clock));
            }
            _ => {}
        }
        if let Some(key) = self.key.filter(|_| is_explicit) {
            write_buffer(&mut out, key.as_bytes());
        }
        out.extend_from_slice(content);
        out
    }

    /// Content of any kind.
    pub(crate) fn content(self, kind: u8, content: &[u8]) -> Vec<u8> {
        self.written(kind, content)
    }

    pub(crate) fn text(self, text: &str) -> Vec<u8> {
        self.written(4, &string(text))
    }

    /// A shared type: 0 array, 1 map, 2 text.
    pub(crate) fn shared(self, kind: u8) -> Vec<u8> {
        self.written(7, &[kind])
    }

    /// Small integers.
    pub(crate) fn numbers(self, numbers: &[u8]) -> Vec<u8> {
        let mut content = uint(numbers.len() as u64);
        numbers.iter().for_each(|number| content.extend([125, *number]));
        self.written(8, &content)
    }

    pub(crate) fn deleted(self, len: u64) -> Vec<u8> {
        self.written(1, &uint(len))
    }

    pub(crate) fn embed(self, json: &str) -> Vec<u8> {
        self.written(5, &string(json))
    }

    pub(crate) fn format(self, key: &str, json: &str) -> Vec<u8> {
        self.written(6, &[string(key), string(json)].concat())
    }
}

pub(crate) fn gc(len: u64) -> Vec<u8> {
    [vec![0], uint(len)].concat()
}

pub(crate) fn skip(len: u64) -> Vec<u8> {
    [vec![10], uint(len)].concat()
}

pub(crate) fn uint(number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    write_uint(&mut out, number);
    out
}

pub(crate) fn string(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write_buffer(&mut out, text.as_bytes());
    out
}

/// One client's structs from a clock on.
pub(crate) type Section = (u64, u64, Vec<Vec<u8>>);

/// One client's deletions: clocks and lengths.
pub(crate) type Deletes = (u64, Vec<(u64, u64)>);

/// An update of these sections, in this order.
pub(crate) fn update(sections: &[Section]) -> Bytes {
    update_and_deletes(sections, &[])
}

/// An update of these sections and deletions, in this order.
pub(crate) fn update_and_deletes(sections: &[Section], deletes: &[Deletes]) -> Bytes {
    let mut out = uint(sections.len() as u64);
    for (client, clock, structs) in sections {
        [structs.len() as u64, *client, *clock].into_iter().for_each(|number| write_uint(&mut out, number));
        structs.iter().for_each(|written| out.extend_from_slice(written));
    }
    write_uint(&mut out, deletes.len() as u64);
    for (client, ranges) in deletes {
        write_uint(&mut out, *client);
        write_uint(&mut out, ranges.len() as u64);
        ranges
            .iter()
            .for_each(|(clock, len)| [*clock, *len].into_iter().for_each(|n| write_uint(&mut out, n)));
    }
    out.into()
}

/// Bytes written in hexadecimal, blanks ignored.
pub(crate) fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> =
        text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect::<Vec<_>>().into()
}
