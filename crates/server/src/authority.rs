//! Who may come in, and what they may do: everybody, or whoever has a token.

use crate::limits::TOKEN_LEEWAY;
use crate::metrics::Metrics;
use crate::revocations::{Revocation, Revocations};
use crate::token::keys::{KeySet, Keys, KeysError, read_bounded};
use crate::token::name_pattern::NamePattern;
use crate::token::{Expected, InvalidToken, Session, check_expiry, claims::Level, verify};
use crate::writer::now_ms;
use parking_lot::{Mutex, RwLock};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::protocol::Access;

/// By less than this clocks are set all the time, in small steps.
const LEAP_MS_MIN: u64 = 1000;

/// Decides about tokens.
pub(crate) enum Authority {
    /// There are no keys: everybody may do everything.
    Anyone,
    /// Only what a token grants.
    Tokens(Box<Tokens>),
}

/// The keys of now, and what else is asked of a token.
pub(crate) struct Tokens {
    path: PathBuf,
    expected: Expected,
    keys: RwLock<Arc<Keys>>,
    revocations: RwLock<Revocations>,
    /// Those of them that are not stored, or could not be.
    unstored: Mutex<Vec<Revocation>>,
    /// What was read last, or why it could not be: a fault is told once.
    seen: Mutex<Result<Vec<u8>, String>>,
    /// Counts the changes after which tokens that were accepted are to be looked at again.
    generation: AtomicU64,
    clock: Mutex<Clock>,
    metrics: Arc<Metrics>,
}

/// What becomes of a revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Revoking {
    /// It is in force, and to be stored.
    New,
    /// It was in force, and is stored.
    Known,
    /// There is no place for it.
    NoPlace,
}

/// Notices when the wall clock jumps, by which tokens expire; timers go by another one.
struct Clock {
    began: Instant,
    /// The wall clock's lead over the other one, in milliseconds.
    lead_ms: u64,
}

impl Clock {
    fn new() -> Self {
        Clock { began: Instant::now(), lead_ms: now_ms() }
    }

    /// True when the wall clock has been set forward since the last look, or the machine has slept.
    fn has_leapt(&mut self) -> bool {
        let elapsed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let before = std::mem::replace(&mut self.lead_ms, now_ms().saturating_sub(elapsed));
        self.lead_ms > before + LEAP_MS_MIN
    }
}

/// What somebody who came in may do.
#[derive(Debug, Default)]
pub(crate) struct Pass {
    /// What the token says; `None` where everybody may do everything.
    session: Option<Arc<Session>>,
    /// The authority's, when it last looked at this.
    generation: u64,
}

/// A keys file that can be used.
pub(crate) struct KeysFile {
    path: PathBuf,
    bytes: Vec<u8>,
    keys: Keys,
}

impl KeysFile {
    pub(crate) fn read(path: &Path) -> Result<Self, KeysError> {
        let bytes = read_bounded(path)?;
        let keys = Keys::new(&KeySet::parse(&bytes)?)?;
        Ok(KeysFile { path: path.to_owned(), bytes, keys })
    }
}

impl Authority {
    pub(crate) fn new(
        keys: KeysFile,
        expected: Expected,
        revocations: Vec<Revocation>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let mut revoked = Revocations::default();
        revocations.into_iter().for_each(|revocation| revoked.add(revocation));
        Authority::Tokens(Box::new(Tokens {
            path: keys.path,
            expected,
            keys: RwLock::new(Arc::new(keys.keys)),
            revocations: RwLock::new(revoked),
            unstored: Mutex::default(),
            seen: Mutex::new(Ok(keys.bytes)),
            generation: AtomicU64::new(0),
            clock: Mutex::new(Clock::new()),
            metrics,
        }))
    }

    /// Lets somebody in. Without keys no token is read.
    pub(crate) fn admit(&self, token: &str) -> Result<Pass, InvalidToken> {
        match self {
            Authority::Anyone => Ok(Pass::default()),
            Authority::Tokens(tokens) => {
                // Before anything is looked at: what changes meanwhile is looked at again.
                let generation = tokens.generation.load(Ordering::Acquire);
                let keys = tokens.keys.read().clone();
                let session = verify(token, &keys, &tokens.expected, now_ms() / 1000)?;
                if tokens.revocations.read().cover(&session.claims) {
                    return Err(InvalidToken::Revoked);
                }
                Ok(Pass { session: Some(Arc::new(session)), generation })
            }
        }
    }

    /// Looks again at a pass that was given, if something has changed: its key may have been taken out, it was revoked, or
    /// the clock has been set past its end. True when it may allow less than before.
    pub(crate) fn look_again(&self, pass: &mut Pass) -> Result<bool, InvalidToken> {
        let (Authority::Tokens(tokens), Some(session)) = (self, &pass.session) else { return Ok(false) };
        let generation = tokens.generation.load(Ordering::Acquire);
        if generation == pass.generation {
            return Ok(false);
        }
        if !tokens.keys.read().hold(&session.key) {
            return Err(InvalidToken::UnknownKey(session.key.id.clone().unwrap_or_default()));
        }
        if tokens.revocations.read().cover(&session.claims) {
            return Err(InvalidToken::Revoked);
        }
        check_expiry(&session.claims, now_ms() / 1000)?;
        pass.generation = generation;
        Ok(true)
    }

