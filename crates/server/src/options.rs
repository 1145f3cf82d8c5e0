//! The command line.

use crate::client_address::Network;
use crate::limits::{
    BYTES_PER_SECOND, CONNECTIONS_PER_SUBJECT, DOCUMENT_BYTES_MAX, JOINS_MAX, MEMORY_MAX_MIN,
    PRESENCE_PER_SECOND, UPDATES_PER_SECOND,
};
use crate::token::claims::Level;
use crate::token::mint::KeyKind;
use crate::token::name_pattern::{InvalidPattern, NamePattern};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// Offline-first sync: merges, persists and passes on what devices send.
#[derive(Debug, Parser)]
#[command(name = "tidewell", version, propagate_version = true)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the relay until SIGTERM or Ctrl-C.
    Serve(ServeOptions),
    /// Documents whose compaction failed.
    Quarantine(QuarantineOptions),
    /// Copies the store to a new file, while the relay runs or not.
    Backup(BackupOptions),
    /// Begins a data directory with a backup; devices that are ahead of it hand over what they have.
    Restore(RestoreOptions),
    /// Looks at every document of a backup, or of a relay that is stopped: admits it, builds it, compares its snapshot.
    Verify(VerifyOptions),
    /// Checks a running relay, of whatever make, against the protocol.
    Conformance(ConformanceOptions),
    /// Makes keys and tokens, and tells what is in one.
    Token(TokenOptions),
    /// Builds documents in a process of its own; the relay starts it.
    #[command(hide = true)]
    Materialize,
}

/// How the relay runs.
#[derive(Debug, Clone, Args)]
pub struct ServeOptions {
    /// Folder of the store; made if it is not there.
    #[arg(long, env = "TIDEWELL_DATA")]
    pub data: PathBuf,
    /// Address and port; loopback only, unless there are keys. Port 0 takes a free one.
    #[arg(long, env = "TIDEWELL_LISTEN", default_value = "127.0.0.1:7700")]
    pub listen: SocketAddr,
    /// The keys that tokens are checked with: a JWKS, read again when it changes.
    #[arg(long, env = "TIDEWELL_KEYS", value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// Who must have made a token (its `iss`).
    #[arg(long, requires = "keys")]
    pub issuer: Option<String>,
    /// Whom a token must be for (its `aud`).
    #[arg(long, requires = "keys")]
    pub audience: Option<String>,
    /// Serves other addresses than loopback without keys: whoever can reach them reads and changes everything.
    #[arg(long, conflicts_with = "keys")]
    pub anyone_may_read_and_write: bool,
    /// A certificate and those that it builds on, in PEM: the relay then speaks TLS, and nothing else. Read again when it
    /// changes.
    #[arg(long, env = "TIDEWELL_TLS_CERTIFICATE", value_name = "FILE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// The certificate's private key, in PEM.
    #[arg(long, env = "TIDEWELL_TLS_KEY", value_name = "FILE", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
    /// A web page's origin that may connect besides loopback ones, as `https://app.example`. Repeatable.
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    pub allow_origin: Vec<String>,
    /// A proxy that is believed when it tells a client's address in `X-Forwarded-For`: a network as `10.0.0.0/8`, or an
    /// address. Repeatable.
    #[arg(long = "trusted-proxy", value_name = "CIDR")]
    pub trusted_proxy: Vec<Network>,
    /// Folder of a web page to serve at /.
    #[arg(long, value_name = "DIR")]
    pub assets: Option<PathBuf>,
    /// How long updates are kept one by one after they were compacted: 7d, 12h, 30m, 45s, or 0. The oldest go earlier where
    /// they have more bytes than a document may.
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = parse_duration)]
    pub history: Duration,
    /// The store was restored from a backup: names its history anew, so that devices that are ahead of it hand over what
    /// they have. For the first start after that.
    #[arg(long)]
    pub restored: bool,
    /// How many connections there may be; what the limit of open files allows, if it is left out.
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    pub connections_max: Option<u32>,
    /// How many of them one subject may have.
    #[arg(long, value_name = "N", default_value_t = CONNECTIONS_PER_SUBJECT, value_parser = at_least_one())]
    pub connections_per_subject: u32,
    /// How many one address may have, or one network of 64 bits in IPv6: 2000, and on loopback, where a proxy speaks for
    /// all, as many as there may be, if it is left out.
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    pub connections_per_address: Option<u32>,
    /// How many HTTP requests one address, or network of 64 bits in IPv6, may make in a second; after a pause ten times as
    /// many. 400, and on loopback any number, if it is left out; operators' on loopback are not counted.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub requests_per_second: Option<u64>,
    /// How many connections may be on their way in, and how many documents may be loaded for them or wait for it.
    #[arg(long, value_name = "N", default_value_t = JOINS_MAX, value_parser = at_least_one())]
    pub joins_max: u32,
    /// How many updates one connection may send in a second; after a pause ten times as many. It waits beyond that.
    #[arg(long, value_name = "N", default_value_t = UPDATES_PER_SECOND, value_parser = clap::value_parser!(u64).range(1..))]
    pub updates_per_second: u64,
    /// How many bytes one connection may send in a second, as 500K, 16M or 1G; likewise.
    #[arg(long, value_name = "BYTES", default_value = BYTES_PER_SECOND, value_parser = parse_bytes)]
    pub bytes_per_second: u64,
    /// How many changes of one y-websocket client's presence others are told in a second; the newest comes always.
    #[arg(long, value_name = "N", default_value_t = PRESENCE_PER_SECOND, value_parser = clap::value_parser!(u64).range(1..))]
    pub presence_per_second: u64,
    /// How large a document may be, and its history besides.
    #[arg(long, value_name = "BYTES", default_value = DOCUMENT_BYTES_MAX, value_parser = parse_bytes)]
    pub document_bytes_max: u64,
    /// How large the documents of one tenant (a name's first segment) may be together; no limit, if it is left out.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub tenant_bytes_max: Option<u64>,
    /// How many bytes of updates one tenant may send in a second; no limit, if it is left out.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub tenant_bytes_per_second: Option<u64>,
    /// How much memory the relay may take, without materializers; five eighths of what there is, if it is left out.
    #[arg(long, value_name = "BYTES", value_parser = parse_memory)]
    pub memory_max: Option<u64>,
    /// Form of the log on standard error. The variable `TIDEWELL_LOG=debug` has it say more.
    #[arg(long, value_enum, default_value_t = LogForm::Text)]
    pub log: LogForm,
    /// Program that is started to build documents, instead of this one.
    #[arg(long, value_name = "PROGRAM", hide = true)]
    pub materializer: Option<PathBuf>,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogForm {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What to do with documents in quarantine.
#[derive(Debug, Args)]
pub struct QuarantineOptions {
    /// What to do.
    #[command(subcommand)]
    pub command: QuarantineCommand,
}

/// What to do with documents in quarantine.
#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// Prints them, while the relay runs or not: since when (milliseconds since 1970), why, and the name.
    List {
        /// Folder of the store.
        #[arg(long, env = "TIDEWELL_DATA")]
        data: PathBuf,
    },
    /// Has a document compacted again, by a relay that is stopped. One that runs is asked by `POST /v1/release`.
    Release {
        /// Folder of the store.
        #[arg(long, env = "TIDEWELL_DATA")]
        data: PathBuf,
        /// Name of the document.
        document: String,
    },
}

