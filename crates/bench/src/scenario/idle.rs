//! Rooms in which nothing happens.

use super::Extent;
use crate::link::{Buffer, Link};
use crate::meter::Figures;
use crate::peer::Target;
use crate::process::Process;
use crate::typing::{FIRST_CLIENT, typed};
use anyhow::Result;
use futures_util::StreamExt;
use futures_util::stream;
use std::time::Duration;
use tokio::time::sleep;

/// Rooms that are there before anything is measured: they pay for what a relay allocates once.
const BEFORE: usize = 200;

/// Bytes of text in each.
const TEXT_BYTES: usize = 1_000;

/// Rooms that are opened at once.
const OPENING_MAX: usize = 16;

/// Measures a relay that runs.
pub(crate) async fn run(process: &Process, target: Target, extent: Extent) -> Result<Figures> {
    let after = extent.choose(2_200, 400);
    // Long enough for whatever is put off: y-websocket and Hocuspocus collect garbage, ours sweeps and compacts.
    let settle = extent.choose(Duration::from_secs(14), Duration::from_secs(2));
    let before = open(target, 0..BEFORE).await?;
    sleep(settle).await;
    let bytes_before = process.usage()?.resident_bytes;
    let more = open(target, BEFORE..after).await?;
    sleep(settle).await;
    let bytes = process.usage()?.resident_bytes;
    let rooms = before.len() + more.len();
    let slope = (bytes as f64 - bytes_before as f64) / 1e3 / more.len() as f64;
    Ok(vec![("kB for each room", slope), ("RSS MB", bytes as f64 / 1e6), ("rooms", rooms as f64)])
}

async fn open(target: Target, rooms: std::ops::Range<usize>) -> Result<Vec<Link>> {
    let opening = stream::iter(rooms).map(|room| async move {
        let text: String = (0..TEXT_BYTES).map(|_| fastrand::lowercase()).collect();
        let (mut link, _) = Link::open(&target, &format!("idle-{room}"), Buffer::Small).await?;
        link.push(typed(FIRST_CLIENT + room as u64, 0, &text)).await?;
        link.acknowledged(&target, 1).await?;
        Ok(link)
    });
    opening.buffer_unordered(OPENING_MAX).collect::<Vec<Result<_>>>().await.into_iter().collect()
}
