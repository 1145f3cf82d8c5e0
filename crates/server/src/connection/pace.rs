//! How fast one connection goes. Of one that goes too fast nothing is taken or read for a while: TCP then slows its client,
//! and nothing is lost. Meanwhile it hears that the relay is there.

use crate::limits::{KEEPALIVE_EVERY, TENANT_LOOK_EVERY};
use crate::metrics::{Limit, Metrics};
use crate::pace::{Bucket, Rates};
use crate::quotas::Tenant;
use tokio::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Pace {
    updates: Bucket,
    bytes: Bucket,
    refreshes: Bucket,
    /// Until when what it sent waits for its tenant, for which others write too: it is asked again then.
    tenant_until: Option<Instant>,
    /// It waits, which was counted.
    is_waiting: bool,
    /// It is not read, or something long is on its way from it: it hears from the relay then.
    tells_at: Option<Instant>,
}

impl Pace {
    pub(super) fn takes_updates(&mut self, rates: &Rates, count: usize) {
        self.updates.take(rates.updates, count, Instant::now());
    }

    pub(super) fn takes_bytes(&mut self, rates: &Rates, count: usize) {
        self.bytes.take(rates.bytes, count, Instant::now());
    }

    pub(super) fn takes_refresh(&mut self, rates: &Rates) {
        self.refreshes.take(rates.refreshes, 1, Instant::now());
    }

    /// What it sent waits for a tenant, or for none.
    pub(super) fn waits_for(&mut self, tenant: Option<&Tenant>) {
        self.tenant_until = tenant.map(|tenant| {
            let now = Instant::now();
            let look_again = now + TENANT_LOOK_EVERY;
            tenant.free_at(now).map_or(look_again, |at| at.max(look_again))
        });
    }

    /// True when what has come is not to be taken yet. Bytes do not count: they are here already.
    pub(super) fn has_to_wait(&self) -> bool {
        let now = Instant::now();
        let of_tenant = self.tenant_until.filter(|until| *until > now);
        self.updates.free_at(now).or(self.refreshes.free_at(now)).or(of_tenant).is_some()
    }

    /// Until when the connection is not to be read.
    pub(super) fn waits_until(&mut self, metrics: &Metrics) -> Option<Instant> {
        let now = Instant::now();
        let buckets = [
            (Limit::Updates, &self.updates),
            (Limit::Bytes, &self.bytes),
            (Limit::Refreshes, &self.refreshes),
        ];
        let waits = buckets.into_iter().filter_map(|(limit, bucket)| Some((bucket.free_at(now)?, limit)));
        let of_tenant = self.tenant_until.filter(|until| *until > now);
        let waits = waits.chain(of_tenant.map(|until| (until, Limit::TenantBytes)));
        let longest = waits.max_by_key(|(until, _)| *until);
        if let Some((_, limit)) = longest.filter(|_| !self.is_waiting) {
            metrics.hit(limit);
        }
        self.is_waiting = longest.is_some();
        longest.map(|(until, _)| until)
    }

    /// When a client that is not heard, because it is not read or what it sends is not whole yet, is to hear that the
    /// relay is there: whatever it asks waits behind that. Moments in which it is heard make it no later.
    pub(super) fn tells_at(&mut self, is_heard: bool) -> Option<Instant> {
        let at = (!is_heard).then(|| self.tells_at.unwrap_or_else(|| Instant::now() + KEEPALIVE_EVERY));
        self.tells_at = self.tells_at.or(at);
        at
    }

    /// True when it is time for that, once each time.
    pub(super) fn is_to_tell(&mut self) -> bool {
        let is_time = self.tells_at.is_some_and(|at| at <= Instant::now());
        if is_time {
            self.tells_at = Some(Instant::now() + KEEPALIVE_EVERY);
        }
        is_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::RATE_BURST;
    use crate::quotas::Quotas;
    use std::time::Duration;
    use tidewell_sync_core::document_name::DocumentName;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn lm2_what_waits_for_a_tenant_is_looked_at_again_when_it_may_go_and_not_before() {
        let quotas = Quotas::new(u64::MAX, None, Some(1_000), |_| Ok::<(), ()>(())).unwrap();
        let quota = quotas.of(&DocumentName::parse("a/doc").unwrap(), 0);
        let (tenant, metrics) = (quota.paced_tenant().unwrap(), Metrics::new().unwrap());
        let (mut pace, start) = (Pace::default(), Instant::now());
        let burst = usize::try_from(RATE_BURST.as_millis()).unwrap();
        quota.takes(burst + 3_000);
        pace.waits_for(Some(&tenant));
        // Every commit of the room wakes the connection meanwhile, and so does what others say.
        while tenant.has_to_wait() {
            assert!(pace.has_to_wait());
            let until = pace.waits_until(&metrics).unwrap();
            assert_eq!(Some(until), tenant.free_at(Instant::now()));
            advance(Duration::from_millis(500).min(until - Instant::now())).await;
        }
        assert!(start.elapsed() >= Duration::from_secs(3));
        assert_eq!((pace.has_to_wait(), pace.waits_until(&metrics)), (false, None));
        // Another one was first, by little: those who wait do not all look again at once.
        quota.takes(1);
        pace.waits_for(Some(&tenant));
        advance(TENANT_LOOK_EVERY / 2).await;
        assert!(!tenant.has_to_wait() && pace.has_to_wait());
        advance(TENANT_LOOK_EVERY / 2).await;
        assert!(!pace.has_to_wait());
        pace.waits_for(Some(&tenant));
        pace.waits_for(None);
        assert!(!pace.has_to_wait(), "it was taken");
    }

    #[tokio::test(start_paused = true)]
    async fn cn4_a_client_that_is_heard_for_moments_is_told_as_often() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert_eq!(pace.tells_at(true), None);
        assert!(!pace.is_to_tell());
        let mut told = 0;
        while start.elapsed() < 4 * KEEPALIVE_EVERY {
            pace.tells_at(false);
            advance(KEEPALIVE_EVERY * 7 / 10).await;
            told += u32::from(pace.is_to_tell());
            assert!(!pace.is_to_tell());
            assert_eq!(pace.tells_at(true), None);
        }
        assert!((2..=4).contains(&told), "{told}");
    }
}
