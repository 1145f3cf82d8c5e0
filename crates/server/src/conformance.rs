//! `tidewell conformance`: checks a running relay against the protocol.

use crate::options::ConformanceOptions;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;
use thiserror::Error;
use tidewell_conformance::{CHECKS, Check, InvalidTarget, Target};

/// Why a relay was not found to be in order.
#[derive(Debug, Error)]
pub enum ConformanceError {
    /// It cannot be checked.
    #[error(transparent)]
    Target(#[from] InvalidTarget),
    /// The certificates cannot be read.
    #[error("{path}: {error}")]
    Certificates {
        /// Their file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// No check has this name.
    #[error("there is no check and no rule of the name {0:?}; --list prints them")]
    Unknown(String),
    /// Checks failed.
    #[error("{failed} of {run} checks failed")]
    Failed {
        /// How many failed.
        failed: usize,
        /// How many were run.
        run: usize,
    },
    /// Nobody reads what is printed.
    #[error("cannot print: {0}")]
    Output(#[from] io::Error),
}

/// Runs the checks and prints a line for each.
pub fn run(options: &ConformanceOptions, out: &mut impl Write) -> Result<(), ConformanceError> {
    let checks = chosen(&options.only)?;
    let Some(url) = options.url.as_deref().filter(|_| !options.list) else {
        for check in checks {
            writeln!(out, "{:16} {}", check.rules.join(" "), check.name)?;
        }
        return Ok(());
    };
    let certificates = match &options.certificates {
        None => Vec::new(),
        Some(path) => {
            fs::read(path).map_err(|error| ConformanceError::Certificates { path: path.clone(), error })?
        }
    };
    let mut target = Target::new(url, &options.documents, &certificates)?;
    target.token.clone_from(&options.token);
    target.within = options.within;
    let (run, mut failed) = (checks.len(), 0);
    for check in checks {
        let began = Instant::now();
        let result = check.run(&target);
        let (rules, name) = (check.rules.join(" "), check.name);
        match result {
            Ok(()) => writeln!(out, "ok      {rules:16} {name}, {} ms", began.elapsed().as_millis())?,
            Err(failure) => {
                failed += 1;
                writeln!(out, "FAILED  {rules:16} {name}: {failure}")?;
            }
        }
    }
    if failed == 0 {
        writeln!(out, "{run} checks passed")?;
        return Ok(());
    }
    Err(ConformanceError::Failed { failed, run })
}

/// The checks that are named, or all.
fn chosen(only: &[String]) -> Result<Vec<&'static Check>, ConformanceError> {
    let is_named = |check: &Check, name: &String| check.name == name || check.rules.contains(&name.as_str());
    let all = || CHECKS.iter().copied().flatten();
    if let Some(unknown) = only.iter().find(|name| !all().any(|check| is_named(check, name))) {
        return Err(ConformanceError::Unknown(unknown.clone()));
    }
    Ok(all().filter(|check| only.is_empty() || only.iter().any(|name| is_named(check, name))).collect())
}