    /// What may be done with a document; `None` for nothing at all.
    pub(crate) fn access(&self, pass: &Pass, document: &DocumentName) -> Option<Access> {
        let Some(session) = &pass.session else { return Some(Access::Write) };
        let level = session.claims.document_level(document.as_str())?;
        if self.have_revoked(|revocations| revocations.cover_on(&session.claims, document)) {
            return None;
        }
        Some(match level {
            Level::Read => Access::Read,
            Level::Comment => Access::Comment,
            Level::Write | Level::Admin => Access::Write,
        })
    }

    /// True for who administers a document. Without keys nobody does.
    pub(crate) fn is_administrator(&self, pass: &Pass, document: &DocumentName) -> bool {
        pass.administers(|pattern| pattern.matches(document.as_str()))
            && self.access(pass, document).is_some()
    }

    /// True for who administers all documents that a pattern matches.
    pub(crate) fn is_administrator_of_all(&self, pass: &Pass, documents: &NamePattern) -> bool {
        let is_revoked = |session: &Session| {
            self.have_revoked(|revocations| revocations.cover_on_all(&session.claims, documents))
        };
        pass.administers(|pattern| pattern.covers(documents))
            && !pass.session.as_deref().is_some_and(is_revoked)
    }

    fn have_revoked(&self, such: impl FnOnce(&Revocations) -> bool) -> bool {
        match self {
            Authority::Anyone => false,
            Authority::Tokens(tokens) => such(&tokens.revocations.read()),
        }
    }

    /// Revokes tokens from now on. The caller has it stored.
    pub(crate) fn revoke(&self, revocation: Revocation) -> Revoking {
        let Authority::Tokens(tokens) = self else { return Revoking::NoPlace };
        let mut revocations = tokens.revocations.write();
        // Nobody need look again, nor the disk be written, for what is known; unless that is known here alone.
        if revocations.include(&revocation) && tokens.unstored.lock().is_empty() {
            return Revoking::Known;
        }
        if !revocations.have_place_for(&revocation) {
            return Revoking::NoPlace;
        }
        revocations.add(revocation.clone());
        let mut unstored = tokens.unstored.lock();
        // Of one that is sent again and again while the disk fails, one is kept.
        unstored.retain(|other| !revocation.includes(other));
        unstored.push(revocation);
        drop(unstored);
        drop(revocations);
        tokens.generation.fetch_add(1, Ordering::AcqRel);
        Revoking::New
    }

    /// A new revocation is stored, and what it includes need not be.
    pub(crate) fn stored(&self, revocation: &Revocation) {
        if let Authority::Tokens(tokens) = self {
            tokens.unstored.lock().retain(|unstored| !revocation.includes(unstored));
        }
    }

    /// True when the clock was set forward: tokens may have ended before their time.
    pub(crate) fn has_clock_leapt(&self) -> bool {
        let Authority::Tokens(tokens) = self else { return false };
        let has_leapt = tokens.clock.lock().has_leapt();
        if has_leapt {
            tracing::warn!("the clock has been set forward, or the machine has slept");
            tokens.generation.fetch_add(1, Ordering::AcqRel);
        }
        has_leapt
    }

    /// Reads the keys file again; true when there are other keys now. A damaged file leaves those that are there.
    ///
    /// The whole file is compared, every few seconds, instead of waiting for the system to tell of a change or looking at
    /// its time: neither works on every file system, nor where a folder's link is turned to another one, as Kubernetes
    /// does, and a copy can bring an older time with it.
    pub(crate) fn reload(&self) -> bool {
        let Authority::Tokens(tokens) = self else { return false };
        let read = read_bounded(&tokens.path).map_err(|error| error.to_string());
        let mut seen = tokens.seen.lock();
        if *seen == read {
            return false;
        }
        let parsed = match &read {
            Ok(bytes) => {
                KeySet::parse(bytes).and_then(|set| Keys::new(&set)).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.clone()),
        };
        *seen = read;
        match parsed {
            Ok(keys) => {
                *tokens.keys.write() = Arc::new(keys);
                tokens.generation.fetch_add(1, Ordering::AcqRel);
                tracing::info!(path = %tokens.path.display(), "there are new keys");
                true
            }
            Err(error) => {
                tokens.metrics.keys_failed.increment(1);
                tracing::error!(%error, "the keys stay as they were");
                false
            }
        }
    }
}

impl Pass {
    /// The token, if there is one.
    pub(crate) fn session(&self) -> Option<&Arc<Session>> {
        self.session.as_ref()
    }

    /// True when it grants the administration of anything.
    pub(crate) fn administers_something(&self) -> bool {
        self.administers(|_| true)
    }

    fn administers(&self, which: impl Fn(&NamePattern) -> bool) -> bool {
        self.session.as_ref().is_some_and(|session| session.claims.administer(which))
    }

    /// Time until it ends; `None` for never.
    pub(crate) fn ends_in(&self) -> Option<Duration> {
        let end = Duration::from_secs(self.session.as_ref()?.claims.expires_at_s) + TOKEN_LEEWAY;
        Some(end.saturating_sub(Duration::from_millis(now_ms())))
    }

    /// Who has it, if that is known.
    pub(crate) fn subject(&self) -> Option<&str> {
        Some(&self.session.as_ref()?.claims.subject)
    }
}
