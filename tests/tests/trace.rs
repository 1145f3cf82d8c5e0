//! A real paper is typed once more, by a native client whose link is cut and whose relay is killed.
//! `TIDEWELL_TRACE_PATCHES` sets how many changes share an edit.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

use rand::Rng;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;
use tidewell_client::yrs::{Text, WriteTxn};
use tidewell_client::{Client, Document, Options, Store};
use tidewell_sync_core::document_name::DocumentName;
use tidewell_tests::proxy::{Fault, Proxy};
use tidewell_tests::raw::fetch;
use tidewell_tests::relay::{PATIENCE, Relay};
use tidewell_tests::seed::{amount, generator, seed};
use tidewell_tests::trace::{Patch, Trace};
use tokio::time::timeout;

const NAME: &str = "papers/automerge";

async fn open(proxy: &Proxy, store: Store) -> (Client, Document) {
    let url = format!("ws://{}/v1/sync", proxy.address());
    let client = Client::open(Options::new(url, store)).await.unwrap();
    let document = client.document(NAME).await.unwrap();
    (client, document)
}

async fn type_all(document: &Document, patches: Vec<Patch>) {
    let edit = document.edit(move |transaction| {
        let text = transaction.get_or_insert_text("t");
        for (position, deleted, inserted) in patches {
            if deleted > 0 {
                text.remove_range(transaction, position, deleted);
            }
            if !inserted.is_empty() {
                text.insert(transaction, position, &inserted);
            }
        }
    });
    edit.await.unwrap();
}

fn bytes_in(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paper_typed_through_cuts_and_kills_arrives_to_the_letter() {
    let (seed, each) = (seed(), amount("TIDEWELL_TRACE_PATCHES", 100) as usize);
    let (data, device) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut relay = Relay::start(data.path()).await.unwrap();
    let writer_link = Proxy::start(Some(relay.address())).await.unwrap();
    let reader_link = Proxy::start(Some(relay.address())).await.unwrap();
    let (writing, writer) = open(&writer_link, Store::Directory(device.path().into())).await;
    let (_reading, reader) = open(&reader_link, Store::Memory).await;

    let trace = Trace::read("automerge-paper").unwrap();
    let expected = trace.end_content.clone();
    assert_eq!(trace.start_content, "");
    let patches = trace.patches();
    let mut random = generator(seed, 0);
    let count = patches.len();
    let mut faults: BTreeMap<usize, usize> =
        (0..12).map(|fault| (random.random_range(0..count), fault)).collect();
    let (start, mut edits) = (Instant::now(), 0u64);
    for (index, chunk) in patches.chunks(each).enumerate() {
        type_all(&writer, chunk.to_vec()).await;
        edits += 1;
        while let Some(fault) = faults.first_entry().filter(|fault| *fault.key() <= index * each) {
            match fault.remove() % 4 {
                0 => writer_link.apply(Fault::Cut),
                1 => writer_link.apply(Fault::Reset),
                2 => reader_link.apply(Fault::Reset),
                _ => {
                    relay.kill().await.unwrap();
                    relay = Relay::start(data.path()).await.unwrap();
                    for link in [&writer_link, &reader_link] {
                        link.apply(Fault::Target { address: Some(relay.address()) });
                    }
                }
            }
        }
    }
    let typed = start.elapsed();
    timeout(PATIENCE, writer.saved_relay()).await.expect("the relay takes everything").unwrap();
    let saved = start.elapsed();
    let mut changes = reader.changes();
    let arrived = async {
        while reader.text("t").await.unwrap() != expected {
            changes.changed().await.unwrap();
        }
    };
    timeout(PATIENCE, arrived).await.expect("the reader has the whole paper");
    println!(
        "{count} changes in {edits} edits: typed in {typed:.1?}, acknowledged after {saved:.1?}, read after {:.1?}",
        start.elapsed()
    );
    let fetched = fetch(relay.address(), &DocumentName::parse(NAME).unwrap()).await.unwrap();
    assert_eq!(fetched.text().unwrap(), expected);

    writer.saved_device().await.unwrap();
    writing.close().await.unwrap();
    println!("{} bytes at the relay, {} on the device", bytes_in(data.path()), bytes_in(device.path()));
    let start = Instant::now();
    let (_reopened, writer) = open(&writer_link, Store::Directory(device.path().into())).await;
    assert_eq!(writer.text("t").await.unwrap(), expected);
    assert_eq!(writer.status().borrow().unsent.edits, 0);
    println!("reopened in {:.1?}", start.elapsed());
}
