//! The relay may open few files, and more connect than fit: whoever is there goes on, and there is room again as soon as
//! some have gone. `TIDEWELL_CROWD` sets how many connect, `TIDEWELL_CROWD_ROUNDS` how often.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use std::time::{Duration, Instant};
use tidewell_client::{Client, Document, Options, Store};
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::protocol::RelayMessage;
use tidewell_sync_core::replica::new_doc;
use tidewell_tests::raw::{TidewellSocket, fetch};
use tidewell_tests::relay::{PATIENCE, Relay};
use tidewell_tests::seed::amount;
use tidewell_tests::usage::{Usage, raise_file_limit};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Enough for the relay itself and some dozens of connections.
const DESCRIPTORS: usize = 128;

fn name(text: &str) -> DocumentName {
    DocumentName::parse(text).unwrap()
}

/// A document that two have open, and what was typed into it.
struct Shared {
    ours: Document,
    theirs: Document,
    typed: String,
}

/// Two who were there first.
struct Insiders {
    ours: Client,
    theirs: Client,
    documents: Vec<Shared>,
}

impl Insiders {
    async fn start(relay: &Relay) -> Insiders {
        let options = Options::new(format!("ws://{}/v1/sync", relay.address()), Store::Memory);
        let [ours, theirs] =
            [Client::open(options.clone()).await.unwrap(), Client::open(options).await.unwrap()];
        Insiders { ours, theirs, documents: Vec::new() }
    }

    /// Both open a document, which the relay has to read first.
    async fn open(&mut self, document: &str) {
        let [ours, theirs] =
            [self.ours.document(document).await.unwrap(), self.theirs.document(document).await.unwrap()];
        self.documents.push(Shared { ours, theirs, typed: String::new() });
    }

    /// What one of them types into each document is acknowledged, and the other one has it.
    async fn go_on(&mut self, word: &str) {
        for Shared { ours, theirs, typed } in &mut self.documents {
            let at = u32::try_from(typed.len()).unwrap();
            typed.push_str(word);
            let mut changes = theirs.changes();
            let work = async {
                ours.insert_text("t", at, word).await.unwrap();
                ours.saved_relay().await.unwrap();
                while theirs.text("t").await.unwrap() != *typed {
                    changes.changed().await.unwrap();
                }
            };
            timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{} stands still", ours.name()));
        }
    }
}

