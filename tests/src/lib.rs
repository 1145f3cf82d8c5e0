//! What the end-to-end tests are made of: the real relay as a process, a proxy that breaks links, raw
//! clients that keep their own record, and recorded editing histories.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "everything here is test code")]

pub mod device;
#[cfg(target_os = "linux")]
pub mod disk;
pub mod operation;
pub mod proxy;
pub mod raw;
pub mod record;
pub mod relay;
pub mod seed;
pub mod trace;
pub mod usage;
