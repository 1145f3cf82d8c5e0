//! What a check is, and how it fails.

use crate::Target;
use crate::checks::{hostile, stock, sync, web_socket};
use std::io;

/// Something that a relay does, or does not.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// The rules of `docs/protocol.md` that it is about.
    pub rules: &'static [&'static str],
    pub(crate) run: fn(&Target) -> Result<(), Failure>,
}

impl Check {
    /// Runs it.
    pub fn run(&self, target: &Target) -> Result<(), Failure> {
        (self.run)(target)
    }
}

/// All checks, in the order in which they are run: what others build on comes first.
pub const CHECKS: &[&[Check]] = &[web_socket::CHECKS, sync::CHECKS, hostile::CHECKS, stock::CHECKS];

/// What a relay did that it must not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failure("no answer in time".to_owned()),
            _ => Failure(error.to_string()),
        }
    }
}

/// Fails with words unless it holds.
macro_rules! ensure {
    ($holds:expr, $($words:tt)+) => {
        if !$holds {
            return Err($crate::Failure(format!($($words)+)));
        }
    };
}

/// Fails with words.
macro_rules! fail {
    ($($words:tt)+) => {
        return Err($crate::Failure(format!($($words)+)))
    };
}

pub(crate) use {ensure, fail};
