//! A document that nobody can build, among healthy ones. With `TIDEWELL_HANG=1` also one that takes for ever, which
//! takes a minute.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Output;
use tidewell_client::yrs::Doc;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::protocol::RelayMessage;
use tidewell_sync_core::replica::new_doc;
use tidewell_tests::raw::{TidewellSocket, fetch};
use tidewell_tests::relay::{PATIENCE, Relay, binary};
use tidewell_tests::seed::amount;
use tokio::process::Command;
use tokio::time::timeout;

const HEALTHY: u64 = 3;

/// A document and its only writer, on a connection of its own.
struct Written {
    name: DocumentName,
    doc: Doc,
    socket: TidewellSocket,
    pushes: u64,
    text: String,
}

impl Written {
    async fn start(relay: &Relay, name: &str) -> Written {
        let name = DocumentName::parse(name).unwrap();
        let mut socket = TidewellSocket::connect(relay.address()).await.unwrap();
        socket.open(1, &name).await.unwrap();
        Written { name, doc: new_doc(7), socket, pushes: 0, text: String::new() }
    }

    async fn write(&mut self, text: &str) {
        self.pushes += 1;
        self.text.push_str(text);
        self.socket.append(1, &self.doc, self.pushes, text).await.unwrap();
    }

    /// As much as is worth a compaction, in two rows: a single one cannot get better.
    async fn write_much(&mut self, word: &str) {
        for _ in 0..2 {
            self.write(&word.repeat((200 << 10) / word.len())).await;
        }
    }

    /// It goes on: what is written is committed, somebody who was there reads it, and a fresh client has all of it.
    async fn goes_on(&mut self, relay: &Relay) {
        let mut reader = TidewellSocket::connect(relay.address()).await.unwrap();
        reader.open(1, &self.name).await.unwrap();
        let before = loop {
            if let RelayMessage::Opened { sequence, .. } = reader.next().await.unwrap() {
                break sequence;
            }
        };
        self.write("!").await;
        let told = async {
            loop {
                if let RelayMessage::Updates { through, .. } = reader.next().await.unwrap()
                    && through > before
                {
                    return;
                }
            }
        };
        timeout(PATIENCE, told).await.expect("others are told");
        self.is_there(relay).await;
    }

    async fn is_there(&self, relay: &Relay) {
        let stored = fetch(relay.address(), &self.name).await.unwrap().text().unwrap();
        assert!(stored == self.text, "{}: {} of {} bytes", self.name, stored.len(), self.text.len());
    }
}

/// A materializer that some documents are too much for, until it is mended.
struct Sickly {
    folder: tempfile::TempDir,
}

