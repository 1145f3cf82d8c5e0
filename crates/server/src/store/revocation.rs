//! Revoked tokens: a restart must not let them in again.

use super::{CommitError, Store, to_sql};
use crate::revocations::Revocation;

const EVERYTHING: i64 = 0;
const SUBJECT: i64 = 1;
const TOKEN: i64 = 2;

impl Store {
    /// Keeps a revocation. One of everything takes the place of those that it includes.
    pub(crate) fn revoke(&mut self, revocation: &Revocation) -> Result<(), CommitError> {
        let (kind, name, before_s) = match revocation {
            Revocation::Everything { before_s } => (EVERYTHING, "", *before_s),
            Revocation::Subject { subject, before_s } => (SUBJECT, subject.as_str(), *before_s),
            Revocation::Token { token_id } => (TOKEN, token_id.as_str(), 0),
        };
        let transaction = self.connection.transaction()?;
        transaction.execute(
            "INSERT INTO revocation (kind, name, before_s) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET before_s = max(before_s, excluded.before_s)",
            (kind, name, to_sql(before_s)?),
        )?;
        transaction.execute(
            "DELETE FROM revocation WHERE kind = ?1
             AND before_s <= (SELECT coalesce(max(before_s), -1) FROM revocation WHERE kind = ?2)",
            (SUBJECT, EVERYTHING),
        )?;
        Ok(transaction.commit()?)
    }

    /// All revocations.
    pub(crate) fn revocations(&self) -> Result<Vec<Revocation>, CommitError> {
        let mut statement = self.connection.prepare("SELECT kind, name, before_s FROM revocation")?;
        let rows = statement.query_map([], |row| {
            let (kind, name, before_s): (i64, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let before_s = u64::try_from(before_s).unwrap_or(0);
            Ok(match kind {
                EVERYTHING => Revocation::Everything { before_s },
                SUBJECT => Revocation::Subject { subject: name, before_s },
                _ => Revocation::Token { token_id: name },
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
