//! Everything that the relay does on a timer.

use crate::limits::{
    CHECKPOINT_EVERY, GIVE_BACK_REST, KEYS_READ_EVERY, MEMORY_EVERY, PRUNE_EVERY, SWEEP_EVERY, WAL_PAGES_MAX,
};
use crate::memory::{self, Pressure, allocator};
use crate::metrics::Limit;
use crate::relay::Relay;
use crate::store::Checkpointer;
use crate::tls::Certificate;
use crate::writer::Job;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Goes on for as long as the relay serves.
pub(crate) async fn keep_house(
    relay: Arc<Relay>,
    certificate: Option<Arc<Certificate>>,
    checkpointer: Checkpointer,
) {
    // None waits for another: a disk that hangs stops neither the looks at memory nor those at keys.
    tokio::join!(
        watch_memory(&relay),
        checkpoint(&relay, checkpointer),
        sweep(&relay),
        read_keys(&relay, certificate),
        prune(&relay)
    );
}

fn every(duration: Duration) -> Interval {
    let mut interval = interval(duration);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn watch_memory(relay: &Relay) {
    let mut tick = every(MEMORY_EVERY);
    let (mut before, mut give_back_from) = (Pressure::None, Instant::now());
    loop {
        tick.tick().await;
        let mut pressure = memory_pressure(relay);
        if pressure >= Pressure::High && Instant::now() >= give_back_from {
            let took = give_back().await;
            give_back_from = Instant::now() + took * GIVE_BACK_REST;
            pressure = memory_pressure(relay);
        }
        relieve(relay, pressure);
        if pressure >= Pressure::Tight && before == Pressure::None {
            relay.rooms.sweep(Instant::now(), pressure);
        }
        before = pressure;
    }
}

async fn checkpoint(relay: &Relay, checkpointer: Checkpointer) {
    let mut tick = every(CHECKPOINT_EVERY);
    let checkpointer = Arc::new(Mutex::new(checkpointer));
    loop {
        tick.tick().await;
        let checkpointer = checkpointer.clone();
        match tokio::task::spawn_blocking(move || checkpointer.lock().run()).await {
            Ok(Ok(pages)) if pages > WAL_PAGES_MAX => relay.writer.run(Job::EndCheckpoint),
            Ok(Err(error)) => tracing::warn!(%error, "a checkpoint failed; it is tried again"),
            _ => {}
        }
        relay.writer.run(Job::Settle);
    }
}

async fn sweep(relay: &Relay) {
    let mut tick = every(SWEEP_EVERY);
    loop {
        tick.tick().await;
        let now = Instant::now();
        let compactor = &relay.compactor;
        let due = if compactor.is_paused(now) { Vec::new() } else { relay.rooms.start_compactions(now) };
        for room in due {
            tokio::spawn(compactor.clone().compact(room));
        }
        relay.rooms.sweep(now, memory_pressure(relay));
        relay.requests.sweep(now.into());
        relay.metrics.upkeep();
    }
}

async fn read_keys(relay: &Arc<Relay>, certificate: Option<Arc<Certificate>>) {
    let mut tick = every(KEYS_READ_EVERY);
    loop {
        tick.tick().await;
        let (relay, certificate) = (relay.clone(), certificate.clone());
        let read = move || {
            if let Some(certificate) = certificate {
                certificate.reload();
            }
            let has_leapt = relay.authority.has_clock_leapt();
            if relay.authority.reload() || has_leapt {
                relay.connections.nudge_all();
            }
        };
        let _ = tokio::task::spawn_blocking(read).await;
    }
}

async fn prune(relay: &Relay) {
    let mut tick = every(PRUNE_EVERY);
    loop {
        tick.tick().await;
        relay.compactor.prune_all().await;
    }
}

/// How short memory is.
fn memory_pressure(relay: &Relay) -> Pressure {
    let (Some(used), Some(max)) = (memory::used(), relay.memory_max) else { return Pressure::None };
    relay.metrics.memory_bytes.set(u32::try_from(used >> 10).map_or(f64::MAX, f64::from) * 1024.0);
    memory::pressure(used, max)
}

/// Has the allocator give back what it keeps; answers how long that took.
async fn give_back() -> Duration {
    let began = Instant::now();
    // The task ends without an answer only when the relay does.
    let _ = tokio::task::spawn_blocking(allocator::give_back).await;
    began.elapsed()
}

/// Gives up what is too much.
fn relieve(relay: &Relay, pressure: Pressure) {
    let mut count = relay.connections.make_room();
    relay.connections.set_closed(pressure >= Pressure::High);
    if let Pressure::Over { bytes } = pressure {
        count += relay.connections.shed(bytes);
    }
    if count > 0 {
        (0..count).for_each(|_| relay.metrics.hit(Limit::Memory));
        let max = relay.memory_max;
        tracing::warn!(
            ?pressure,
            max,
            count,
            "memory is short: connections that hold the most are sent away"
        );
    }
}
