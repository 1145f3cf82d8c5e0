//! Entries: what the core asks to be written, as bytes. A frame's payload is entries one after the other.

use crate::branch::Branch;
use bytes::Bytes;
use std::collections::BTreeSet;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::lib0::{ReadError, Reader, write_buffer, write_uint};
use tidewell_sync_core::protocol::Cursor;
use tidewell_sync_core::replica::{OutboxRow, Persist, RowId, Stored};

const EDIT: u8 = 1;
const RECEIVED: u8 = 2;
const ACKNOWLEDGED: u8 = 3;
const BRANCHED: u8 = 4;

/// Appends what `persist` asks for.
pub(super) fn write(out: &mut Vec<u8>, persist: &Persist) {
    match persist {
        Persist::Edit(row) => write_edit(out, row),
        Persist::Received { updates, cursor } => write_received(out, updates, *cursor),
        Persist::Acknowledged { rows, sequence } => {
            out.push(ACKNOWLEDGED);
            out.extend_from_slice(&sequence.to_le_bytes());
            write_uint(out, rows.len() as u64);
            rows.iter().for_each(|row| out.extend_from_slice(&row.0.to_le_bytes()));
        }
    }
}

/// Appends that `rows` leave the outbox for a branch. The cursor is gone with them: it may cover those of them that the
/// relay has, and that are not here any more.
pub(super) fn write_branched(out: &mut Vec<u8>, code: Code, rows: &[RowId]) {
    out.push(BRANCHED);
    out.extend_from_slice(&code.number().to_le_bytes());
    write_uint(out, rows.len() as u64);
    rows.iter().for_each(|row| out.extend_from_slice(&row.0.to_le_bytes()));
}

fn write_edit(out: &mut Vec<u8>, row: &OutboxRow) {
    out.push(EDIT);
    out.extend_from_slice(&row.id.0.to_le_bytes());
    out.extend_from_slice(&row.edits.to_le_bytes());
    out.extend_from_slice(&row.made_ms.to_le_bytes());
    write_buffer(out, &row.update);
}

fn write_received(out: &mut Vec<u8>, updates: &[Bytes], cursor: Option<Cursor>) {
    out.push(RECEIVED);
    out.push(u8::from(cursor.is_some()));
    for number in cursor.into_iter().flat_map(|cursor| [cursor.epoch, cursor.lineage, cursor.sequence]) {
        out.extend_from_slice(&number.to_le_bytes());
    }
    write_uint(out, updates.len() as u64);
    updates.iter().for_each(|update| write_buffer(out, update));
}

/// All of a document as a compacted log holds it: the branches, what was received, then each row of the outbox.
pub(super) fn write_stored(out: &mut Vec<u8>, stored: &Stored, branches: &[Branch]) {
    for branch in branches {
        branch.rows.iter().for_each(|row| write_edit(out, row));
        let names: Vec<RowId> = branch.rows.iter().map(|row| row.id).collect();
        write_branched(out, branch.code, &names);
    }
    write_received(out, &stored.received, stored.cursor);
    stored.outbox.iter().for_each(|row| write_edit(out, row));
}

/// Reads a frame's payload into `stored` and `branches`, in order.
pub(super) fn read_all(
    payload: &[u8],
    stored: &mut Stored,
    branches: &mut Vec<Branch>,
) -> Result<(), ReadError> {
    let mut reader = Reader::new(payload);
    while !reader.is_empty() {
        match reader.u8()? {
            EDIT => {
                let id = RowId(uint64(&mut reader)?);
                let edits = u32::from_le_bytes(array(&mut reader)?);
                let made_ms = uint64(&mut reader)?;
                let update = Bytes::copy_from_slice(reader.buffer()?);
                stored.outbox.push(OutboxRow { id, update, edits, made_ms });
            }
            RECEIVED => {
                if reader.u8()? != 0 {
                    let (epoch, lineage) = (uint64(&mut reader)?, uint64(&mut reader)?);
                    stored.cursor = Some(Cursor { epoch, lineage, sequence: uint64(&mut reader)? });
                }
                for _ in 0..reader.count(1)? {
                    stored.received.push(Bytes::copy_from_slice(reader.buffer()?));
                }
            }
            ACKNOWLEDGED => {
                uint64(&mut reader)?;
                let rows = (0..reader.count(8)?).map(|_| uint64(&mut reader).map(RowId));
                acknowledge(stored, &rows.collect::<Result<_, _>>()?);
            }
            BRANCHED => {
                let number = u16::from_le_bytes(array(&mut reader)?);
                let code = Code::from_number(u64::from(number)).ok_or(ReadError::Number)?;
                let names = (0..reader.count(8)?).map(|_| uint64(&mut reader).map(RowId));
                let names = names.collect::<Result<BTreeSet<RowId>, _>>()?;
                let outbox = std::mem::take(&mut stored.outbox);
                let (rows, kept) = outbox.into_iter().partition(|row| names.contains(&row.id));
                (stored.outbox, stored.cursor) = (kept, None);
                branches.push(Branch { code, rows });
            }
            _ => return Err(ReadError::Number),
        }
    }
    Ok(())
}

/// Rows leave the outbox and join what was received. Both are in the order of their making.
fn acknowledge(stored: &mut Stored, rows: &BTreeSet<RowId>) {
    let Stored { received, outbox, .. } = stored;
    outbox.retain(|row| {
        let is_acknowledged = rows.contains(&row.id);
        if is_acknowledged {
            received.push(row.update.clone());
        }
        !is_acknowledged
    });
}

fn array<const N: usize>(reader: &mut Reader<'_>) -> Result<[u8; N], ReadError> {
    reader.take(N)?.try_into().map_err(|_| ReadError::End)
}

fn uint64(reader: &mut Reader<'_>) -> Result<u64, ReadError> {
    Ok(u64::from_le_bytes(array(reader)?))
}
