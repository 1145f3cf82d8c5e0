//! The memory that the relay takes, and what it gives up when that is too much.
//!
//! First what can be read again from the store (rooms that nobody is in, catch-ups, recent commits), then new connections,
//! then those connections that make it keep the most. Nothing that was acknowledged is in memory alone.

use crate::limits::MEMORY_SHARE;
use std::fs;

/// How much memory is taken of what may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pressure {
    /// Less than three quarters.
    None,
    /// What can be read again is given up.
    Tight,
    /// From seven eighths on: nobody else is let in.
    High,
    /// All of it: connections are sent away that make the relay keep so many bytes.
    Over { bytes: u64 },
}

/// The pressure when `used` bytes are taken of `max`.
pub(crate) fn pressure(used: u64, max: u64) -> Pressure {
    match used {
        _ if used >= max => Pressure::Over { bytes: used - max + max / 8 },
        _ if used >= max - max / 8 => Pressure::High,
        _ if used >= max - max / 4 => Pressure::Tight,
        _ => Pressure::None,
    }
}

/// Bytes of memory that are this process's alone, if the system tells it.
pub(crate) fn used() -> Option<u64> {
    let pages = fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = pages.split(' ').skip(1).map(str::parse::<u64>);
    let (resident, shared) = (pages.next()?.ok()?, pages.next()?.ok()?);
    let page_bytes = u64::try_from(rustix::param::page_size()).ok()?;
    Some(resident.saturating_sub(shared).saturating_mul(page_bytes))
}

/// What the relay may take if nobody says otherwise: a share of what there is for it.
pub(crate) fn default_max() -> Option<u64> {
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let group = groups.iter().filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok()).min();
    let memory = fs::read_to_string("/proc/meminfo").ok().and_then(|info| total_bytes(&info));
    let bytes: u64 = [group, memory].into_iter().flatten().min()?;
    Some(bytes / MEMORY_SHARE.1 * MEMORY_SHARE.0)
}

fn total_bytes(info: &str) -> Option<u64> {
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// What is asked of glibc's allocator, which else keeps much of what was freed: after values of many megabytes 145 MB of
/// 320, in the midst of its heaps alone (2026-11). It counts as taken, and would keep everybody out. Others are left as they are.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "two calls of the C library that take numbers, at any time on any thread")]
pub(crate) mod allocator {
    use crate::limits::KEPT_BLOCK_BYTES_MAX;

    /// Has larger blocks be the system's again as soon as they are freed. By itself glibc keeps such as have been freed once,
    /// up to 32 MiB, and twice as many bytes at the end of each of its heaps.
    pub(crate) fn keep_little() {
        // SAFETY: `mallopt` takes two numbers; one that it does not like it ignores.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT_BLOCK_BYTES_MAX);
            libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BLOCK_BYTES_MAX);
        }
    }

    /// Has it give back what it keeps in the midst of its heaps.
    pub(crate) fn give_back() {
        // SAFETY: `malloc_trim` takes a number, and locks each heap while it works on it.
        unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) mod allocator {
    pub(crate) fn keep_little() {}

    pub(crate) fn give_back() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_given_up_the_more_is_taken() {
        assert_eq!(pressure(599, 800), Pressure::None);
        assert_eq!(pressure(600, 800), Pressure::Tight);
        assert_eq!(pressure(700, 800), Pressure::High);
        assert_eq!(pressure(850, 800), Pressure::Over { bytes: 150 }, "down to where others are let in");
        assert!(Pressure::High >= Pressure::Tight && Pressure::Over { bytes: 0 } >= Pressure::High);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_tells_what_is_taken_and_what_there_is() {
        let before = used().unwrap();
        let kept = vec![1_u8; 256 << 20];
        let more = used().unwrap() - before;
        assert!(more > 128 << 20, "{more} bytes of {}", kept.len());
        assert!(default_max().unwrap() > before);
        assert_eq!(total_bytes("MemTotal:       24684096 kB\nMemFree: 1 kB\n"), Some(24_684_096 << 10));
    }
}
