//! The power fails: the disk holds what was synced and, of the rest, what chance leaves of it. `TIDEWELL_POWER_LOSSES`
//! and `TIDEWELL_DEVICE_POWER_LOSSES` set how often.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;
use rustix::io::Errno;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidewell_client::yrs::{Doc, Text, Transact, WriteTxn};
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::protocol::{ClientMessage, RelayMessage};
use tidewell_sync_core::replica::new_doc;
use tidewell_sync_core::y_protocol::YMessage;
use tidewell_tests::device::{Device, insert};
use tidewell_tests::disk::Disk;
use tidewell_tests::raw::{StockSocket, TidewellSocket};
use tidewell_tests::record::{Promise, Proof, Record};
use tidewell_tests::relay::{PATIENCE, Relay, binary};
use tidewell_tests::seed::{amount, generator, seed};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const DOCUMENTS: u64 = 3;
const WRITERS: u64 = 6;

/// In a session the relay commits, compacts (a document must be quiet for 2 s for that) and checkpoints (every 5 s).
const BURSTS: u64 = 3;
const BURST_PUSHES: u64 = 200;
const QUIET: Duration = Duration::from_millis(2500);

/// Power losses that are looked at for each session.
const LOSSES_EACH: u64 = 50;

/// What the relay counts when it notices that its disk fails.
const COMMITS_FAILED: &str = "tidewell_commits_failed_total";

fn document(number: u64) -> DocumentName {
    DocumentName::parse(&format!("power/{}", number % DOCUMENTS)).unwrap()
}

/// A promise, and the moment of the disk at which it had been made.
struct Made {
    moment: u64,
    document: DocumentName,
    proof: Proof,
    promise: Promise,
}

#[derive(Clone)]
struct Session {
    disk: Arc<Disk>,
    made: Arc<Mutex<Vec<Made>>>,
    relay: SocketAddr,
}

impl Session {
    fn note(&self, document: &DocumentName, proof: Proof, promise: Promise) {
        let moment = self.disk.moment().unwrap();
        self.made.lock().unwrap().push(Made { moment, document: document.clone(), proof, promise });
    }
}

fn edit(doc: &Doc, random: &mut StdRng) -> Bytes {
    let mut transaction = doc.transact_mut();
    let text = transaction.get_or_insert_text("t");
    let length = text.len(&transaction);
    if length > 100 && random.random_ratio(1, 5) {
        text.remove_range(&mut transaction, random.random_range(0..length - 20), 20);
    } else {
        let typed = "power ".repeat(random.random_range(1..20));
        text.insert(&mut transaction, random.random_range(0..=length), &typed);
    }
    transaction.encode_update_v1().into()
}

/// Pushes one update after the other, and notes each acknowledgement.
async fn write(session: Session, number: u64, mut random: StdRng) {
    let name = document(number);
    let doc = new_doc(number + 1);
    let mut socket = TidewellSocket::connect(session.relay).await.unwrap();
    socket.open(1, &name).await.unwrap();
    for burst in 0..BURSTS {
        for push in 1..=BURST_PUSHES {
            let (number, update) = (burst * BURST_PUSHES + push, edit(&doc, &mut random));
            let push = ClientMessage::Push { channel: 1, number, update: update.clone() };
            socket.say(&push).await.unwrap();
            while !matches!(socket.next().await.unwrap(), RelayMessage::Ack { number: acknowledged, .. } if acknowledged == number)
            {
            }
            session.note(&name, Proof::Acknowledged, Promise::Update(update));
        }
        sleep(QUIET).await;
    }
}

/// Notes what a stock client is told.
async fn read(session: Session, name: DocumentName) {
    let mut socket = StockSocket::connect(session.relay, &name).await.unwrap();
    while let Ok(message) = socket.next().await {
        if let YMessage::Update(update) | YMessage::SyncStep2(update) = message {
            session.note(&name, Proof::Received, Promise::Update(update));
        }
    }
}

/// How a disk is while a relay writes to it.
#[derive(Clone, Copy)]
enum Health {
    Sound,
    FailsNowAndThen,
}

