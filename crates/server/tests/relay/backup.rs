//! Copies of a store: made while it is written to, looked at, and begun with.

use crate::author::Author;
use crate::client::Client;
use crate::process::{Relay, data, output};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tidewell_sync_core::protocol::{RelayMessage, Resume};

/// Runs the program; answers what it printed, and whether it ended well.
fn run(arguments: &[&str]) -> (String, bool) {
    let output = output(arguments);
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&said).into_owned(), output.status.success())
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

async fn text_of(relay: &Relay, document: &str) -> String {
    let (mut reader, doc) = (Client::connect(relay).await, Author::new(9));
    let sequence = reader.open(1, document).await;
    reader.updates_through(sequence).await.iter().for_each(|update| doc.applies(update));
    doc.text()
}

async fn type_letters(client: &mut Client, author: &Author, count: u64) {
    for number in 1..=count {
        client.push(1, number, author.types("x")).await;
        client.acknowledged(number).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_relay_that_is_written_to_holds_a_moment_of_each_document_and_is_in_order() {
    let (folder, data) = data();
    let relay = Relay::start(&data);
    let (compacted, author) = (Author::new(1), Author::new(2));
    let mut client = Client::connect(&relay).await;
    client.open(1, "a/compacted").await;
    type_letters(&mut client, &compacted, 600).await;
    relay.wait_until(|relay| relay.figure("tidewell_compactions_total") > 0.0);

    let backup = folder.path().join("backup.db");
    let (mut writer, ended) = (Client::connect(&relay).await, Arc::new(AtomicBool::new(false)));
    writer.open(1, "a/busy").await;
    let writing = {
        let ended = ended.clone();
        tokio::spawn(async move {
            let (mut number, mut at_the_end) = (0, 20);
            while at_the_end > 0 {
                number += 1;
                writer.push(1, number, author.types("y")).await;
                writer.acknowledged(number).await;
                at_the_end -= u64::from(ended.load(Ordering::Relaxed));
            }
            author.text()
        })
    };
    relay.wait_until(|relay| relay.figure("tidewell_updates_total") > 620.0);
    let (said, done) = tokio::task::spawn_blocking({
        let (data, backup) = (data.clone(), backup.clone());
        move || run(&["backup", "--data", path(&data), "--to", path(&backup)])
    })
    .await
    .unwrap();
    ended.store(true, Ordering::Relaxed);
    assert!(done && said.starts_with("2 documents"), "{said}");
    let written = writing.await.unwrap();

    let (said, in_order) = run(&["verify", "--backup", path(&backup)]);
    assert!(in_order && said.starts_with("2 documents") && said.contains("1 snapshots compared"), "{said}");
    relay.terminate();
    let (said, in_order) = run(&["verify", "--data", path(&data)]);
    assert!(in_order && said.ends_with("0 problems\n"), "{said}");

    let restored = folder.path().join("restored");
    let (said, done) = run(&["restore", "--from", path(&backup), "--data", path(&restored)]);
    assert!(done, "{said}");
    let relay = Relay::start(&restored);
    assert_eq!(text_of(&relay, "a/compacted").await, compacted.text());
    let busy = text_of(&relay, "a/busy").await;
    assert!(
        written.starts_with(&busy) && (20..written.len()).contains(&busy.len()),
        "{} of {}",
        busy.len(),
        written.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_store_has_a_history_of_its_own() {
    let (folder, data) = data();
    let relay = Relay::start(&data);
    let author = Author::new(1);
    let mut client = Client::connect(&relay).await;
    client.open(1, "a/doc").await;
    type_letters(&mut client, &author, 3).await;
    let cursor = client.cursor(3);
    let (backup, restored) = (folder.path().join("backup.db"), folder.path().join("restored"));
    assert!(run(&["backup", "--data", path(&data), "--to", path(&backup)]).1);
    assert!(run(&["restore", "--from", path(&backup), "--data", path(&restored)]).1);
    let relay = Relay::start(&restored);
    let mut client = Client::connect(&relay).await;
    let opened = client.open_at(1, "a/doc", cursor).await;
    assert!(matches!(opened, RelayMessage::Opened { resume: Resume::NeedsStateVector, .. }), "{opened:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_is_named_and_nothing_is_made_of_it() {
    let (folder, data) = data();
    let relay = Relay::start(&data);
    for document in ["a/changed", "a/gap", "a/healthy", "a/snapshot"] {
        let mut client = Client::connect(&relay).await;
        client.open(1, document).await;
        type_letters(&mut client, &Author::new(1), 3).await;
    }
    relay.terminate();
    let store = rusqlite::Connection::open(data.join("tidewell.db")).unwrap();
    let id = "(SELECT id FROM document WHERE name = 'a/";
    store
        .execute_batch(&format!(
            "UPDATE log SET update_v1 = x'0909' WHERE sequence = 2 AND document = {id}changed');
             DELETE FROM log WHERE sequence = 2 AND document = {id}gap');
             INSERT INTO snapshot SELECT document, 2, 0, update_v1 FROM log
                WHERE sequence = 1 AND document = {id}snapshot');"
        ))
        .unwrap();
    drop(store);
    let (said, in_order) = run(&["verify", "--data", path(&data)]);
    assert!(!in_order);
    assert!(said.contains("a/changed\tstored updates cannot be merged: the update cannot be read"), "{said}");
    assert!(said.contains("a/gap\tthe log has a gap after sequence 1"), "{said}");
    assert!(
        said.contains("a/snapshot\tthe stored snapshot: the snapshot has another state vector"),
        "{said}"
    );
    assert!(!said.contains("a/healthy\t") && said.contains("3 problems"), "{said}");

    // A page in the middle of the file.
    let backup = folder.path().join("backup.db");
    assert!(run(&["backup", "--data", path(&data), "--to", path(&backup)]).1);
    let mut bytes = std::fs::read(&backup).unwrap();
    let page = 4096 * (bytes.len() / 4096 / 2);
    bytes[page..page + 4096].fill(0xee);
    std::fs::write(&backup, bytes).unwrap();
    let restored = folder.path().join("restored");
    for command in [
        vec!["verify", "--backup", path(&backup)],
        vec!["restore", "--from", path(&backup), "--data", path(&restored)],
    ] {
        let (said, done) = run(&command);
        assert!(!done && (said.contains("is damaged") || said.contains("malformed")), "{command:?}: {said}");
    }
    assert!(!restored.exists());
}

#[test]
fn nothing_is_overwritten_and_what_is_no_backup_is_not_restored() {
    let (folder, data) = data();
    let relay = Relay::start(&data);
    let [backup, other, nothing] = ["backup.db", "other", "nothing"].map(|name| folder.path().join(name));
    assert!(run(&["backup", "--data", path(&data), "--to", path(&backup)]).1);
    let before = std::fs::read(&backup).unwrap();
    let refused = |arguments: &[&str], message: &str| {
        let (said, done) = run(arguments);
        assert!(!done && said.contains(message), "{arguments:?}: {said}");
    };
    refused(&["backup", "--data", path(&data), "--to", path(&backup)], "is there already");
    assert_eq!(std::fs::read(&backup).unwrap(), before);
    refused(&["backup", "--data", path(&other), "--to", path(&nothing)], "holds no Tidewell store");
    refused(&["backup", "--data", path(&data), "--to", path(&other.join("deeper"))], "deeper");
    refused(&["restore", "--from", path(&nothing), "--data", path(&other)], "nothing");
    refused(
        &["restore", "--from", path(&data.join("tidewell.db")), "--data", path(&other)],
        "is a store in use",
    );
    refused(&["restore", "--from", path(&backup), "--data", path(&data)], "in use by another relay");
    refused(&["verify", "--data", path(&data)], "in use by another relay");
    refused(&["verify"], "required");
    std::fs::write(&nothing, b"").unwrap();
    refused(&["restore", "--from", path(&nothing), "--data", path(&other)], "holds no Tidewell store");
    assert!(!other.exists());
    relay.terminate();
    refused(&["restore", "--from", path(&backup), "--data", path(&data)], "is there already");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3, "nothing unfinished is left");
}

/// SQLite would play the old log back over the pages of the backup.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_relay_left_beside_its_store_does_not_become_part_of_a_restored_one() {
    let (folder, data) = data();
    let relay = Relay::start(&data);
    let backup = folder.path().join("backup.db");
    let (early, late) = (Author::new(1), Author::new(2));
    let mut client = Client::connect(&relay).await;
    client.open(1, "a/early").await;
    type_letters(&mut client, &early, 3).await;
    assert!(run(&["backup", "--data", path(&data), "--to", path(&backup)]).1);
    let mut client = Client::connect(&relay).await;
    client.open(1, "a/late").await;
    type_letters(&mut client, &late, 3).await;
    relay.kill();
    let store = data.join("tidewell.db");
    let restore = ["restore", "--from", path(&backup), "--data", path(&data)];
    std::fs::rename(&store, folder.path().join("lost.db")).unwrap();
    // One after the other is moved away, as the message says.
    for beside in ["tidewell.db-wal", "tidewell.db-shm"] {
        let (said, done) = run(&restore);
        assert!(!done && said.contains(beside) && said.contains("move it away"), "{said}");
        assert!(!store.exists() && !data.join("tidewell.db.partial").exists());
        std::fs::rename(data.join(beside), folder.path().join(beside)).unwrap();
    }
    let (said, done) = run(&restore);
    assert!(done, "{said}");
    let (said, in_order) = run(&["verify", "--data", path(&data)]);
    assert!(in_order && said.starts_with("1 documents"), "{said}");
    assert_eq!(text_of(&Relay::start(&data), "a/early").await, early.text());

    let other = folder.path().join("other.db");
    std::fs::write(folder.path().join("other.db-journal"), b"").unwrap();
    let (said, done) = run(&["backup", "--data", path(&data), "--to", path(&other)]);
    assert!(!done && said.contains("other.db-journal") && !other.exists(), "{said}");
}
