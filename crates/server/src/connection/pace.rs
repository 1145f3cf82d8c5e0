//! How fast one connection goes. One that goes too fast is not read for a while: TCP then slows its client, and nothing
//! is lost.

use crate::metrics::{Limit, Metrics};
use crate::pace::{Bucket, Rates};
use crate::quotas::Tenant;
use std::sync::Arc;
use tokio::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Pace {
    updates: Bucket,
    bytes: Bucket,
    refreshes: Bucket,
    /// The tenant of what it pushed last, while that has to wait.
    tenant: Option<Arc<Tenant>>,
    /// It waits, which was counted.
    is_waiting: bool,
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

    /// What was pushed is of a tenant that has to wait.
    pub(super) fn waits_for(&mut self, tenant: Option<Arc<Tenant>>) {
        if tenant.is_some() {
            self.tenant = tenant;
        }
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
        // Others write for it too: it is asked again each time.
        let tenant_until = self.tenant.as_ref().and_then(|tenant| tenant.free_at(now));
        if tenant_until.is_none() {
            self.tenant = None;
        }
        let waits = waits.chain(tenant_until.map(|until| (until, Limit::TenantBytes)));
        let longest = waits.max_by_key(|(until, _)| *until);
        if let Some((_, limit)) = longest.filter(|_| !self.is_waiting) {
            metrics.hit(limit);
        }
        self.is_waiting = longest.is_some();
        longest.map(|(until, _)| until)
    }
}
