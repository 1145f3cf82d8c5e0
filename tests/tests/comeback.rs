//! Many clients that come back at once, and many that only stay. `TIDEWELL_COMEBACK` sets how many come back,
//! `TIDEWELL_COMEBACK_AWAY_SECONDS` how long the relay is away, `TIDEWELL_IDLE` how many stay.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

use rand::Rng;
use std::time::{Duration, Instant};
use tidewell_client::{Client, Document, Options, Store};
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::protocol::{ClientMessage, RelayMessage};
use tidewell_tests::proxy::{Fault, Proxy};
use tidewell_tests::raw::{TidewellSocket, fetch};
use tidewell_tests::relay::{PATIENCE, Relay};
use tidewell_tests::seed::{amount, generator, seed};
use tidewell_tests::usage::{Usage, megabytes, percentiles, raise_file_limit};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Clients that share a document.
const SHARE: u64 = 10;
/// Most edits that one of them makes while the relay is away.
const EDITS_MAX: u64 = 4;
/// What an idle connection may cost the relay: measured are 5 kB in a release build.
const IDLE_BYTES_MAX: u64 = 32 << 10;

fn name(client: u64) -> DocumentName {
    DocumentName::parse(&format!("comeback/{}", client / SHARE)).unwrap()
}

/// One who has a document open, and what it wrote.
struct Member {
    _client: Client,
    number: u64,
    document: Document,
    written: Vec<String>,
}

impl Member {
    async fn join(url: String, number: u64) -> Member {
        let client = Client::open(Options::new(url, Store::Memory)).await.unwrap();
        let document = client.document(name(number).as_str()).await.unwrap();
        let mut this = Member { _client: client, number, document, written: Vec::new() };
        this.write().await;
        timeout(PATIENCE, this.document.saved_relay()).await.expect("the relay is there").unwrap();
        this
    }

    async fn write(&mut self) {
        let token = format!("[{}-{}]", self.number, self.written.len());
        self.document.insert_text("t", 0, &token).await.unwrap();
        self.written.push(token);
    }

    /// Waits until the relay has everything of this one's, and this one everything of the document's.
    async fn is_synced(&self, length: usize) {
        let mut changes = self.document.changes();
        let both = async {
            self.document.saved_relay().await.unwrap();
            while self.document.text("t").await.unwrap().len() != length {
                changes.changed().await.unwrap();
            }
        };
        timeout(4 * PATIENCE, both)
            .await
            .unwrap_or_else(|_| panic!("client {} never has everything", self.number));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_come_back_all_at_once_bring_and_get_everything() {
    raise_file_limit();
    let (seed, count) = (seed(), amount("TIDEWELL_COMEBACK", 200));
    let away = Duration::from_secs(amount("TIDEWELL_COMEBACK_AWAY_SECONDS", 0));
    let mut random = generator(seed, 0);
    let data = tempfile::tempdir().unwrap();
    let relay = Relay::start(data.path()).await.unwrap();
    let proxy = Proxy::start(Some(relay.address())).await.unwrap();
    let mut joining = JoinSet::new();
    for number in 0..count {
        joining.spawn(Member::join(format!("ws://{}/v1/sync", proxy.address()), number));
    }
    let mut members = joining.join_all().await;
    members.sort_unstable_by_key(|member| member.number);

    proxy.apply(Fault::Target { address: None });
    relay.kill().await.unwrap();
    for member in &mut members {
        for _ in 0..random.random_range(1..=EDITS_MAX) {
            member.write().await;
        }
    }
    sleep(away).await;
    let relay = Relay::start(data.path()).await.unwrap();
    let length = |document: u64| -> usize {
        let theirs = members.iter().filter(|member| member.number / SHARE == document);
        theirs.flat_map(|member| &member.written).map(String::len).sum()
    };
    let lengths: Vec<usize> = (0..count.div_ceil(SHARE)).map(length).collect();
    let start = Instant::now();
    proxy.apply(Fault::Target { address: Some(relay.address()) });
    let mut syncing = JoinSet::new();
    for member in members {
        let length = lengths[(member.number / SHARE) as usize];
        syncing.spawn(async move {
            member.is_synced(length).await;
            (start.elapsed(), member)
        });
    }
    let (times, members): (Vec<Duration>, Vec<Member>) = syncing.join_all().await.into_iter().unzip();
    let [median, p99, last] = percentiles(times);
    let usage = Usage::of(&relay).unwrap();
    let commits = relay.figure("tidewell_commits_total").await.unwrap();
    let edits: usize = members.iter().map(|member| member.written.len() - 1).sum();
    println!(
        "{count} clients came back after {away:?} with {edits} edits: all have everything after {last:.2?} \
         (p50 {median:.2?}, p99 {p99:.2?}); the relay took {:.2?} of processor time, {commits} commits, {:.1} MB at most",
        usage.cpu,
        megabytes(usage.peak_bytes),
    );

    relay.kill().await.unwrap();
    let relay = Relay::start(data.path()).await.unwrap();
    let mut expected = Vec::new();
    for document in 0..lengths.len() as u64 {
        expected.push(fetch(relay.address(), &name(document * SHARE)).await.unwrap().text().unwrap());
    }
    for Member { number, document, written, .. } in members {
        let stored = &expected[(number / SHARE) as usize];
        assert_eq!(document.text("t").await.unwrap(), *stored, "client {number}");
        for token in written {
            assert_eq!(stored.matches(&token).count(), 1, "{token}");
        }
    }
}

/// One that has a document open and does nothing.
async fn idle(relay: &Relay, number: u64) -> anyhow::Result<TidewellSocket> {
    let mut socket = TidewellSocket::connect(relay.address()).await?;
    socket.open(0, &DocumentName::parse(&format!("idle/{}", number % 100))?).await?;
    while !matches!(socket.next().await?, RelayMessage::Opened { .. }) {}
    Ok(socket)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_only_stay_cost_little_and_stay() {
    raise_file_limit();
    let half = amount("TIDEWELL_IDLE", 500) / 2;
    let data = tempfile::tempdir().unwrap();
    let relay = Relay::start(data.path()).await.unwrap();
    let (mut sockets, mut resident) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        for number in 0..half {
            let socket = timeout(PATIENCE, idle(&relay, number)).await.expect("the relay takes it in");
            sockets.push(socket.unwrap());
        }
        resident.push(relay.resident_bytes().unwrap());
    }
    // The second half: what the first one takes is the relay's own too.
    let each = resident[1].saturating_sub(resident[0]) / half;
    println!("{} idle connections, {:.1} MB: {each} bytes each", 2 * half, megabytes(resident[1]));
    assert!(each < IDLE_BYTES_MAX, "{each} bytes each");
    for socket in &mut sockets {
        socket.say(&ClientMessage::Ping { nonce: 7 }).await.unwrap();
        let answered = timeout(PATIENCE, socket.next()).await.expect("it is still there");
        assert_eq!(answered.unwrap(), RelayMessage::Pong { nonce: 7 });
    }
}
