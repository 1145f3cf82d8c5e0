//! The store's schema, its version and its migrations.

use super::OpenError;
use rusqlite::{Connection, TransactionBehavior};

/// "TDWL": tells our files from other SQLite databases.
const APPLICATION_ID: i64 = 0x5444_574c;

/// Each entry brings the schema from the version of its index to the next. Never change one that was
/// released: add another.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE document (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        epoch INTEGER NOT NULL,
        quarantined TEXT,
        quarantined_at_ms INTEGER
    ) STRICT;
    CREATE TABLE log (
        document INTEGER NOT NULL REFERENCES document(id),
        sequence INTEGER NOT NULL,
        first INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        update_v1 BLOB NOT NULL,
        PRIMARY KEY (document, sequence)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE snapshot (
        document INTEGER PRIMARY KEY REFERENCES document(id),
        sequence INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        update_v1 BLOB NOT NULL
    ) STRICT;
",
    "
    CREATE TABLE recent (
        id INTEGER PRIMARY KEY,
        document INTEGER NOT NULL REFERENCES document(id),
        sequence INTEGER NOT NULL,
        first INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        update_v1 BLOB NOT NULL
    ) STRICT;
",
    "
    CREATE TABLE revocation (
        kind INTEGER NOT NULL,
        name TEXT NOT NULL,
        before_s INTEGER NOT NULL,
        PRIMARY KEY (kind, name)
    ) STRICT, WITHOUT ROWID;
",
    // Bytes of the rows that the snapshot covers.
    "
    ALTER TABLE document ADD COLUMN history_bytes INTEGER NOT NULL DEFAULT 0;
    UPDATE document SET history_bytes = coalesce((
        SELECT sum(length(log.update_v1)) FROM snapshot
        JOIN log ON log.document = snapshot.document AND log.sequence <= snapshot.sequence
        WHERE snapshot.document = document.id), 0);
",
    // With a rowid: in a table that has none SQLite reads each row that a search meets whole, also one of 15 MB that is of
    // another document.
    "
    ALTER TABLE log RENAME TO log_without_rowid;
    CREATE TABLE log (
        document INTEGER NOT NULL REFERENCES document(id),
        sequence INTEGER NOT NULL,
        first INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        update_v1 BLOB NOT NULL,
        UNIQUE (document, sequence)
    ) STRICT;
    INSERT INTO log SELECT * FROM log_without_rowid ORDER BY document, sequence;
    DROP TABLE log_without_rowid;
",
];

/// The newest schema version that this program knows.
pub(super) fn newest_version() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Checks whose file this is and which version it has. Reads only.
pub(super) fn check(connection: &Connection) -> Result<i64, OpenError> {
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION_ID && (tables > 0 || application != 0) {
        return Err(OpenError::NotOurs);
    }
    if version > newest_version() {
        return Err(OpenError::TooNew { found: version, known: newest_version() });
    }
    Ok(version)
}

/// Brings the schema to the newest version, in one transaction. `lineage` names the history of a store
/// that is made now.
pub(super) fn migrate(connection: &mut Connection, version: i64, lineage: u64) -> Result<(), OpenError> {
    let done = usize::try_from(version).map_err(|_| OpenError::NotOurs)?;
    let Some(missing) = MIGRATIONS.get(done..).filter(|missing| !missing.is_empty()) else {
        return Ok(());
    };
    if done > 0 {
        tracing::info!(
            from = version,
            to = newest_version(),
            "the store is brought to a newer schema, which may take a while"
        );
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for migration in missing {
        transaction.execute_batch(migration)?;
    }
    if done == 0 {
        let lineage = i64::try_from(lineage).map_err(|_| OpenError::NotOurs)?;
        transaction.execute("INSERT INTO meta (key, value) VALUES ('lineage', ?1)", [lineage])?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    transaction.pragma_update(None, "user_version", newest_version())?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a schema is made of, without the names that SQLite gives.
    fn schema(connection: &Connection) -> Vec<String> {
        let mut statement = connection
            .prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type, name")
            .unwrap();
        let sql = statement.query_map((), |row| row.get(0)).unwrap();
        sql.map(|sql| sql.unwrap()).collect()
    }

    #[test]
    fn a_store_of_any_version_becomes_one_like_a_new_one_with_all_that_it_holds() {
        let mut new = Connection::open_in_memory().unwrap();
        migrate(&mut new, 0, 7).unwrap();
        for version in 1..=MIGRATIONS.len() {
            let mut old = Connection::open_in_memory().unwrap();
            old.pragma_update(None, "foreign_keys", "ON").unwrap();
            MIGRATIONS[..version].iter().for_each(|migration| old.execute_batch(migration).unwrap());
            old.execute_batch(
                "INSERT INTO document (id, name, epoch) VALUES (1, 'a', 1), (2, 'b', 1);
                 INSERT INTO log VALUES (2, 1, 1, 10, x'b1'), (1, 1, 1, 10, x'a1'), (1, 3, 2, 11, x'a23a')",
            )
            .unwrap();
            migrate(&mut old, i64::try_from(version).unwrap(), 8).unwrap();
            assert_eq!(schema(&old), schema(&new), "{version}");
            let rows =
                "SELECT group_concat(concat_ws(' ', document, first, sequence, at_ms, hex(update_v1)), '; ')
                FROM (SELECT * FROM log ORDER BY document, sequence)";
            let rows: String = old.query_row(rows, (), |row| row.get(0)).unwrap();
            assert_eq!(rows, "1 1 1 10 A1; 1 2 3 11 A23A; 2 1 1 10 B1", "{version}");
        }
    }
}
