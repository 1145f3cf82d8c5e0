//! How fast somebody may go: token buckets.
//!
//! A bucket is one instant: when it will be full of tokens again, were it a queue. Whoever takes more than is there makes
//! it later than now, and waits until then. What was taken is never taken back, so nothing is lost.

use crate::client_address::network;
use crate::limits::DEBT_MAX;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;

/// So many in a second, and for so long at once after a pause.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    per_second: f64,
    burst: Duration,
}

/// What somebody has used of a rate. The rate itself is everybody's.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bucket {
    /// When everything that was taken is earned; `None` when nothing ever was taken.
    earned_at: Option<Instant>,
}

/// How fast each address asks.
#[derive(Debug)]
pub(crate) struct AddressPace {
    rate: Rate,
    /// Loopback addresses too, where a proxy may speak for everybody.
    has_loopback: bool,
    buckets: Mutex<FxHashMap<IpAddr, Bucket>>,
}

impl AddressPace {
    pub(crate) fn new(rate: Rate, has_loopback: bool) -> Self {
        AddressPace { rate, has_loopback, buckets: Mutex::default() }
    }

    /// Takes one request of an address, or answers when it may ask again.
    pub(crate) fn take(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        if address.is_loopback() && !self.has_loopback {
            return Ok(());
        }
        let mut buckets = self.buckets.lock();
        let bucket = buckets.entry(network(address)).or_default();
        match bucket.free_at(now) {
            Some(at) => Err(at - now),
            None => {
                bucket.take(self.rate, 1, now);
                Ok(())
            }
        }
    }

    /// Forgets those who have paused.
    pub(crate) fn sweep(&self, now: Instant) {
        let mut buckets = self.buckets.lock();
        buckets.retain(|_, bucket| !bucket.is_full(self.rate, now));
        if buckets.len() < buckets.capacity() / 4 {
            buckets.shrink_to_fit();
        }
    }
}

/// The rates of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    /// Pushes and openings.
    pub(crate) updates: Rate,
    /// Bytes of messages.
    pub(crate) bytes: Rate,
    /// News of presence that others are told.
    pub(crate) presence: Rate,
    /// Tokens that are checked.
    pub(crate) refreshes: Rate,
}

impl Rate {
    pub(crate) fn new(per_second: u64, burst: Duration) -> Self {
        // Above 2^53 a second it is no limit, and its last digits do not count.
        Rate { per_second: per_second as f64, burst }
    }
}

impl Bucket {
    /// Takes tokens, whether they are there or not; what is owed beyond [`DEBT_MAX`] is forgiven.
    pub(crate) fn take(&mut self, rate: Rate, tokens: usize, now: Instant) {
        let cost = Duration::try_from_secs_f64(tokens as f64 / rate.per_second).unwrap_or(Duration::MAX);
        let full = now.checked_sub(rate.burst).unwrap_or(now);
        let earned_at = self.earned_at.map_or(full, |at| at.max(full)) + cost.min(rate.burst + DEBT_MAX);
        self.earned_at = Some(earned_at.min(now + DEBT_MAX));
    }

    /// True when it is as if nothing had ever been taken.
    fn is_full(&self, rate: Rate, now: Instant) -> bool {
        self.earned_at.is_none_or(|at| at + rate.burst <= now)
    }

    /// When there are tokens again, if there are none now.
    pub(crate) fn free_at(&self, now: Instant) -> Option<Instant> {
        self.earned_at.filter(|at| *at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Duration = Duration::from_secs(2);

    #[test]
    fn a_burst_is_free_and_what_is_beyond_it_is_waited_for() {
        let (rate, start, mut bucket) = (Rate::new(10, RATE), Instant::now(), Bucket::default());
        assert_eq!(bucket.free_at(start), None);
        (0..20).for_each(|_| bucket.take(rate, 1, start));
        assert_eq!(bucket.free_at(start), None, "20 are two seconds' worth");
        bucket.take(rate, 5, start);
        let wait = bucket.free_at(start).unwrap() - start;
        assert!(wait.abs_diff(Duration::from_millis(500)) < Duration::from_micros(1), "{wait:?}");
        assert_eq!(bucket.free_at(start + wait), None);
        // After a long pause there is one burst, not several.
        let later = start + 100 * RATE;
        bucket.take(rate, 21, later);
        assert!(bucket.free_at(later).is_some());
    }

    #[test]
    fn what_was_taken_too_early_is_owed_and_nobody_owes_more_than_the_most() {
        let (rate, start, mut bucket) = (Rate::new(10, RATE), Instant::now(), Bucket::default());
        bucket.take(rate, 20 + 600, start);
        let later = start + Duration::from_secs(60);
        assert!(bucket.free_at(later - Duration::from_millis(1)).is_some());
        assert_eq!(bucket.free_at(later), None);
        bucket.take(rate, usize::MAX, later);
        bucket.take(rate, 1_000, later);
        assert_eq!(bucket.free_at(later), Some(later + DEBT_MAX));
    }

    #[test]
    fn an_address_that_asks_too_often_is_told_when_to_ask_again_and_no_other() {
        let (pace, start) = (AddressPace::new(Rate::new(10, RATE), false), Instant::now());
        let client = |text: &str| -> IpAddr { text.parse().unwrap() };
        let asks = |text: &str, now| pace.take(client(text), now);
        (0..21).for_each(|_| asks("2001:db8::1", start).unwrap());
        let wait = asks("2001:db8::2", start).unwrap_err();
        assert!(wait.abs_diff(Duration::from_millis(100)) < Duration::from_micros(1), "{wait:?}");
        assert_eq!(asks("2001:db8:0:1::1", start), Ok(()), "another network");
        (0..100).for_each(|_| asks("127.0.0.1", start).unwrap());
        assert_eq!(asks("2001:db8::1", start + wait), Ok(()));
        assert!(asks("2001:db8::1", start + wait).is_err());
        // Who has paused is as one who never was there.
        pace.sweep(start + RATE);
        assert_eq!(pace.buckets.lock().len(), 1);
        pace.sweep(start + 2 * RATE);
        assert_eq!(pace.buckets.lock().len(), 0);
    }
}
