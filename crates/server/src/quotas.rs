//! How much documents and tenants may keep, and how fast tenants may write.
//!
//! A document's size is what its loading reads: the last snapshot and the rows after it. A tenant's is that of its
//! documents together. Each room tells its tenant whenever its size changes.

use crate::limits::RATE_BURST;
use crate::pace::{Bucket, Rate};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;
use tokio::time::Instant;

/// The quotas of all documents. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Quotas {
    document_bytes_max: u64,
    /// `None` where tenants have no limits: then nothing is counted.
    tenants: Option<Arc<Tenants>>,
}

#[derive(Debug)]
struct Tenants {
    bytes_max: u64,
    rate: Option<Rate>,
    /// By name.
    entries: Mutex<FxHashMap<String, Arc<Tenant>>>,
}

/// What one tenant uses.
#[derive(Debug)]
pub(crate) struct Tenant {
    bytes: AtomicU64,
    bytes_max: u64,
    rate: Option<Rate>,
    bucket: Mutex<Bucket>,
}

/// One document's part.
#[derive(Debug)]
pub(crate) struct Quota {
    bytes: u64,
    bytes_max: u64,
    tenant: Option<Arc<Tenant>>,
}

impl Quotas {
    /// What there may be. Without limits for tenants `sizes` are not looked at.
    pub(crate) fn new<E>(
        document_bytes_max: u64,
        tenant_bytes_max: Option<u64>,
        tenant_bytes_per_second: Option<u64>,
        sizes: impl FnOnce(&mut dyn FnMut(&str, u64)) -> Result<(), E>,
    ) -> Result<Self, E> {
        if tenant_bytes_max.is_none() && tenant_bytes_per_second.is_none() {
            return Ok(Quotas { document_bytes_max, tenants: None });
        }
        let rate = tenant_bytes_per_second.map(|rate| Rate::new(rate, RATE_BURST));
        let bytes_max = tenant_bytes_max.unwrap_or(u64::MAX);
        let tenants = Tenants { bytes_max, rate, entries: Mutex::default() };
        if tenant_bytes_max.is_some() {
            sizes(&mut |document, bytes| {
                tenants.of(tenant_of(document)).bytes.fetch_add(bytes, Ordering::Relaxed);
            })?;
        }
        Ok(Quotas { document_bytes_max, tenants: Some(Arc::new(tenants)) })
    }

    /// The part of a document that has `bytes`, with which its tenant was counted.
    pub(crate) fn of(&self, document: &DocumentName, bytes: u64) -> Quota {
        let tenant = self.tenants.as_ref().map(|tenants| tenants.of(tenant_of(document.as_str())));
        Quota { bytes, bytes_max: self.document_bytes_max, tenant }
    }

    /// Forgets tenants that have nothing.
    pub(crate) fn sweep(&self) {
        let Some(tenants) = &self.tenants else { return };
        let mut entries = tenants.entries.lock();
        entries.retain(|_, tenant| {
            Arc::strong_count(tenant) > 1 || tenant.bytes.load(Ordering::Relaxed) > 0 || tenant.has_to_wait()
        });
    }
}

impl Tenants {
    fn of(&self, name: &str) -> Arc<Tenant> {
        let mut entries = self.entries.lock();
        if let Some(tenant) = entries.get(name) {
            return tenant.clone();
        }
        let (bytes, bucket) = (AtomicU64::new(0), Mutex::default());
        let tenant = Arc::new(Tenant { bytes, bytes_max: self.bytes_max, rate: self.rate, bucket });
        entries.insert(name.to_owned(), tenant.clone());
        tenant
    }
}

impl Tenant {
    /// Counts bytes that it writes.
    fn takes(&self, bytes: usize) {
        if let Some(rate) = self.rate {
            self.bucket.lock().take(rate, bytes, Instant::now());
        }
    }

    /// Nobody is to write for it now.
    pub(crate) fn has_to_wait(&self) -> bool {
        self.free_at(Instant::now()).is_some()
    }

    /// Until when nobody is to write for it.
    pub(crate) fn free_at(&self, now: Instant) -> Option<Instant> {
        self.rate?;
        self.bucket.lock().free_at(now)
    }
}

impl Quota {
    /// The document has another size.
    pub(crate) fn weighs(&mut self, bytes: u64) {
        if let Some(tenant) = &self.tenant {
            if bytes >= self.bytes {
                tenant.bytes.fetch_add(bytes - self.bytes, Ordering::Relaxed);
            } else {
                tenant.bytes.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
            }
        }
        self.bytes = bytes;
    }

    /// Why nothing may be added now.
    pub(crate) fn is_over(&self) -> Option<Code> {
        if self.bytes >= self.bytes_max {
            return Some(Code::DocumentFull);
        }
        let tenant = self.tenant.as_ref()?;
        (tenant.bytes.load(Ordering::Relaxed) >= tenant.bytes_max).then_some(Code::QuotaExceeded)
    }

    /// Counts bytes that were taken.
    pub(crate) fn takes(&self, bytes: usize) {
        if let Some(tenant) = &self.tenant {
            tenant.takes(bytes);
        }
    }

    /// Whose document it is; `None` where tenants may write as fast as they like.
    pub(crate) fn paced_tenant(&self) -> Option<Arc<Tenant>> {
        self.tenant.clone().filter(|tenant| tenant.rate.is_some())
    }
}

/// The first segment of a name.
fn tenant_of(document: &str) -> &str {
    document.split_once('/').map_or(document, |(tenant, _)| tenant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_what_its_documents_have_and_is_forgotten_when_it_has_nothing() {
        let sizes = |count: &mut dyn FnMut(&str, u64)| {
            [("a/1", 40), ("a/2", 40), ("b", 5)].into_iter().for_each(|(name, bytes)| count(name, bytes));
            Ok::<(), ()>(())
        };
        let quotas = Quotas::new(1_000, Some(100), None, sizes).unwrap();
        let name = |name| DocumentName::parse(name).unwrap();
        let (mut first, mut third) = (quotas.of(&name("a/1"), 40), quotas.of(&name("a/3"), 0));
        assert_eq!(third.is_over(), None);
        third.weighs(20);
        assert_eq!([first.is_over(), third.is_over()], [Some(Code::QuotaExceeded); 2]);
        assert_eq!(quotas.of(&name("b"), 5).is_over(), None, "another tenant");
        first.weighs(10);
        assert_eq!(third.is_over(), None);
        third.weighs(0);
        let mut new = quotas.of(&name("c/d"), 0);
        new.weighs(2_000);
        assert_eq!(new.is_over(), Some(Code::DocumentFull), "what helps is said first");
        new.weighs(0);
        drop((first, third, new));
        quotas.sweep();
        let entries = quotas.tenants.unwrap();
        let mut names: Vec<_> = entries.entries.lock().keys().cloned().collect();
        names.sort_unstable();
        assert_eq!(names, ["a", "b"]);
    }
}
