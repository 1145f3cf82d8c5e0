//! Documents that are larger than any one update may be: typed, compacted, restarted, fetched, handed back.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::time::Duration;
use tidewell_client::yrs::{Any, Array, GetString, ReadTxn, StateVector, Text, Transaction, WriteTxn};
use tidewell_client::{Client, Document, Options, Store};
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::limits::UPDATE_BYTES_MAX;
use tidewell_tests::proxy::{Fault, Proxy};
use tidewell_tests::raw::fetch;
use tidewell_tests::relay::{PATIENCE, Relay};
use tokio::time::timeout;

const NAME: &str = "acme/large";
const EDIT_BYTES: usize = 1 << 20;
/// One client's text, which becomes a single struct, and its list, which becomes another.
const TEXT_EDITS: usize = 18;
const LIST_EDITS: usize = 4;

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

/// All that a document holds.
#[derive(PartialEq)]
struct Content {
    clocks: StateVector,
    text: String,
    list: Vec<String>,
}

async fn content(document: &Document) -> Content {
    let read = |transaction: &Transaction<'_>| {
        let text = transaction.get_text("t").map(|text| text.get_string(transaction)).unwrap_or_default();
        let list = transaction.get_array("l");
        let list = list.iter().flat_map(|list| list.iter(transaction));
        let list = list.map(|value| value.to_string(transaction)).collect();
        Content { clocks: transaction.state_vector(), text, list }
    };
    document.read(read).await.unwrap()
}

/// Text and values that differ everywhere, with letters of one, two and four bytes.
async fn write(document: &Document) {
    for index in 0..TEXT_EDITS {
        let line = format!("{index} é 🙂 ");
        let text = line.repeat(EDIT_BYTES / line.len());
        let edit = document.edit(move |transaction| {
            let root = transaction.get_or_insert_text("t");
            let end = root.len(transaction);
            root.insert(transaction, end, &text);
        });
        edit.await.unwrap();
    }
    for index in 0..LIST_EDITS {
        let value = format!("{index} value ").repeat(100);
        let values = (0..EDIT_BYTES / value.len()).map(|place| Any::from(format!("{place} {value}")));
        let values: Vec<Any> = values.collect();
        let edit = document.edit(move |transaction| {
            let root = transaction.get_or_insert_array("l");
            let end = root.len(transaction);
            root.insert_range(transaction, end, values);
        });
        edit.await.unwrap();
    }
    document.delete_text("t", 10, 1000).await.unwrap();
}

/// Compared without being shown: 20 MB in a message help nobody.
async fn assert_comes_to_have(document: &Document, expected: &Content) {
    let mut changes = document.changes();
    let has_come = async {
        while content(document).await != *expected {
            changes.changed().await.unwrap();
        }
    };
    timeout(PATIENCE, has_come).await.expect("everything comes");
}

/// A new native client, a raw one and a raw one at the stock door are given all of it.
async fn assert_served(relay: &Relay, proxy: &Proxy, expected: &Content) {
    let (_client, fresh) = open(proxy, Store::Memory).await;
    assert_comes_to_have(&fresh, expected).await;
    let fetched = fetch(relay.address(), &name()).await.unwrap();
    assert!(fetched.text().unwrap() == expected.text, "the texts differ");
}

async fn compacted(relay: &Relay) {
    let done = async {
        while relay.figure("tidewell_compactions_total").await.unwrap() == 0.0 {
            assert_eq!(relay.figure("tidewell_quarantined").await.unwrap(), 0.0);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, done).await.expect("a compaction");
}

async fn restarted(relay: Relay, proxy: &Proxy, data: &Path) -> Relay {
    proxy.apply(Fault::Target { address: None });
    assert!(relay.terminate().await.unwrap().success());
    let relay = Relay::start(data).await.unwrap();
    proxy.apply(Fault::Target { address: Some(relay.address()) });
    relay
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_larger_than_any_update_is_compacted_served_and_handed_back() {
    let (data, emptied) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let device = tempfile::tempdir().unwrap();
    let relay = Relay::start(data.path()).await.unwrap();
    let proxy = Proxy::start(Some(relay.address())).await.unwrap();
    let (client, ours) = open(&proxy, Store::Directory(device.path().to_owned())).await;
    write(&ours).await;
    saved_relay(&ours).await;
    let whole = ours.read(|transaction| transaction.encode_diff_v1(&StateVector::default())).await.unwrap();
    assert!(whole.len() > UPDATE_BYTES_MAX + (4 << 20), "{}", whole.len());
    let expected = content(&ours).await;
    compacted(&relay).await;
    assert_served(&relay, &proxy, &expected).await;
    let relay = restarted(relay, &proxy, data.path()).await;
    assert_served(&relay, &proxy, &expected).await;

    // A relay that has lost everything is handed all of it back by a device that starts from its own disk.
    client.close().await.unwrap();
    let relay = restarted(relay, &proxy, emptied.path()).await;
    let (_client, again) = open(&proxy, Store::Directory(device.path().to_owned())).await;
    assert_comes_to_have(&again, &expected).await;
    again.insert_text("t", 0, "all of it: ").await.unwrap();
    saved_relay(&again).await;
    assert_served(&relay, &proxy, &content(&again).await).await;
    compacted(&relay).await;
}
