//! The process itself: reads requests, answers, ends when its input does.

use super::{compact, read_frame, read_request, write_answer, write_frame};
use crate::limits::{MATERIALIZER_FRAME_BYTES_MAX, MATERIALIZER_MEMORY_BYTES, MATERIALIZER_TIME};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::io;
use thiserror::Error;

/// Why a materializer process ends early. Its parent starts another.
#[derive(Debug, Error)]
pub enum MaterializeError {
    /// The limits cannot be set: it must not run without them.
    #[error("cannot set the limits of the process: {0}")]
    Limit(#[from] rustix::io::Errno),
    /// Its parent has gone or speaks another language.
    #[error("standard input or output: {0}")]
    Stream(#[from] io::Error),
}

/// Answers requests on standard input until it ends.
pub fn materialize() -> Result<(), MaterializeError> {
    limit(Resource::As, MATERIALIZER_MEMORY_BYTES)?;
    limit(Resource::Core, 0)?;
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    while let Some(frame) = read_frame(&mut input, MATERIALIZER_FRAME_BYTES_MAX)? {
        limit_time()?;
        let answer = match read_request(&frame) {
            Ok(updates) => compact::compact(&updates),
            Err(error) => Err(format!("the request cannot be read: {error}")),
        };
        write_frame(&mut output, &write_answer(&answer))?;
    }
    Ok(())
}

/// Where the operator has set a lower limit that one stays: only root may lift it, and whoever tried would fail, and have
/// every document quarantined for it.
fn limit(resource: Resource, to: u64) -> rustix::io::Result<()> {
    let to = getrlimit(resource).maximum.map_or(to, |most| most.min(to));
    setrlimit(resource, Rlimit { current: Some(to), maximum: Some(to) })
}

/// The parent ends a process that takes too long. If the parent has gone, the system does.
fn limit_time() -> rustix::io::Result<()> {
    let used = u64::try_from(clock_gettime(ClockId::ProcessCPUTime).tv_sec).unwrap_or(0);
    let maximum = getrlimit(Resource::Cpu).maximum;
    let until = used + MATERIALIZER_TIME.as_secs() + 1;
    setrlimit(Resource::Cpu, Rlimit { current: Some(maximum.map_or(until, |most| most.min(until))), maximum })
}
