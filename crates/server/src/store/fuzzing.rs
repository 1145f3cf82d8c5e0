//! Rows as a damaged store may hold them.

use super::{ReadError, StoredDocument, document_at_rest, schema};
use bytes::Bytes;
use rusqlite::Connection;
use std::cell::RefCell;
use tidewell_sync_core::document_name::DocumentName;

/// A row of the log, or the snapshot.
pub(crate) struct StoredRow {
    pub(crate) is_snapshot: bool,
    pub(crate) first: i64,
    pub(crate) sequence: i64,
    pub(crate) update: Bytes,
}

thread_local! {
    static STORE: RefCell<Option<Connection>> = const { RefCell::new(None) };
}

/// The document that these rows make, read from a store in memory.
pub(crate) fn stored_document(rows: &[StoredRow]) -> Result<Option<StoredDocument>, ReadError> {
    STORE.with_borrow_mut(|store| {
        let connection = match store {
            Some(connection) => connection,
            None => store.insert(empty()?),
        };
        connection.execute_batch("DELETE FROM log; DELETE FROM snapshot")?;
        for StoredRow { is_snapshot, first, sequence, update } in rows {
            let update = update.as_ref();
            // A table takes one of each only.
            let _ = match is_snapshot {
                true => connection.execute("INSERT INTO snapshot VALUES (1, ?1, 0, ?2)", (sequence, update)),
                false => {
                    connection.execute("INSERT INTO log VALUES (1, ?1, ?2, 0, ?3)", (sequence, first, update))
                }
            };
        }
        let name = DocumentName::parse("a").map_err(|_| rusqlite::Error::InvalidQuery)?;
        document_at_rest(connection, &name)
    })
}

fn empty() -> Result<Connection, rusqlite::Error> {
    let mut connection = Connection::open_in_memory()?;
    schema::migrate(&mut connection, 0, 1).map_err(|_| rusqlite::Error::InvalidQuery)?;
    connection.execute("INSERT INTO document (id, name, epoch) VALUES (1, 'a', 1)", [])?;
    Ok(connection)
}
