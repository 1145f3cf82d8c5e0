//! What the relay must reach, as ratios in one run, and whether it does.

use crate::peer::Peer::{BareBatch, Hocuspocus, Ours, OursYjs, YSweet, YWebsocket};
use crate::report::Report;
use crate::scenario::Scenario::{Closed, Cold, Documents, Idle, Rate};

/// Gzipped bytes of the npm package in an application.
const PACKAGE_BYTES_MAX: f64 = 200_000.0;

/// Kilobytes for each idle room.
const IDLE_KILOBYTES_MAX: f64 = 10.0;

/// A sentence for each floor that can be told from what was measured.
pub(crate) fn verdicts(report: &Report) -> Vec<String> {
    let figure = |scenario, peer, name| report.median(scenario, peer, name);
    let mut out = Vec::new();
    let mut at_least = |what: &str, ours: Option<f64>, floor: Option<f64>| {
        if let (Some(ours), Some(floor)) = (ours, floor) {
            out.push(verdict(what, ours, floor, ours >= floor));
        }
    };
    let rate = |peer| figure(Closed, peer, "D/s");
    at_least("closed fan-out ≥ Hocuspocus, D/s", rate(Ours), rate(Hocuspocus));
    at_least("closed fan-out at /yjs ≥ Hocuspocus, D/s", rate(OursYjs), rate(Hocuspocus));
    at_least(
        "aim: closed fan-out ≥ 0.7 × bare batch, D/s",
        rate(Ours),
        rate(BareBatch).map(|rate| rate * 0.7),
    );
    let mut at_most = |what: &str, ours: Option<f64>, ceiling: Option<f64>| {
        if let (Some(ours), Some(ceiling)) = (ours, ceiling) {
            out.push(verdict(what, ours, ceiling, ours <= ceiling));
        }
    };
    let p50 = |peer| figure(Rate, peer, "p50 ms");
    let allowed = p50(YWebsocket).zip(report.sync_ms()).map(|(theirs, sync)| theirs + sync);
    at_most("p50 at rate ≤ y-websocket's + one synced write, ms", p50(Ours), allowed);
    at_most("p50 at rate at /yjs ≤ the same, ms", p50(OursYjs), allowed);
    let documents = |peer, name| figure(Documents, peer, name);
    at_most(
        "2,000 documents: CPU ≤ y-sweet's, µs/D",
        documents(Ours, "CPU µs/D"),
        documents(YSweet, "CPU µs/D"),
    );
    at_most("2,000 documents: RSS ≤ y-sweet's, MB", documents(Ours, "RSS MB"), documents(YSweet, "RSS MB"));
    let slowest = |peer| figure(Cold, peer, "50 at once, slowest ms");
    let half = slowest(YSweet).map(|time| time * 0.5);
    at_most("cold, 50 at once: slowest ≤ 0.5 × y-sweet's, ms", slowest(Ours), half);
    at_most("idle room ≤ 10 kB", figure(Idle, Ours, "kB for each room"), Some(IDLE_KILOBYTES_MAX));
    let package = report.package_bytes().map(|bytes| bytes as f64);
    at_most("package ≤ 200 kB, gzipped bytes", package, Some(PACKAGE_BYTES_MAX));
    out
}

fn verdict(what: &str, ours: f64, floor: f64, is_met: bool) -> String {
    let word = if is_met { "met" } else { "NOT MET" };
    format!("{word}: {what}: {ours:.2} against {floor:.2} ({:.2}×)", ours / floor)
}
