//! The native client and the real relay: restarts, restored backups, devices that are killed.
//! `TIDEWELL_DEVICE_KILLS` sets how often a device is killed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

use rand::Rng;
use serde_json::json;
use std::path::Path;
use tidewell_client::yrs::updates::decoder::Decode;
use tidewell_client::yrs::{Doc, GetString, ReadTxn, Transact, Update};
use tidewell_client::{Client, Code, Connection, Document, OpenError, Options, Store};
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::limits::UPDATE_BYTES_MAX;
use tidewell_tests::device::{Device, insert};
use tidewell_tests::proxy::{Fault, Proxy};
use tidewell_tests::raw::fetch;
use tidewell_tests::relay::{PATIENCE, Relay};
use tidewell_tests::seed::{amount, generator, seed};
use tokio::time::timeout;

const NAME: &str = "acme/list/42";

fn name() -> DocumentName {
    DocumentName::parse(NAME).unwrap()
}

async fn open(proxy: &Proxy, store: Store) -> (Client, Document) {
    let url = format!("ws://{}/v1/sync", proxy.address());
    let client = Client::open(Options::new(url, store)).await.unwrap();
    let document = client.document(NAME).await.unwrap();
    (client, document)
}

async fn saved_relay(document: &Document) {
    timeout(PATIENCE, document.saved_relay()).await.expect("the relay is there").unwrap();
}

async fn has_text(document: &Document, expected: &str) {
    has_text_in(document, "t", expected).await;
}

async fn has_text_in(document: &Document, root: &str, expected: &str) {
    let mut changes = document.changes();
    let wait = async {
        while document.text(root).await.unwrap() != expected {
            changes.changed().await.unwrap();
        }
    };
    if timeout(PATIENCE, wait).await.is_err() {
        panic!("{expected:?} never came; there is {:?}", document.text(root).await);
    }
}

fn lead(proxy: &Proxy, relay: Option<&Relay>) {
    proxy.apply(Fault::Target { address: relay.map(Relay::address) });
}

#[tokio::test]
async fn what_is_written_while_paused_goes_out_and_comes_in_after_resuming() {
    let data = tempfile::tempdir().unwrap();
    let relay = Relay::start(data.path()).await.unwrap();
    let proxy = Proxy::start(Some(relay.address())).await.unwrap();
    let (first, ours) = open(&proxy, Store::Memory).await;
    let (_second, theirs) = open(&proxy, Store::Memory).await;
    ours.insert_text("t", 0, "before ").await.unwrap();
    // Others may have it before its author has its acknowledgement.
    saved_relay(&ours).await;
    has_text(&theirs, "before ").await;
    first.pause().await;
    let mut status = ours.status();
    status.wait_for(|status| status.connection == Connection::Paused).await.unwrap();
    ours.insert_text("t", 7, "ours").await.unwrap();
    theirs.insert_text("t", 0, "theirs ").await.unwrap();
    saved_relay(&theirs).await;
    assert_eq!(ours.status().borrow().unsent.edits, 1);
    assert_eq!(ours.text("t").await.unwrap(), "before ours");
    first.resume().await;
    saved_relay(&ours).await;
    has_text(&ours, "theirs before ours").await;
    has_text(&theirs, "theirs before ours").await;
    assert_eq!(ours.status().borrow().unsent.edits, 0);
}

#[tokio::test]
async fn a_relay_that_restarts_in_good_order_is_come_back_to_without_loss() {
    let data = tempfile::tempdir().unwrap();
    let relay = Relay::start(data.path()).await.unwrap();
    let proxy = Proxy::start(Some(relay.address())).await.unwrap();
    let (_client, document) = open(&proxy, Store::Memory).await;
    document.insert_text("t", 0, "one ").await.unwrap();
    saved_relay(&document).await;
    lead(&proxy, None);
    assert!(relay.terminate().await.unwrap().success(), "SIGTERM ends it in good order");
    document.insert_text("t", 4, "two ").await.unwrap();
    let relay = Relay::start(data.path()).await.unwrap();
    lead(&proxy, Some(&relay));
    saved_relay(&document).await;
    assert_eq!(fetch(relay.address(), &name()).await.unwrap().text().unwrap(), "one two ");
}

