//! What operators see on `/metrics`.

use metrics::{Counter, Gauge, Histogram, Unit};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tidewell_sync_core::code::Code;

/// Seconds; a commit takes 0.1 ms to 10 ms on healthy disks.
const LATENCY_BUCKETS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

macro_rules! limits {
    ($($variant:ident = $name:literal,)*) => {
        /// A limit that makes somebody wait or come back, or ends a connection without a word. Others are refused with a
        /// code of their own.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Limit { $($variant,)* }

        impl Limit {
            const NAMES: &'static [&'static str] = &[$($name,)*];
        }
    };
}

limits! {
    Connections = "connections",
    Address = "connections_per_address",
    Subject = "connections_per_subject",
    Joins = "joins",
    Loads = "loads",
    Requests = "requests_per_second",
    Updates = "updates_per_second",
    Bytes = "bytes_per_second",
    Presence = "presence_per_second",
    Refreshes = "refreshes_per_second",
    Tickets = "tickets_per_subject",
    Memory = "memory",
    TenantBytes = "tenant_bytes_per_second",
    RequestHeadWithin = "request_head_within",
    RequestHeadBytes = "request_head_bytes",
    LastAnswerWithin = "last_answer_within",
    Handshakes = "tls_handshakes",
}

/// The relay's figures. Made once for each relay, so that several can run in one process.
pub(crate) struct Metrics {
    /// Open sockets of `tidewell.v1`.
    pub(crate) connections_tidewell: Gauge,
    /// Open sockets of y-websocket clients.
    pub(crate) connections_yjs: Gauge,
    /// Connections that there was no descriptor for.
    pub(crate) connections_turned_away: Counter,
    /// Bytes of memory that are the relay's alone.
    pub(crate) memory_bytes: Gauge,
    /// Rooms in memory.
    pub(crate) rooms: Gauge,
    /// Updates that were admitted.
    pub(crate) updates: Counter,
    /// Bytes read from sockets.
    pub(crate) bytes_in: Counter,
    /// Bytes written to sockets.
    pub(crate) bytes_out: Counter,
    /// Time of a commit.
    pub(crate) commit_seconds: Histogram,
    /// Commits that reached the disk.
    pub(crate) commits: Counter,
    /// Commits that failed and are tried again.
    pub(crate) commits_failed: Counter,
    /// Bytes admitted and not yet committed.
    pub(crate) unacknowledged_bytes: Gauge,
    /// Materializer processes that had to be replaced.
    pub(crate) materializer_restarts: Counter,
    /// Snapshots that were verified and taken.
    pub(crate) compactions: Counter,
    /// Compactions that failed for reasons that are no document's, and are tried again.
    pub(crate) compactions_failed: Counter,
    /// Documents in quarantine.
    pub(crate) quarantined: Gauge,
    /// Keys files that could not be used.
    pub(crate) keys_failed: Counter,
    /// Certificates that could not be used.
    pub(crate) certificate_failed: Counter,
    /// TLS handshakes that were not finished.
    pub(crate) handshakes_failed: Counter,
    /// One for each code, in the order of [`Code::ALL`].
    refusals: Vec<Counter>,
    /// One for each [`Limit`], in their order.
    limits: Vec<Counter>,
    handle: PrometheusHandle,
}

impl Metrics {
    pub(crate) fn new() -> Result<Self, BuildError> {
        let recorder = PrometheusBuilder::new().set_buckets(LATENCY_BUCKETS)?.build_recorder();
        let handle = recorder.handle();
        Ok(metrics::with_local_recorder(&recorder, || Metrics::registered(handle)))
    }

    fn registered(handle: PrometheusHandle) -> Self {
        let gauge = |name: &'static str, help: &'static str| {
            metrics::describe_gauge!(name, help);
            metrics::gauge!(name)
        };
        let counter = |name: &'static str, help: &'static str| {
            metrics::describe_counter!(name, help);
            metrics::counter!(name)
        };
        metrics::describe_gauge!("tidewell_connections", "Open sockets, by protocol");
        metrics::describe_counter!("tidewell_refusals_total", "Refusals and closes, by code");
        metrics::describe_histogram!("tidewell_commit_seconds", Unit::Seconds, "Time of a commit");
        let refusals = |code: &Code| metrics::counter!("tidewell_refusals_total", "code" => code.name());
        metrics::describe_counter!(
            "tidewell_limits_hit_total",
            "Who had to wait or come back, or was cut off, by limit"
        );
        let limit = |name: &&'static str| metrics::counter!("tidewell_limits_hit_total", "limit" => *name);
        Metrics {
            connections_tidewell: metrics::gauge!("tidewell_connections", "protocol" => "tidewell"),
            connections_yjs: metrics::gauge!("tidewell_connections", "protocol" => "yjs"),
            connections_turned_away: counter(
                "tidewell_connections_turned_away_total",
                "Connections that there was no file descriptor for",
            ),
            memory_bytes: gauge(
                "tidewell_memory_bytes",
                "Memory of the relay's own, as the system counts it",
            ),
            rooms: gauge("tidewell_rooms", "Rooms in memory"),
            updates: counter("tidewell_updates_total", "Updates admitted"),
            bytes_in: counter("tidewell_received_bytes_total", "Bytes of messages received"),
            bytes_out: counter("tidewell_sent_bytes_total", "Bytes of messages sent"),
            commit_seconds: metrics::histogram!("tidewell_commit_seconds"),
            commits: counter("tidewell_commits_total", "Transactions synced to disk"),
            commits_failed: counter("tidewell_commits_failed_total", "Transactions that failed"),
            unacknowledged_bytes: gauge("tidewell_unacknowledged_bytes", "Bytes admitted, not yet durable"),
            materializer_restarts: counter(
                "tidewell_materializer_restarts_total",
                "Materializer processes replaced after a crash or timeout",
            ),
            compactions: counter("tidewell_compactions_total", "Snapshots verified and taken"),
            compactions_failed: counter(
                "tidewell_compactions_failed_total",
                "Compactions that failed and are tried again",
            ),
            quarantined: gauge("tidewell_quarantined", "Documents in quarantine"),
            keys_failed: counter(
                "tidewell_keys_failed_total",
                "Changes of the keys file that could not be used; the keys stayed as they were",
            ),
            certificate_failed: counter(
                "tidewell_tls_certificate_failed_total",
                "Changes of the certificate or its key that could not be used; they stayed as they were",
            ),
            handshakes_failed: counter(
                "tidewell_tls_handshakes_failed_total",
                "TLS handshakes given up by either side, too slow, or not TLS at all",
            ),
            refusals: Code::ALL.iter().map(refusals).collect(),
            limits: Limit::NAMES.iter().map(limit).collect(),
            handle,
        }
    }

    /// Counts a refusal or a close with a code.
    pub(crate) fn refused(&self, code: Code) {
        let index = Code::ALL.iter().position(|known| *known == code);
        if let Some(counter) = index.and_then(|index| self.refusals.get(index)) {
            counter.increment(1);
        }
    }

    /// Counts that somebody met a limit.
    pub(crate) fn hit(&self, limit: Limit) {
        if let Some(counter) = self.limits.get(limit as usize) {
            counter.increment(1);
        }
    }

    /// Everything in Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        self.handle.run_upkeep();
        self.handle.render()
    }

    /// Moves what the histograms gathered into their buckets; without it they would grow for ever.
    pub(crate) fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}
