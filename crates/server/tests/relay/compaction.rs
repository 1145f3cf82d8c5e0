//! Snapshots, made by another process and verified.

use crate::author::Author;
use crate::client::Client;
use crate::process::{Relay, data, output};
use std::path::Path;

/// Types `count` letters, each a commit of its own.
async fn type_letters(relay: &Relay, document: &str, author: &Author, count: u64) {
    let mut writer = Client::connect(relay).await;
    writer.open(1, document).await;
    for number in 1..=count {
        writer.push(1, number, author.types("x")).await;
        writer.acknowledged(number).await;
    }
}

fn count(data: &Path, query: &str) -> i64 {
    let connection = rusqlite::Connection::open(data.join("tidewell.db")).unwrap();
    connection.query_row(query, [], |row| row.get(0)).unwrap()
}

async fn text_of(relay: &Relay, document: &str) -> String {
    let (mut reader, doc) = (Client::connect(relay).await, Author::new(9));
    let sequence = reader.open(1, document).await;
    reader.updates_through(sequence).await.iter().for_each(|update| doc.applies(update));
    doc.text()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_is_compacted_and_nothing_changes_for_anybody() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let author = Author::new(1);
    type_letters(&relay, "a/doc", &author, 600).await;
    relay.wait_until(|relay| relay.figure("tidewell_compactions_total") > 0.0);
    assert_eq!(text_of(&relay, "a/doc").await, author.text());
    relay.kill();
    assert_eq!(count(&data, "SELECT sequence FROM snapshot"), 600);
    assert_eq!(count(&data, "SELECT count(*) FROM log"), 600, "the history is kept");
    let relay = Relay::start(&data);
    assert_eq!(text_of(&relay, "a/doc").await, author.text());
    let (mut behind, doc) = (Client::connect(&relay).await, Author::new(2));
    let cursor = behind.cursor(590);
    behind.open_at(1, "a/doc", cursor).await;
    assert_eq!(behind.updates_through(600).await.len(), 1, "a cursor resumes from the log");
    doc.applies(&author.state());
    behind.push(1, 1, doc.types("!")).await;
    behind.acknowledged(1).await;
    assert_eq!(text_of(&relay, "a/doc").await, doc.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_older_than_the_history_gets_everything() {
    let (_folder, data) = data();
    let relay = Relay::start_with(&data, &["--history", "0"]);
    let author = Author::new(1);
    type_letters(&relay, "a/doc", &author, 550).await;
    relay.wait_until(|relay| relay.figure("tidewell_compactions_total") > 0.0);
    assert_eq!(count(&data, "SELECT count(*) FROM log"), 0);
    let (mut old, doc) = (Client::connect(&relay).await, Author::new(2));
    let cursor = old.cursor(3);
    old.open_at(1, "a/doc", cursor).await;
    old.updates_through(550).await.iter().for_each(|update| doc.applies(update));
    assert_eq!(doc.text(), author.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_is_written_anew_again_and_again_takes_a_bounded_part_of_the_disk() {
    let (_folder, data) = data();
    let relay = Relay::start_with(&data, &["--document-bytes-max", "512K"]);
    let author = writes_anew(&relay, "a/doc", 3).await;
    assert!(count(&data, "SELECT sum(length(update_v1)) FROM log") <= 512 << 10);
    assert_eq!(count(&data, "SELECT min(sequence) FROM log"), 4, "the last ones are there");
    let (mut old, doc) = (Client::connect(&relay).await, Author::new(2));
    let cursor = old.cursor(1);
    old.open_at(1, "a/doc", cursor).await;
    old.updates_through(6).await.iter().for_each(|update| doc.applies(update));
    assert_eq!((doc.text(), doc.state_vector()), (author.text(), author.state_vector()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documents_of_a_tenant_have_a_bounded_part_of_the_disk_for_their_histories_together() {
    const BYTES: &str = "SELECT sum(length(update_v1)) FROM log WHERE document =
        (SELECT id FROM document WHERE name = ";
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    for document in ["a/1", "a/2", "b/1"] {
        writes_anew(&relay, document, 2).await;
    }
    let bytes = |document| count(&data, &format!("{BYTES}'{document}')"));
    let whole = bytes("b/1");
    assert!(whole > 600_000 && bytes("a/1") == whole && bytes("a/2") == whole);
    drop(relay);
    let relay = Relay::start_with(&data, &["--tenant-bytes-max", "1M"]);
    relay.wait_until(|_| bytes("a/1") + bytes("a/2") <= 1 << 20);
    assert!(bytes("a/1") > 0 && bytes("a/2") > 0);
    assert_eq!(bytes("b/1"), whole, "another tenant");
}

/// Fills a document and empties it, so many times; it is compacted each time.
async fn writes_anew(relay: &Relay, document: &str, rounds: u64) -> Author {
    let author = Author::new(1);
    let mut writer = Client::connect(relay).await;
    writer.open(1, document).await;
    let before = relay.figure("tidewell_compactions_total");
    for round in 1..=rounds {
        for (number, update) in
            [(2 * round - 1, author.types(&"x".repeat(300_000))), (2 * round, author.deletes_all())]
        {
            writer.push(1, number, update).await;
            writer.acknowledged(number).await;
        }
        relay.wait_until(|relay| relay.figure("tidewell_compactions_total") >= before + round as f64);
    }
    author
}

/// As a relay left it that deleted old rows while younger ones, by a clock that had been ahead, were before them.
#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_before_rows_that_are_gone_from_the_middle_gets_everything() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let author = Author::new(1);
    type_letters(&relay, "a/doc", &author, 550).await;
    relay.wait_until(|relay| relay.figure("tidewell_compactions_total") > 0.0);
    relay.terminate();
    let store = rusqlite::Connection::open(data.join("tidewell.db")).unwrap();
    store.execute("DELETE FROM log WHERE sequence BETWEEN 200 AND 300", []).unwrap();
    drop(store);
    assert!(output(&["verify", "--data", data.to_str().unwrap()]).status.success());
    let relay = Relay::start(&data);
    let (mut old, doc) = (Client::connect(&relay).await, Author::new(2));
    let cursor = old.cursor(100);
    old.open_at(1, "a/doc", cursor).await;
    old.updates_through(550).await.iter().for_each(|update| doc.applies(update));
    assert_eq!(doc.text(), author.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_materializer_sync_goes_on_and_compaction_once_there_is_one() {
    let (folder, data) = data();
    let path = folder.path().join("materializer");
    let relay = Relay::start_with(&data, &["--materializer", path.to_str().unwrap()]);
    let author = Author::new(1);
    type_letters(&relay, "a/doc", &author, 520).await;
    relay.wait_until(|relay| relay.figure("tidewell_compactions_failed_total") > 1.0);
    assert_eq!(relay.figure("tidewell_quarantined"), 0.0);
    assert_eq!(text_of(&relay, "a/doc").await, author.text());
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tidewell"), &path).unwrap();
    relay.wait_until(|relay| relay.figure("tidewell_compactions_total") > 0.0);
    assert_eq!(text_of(&relay, "a/doc").await, author.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_breaks_the_materializer_is_quarantined_and_its_sync_goes_on() {
    let (_folder, data) = data();
    let relay = Relay::start_with(&data, &["--materializer", "/bin/false"]);
    let author = Author::new(1);
    type_letters(&relay, "a/doc", &author, 520).await;
    relay.wait_until(|relay| relay.figure("tidewell_quarantined") > 0.0);
    assert_eq!(relay.figure("tidewell_materializer_restarts_total"), 2.0, "it was tried twice");
    assert_eq!(text_of(&relay, "a/doc").await, author.text());
    let mut writer = Client::connect(&relay).await;
    writer.open(1, "a/doc").await;
    writer.push(1, 1, author.types("!")).await;
    writer.acknowledged(1).await;
    relay.terminate();
    let path = data.to_str().unwrap();
    let list = output(&["quarantine", "list", "--data", path]);
    let list = String::from_utf8(list.stdout).unwrap();
    assert!(list.trim_end().ends_with("\tcrash\ta/doc"), "{list}");
    let relay = Relay::start(&data);
    assert_eq!(relay.figure("tidewell_quarantined"), 1.0);
    assert_eq!(text_of(&relay, "a/doc").await, author.text());
    relay.terminate();
    assert!(output(&["quarantine", "release", "--data", path, "a/doc"]).status.success());
    assert!(!output(&["quarantine", "release", "--data", path, "a/doc"]).status.success());
    let relay = Relay::start(&data);
    assert_eq!(text_of(&relay, "a/doc").await, author.text());
    relay.wait_until(|relay| relay.figure("tidewell_compactions_total") > 0.0);
    assert_eq!(text_of(&relay, "a/doc").await, author.text());
}

/// Only root may lift a limit that was lowered, and a materializer that fails at it would look like a document that
/// kills it.
#[test]
fn a_materializer_stays_within_lower_limits_that_its_operator_has_set() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("tidewell");
    std::fs::copy(env!("CARGO_BIN_EXE_tidewell"), &program).unwrap();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -v 1500000; ulimit -t 5; exec \"$0\" materialize"]).arg(&program);
    if rustix::process::geteuid().is_root() {
        command.uid(65_534);
    }
    // The length of a request and its kind: limits are set for each.
    let request = folder.path().join("request");
    std::fs::write(&request, [2, 0, 0, 0, 1, 0]).unwrap();
    let output = command.stdin(std::fs::File::open(&request).unwrap()).output().unwrap();
    assert!(output.status.success() && output.stdout.len() > 4, "{output:?}");
}
