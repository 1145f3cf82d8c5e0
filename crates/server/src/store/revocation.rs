//! Revoked tokens: a restart must not let them in again.

use super::{CommitError, Store, to_sql};
use crate::revocations::Revocation;
use crate::token::name_pattern::InvalidPattern;
use rusqlite::types::Type;
use rusqlite::{Error, Transaction};

const EVERYTHING: i64 = 0;
const SUBJECT: i64 = 1;
const TOKEN: i64 = 2;
const DOCUMENTS: i64 = 3;

impl Store {
    /// Keeps revocations. One of everything, or of all documents below a name, takes the place of those that it includes.
    pub(crate) fn revoke(&mut self, revocations: &[Revocation]) -> Result<(), CommitError> {
        let transaction = self.connection.transaction()?;
        revocations.iter().try_for_each(|revocation| revoke(&transaction, revocation))?;
        Ok(transaction.commit()?)
    }

    /// All revocations. One that is not understood is an error: it would not be in force.
    pub(crate) fn revocations(&self) -> Result<Vec<Revocation>, CommitError> {
        let mut statement = self.connection.prepare("SELECT kind, name, before_s FROM revocation")?;
        let rows = statement.query_map([], |row| {
            let (kind, name, before_s): (i64, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let before_s = u64::try_from(before_s).unwrap_or(0);
            Ok(match kind {
                EVERYTHING => Revocation::Everything { before_s },
                SUBJECT => Revocation::Subject { subject: name, before_s },
                TOKEN => Revocation::Token { token_id: name },
                DOCUMENTS => {
                    let pattern = name.parse().map_err(|error: InvalidPattern| {
                        Error::FromSqlConversionFailure(1, Type::Text, error.into())
                    })?;
                    Revocation::Documents { pattern, before_s }
                }
                _ => return Err(Error::IntegralValueOutOfRange(0, kind)),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn revoke(transaction: &Transaction<'_>, revocation: &Revocation) -> Result<(), rusqlite::Error> {
    let (kind, name, before_s) = match revocation {
        Revocation::Everything { before_s } => (EVERYTHING, "", *before_s),
        Revocation::Subject { subject, before_s } => (SUBJECT, subject.as_str(), *before_s),
        Revocation::Token { token_id } => (TOKEN, token_id.as_str(), 0),
        Revocation::Documents { pattern, before_s } => (DOCUMENTS, pattern.as_str(), *before_s),
    };
    transaction.execute(
        "INSERT INTO revocation (kind, name, before_s) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET before_s = max(before_s, excluded.before_s)",
        (kind, name, to_sql(before_s)?),
    )?;
    transaction.execute(
        "DELETE FROM revocation WHERE kind IN (?1, ?2)
         AND before_s <= (SELECT coalesce(max(before_s), -1) FROM revocation WHERE kind = ?3)",
        (SUBJECT, DOCUMENTS, EVERYTHING),
    )?;
    if let (DOCUMENTS, Some(beginning)) = (kind, name.strip_suffix("**")) {
        transaction.execute(
            "DELETE FROM revocation WHERE kind = ?1 AND name <> ?2 AND substr(name, 1, length(?3)) = ?3
             AND before_s <= (SELECT before_s FROM revocation WHERE kind = ?1 AND name = ?2)",
            (DOCUMENTS, name, beginning),
        )?;
    }
    Ok(())
}
