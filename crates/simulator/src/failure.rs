//! The first of many seeds that fails, in whatever way.

use crate::{Summary, Violation};
use std::any::Any;
use std::num::NonZero;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// The longest of ten thousand seeds takes a fraction of a second: a run that takes so long has no end.
const RUN_MAX: Duration = Duration::from_secs(30);

/// Runs seeds on all processors, and answers the first of them that fails, with the reason: a violation, a panic, or
/// that it has no end. A run without end goes on in its thread.
pub fn first_failure(
    seeds: Range<u64>,
    run: impl Fn(u64) -> Result<Summary, Violation> + Copy + Send + Sync + 'static,
) -> Option<(u64, String)> {
    let next = AtomicU64::new(seeds.start);
    // The seeds before this one may fail too: they have begun.
    let first = Mutex::new((seeds.end, None));
    let first_so_far = || first.lock().unwrap_or_else(PoisonError::into_inner);
    let is_wanted = |seed: u64| seed < first_so_far().0;
    let work = || {
        while let seed = next.fetch_add(1, Ordering::Relaxed)
            && is_wanted(seed)
        {
            if let Err(why) = outcome(move || run(seed), RUN_MAX) {
                let mut first = first_so_far();
                if seed < first.0 {
                    *first = (seed, Some(why));
                }
            }
        }
    };
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    let (seed, why) = first.into_inner().unwrap_or_else(PoisonError::into_inner);
    Some((seed, why?))
}

/// Why a run fails, in a thread of its own, which can be left behind.
fn outcome(
    run: impl FnOnce() -> Result<Summary, Violation> + Send + 'static,
    run_max: Duration,
) -> Result<(), String> {
    let (end, ended) = mpsc::channel();
    let thread = thread::spawn(move || end.send(run().map(drop)));
    match ended.recv_timeout(run_max) {
        Ok(outcome) => outcome.map_err(|violation| violation.to_string()),
        Err(RecvTimeoutError::Timeout) => Err("the run has no end".to_owned()),
        Err(RecvTimeoutError::Disconnected) => {
            let panic = thread.join().err();
            Err(format!("a panic: {}", panic.as_deref().map_or("", said)))
        }
    }
}

/// What a panic says.
fn said(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(said), _) => said,
        (None, Some(said)) => said,
        (None, None) => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_seed_that_fails_is_found_whichever_way_it_fails() {
        let fails_from = |from: u64| {
            move |seed: u64| match seed {
                _ if seed < from => Ok(Summary::default()),
                40 => panic!("seed {seed}"),
                _ => Err(Violation::Restless),
            }
        };
        assert_eq!(first_failure(10..50, fails_from(23)), Some((23, "things never come to rest".to_owned())));
        assert_eq!(first_failure(10..50, fails_from(40)), Some((40, "a panic: seed 40".to_owned())));
        assert_eq!(first_failure(10..50, fails_from(50)), None);
    }

    #[test]
    fn a_run_without_end_fails() {
        let endless = || {
            loop {
                thread::park();
            }
        };
        assert_eq!(outcome(endless, Duration::from_millis(10)), Err("the run has no end".to_owned()));
    }
}
