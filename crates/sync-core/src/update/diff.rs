//! What an update has beyond a state vector.

use super::{InvalidUpdate, Scan, StructKind, read_struct, trimmed, write_section_head};
use crate::lib0::{Reader, write_uint};
use crate::state_vector::StateVector;
use bytes::Bytes;

/// The part of an admitted `update` that lies beyond `known`, with the whole delete set (a state vector
/// does not tell which deletions are known). Answers `None` when nothing at all remains.
pub fn diff(update: &Bytes, known: &StateVector) -> Result<Option<Bytes>, InvalidUpdate> {
    let scan = Scan::new(update)?;
    if scan.sections.iter().all(|section| known.get(section.client) <= section.clock) {
        return Ok(if scan.is_empty() { None } else { Some(update.clone()) });
    }
    let mut sections = Vec::new();
    let mut section_count = 0;
    let mut deletes_at = Reader::new(update);
    deletes_at.uint()?;
    let mut end_of_structs = deletes_at.position();
    for section in &scan.sections {
        let from = known.get(section.client);
        let mut reader = Reader::at(update, section.start);
        let mut clock = section.clock;
        let mut count = section.count;
        let mut first = None;
        while count > 0 {
            let start = reader.position();
            let read = read_struct(&mut reader, clock)?;
            clock = read.end();
            if clock <= from || matches!(read.kind, StructKind::Skip) {
                count -= 1;
                continue;
            }
            let at = read.clock.max(from);
            let head = if from > read.clock {
                trimmed(section.client, &read, from - read.clock)?
            } else {
                reader.since(start).to_vec()
            };
            first = Some((at, head, reader.position()));
            break;
        }
        let rest = count.saturating_sub(1);
        for _ in 0..rest {
            clock = read_struct(&mut reader, clock)?.end();
        }
        end_of_structs = reader.position();
        if let Some((at, head, rest_start)) = first {
            write_section_head(&mut sections, count, section.client, at);
            sections.extend_from_slice(&head);
            sections.extend_from_slice(update.get(rest_start..end_of_structs).unwrap_or(&[]));
            section_count += 1;
        }
    }
    if section_count == 0 && scan.deletes.is_empty() {
        return Ok(None);
    }
    let mut out = Vec::with_capacity(sections.len() + update.len() - end_of_structs + 4);
    write_uint(&mut out, section_count);
    out.extend_from_slice(&sections);
    out.extend_from_slice(update.get(end_of_structs..).unwrap_or(&[]));
    Ok(Some(out.into()))
}