#[tokio::test]
async fn a_relay_restored_from_an_old_backup_gets_back_what_its_devices_have() {
    let (data, backup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let relay = Relay::start(data.path()).await.unwrap();
    let proxy = Proxy::start(Some(relay.address())).await.unwrap();
    let (_first, ours) = open(&proxy, Store::Memory).await;
    let (second, theirs) = open(&proxy, Store::Memory).await;
    ours.insert_text("t", 0, "backed up, ").await.unwrap();
    saved_relay(&ours).await;
    lead(&proxy, None);
    assert!(relay.terminate().await.unwrap().success());
    copy(data.path(), backup.path());

    let relay = Relay::start(data.path()).await.unwrap();
    lead(&proxy, Some(&relay));
    ours.insert_text("t", 11, "lost at the relay, ").await.unwrap();
    saved_relay(&ours).await;
    has_text(&theirs, "backed up, lost at the relay, ").await;
    theirs.delete_text("t", 0, 11).await.unwrap();
    saved_relay(&theirs).await;
    has_text(&ours, "lost at the relay, ").await;
    // The one who deleted does not come back: the other one has to bring it all.
    second.close().await.unwrap();
    lead(&proxy, None);
    relay.kill().await.unwrap();

    let relay = Relay::start(backup.path()).await.unwrap();
    assert_eq!(fetch(relay.address(), &name()).await.unwrap().text().unwrap(), "backed up, ");
    lead(&proxy, Some(&relay));
    let (_third, fresh) = open(&proxy, Store::Memory).await;
    has_text(&fresh, "lost at the relay, ").await;
    ours.insert_text("t", 0, "all of it: ").await.unwrap();
    saved_relay(&ours).await;
    has_text(&fresh, "all of it: lost at the relay, ").await;
}

/// Copied by hand while the relay was stopped, and named anew when it is started.
#[tokio::test]
async fn a_restored_relay_that_has_overtaken_a_device_gets_back_what_that_device_has() {
    overtakes_a_device(
        async |relay, data, restored| {
            assert!(relay.terminate().await.unwrap().success());
            copy(data, restored);
            Relay::start(data).await.unwrap()
        },
        &["--restored"],
    )
    .await;
}

/// Copied while the relay runs.
#[tokio::test]
async fn a_relay_that_was_restored_with_its_tools_gets_back_what_a_device_has_that_it_has_overtaken() {
    overtakes_a_device(
        async |relay, data, restored| {
            let file = restored.join("backup.db");
            let file = file.to_str().unwrap();
            tidewell(&["backup", "--data", data.to_str().unwrap(), "--to", file]).await;
            tidewell(&["restore", "--from", file, "--data", restored.to_str().unwrap()]).await;
            relay
        },
        &[],
    )
    .await;
}

/// Runs the relay's program to its end.
async fn tidewell(arguments: &[&str]) {
    let program = tidewell_tests::relay::binary("tidewell").unwrap();
    let output = tokio::process::Command::new(program).args(arguments).output().await.unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// New commits have taken the numbers of those that are lost, each of a device of its own and none upon another, so that
/// the history's name alone tells a device that it has missed some.
/// `restore` copies what the relay has from the first directory to the second, which is served with `arguments` later.
async fn overtakes_a_device(restore: impl AsyncFnOnce(Relay, &Path, &Path) -> Relay, arguments: &[&str]) {
    let (data, backup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let relay = Relay::start(data.path()).await.unwrap();
    let proxy = Proxy::start(Some(relay.address())).await.unwrap();
    let (_client, ours) = open(&proxy, Store::Memory).await;
    ours.insert_text("t", 0, "backed up, ").await.unwrap();
    saved_relay(&ours).await;
    lead(&proxy, None);
    let relay = restore(relay, data.path(), backup.path()).await;
    lead(&proxy, Some(&relay));
    ours.insert_text("t", 11, "lost at the relay").await.unwrap();
    saved_relay(&ours).await;
    lead(&proxy, None);
    relay.kill().await.unwrap();

    let relay = Relay::start_with(backup.path(), arguments).await.unwrap();
    let direct = Proxy::start(Some(relay.address())).await.unwrap();
    let (_other, theirs) = open(&direct, Store::Memory).await;
    has_text(&theirs, "backed up, ").await;
    let roots = ["one", "two", "three"];
    for root in roots {
        let (_client, new) = open(&direct, Store::Memory).await;
        new.insert_text(root, 0, "new").await.unwrap();
        saved_relay(&new).await;
    }
    lead(&proxy, Some(&relay));
    for device in [&ours, &theirs] {
        has_text(device, "backed up, lost at the relay").await;
        for root in roots {
            has_text_in(device, root, "new").await;
        }
    }
}

#[tokio::test]
async fn an_edit_that_is_too_large_is_refused_with_a_code_and_other_documents_go_on() {
    let data = tempfile::tempdir().unwrap();
    let relay = Relay::start(data.path()).await.unwrap();
    let proxy = Proxy::start(Some(relay.address())).await.unwrap();
    let (client, document) = open(&proxy, Store::Memory).await;
    let other = client.document("acme/other").await.unwrap();
    document.insert_text("t", 0, "small").await.unwrap();
    saved_relay(&document).await;
    document.insert_text("t", 5, &"x".repeat(UPDATE_BYTES_MAX)).await.unwrap();
    let refused = timeout(PATIENCE, document.saved_relay()).await.expect("an answer").unwrap_err();
    assert_eq!(refused.code(), Code::UpdateTooLarge);
    assert_eq!(document.text("t").await.unwrap().len(), 5 + UPDATE_BYTES_MAX, "it is kept here");
    other.insert_text("t", 0, "goes on").await.unwrap();
    saved_relay(&other).await;
    proxy.apply(Fault::Reset);
    other.insert_text("t", 7, " and on").await.unwrap();
    saved_relay(&other).await;
    assert_eq!(fetch(relay.address(), &name()).await.unwrap().text().unwrap(), "small");
}

#[tokio::test]
async fn a_refused_edit_becomes_a_branch_on_disk_and_the_document_goes_on_without_it() {
    let (data, device) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = || Store::Directory(device.path().to_path_buf());
    let relay = Relay::start(data.path()).await.unwrap();
    let proxy = Proxy::start(Some(relay.address())).await.unwrap();
    let (client, document) = open(&proxy, store()).await;
    document.insert_text("t", 0, "small").await.unwrap();
    saved_relay(&document).await;
    document.insert_text("t", 5, &"x".repeat(UPDATE_BYTES_MAX)).await.unwrap();
    document.insert_text("t", 0, "on top ").await.unwrap();
    let refused = timeout(PATIENCE, document.saved_relay()).await.expect("an answer").unwrap_err();
    assert_eq!(refused.code(), Code::UpdateTooLarge);
    assert_eq!(document.text("t").await.unwrap(), "small");
    document.insert_text("t", 5, " goes on").await.unwrap();
    saved_relay(&document).await;
    assert_eq!(fetch(relay.address(), &name()).await.unwrap().text().unwrap(), "small goes on");
    let branches = document.branches().await.unwrap();
    assert_eq!(
        branches.iter().map(|branch| (branch.code, branch.edits())).collect::<Vec<_>>(),
        [(Code::UpdateTooLarge, 2)]
    );

    client.close().await.unwrap();
    let (_client, document) = open(&proxy, store()).await;
    assert_eq!(document.text("t").await.unwrap(), "small goes on");
    let again = document.branches().await.unwrap();
    assert!(again == branches, "it is on disk");
    let export = again.first().unwrap().export().unwrap();
    let state = document.read(|transaction| transaction.encode_diff_v1(&Default::default())).await.unwrap();
    let whole = Doc::new();
    for update in [state, export.to_vec()] {
        whole.transact_mut().apply_update(Update::decode_v1(&update).unwrap()).unwrap();
    }
    let text = whole.get_or_insert_text("t").get_string(&whole.transact());
    assert!(text.starts_with("on top small") && text.len() == 20 + UPDATE_BYTES_MAX, "{}", text.len());
}

#[tokio::test]
async fn a_link_that_swallows_everything_is_given_up_and_made_anew() {
    let data = tempfile::tempdir().unwrap();
    let relay = Relay::start(data.path()).await.unwrap();
    let proxy = Proxy::start(Some(relay.address())).await.unwrap();
    let (client, document) = open(&proxy, Store::Memory).await;
    document.insert_text("t", 0, "before ").await.unwrap();
    saved_relay(&document).await;
    let mut connection = client.connection();
    proxy.apply(Fault::HalfOpen { on: true });
    document.insert_text("t", 7, "swallowed ").await.unwrap();
    let given_up = connection.wait_for(|now| matches!(now, Connection::Waiting(Some(Code::Timeout))));
    timeout(PATIENCE, given_up).await.expect("silence is noticed").unwrap();
    proxy.apply(Fault::HalfOpen { on: false });
    saved_relay(&document).await;
    assert_eq!(fetch(relay.address(), &name()).await.unwrap().text().unwrap(), "before swallowed ");
}

fn copy(from: &Path, to: &Path) {
    for file in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_device_saved_survives_kill_9_of_the_device_and_reaches_the_relay() {
    let (seed, kills) = (seed(), amount("TIDEWELL_DEVICE_KILLS", 20));
    let mut random = generator(seed, 0);
    let (data, directory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let relay = Relay::start(data.path()).await.unwrap();
    let proxy = Proxy::start(None).await.unwrap();
    let url = format!("ws://{}/v1/sync", proxy.address());
    let mut saved: Vec<String> = Vec::new();
    for kill in 0..kills {
        // Sometimes it can reach the relay, sometimes not.
        lead(&proxy, random.random::<bool>().then_some(&relay));
        let mut device = Device::start(&url, NAME, directory.path()).await;
        let text = device.text().await;
        let lost: Vec<&String> = saved.iter().filter(|token| text.matches(*token).count() != 1).collect();
        assert!(lost.is_empty(), "seed {seed}, kill {kill}: {lost:?} not once in {text}");
        for burst in 0..random.random_range(0..12) {
            let tokens: Vec<String> =
                (0..random.random_range(1..6)).map(|index| format!("[{kill}-{burst}-{index}]")).collect();
            for token in &tokens {
                device.ask(insert(token)).await;
            }
            device.ask(json!({ "do": "saved_device" })).await;
            saved.extend(tokens);
        }
        // It dies in the middle of some more.
        for index in 0..random.random_range(0..6) {
            device.say(1 + index, insert(&format!("[{kill}-last-{index}]"))).await;
        }
        for _ in 0..random.random_range(0..2) {
            device.say(100, json!({ "do": "saved_device" })).await;
        }
        device.kill().await;
    }
    lead(&proxy, Some(&relay));
    let mut device = Device::start(&url, NAME, directory.path()).await;
    device.ask(json!({ "do": "saved_relay" })).await;
    assert_eq!(device.ask(json!({ "do": "unsent" })).await, 0);
    let text = fetch(relay.address(), &name()).await.unwrap().text().unwrap();
    assert!(saved.iter().all(|token| text.matches(token.as_str()).count() == 1));
    assert_eq!(text, device.text().await);
    println!("seed {seed}: {kills} kills, {} device-saved edits, all at the relay", saved.len());
}

#[tokio::test]
async fn wss_goes_to_relays_whose_certificate_is_trusted_and_to_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = folder.path().join("certificate.pem");
    let key = folder.path().join("key.pem");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&certificates, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tls = ["--tls-certificate", certificates.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let relay = Relay::start_with(&folder.path().join("data"), &tls).await.unwrap();
    let url = format!("wss://localhost:{}/v1/sync", relay.address().port());
    let trusting = |certificates| Options { certificates, ..Options::new(url.clone(), Store::Memory) };

    let client = Client::open(trusting(made.cert.pem().into_bytes())).await.unwrap();
    let document = client.document(NAME).await.unwrap();
    document.insert_text("t", 0, "over TLS").await.unwrap();
    saved_relay(&document).await;

    // Those that the system trusts have not signed it.
    let stranger = Client::open(trusting(Vec::new())).await.unwrap();
    let mut connection = stranger.connection();
    connection.wait_for(|connection| *connection == Connection::Connecting).await.unwrap();
    let after = *connection.wait_for(|connection| *connection != Connection::Connecting).await.unwrap();
    assert_eq!(after, Connection::Waiting(None));

    let nonsense = trusting(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec());
    assert!(matches!(Client::open(nonsense).await, Err(OpenError::Certificates(_))));
}
