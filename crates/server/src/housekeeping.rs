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
use tokio::time::{MissedTickBehavior, interval};

/// Goes on for as long as the relay serves.
pub(crate) async fn keep_house(
    relay: Arc<Relay>,
    certificate: Option<Arc<Certificate>>,
    checkpointer: Checkpointer,
) {
    let checkpointer = Arc::new(Mutex::new(checkpointer));
    let every = |duration| {
        let mut interval = interval(duration);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval
    };
    let mut sweep = every(SWEEP_EVERY);
    let mut checkpoint = every(CHECKPOINT_EVERY);
    let mut prune = every(PRUNE_EVERY);
    let mut keys = every(KEYS_READ_EVERY);
    let mut memory = every(MEMORY_EVERY);
    let (mut pressure, mut give_back_from) = (Pressure::None, Instant::now());
    loop {
        tokio::select! {
            _ = sweep.tick() => {
                let now = Instant::now();
                let compactor = &relay.compactor;
                let due = if compactor.is_paused(now) { Vec::new() } else { relay.rooms.start_compactions(now) };
                for room in due {
                    tokio::spawn(compactor.clone().compact(room));
                }
                relay.rooms.sweep(now, pressure);
                relay.requests.sweep(now.into());
                relay.metrics.upkeep();
            }
            _ = memory.tick() => {
                let before = pressure;
                pressure = memory_pressure(&relay);
                if pressure >= Pressure::High && Instant::now() >= give_back_from {
                    let took = give_back().await;
                    give_back_from = Instant::now() + took * GIVE_BACK_REST;
                    pressure = memory_pressure(&relay);
                }
                relieve(&relay, pressure);
                if pressure >= Pressure::Tight && before == Pressure::None {
                    relay.rooms.sweep(Instant::now(), pressure);
                }
            }
            _ = checkpoint.tick() => {
                let checkpointer = checkpointer.clone();
                let run = move || checkpointer.lock().run();
                match tokio::task::spawn_blocking(run).await {
                    Ok(Ok(pages)) if pages > WAL_PAGES_MAX => relay.writer.run(Job::EndCheckpoint),
                    Ok(Err(error)) => tracing::warn!(%error, "a checkpoint failed; it is tried again"),
                    _ => {}
                }
                relay.writer.run(Job::Settle);
            }
            _ = keys.tick() => {
                let (relay, certificate) = (relay.clone(), certificate.clone());
                tokio::task::spawn_blocking(move || {
                    if let Some(certificate) = certificate {
                        certificate.reload();
                    }
                    let has_leapt = relay.authority.has_clock_leapt();
                    if relay.authority.reload() || has_leapt {
                        relay.connections.nudge_all();
                    }
                });
            }
            _ = prune.tick() => {
                let compactor = relay.compactor.clone();
                tokio::spawn(async move { compactor.prune_all().await });
            }
        }
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
