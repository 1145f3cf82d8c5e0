//! `tidewell token`: for whoever sets a relay up, or wonders why a token is refused.

use super::claims::{Claims, Grant, Level, On};
use super::keys::{KeySet, Keys, KeysError};
use super::mint::{MintError, mint, new_key, public_part, random_id};
use super::{Expected, InvalidToken, verify};
use crate::limits::TOKEN_BYTES_MAX;
use crate::options::{AccessTo, MintOptions, TokenCommand};
use crate::writer::now_ms;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use thiserror::Error;
use tidewell_sync_core::code::Code;

/// Why a command on tokens did not do what it should.
#[derive(Debug, Error)]
pub enum TokenCommandError {
    /// The keys file is of no use.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// Nothing was signed.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// A new keys file cannot be written; the old one is as it was.
    #[error("cannot write {path}: {error}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Standard input or output.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The token's texts cannot be shown.
    #[error("this is no JWT: {0}")]
    NoToken(#[from] jsonwebtoken::errors::Error),
    /// The relay would not take it.
    #[error("refused with {code}: {reason}")]
    Refused {
        /// The code that whoever sends it gets.
        code: Code,
        /// What is wrong with it.
        reason: String,
    },
}

impl From<InvalidToken> for TokenCommandError {
    fn from(error: InvalidToken) -> Self {
        TokenCommandError::Refused { code: error.code(), reason: error.to_string() }
    }
}

/// Runs a command; `input` is where a token comes from.
pub fn run(
    command: &TokenCommand,
    input: impl Read,
    mut output: impl Write,
) -> Result<(), TokenCommandError> {
    match command {
        TokenCommand::Key { keys, kind, id } => {
            let mut set = if keys.exists() { KeySet::read(keys)? } else { KeySet::default() };
            set.keys.push(new_key(*kind, id.clone())?);
            // What the relay would refuse is not written.
            Keys::new(&set)?;
            write_private(keys, &json(&set)?)?;
            output.write_all(&json(&public_part(&set))?)?;
        }
        TokenCommand::Mint(options) => {
            let set = KeySet::read(&options.keys)?;
            let token = mint(&set, options.key.as_deref(), &claims(options))?;
            let expected = Expected { issuer: options.issuer.clone(), audience: options.audience.clone() };
            verify(&token, &Keys::new(&set)?, &expected, now_ms() / 1000)?;
            writeln!(output, "{token}")?;
        }
        TokenCommand::Inspect { keys, issuer, audience, document } => {
            let keys = keys.as_deref().map(KeySet::read).transpose()?;
            let keys = keys.as_ref().map(Keys::new).transpose()?;
            let expected = Expected { issuer: issuer.clone(), audience: audience.clone() };
            inspect(input, output, keys.as_ref(), &expected, document.as_deref())?;
        }
    }
    Ok(())
}

fn claims(options: &MintOptions) -> Claims {
    let now_s = now_ms() / 1000;
    let grant = |on: fn(_) -> On| {
        move |AccessTo { access, pattern }: &AccessTo| Grant { access: *access, on: on(pattern.clone()) }
    };
    let documents = options.documents.iter().map(grant(On::Documents));
    Claims {
        subject: options.subject.clone(),
        expires_at_s: now_s.saturating_add(options.lifetime.as_secs()),
        not_before_s: None,
        issued_at_s: Some(now_s),
        issuer: options.issuer.clone(),
        audience: options.audience.clone().map(super::claims::Audience::One),
        token_id: Some(options.id.clone().unwrap_or_else(random_id)),
        grants: documents.chain(options.ledgers.iter().map(grant(On::Ledgers))).collect(),
        roles: options.roles.clone(),
    }
}

/// The token comes by standard input: arguments are seen by everybody on the machine.
fn inspect(
    input: impl Read,
    mut output: impl Write,
    keys: Option<&Keys>,
    expected: &Expected,
    document: Option<&str>,
) -> Result<(), TokenCommandError> {
    let mut token = String::new();
    input.take(TOKEN_BYTES_MAX as u64 + 2).read_to_string(&mut token)?;
    let token = token.trim();
    if token.is_empty() {
        return Err(InvalidToken::Missing.into());
    }
    if token.len() > TOKEN_BYTES_MAX {
        return Err(InvalidToken::TooLong.into());
    }
    let parts = jsonwebtoken::dangerous::insecure_decode::<serde_json::Value>(token)?;
    let shown = serde_json::json!({ "header": parts.header, "claims": parts.claims });
    output.write_all(&json(&shown)?)?;
    let Some(keys) = keys else {
        return Ok(writeln!(output, "not checked: name the relay's keys with --keys")?);
    };
    let session = verify(token, keys, expected, now_ms() / 1000)?;
    writeln!(output, "accepted with key {}", session.key.id.as_deref().unwrap_or("(without a name)"))?;
    if let Some(document) = document {
        let level = match session.claims.document_level(document) {
            None => "nothing",
            Some(Level::Read) => "read",
            Some(Level::Comment) => "comment",
            Some(Level::Write) => "write",
            Some(Level::Admin) => "admin",
        };
        writeln!(output, "{document}: {level}")?;
    }
    Ok(())
}

fn json(value: &impl serde::Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Replaces a file as a whole, so that whoever reads it meanwhile sees the old one or the new one. A link stays one.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), TokenCommandError> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let new = path.with_added_extension("new");
    let failed = |error| TokenCommandError::Write { path: new.clone(), error };
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new).map_err(failed)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.and_then(|()| std::fs::rename(&new, path)).map_err(|error| {
        drop(std::fs::remove_file(&new));
        failed(error)
    })
}