/// Has the disk fail now and then: nothing can be written, nothing can be synced, or neither. The first time nothing can
/// be synced, until a commit of the relay has failed.
async fn fail(disk: &Disk, relay: &Relay, random: &mut StdRng) {
    let errors = [Errno::IO, Errno::NOSPC, Errno::ROFS];
    sleep(Duration::from_millis(random.random_range(100..1000))).await;
    disk.fail_syncs(Some(errors[random.random_range(0..errors.len())])).unwrap();
    relay.reaches(COMMITS_FAILED, 1.0).await.unwrap();
    loop {
        disk.fail_writes(None).unwrap();
        disk.fail_syncs(None).unwrap();
        sleep(Duration::from_millis(random.random_range(100..1000))).await;
        let error = errors[random.random_range(0..errors.len())];
        let which = random.random_range(1..4);
        disk.fail_writes((which & 1 != 0).then_some(error)).unwrap();
        disk.fail_syncs((which & 2 != 0).then_some(error)).unwrap();
        sleep(Duration::from_millis(random.random_range(1..300))).await;
    }
}

/// What came of a relay's run, from its first start to its end.
struct Written {
    disk: Arc<Disk>,
    made: Vec<Made>,
    commits_failed: f64,
}

/// Runs a relay on a disk that is written down.
async fn session(random: &mut StdRng, health: Health) -> Written {
    let data = tempfile::tempdir().unwrap();
    let disk = Arc::new(Disk::of(data.path()).unwrap());
    let relay = Relay::start_in(data.path(), &[], &disk.variables()).await.unwrap();
    let made = Arc::new(Mutex::default());
    let session = Session { disk: disk.clone(), made: made.clone(), relay: relay.address() };
    let mut readers = JoinSet::new();
    (0..DOCUMENTS).for_each(|number| drop(readers.spawn(read(session.clone(), document(number)))));
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        writers.spawn(write(session.clone(), number, generator(random.random(), number)));
    }
    let writing = async {
        while let Some(writer) =
            timeout(PATIENCE, writers.join_next()).await.expect("all is acknowledged in the end")
        {
            writer.unwrap();
        }
    };
    let mut faults = generator(random.random(), WRITERS);
    match health {
        Health::Sound => writing.await,
        Health::FailsNowAndThen => tokio::select! {
            () = writing => {}
            () = fail(&disk, &relay, &mut faults) => {}
        },
    }
    disk.fail_writes(None).unwrap();
    disk.fail_syncs(None).unwrap();
    let commits_failed = relay.figure(COMMITS_FAILED).await.unwrap();
    if random.random() {
        relay.terminate().await.unwrap();
    } else {
        relay.kill().await.unwrap();
    }
    readers.shutdown().await;
    drop(session);
    Written { disk, made: Arc::into_inner(made).unwrap().into_inner().unwrap(), commits_failed }
}

/// A moment for the power to fail: that of a promise, at which it is most likely to be broken, or any other.
fn moment(disk: &Disk, made: &[Made], random: &mut StdRng) -> u64 {
    match random.random_range(0..4) {
        // Also while the store is made.
        0 => random.random_range(0..made[0].moment),
        1 => random.random_range(0..=disk.moment().unwrap()),
        _ => made[random.random_range(0..made.len())].moment,
    }
}