impl Sickly {
    fn new() -> Sickly {
        Sickly { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn mend(&self) {
        File::create_new(self.path("mended")).unwrap();
    }

    /// Starts a relay that has it.
    async fn start(&self) -> Relay {
        let surroundings = format!(
            "export TIDEWELL_MATERIALIZER='{}' TIDEWELL_UNLUCKY='{}' TIDEWELL_MENDED='{}'",
            binary("tidewell").unwrap().display(),
            self.path("unlucky").display(),
            self.path("mended").display()
        );
        let program = binary("sickly-materializer").unwrap();
        let arguments = ["--materializer", program.to_str().unwrap()];
        Relay::start_after(&surroundings, &self.path("data"), &arguments).await.unwrap()
    }
}

/// Asks a relay to try a document again; answers whether it was in quarantine.
async fn release(relay: &Relay, document: &str) -> bool {
    let answer =
        relay.request("POST /v1/release", &format!("{{\"document\": \"{document}\"}}")).await.unwrap();
    match answer.as_str() {
        "{\"released\":true}" => true,
        "{\"released\":false}" => false,
        other => panic!("{other}"),
    }
}

async fn tidewell(arguments: &[&str], data: &Path) -> Output {
    let mut command = Command::new(binary("tidewell").unwrap());
    command.args(arguments).arg("--data").arg(data).output().await.unwrap()
}

/// The documents in quarantine and why.
async fn quarantined(data: &Path) -> Vec<(String, String)> {
    let output = tidewell(&["quarantine", "list"], data).await;
    assert!(output.status.success(), "{output:?}");
    let list = String::from_utf8(output.stdout).unwrap();
    let fields = |line: &str| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
    list.lines().map(fields).map(|fields| (fields[2].clone(), fields[1].clone())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_nobody_can_build_harms_no_other_one_and_is_compacted_once_it_is_released() {
    let hangs = amount("TIDEWELL_HANG", 0) > 0;
    let sickly = Sickly::new();
    let data = sickly.path("data");
    let relay = sickly.start().await;
    let mut poisoned = Written::start(&relay, "patient/poisoned").await;
    poisoned.write_much("<poison>").await;
    let mut expected = vec![("patient/poisoned".to_owned(), "crash".to_owned())];
    let mut others = vec![Written::start(&relay, "patient/unlucky").await];
    others[0].write_much("<unlucky>").await;
    if hangs {
        let mut hanging = Written::start(&relay, "patient/hanging").await;
        hanging.write_much("<hang>").await;
        expected.insert(0, ("patient/hanging".to_owned(), "timeout".to_owned()));
    }
    for number in 0..HEALTHY {
        let mut healthy = Written::start(&relay, &format!("patient/healthy/{number}")).await;
        healthy.write_much("healthy ").await;
        others.push(healthy);
    }
    relay.reaches("tidewell_quarantined", expected.len() as f64).await.unwrap();
    // Whoever is killed once, by somebody else, was only unlucky.
    relay.reaches("tidewell_compactions_total", others.len() as f64).await.unwrap();
    for document in others.iter_mut().chain([&mut poisoned]) {
        document.goes_on(&relay).await;
    }
    let released = tidewell(&["quarantine", "release", "patient/poisoned"], &data).await;
    let told = String::from_utf8(released.stderr).unwrap();
    assert!(!released.status.success() && told.contains("in use"), "while the relay runs: {told}");

    relay.kill().await.unwrap();
    assert_eq!(quarantined(&data).await, expected, "a kill does not end it");
    let relay = sickly.start().await;
    assert_eq!(relay.figure("tidewell_quarantined").await.unwrap(), expected.len() as f64);
    for document in others.iter_mut().chain([&mut poisoned]) {
        document.socket = TidewellSocket::connect(relay.address()).await.unwrap();
        document.socket.open(1, &document.name).await.unwrap();
        document.write_much("more ").await;
    }
    relay.reaches("tidewell_compactions_total", others.len() as f64).await.unwrap();
    poisoned.goes_on(&relay).await;
    assert_eq!(relay.figure("tidewell_materializer_restarts_total").await.unwrap(), 0.0, "it is not tried");

    // Released before anything is mended: it is tried, and put aside again.
    assert!(relay.terminate().await.unwrap().success());
    assert!(tidewell(&["quarantine", "release", "patient/poisoned"], &data).await.status.success());
    expected.pop();
    assert_eq!(quarantined(&data).await, expected);
    let relay = sickly.start().await;
    poisoned.is_there(&relay).await;
    relay.reaches("tidewell_quarantined", expected.len() as f64 + 1.0).await.unwrap();
    poisoned.is_there(&relay).await;

    // With a materializer that can, it is compacted.
    assert!(relay.terminate().await.unwrap().success());
    assert!(tidewell(&["quarantine", "release", "patient/poisoned"], &data).await.status.success());
    let relay = Relay::start(&data).await.unwrap();
    poisoned.is_there(&relay).await;
    relay.reaches("tidewell_compactions_total", 1.0).await.unwrap();
    for document in others.iter().chain([&poisoned]) {
        document.is_there(&relay).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_is_released_while_the_relay_runs_and_nobody_else_notices() {
    let sickly = Sickly::new();
    let data = sickly.path("data");
    let relay = sickly.start().await;
    let mut poisoned = Written::start(&relay, "patient/poisoned").await;
    poisoned.write_much("<poison>").await;
    let mut healthy = Written::start(&relay, "patient/healthy").await;
    healthy.write_much("healthy ").await;
    relay.reaches("tidewell_quarantined", 1.0).await.unwrap();
    relay.reaches("tidewell_compactions_total", 1.0).await.unwrap();
    let expected = [("patient/poisoned".to_owned(), "crash".to_owned())];
    assert_eq!(quarantined(&data).await, expected, "while the relay runs");
    for other in ["patient/healthy", "patient/never"] {
        assert!(!release(&relay, other).await);
    }
    let restarts = "tidewell_materializer_restarts_total";
    let before = relay.figure(restarts).await.unwrap();

    // Before anything is mended: it is tried, and put aside again.
    assert!(release(&relay, "patient/poisoned").await);
    relay.reaches(restarts, before + 2.0).await.unwrap();
    relay.reaches("tidewell_quarantined", 1.0).await.unwrap();
    for document in [&mut poisoned, &mut healthy] {
        document.goes_on(&relay).await;
    }
    assert_eq!(quarantined(&data).await, expected);

    sickly.mend();
    assert!(release(&relay, "patient/poisoned").await);
    relay.reaches("tidewell_compactions_total", 2.0).await.unwrap();
    assert_eq!(relay.figure("tidewell_quarantined").await.unwrap(), 0.0);
    assert!(!release(&relay, "patient/poisoned").await, "it was");
    for document in [&mut poisoned, &mut healthy] {
        document.goes_on(&relay).await;
    }
    // It is compacted from now on, as others are.
    poisoned.write_much("<poison>").await;
    relay.reaches("tidewell_compactions_total", 3.0).await.unwrap();
    relay.kill().await.unwrap();
    assert_eq!(quarantined(&data).await, [], "a kill does not undo it");
    let relay = sickly.start().await;
    for document in [&poisoned, &healthy] {
        document.is_there(&relay).await;
    }
}
