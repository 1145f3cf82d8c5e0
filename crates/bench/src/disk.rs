//! What a synced write costs on the disk that the relays write to.

use anyhow::Result;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

const WRITES: usize = 300;

/// A page, as SQLite appends them to its log.
const WRITE_BYTES: usize = 4096;

/// Milliseconds of an appended page and its `fdatasync` in this folder: the median, and the one that 1 % exceed.
pub(crate) fn sync_ms(folder: &Path) -> Result<(f64, f64)> {
    let mut file: File = tempfile::tempfile_in(folder)?;
    let page = [7; WRITE_BYTES];
    let mut times = Vec::with_capacity(WRITES);
    for _ in 0..WRITES {
        let started = Instant::now();
        file.write_all(&page)?;
        file.sync_data()?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_unstable_by(f64::total_cmp);
    let at = |index: usize| times.get(index).copied().unwrap_or(f64::NAN);
    Ok((at(WRITES / 2), at(WRITES * 99 / 100)))
}