/// Loses power so often, and looks each time for all that was promised before. Answers for how many promises, and how many
/// commits failed before.
async fn lose_power(seed: u64, losses: u64, health: Health) -> (usize, f64) {
    let mut random = generator(seed, 0);
    let (mut lost, mut looked_for, mut failed) = (0, 0, 0.0);
    while lost < losses {
        let Written { disk, made, commits_failed } = session(&mut random, health).await;
        failed += commits_failed;
        for _ in 0..LOSSES_EACH.min(losses - lost) {
            let moment = moment(&disk, &made, &mut random);
            let record = Record::default();
            for Made { document, proof, promise, .. } in made.iter().filter(|made| made.moment <= moment) {
                record.note(document, *proof, promise.clone());
            }
            let data = tempfile::tempdir().unwrap();
            disk.history(moment).unwrap().lose_power(&mut random, data.path()).unwrap();
            let at = format!("seed {seed}, power loss {lost} at {moment}");
            let relay = Relay::start(data.path()).await.unwrap_or_else(|error| panic!("{at}: {error:#}"));
            let verified = record.verify(relay.address(), true).await;
            looked_for += verified.unwrap_or_else(|error| panic!("{at}: {error:.300}"));
            assert!(relay.terminate().await.unwrap().success(), "{at}");
            let verify = Command::new(binary("tidewell").unwrap())
                .args(["verify", "--data"])
                .arg(data.path())
                .output();
            let verify = verify.unwrap();
            assert!(verify.status.success(), "{at}: {}", String::from_utf8_lossy(&verify.stderr));
            lost += 1;
        }
    }
    assert!(looked_for > 0, "no promise was looked for");
    (looked_for, failed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_acknowledged_or_received_survives_a_power_loss_of_the_relay() {
    let (seed, losses) = (seed(), amount("TIDEWELL_POWER_LOSSES", 12));
    let (promises, commits_failed) = lose_power(seed, losses, Health::Sound).await;
    assert_eq!(commits_failed, 0.0);
    println!("seed {seed}: {losses} power losses, {promises} promises");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_now_and_then_is_not_believed_to_hold_what_it_could_not_sync() {
    let (seed, losses) = (seed(), amount("TIDEWELL_POWER_LOSSES", 12));
    let (promises, commits_failed) = lose_power(seed, losses, Health::FailsNowAndThen).await;
    assert!(commits_failed > 0.0, "the relay has never noticed that its disk failed");
    println!("seed {seed}: {losses} power losses after {commits_failed} failed commits, {promises} promises");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_device_saved_survives_a_power_loss_of_the_device() {
    const NAME: &str = "power/device";
    let (seed, losses) = (seed(), amount("TIDEWELL_DEVICE_POWER_LOSSES", 20));
    let mut random = generator(seed, 0);
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::of(directory.path()).unwrap();
    // Nobody listens there: all that it has is on its disk.
    let url = "ws://127.0.0.1:9/v1/sync";
    let mut device = Device::start_with(url, NAME, directory.path(), &disk.variables()).await;
    let opened = disk.moment().unwrap();
    let mut saved: Vec<(u64, String)> = Vec::new();
    for burst in 0..60 {
        let tokens: Vec<String> =
            (0..random.random_range(1..6)).map(|at| format!("[{burst}-{at}]")).collect();
        for token in &tokens {
            device.ask(insert(token)).await;
        }
        device.ask(serde_json::json!({ "do": "saved_device" })).await;
        let moment = disk.moment().unwrap();
        saved.extend(tokens.into_iter().map(|token| (moment, token)));
    }
    device.kill().await;
    let mut looked_for = 0;
    for loss in 0..losses {
        let moment = match random.random_range(0..4) {
            0 => random.random_range(0..=opened),
            1 => random.random_range(0..=disk.moment().unwrap()),
            _ => saved[random.random_range(0..saved.len())].0,
        };
        let after = tempfile::tempdir().unwrap();
        disk.history(moment).unwrap().lose_power(&mut random, after.path()).unwrap();
        let mut device = Device::start(url, NAME, after.path()).await;
        let text = device.text().await;
        for (_, token) in saved.iter().filter(|(at, _)| *at <= moment) {
            let count = text.matches(token.as_str()).count();
            assert_eq!(count, 1, "seed {seed}, power loss {loss} at {moment}: {token} in {text}");
            looked_for += 1;
        }
        // It goes on.
        device.ask(insert("[after]")).await;
        device.ask(serde_json::json!({ "do": "saved_device" })).await;
        device.kill().await;
    }
    assert!(looked_for > 0, "no edit was looked for");
    println!("seed {seed}: {losses} power losses of a device, {looked_for} device-saved edits");
}