/// What is copied where.
#[derive(Debug, Args)]
pub struct BackupOptions {
    /// Folder of the store.
    #[arg(long, env = "TIDEWELL_DATA")]
    pub data: PathBuf,
    /// The file to make; nothing is overwritten.
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
}

/// What is restored where.
#[derive(Debug, Args)]
pub struct RestoreOptions {
    /// The backup.
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// Folder of the store; made if it is not there, and it must not hold a store.
    #[arg(long, env = "TIDEWELL_DATA")]
    pub data: PathBuf,
}

/// What is looked at.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct VerifyOptions {
    /// Folder of the store of a relay that is stopped.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// A backup.
    #[arg(long, value_name = "FILE")]
    pub backup: Option<PathBuf>,
}

/// Which relay is checked, and for what.
#[derive(Debug, Args)]
pub struct ConformanceOptions {
    /// Where the relay's doors are, as `ws://host:port` or `wss://host`.
    #[arg(required_unless_present = "list")]
    pub url: Option<String>,
    /// What it is shown, if it asks for tokens: one that may write the documents below.
    #[arg(long, env = "TIDEWELL_TOKEN", hide_env_values = true, default_value = "")]
    pub token: String,
    /// What the names of the documents that are made begin with. They stay at the relay.
    #[arg(long, value_name = "NAME", default_value = "conformance")]
    pub documents: String,
    /// Certificates in PEM, of authorities that are trusted for `wss` besides the system's.
    #[arg(long, value_name = "FILE")]
    pub certificates: Option<PathBuf>,
    /// How long the relay may take for an answer.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub within: Duration,
    /// Runs only this check, or those of this rule. Repeatable.
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Prints the checks instead.
    #[arg(long)]
    pub list: bool,
}

/// What to do with tokens.
#[derive(Debug, Args)]
pub struct TokenOptions {
    /// What to do.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Adds a new key to a keys file, and prints the public part of the file: what the relay needs of it.
    Key {
        /// The file with the private keys (a JWKS); made if it is not there, for its owner's eyes only.
        #[arg(long, value_name = "FILE")]
        keys: PathBuf,
        /// What kind of key.
        #[arg(long, value_enum, default_value_t = KeyKind::Ed25519)]
        kind: KeyKind,
        /// Its name in tokens; a random one if it is left out.
        #[arg(long, value_name = "KID")]
        id: Option<String>,
    },
    /// Prints a new token.
    Mint(MintOptions),
    /// Prints what is in a token, which is read from standard input, and whether a keys file accepts it.
    Inspect {
        /// The keys of the relay; without them nothing is checked.
        #[arg(long, value_name = "FILE")]
        keys: Option<PathBuf>,
        /// As the relay is told.
        #[arg(long, requires = "keys")]
        issuer: Option<String>,
        /// As the relay is told.
        #[arg(long, requires = "keys")]
        audience: Option<String>,
        /// Says what it allows on this document.
        #[arg(long, value_name = "NAME", requires = "keys")]
        document: Option<String>,
    },
}

