//! Documents whose compaction failed: their sync goes on, their compaction does not.

use super::{CommitError, OpenError, Store, open_read_only, schema, to_sql};
use rusqlite::Connection;
use std::path::Path;
use tidewell_sync_core::document_name::DocumentName;

/// A document in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Its name.
    pub name: String,
    /// Why, in one word.
    pub reason: String,
    /// Since when, in milliseconds since 1970.
    pub at_ms: u64,
}

impl Store {
    /// Puts a document in quarantine.
    pub(crate) fn quarantine(
        &mut self,
        document: &DocumentName,
        reason: &str,
        at_ms: u64,
    ) -> Result<(), CommitError> {
        self.connection
            .prepare_cached("UPDATE document SET quarantined = ?2, quarantined_at_ms = ?3 WHERE name = ?1")?
            .execute((document.as_str(), reason, to_sql(at_ms)?))?;
        Ok(())
    }

    /// Ends a document's quarantine; answers whether it was in one.
    pub(crate) fn release(&mut self, document: &DocumentName) -> Result<bool, CommitError> {
        let released = self
            .connection
            .prepare_cached(
                "UPDATE document SET quarantined = NULL, quarantined_at_ms = NULL
                 WHERE name = ?1 AND quarantined IS NOT NULL",
            )?
            .execute([document.as_str()])?;
        Ok(released > 0)
    }

    /// All documents in quarantine, by name.
    pub(crate) fn quarantined(&self) -> Result<Vec<Quarantined>, CommitError> {
        Ok(read(&self.connection)?)
    }
}

/// All documents in quarantine in a store, which a relay may be running on.
pub(crate) fn quarantined_in(path: &Path) -> Result<Vec<Quarantined>, OpenError> {
    let connection = open_read_only(path)?;
    // One in which nothing was made yet holds no documents.
    if schema::check(&connection)? == 0 { Ok(Vec::new()) } else { Ok(read(&connection)?) }
}

fn read(connection: &Connection) -> Result<Vec<Quarantined>, rusqlite::Error> {
    let mut statement = connection.prepare_cached(
        "SELECT name, quarantined, coalesce(quarantined_at_ms, 0) FROM document
         WHERE quarantined IS NOT NULL ORDER BY name",
    )?;
    let rows = statement.query_map([], |row| {
        let at_ms: i64 = row.get(2)?;
        let at_ms = u64::try_from(at_ms).unwrap_or(0);
        Ok(Quarantined { name: row.get(0)?, reason: row.get(1)?, at_ms })
    })?;
    rows.collect()
}