/// What an operator on this machine reads. A few descriptors are for operators: with others in line for them it may take
/// some tries.
async fn figure(relay: &Relay, name: &str) -> f64 {
    let reading = async {
        loop {
            match relay.figure(name).await {
                Ok(figure) => return figure,
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    };
    timeout(PATIENCE, reading).await.expect("an operator is answered")
}

/// So many connect, and each is let in or turned away at once. Answers those who are in.
async fn crowd_in(relay: &Relay, crowd: u64) -> Vec<TidewellSocket> {
    let mut inside = Vec::new();
    for _ in 0..crowd {
        let greeted = async {
            let mut socket = TidewellSocket::connect(relay.address()).await?;
            let is_in = matches!(socket.next().await?, RelayMessage::Welcome { .. });
            anyhow::Ok(is_in.then_some(socket))
        };
        let greeted = timeout(PATIENCE, greeted).await.expect("an answer or an end");
        inside.extend(greeted.ok().flatten());
    }
    inside
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_descriptors_run_out_those_who_are_there_go_on_and_others_come_in_when_some_have_gone() {
    raise_file_limit();
    let (crowd, rounds) = (amount("TIDEWELL_CROWD", 150), amount("TIDEWELL_CROWD_ROUNDS", 2));
    let folder = tempfile::tempdir().unwrap();
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let limited = format!("ulimit -n {DESCRIPTORS}; exec 2>{}", log.display());
    // More than there are descriptors: those who are in take all that there are for them, and stay.
    let relay = Relay::start_after(&limited, &data, &["--connections-max", "1000"]).await.unwrap();
    let mut insiders = Insiders::start(&relay).await;
    insiders.open("crowd/before").await;
    insiders.go_on("before ").await;
    let mut most = 0;
    for round in 0..rounds {
        let (compactions, before) = (
            figure(&relay, "tidewell_compactions_total").await,
            figure(&relay, "tidewell_connections_turned_away_total").await,
        );
        let mut inside = crowd_in(&relay, crowd).await;
        // Those who say nothing have descriptors too.
        let mut mute = Vec::new();
        for _ in 0..crowd {
            mute.push(TcpStream::connect(relay.address()).await.unwrap());
        }
        let is_some_in = !inside.is_empty() && (inside.len() as u64) < crowd;
        assert!(is_some_in, "{} of {crowd} were let in", inside.len());
        while figure(&relay, "tidewell_connections_turned_away_total").await <= before {}
        // Reads of the store and the materializer need descriptors too.
        for document in 0..4 {
            insiders.open(&format!("crowd/{round}/{document}")).await;
        }
        insiders.go_on("full ").await;
        // As much as is worth a compaction, in two rows: a single one cannot get better.
        let (writer, doc) = (&mut inside[0], new_doc(7));
        writer.open(1, &name(&format!("crowd/{round}/long"))).await.unwrap();
        for number in 1..=2 {
            writer.append(1, &doc, number, &"x".repeat(200 << 10)).await.unwrap();
        }
        let start = Instant::now();
        while figure(&relay, "tidewell_compactions_total").await <= compactions {
            assert!(start.elapsed() < PATIENCE, "nothing is compacted");
            most = most.max(Usage::of(&relay).unwrap().descriptors);
            sleep(Duration::from_millis(50)).await;
        }
        drop((inside, mute));
        let room = async { while fetch(relay.address(), &name("crowd/before")).await.is_err() {} };
        timeout(PATIENCE, room).await.expect("there is room again");
        insiders.go_on("after ").await;
    }
    println!("{most} of {DESCRIPTORS} descriptors used");
    let told = std::fs::read_to_string(&log).unwrap();
    assert!(told.contains("connections are turned away"), "{told}");
    relay.kill().await.unwrap();
    let relay = Relay::start(&data).await.unwrap();
    for Shared { ours, typed, .. } in &insiders.documents {
        let stored = fetch(relay.address(), &name(ours.name())).await.unwrap().text().unwrap();
        assert_eq!(stored, *typed, "{}", ours.name());
    }
}

/// Where the limit is so low that nothing is left for the relay itself, the system refuses to accept, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_cannot_accept_waits_without_spinning_and_tells_it() {
    let folder = tempfile::tempdir().unwrap();
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let relay = Relay::start_after(&format!("exec 2>{}", log.display()), &data, &[]).await.unwrap();
    let mut insiders = Insiders::start(&relay).await;
    insiders.open("crowd/before").await;
    insiders.go_on("before ").await;
    let limit = |soft: u64| {
        let id = relay.id().unwrap();
        let maximum = getrlimit(Resource::Nofile).maximum;
        prlimit(Some(id), Resource::Nofile, Rlimit { current: Some(soft), maximum }).unwrap();
    };
    limit(Usage::of(&relay).unwrap().descriptors as u64);
    let waiting: Vec<_> =
        futures_util::future::join_all((0..8).map(|_| TcpStream::connect(relay.address()))).await;
    let before = Usage::of(&relay).unwrap();
    let start = Instant::now();
    insiders.go_on("none left ").await;
    sleep(Duration::from_secs(2)).await;
    let (cpu, passed) = (Usage::of(&relay).unwrap().cpu - before.cpu, start.elapsed());
    assert!(cpu < passed / 4, "{cpu:?} of {passed:?} spent");
    limit(1024);
    drop(waiting);
    timeout(PATIENCE, fetch(relay.address(), &name("crowd/before")))
        .await
        .expect("it accepts again")
        .unwrap();
    let told = std::fs::read_to_string(&log).unwrap();
    // Not at each try.
    assert!((1..4).contains(&told.matches("connections are turned away").count()), "{told}");
    assert!(relay.figure("tidewell_connections_turned_away_total").await.unwrap() >= 4.0);
    insiders.go_on("after").await;
}