/// What is to be in a token.
#[derive(Debug, Args)]
pub struct MintOptions {
    /// The file with the private keys, as `tidewell token key` makes it.
    #[arg(long, value_name = "FILE")]
    pub keys: PathBuf,
    /// Which of them; the last one if it is left out.
    #[arg(long, value_name = "KID")]
    pub key: Option<String>,
    /// Who it is for.
    #[arg(long)]
    pub subject: String,
    /// For how long: 7d, 12h, 30m, 45s.
    #[arg(long = "for", value_name = "DURATION", default_value = "1h", value_parser = parse_duration)]
    pub lifetime: Duration,
    /// What it allows on documents, as `write:acme/list/*`: read, comment, write or admin, and a pattern in which `*`
    /// stands for a segment and `**` for all that follow. Repeatable.
    #[arg(long = "document", value_name = "ACCESS:PATTERN", value_parser = parse_grant)]
    pub documents: Vec<AccessTo>,
    /// The same on ledgers. Repeatable.
    #[arg(long = "ledger", value_name = "ACCESS:PATTERN", value_parser = parse_grant)]
    pub ledgers: Vec<AccessTo>,
    /// What its subject is to the application. Repeatable.
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<String>,
    /// Its own name, by which it can be revoked; a random one if it is left out.
    #[arg(long, value_name = "JTI")]
    pub id: Option<String>,
    /// Who it is by.
    #[arg(long)]
    pub issuer: Option<String>,
    /// Which relay it is for.
    #[arg(long)]
    pub audience: Option<String>,
}

/// `ACCESS:PATTERN`.
#[derive(Debug, Clone)]
pub struct AccessTo {
    pub(crate) access: Level,
    pub(crate) pattern: NamePattern,
}

fn at_least_one() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

fn parse_grant(text: &str) -> Result<AccessTo, String> {
    let (access, pattern) = text.split_once(':').ok_or("a grant is as write:acme/list/*")?;
    let access = serde_json::from_value(access.into())
        .map_err(|_| format!("{access:?} is none of read, comment, write and admin"))?;
    let pattern = pattern.parse().map_err(|error: InvalidPattern| error.to_string())?;
    Ok(AccessTo { access, pattern })
}

/// A duration that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a duration is a whole number and d, h, m or s, as in 7d; or 0")]
pub struct InvalidDuration;

/// Reads `7d`, `12h`, `30m`, `45s` or `0`.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (number, seconds_each) = ["d", "h", "m", "s"]
        .into_iter()
        .zip([86_400u64, 3_600, 60, 1])
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))
        .ok_or(InvalidDuration)?;
    let is_plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| is_plain).ok_or(InvalidDuration)?;
    number.checked_mul(seconds_each).map(Duration::from_secs).ok_or(InvalidDuration)
}

fn parse_memory(text: &str) -> Result<u64, String> {
    let bytes = parse_bytes(text).map_err(|error| error.to_string())?;
    if bytes >= MEMORY_MAX_MIN { Ok(bytes) } else { Err("the relay needs 64M at least".to_owned()) }
}

/// A number of bytes that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a number of bytes is a whole number above 0, and K, M or G for 1024 of the one before, as in 16M")]
pub struct InvalidBytes;

/// Reads `1000`, `500K`, `16M` or `2G`.
pub fn parse_bytes(text: &str) -> Result<u64, InvalidBytes> {
    let units = [("K", 1u64 << 10), ("M", 1 << 20), ("G", 1 << 30)];
    let (number, each) = units
        .into_iter()
        .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, bytes)))
        .unwrap_or((text, 1));
    let is_plain = number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|number| is_plain && *number > 0).ok_or(InvalidBytes)?;
    number.checked_mul(each).ok_or(InvalidBytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_or_refused_but_never_guessed() {
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        for bad in ["", "d", "7", "-1d", "+1d", "1.5h", "7 d", "7w", "99999999999999999999d", "é"] {
            assert_eq!(parse_duration(bad), Err(InvalidDuration), "{bad}");
        }
    }

    #[test]
    fn numbers_of_bytes_are_read_or_refused_but_never_guessed() {
        assert_eq!(parse_bytes("16M"), Ok(16 << 20));
        assert_eq!(parse_bytes("1000"), Ok(1000));
        assert_eq!(parse_bytes("3K"), Ok(3 << 10));
        assert_eq!(parse_bytes("2G"), Ok(2 << 30));
        for bad in ["", "0", "0M", "M", "-1", "+1", "1.5G", "1 M", "1MB", "16m", "99999999999G", "é"] {
            assert_eq!(parse_bytes(bad), Err(InvalidBytes), "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        CommandLine::command().debug_assert();
    }
}
