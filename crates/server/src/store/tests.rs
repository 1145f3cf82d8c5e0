mod history;
mod settling;

use super::*;
use crate::revocations::Revocation;
use bytes::Bytes;
use tidewell_sync_core::document_name::DocumentName;

struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        Scratch { folder: tempfile::tempdir().unwrap() }
    }

    fn open(&self, lineage: u64) -> (DataDirectory, Result<Store, OpenError>) {
        let directory = DataDirectory::create(self.folder.path()).unwrap();
        let store = Store::open(&directory, lineage);
        (directory, store)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("tidewell.db")
    }
}

fn name(text: &str) -> DocumentName {
    DocumentName::parse(text).unwrap()
}

fn text(update: &'static str) -> Bytes {
    Bytes::from_static(update.as_bytes())
}

fn row<'a>(document: &'a DocumentName, first: u64, through: u64, update: &'a Bytes) -> Row<'a> {
    Row { document, epoch: FIRST_EPOCH, first, through, update }
}

fn snapshot(document: &DocumentName, sequence: u64, update: &'static [u8]) -> Snapshot {
    let update = Bytes::from_static(update);
    Snapshot { document: document.clone(), epoch: FIRST_EPOCH, sequence, update }
}

/// Rows of any size.
fn since(since_ms: u64) -> History {
    History { since_ms, bytes_max: u64::MAX >> 1 }
}

/// What stays of each.
fn each<const COUNT: usize>(documents: [&DocumentName; COUNT], history: History) -> [Prunable; COUNT] {
    documents.map(|document| (document.clone(), history))
}

fn settle(store: &mut Store) {
    store.start_settling();
    while store.is_settling() {
        store.settle_some().unwrap();
    }
}

async fn load(store: &Store, document: &DocumentName) -> Result<Option<StoredDocument>, ReadError> {
    store.readers(1).document(document.clone()).await
}

#[tokio::test]
async fn what_was_committed_is_there_after_opening_again() {
    let scratch = Scratch::new();
    let (a, b) = (name("a"), name("b"));
    {
        let (_directory, store) = scratch.open(7);
        let mut store = store.unwrap();
        store.append([row(&a, 1, 1, &text("a1")), row(&b, 1, 3, &text("b123"))], 10).unwrap();
        store.append([row(&a, 2, 5, &text("a2345"))], 11).unwrap();
    }
    let (_directory, store) = scratch.open(8);
    let store = store.unwrap();
    assert_eq!(store.lineage(), 7, "an existing store keeps its lineage");
    let found = load(&store, &a).await.unwrap().unwrap();
    assert_eq!((found.epoch, found.sequence, found.snapshot.as_ref()), (FIRST_EPOCH, 5, None));
    assert_eq!(found.updates().collect::<Vec<_>>(), [&b"a1"[..], b"a2345"]);
    assert_eq!(load(&store, &b).await.unwrap().unwrap().sequence, 3);
    assert_eq!(load(&store, &name("never")).await.unwrap(), None);
}

#[tokio::test]
async fn a_commit_that_fails_leaves_nothing_of_itself() {
    let scratch = Scratch::new();
    let (_directory, store) = scratch.open(7);
    let mut store = store.unwrap();
    let (a, b) = (name("a"), name("b"));
    let unknown = store.append([row(&a, 1, 1, &text("a1")), row(&b, 2, 2, &text("b2"))], 10);
    assert!(matches!(unknown, Err(CommitError::Document { .. })));
    assert_eq!(load(&store, &a).await.unwrap(), None);
    store.append([row(&a, 1, 1, &text("a1"))], 10).unwrap();
    for wrong in [1, 3] {
        let out_of_order = store.append([row(&b, 1, 1, &text("b1")), row(&a, wrong, wrong, &text("a"))], 10);
        assert!(matches!(out_of_order, Err(CommitError::Order { .. })));
    }
    assert_eq!(load(&store, &a).await.unwrap().unwrap().sequence, 1);
    assert_eq!(load(&store, &b).await.unwrap(), None);
}

#[tokio::test]
async fn a_gap_in_the_log_is_an_error_and_not_a_shorter_document() {
    let scratch = Scratch::new();
    let (_directory, store) = scratch.open(7);
    let mut store = store.unwrap();
    let a = name("a");
    store
        .append([row(&a, 1, 1, &text("a1")), row(&a, 2, 2, &text("a2")), row(&a, 3, 3, &text("a3"))], 10)
        .unwrap();
    settle(&mut store);
    store.connection.execute("DELETE FROM log WHERE sequence = 2", []).unwrap();
    assert!(matches!(load(&store, &a).await, Err(ReadError::Gap { after: 1 })));
    store.connection.execute("DELETE FROM log WHERE sequence = 1", []).unwrap();
    assert!(matches!(load(&store, &a).await, Err(ReadError::Gap { after: 0 })));
}

/// A checkpoint that runs while commits follow each other never reaches the last one.
#[test]
fn the_wal_starts_anew_while_commits_follow_each_other() {
    let scratch = Scratch::new();
    let (_directory, store) = scratch.open(7);
    let mut store = store.unwrap();
    let names: Vec<_> = (0..200).map(|index| name(&format!("d/{index}"))).collect();
    let update = text("some typed letters");
    let mut checkpointer = store.checkpointer().unwrap();
    let mut wal_bytes = Vec::new();
    let mut sequence = 0;
    for _round in 0..6 {
        std::thread::scope(|scope| {
            let checkpoint = scope.spawn(|| checkpointer.run().unwrap());
            let mut commits = 0;
            while commits < 10 || !checkpoint.is_finished() {
                (sequence, commits) = (sequence + 1, commits + 1);
                store
                    .append(names.iter().map(|name| row(name, sequence, sequence, &update)), sequence)
                    .unwrap();
            }
        });
        store.checkpoint().unwrap();
        settle(&mut store);
        wal_bytes.push(std::fs::metadata(scratch.file().with_extension("db-wal")).unwrap().len());
    }
    assert!(wal_bytes[5] < 3 * wal_bytes[0], "{wal_bytes:?}");
}

#[tokio::test]
async fn a_snapshot_that_does_not_fit_is_refused_and_changes_nothing() {
    let scratch = Scratch::new();
    let (_directory, store) = scratch.open(7);
    let mut store = store.unwrap();
    let a = name("a");
    store.append([row(&a, 1, 1, &text("a1")), row(&a, 2, 2, &text("a2"))], 100).unwrap();
    let before = load(&store, &a).await.unwrap();
    let other_epoch = Snapshot { epoch: 2, ..snapshot(&a, 2, b"s") };
    for wrong in [other_epoch, snapshot(&a, 3, b"ahead"), snapshot(&name("never"), 1, b"s")] {
        assert!(matches!(store.swap_snapshot(&wrong, 500), Err(SwapError::Stale)));
    }
    assert_eq!(load(&store, &a).await.unwrap(), before);
    store.swap_snapshot(&snapshot(&a, 2, b"new"), 500).unwrap();
    let older = store.swap_snapshot(&snapshot(&a, 1, b"old"), 500);
    assert!(matches!(older, Err(SwapError::Stale)));
}

#[tokio::test]
async fn rows_after_a_sequence_inside_a_row_begin_with_that_row() {
    let scratch = Scratch::new();
    let (_directory, store) = scratch.open(7);
    let mut store = store.unwrap();
    let a = name("a");
    store
        .append([row(&a, 1, 1, &text("1")), row(&a, 2, 5, &text("2-5")), row(&a, 6, 6, &text("6"))], 1)
        .unwrap();
    let readers = store.readers(1);
    let Since::Rows { through, updates } = readers.since(a.clone(), 3, 1000).await.unwrap() else { panic!() };
    assert_eq!((through, updates), (6, vec![Bytes::from_static(b"2-5"), Bytes::from_static(b"6")]));
    let Since::Rows { through, updates } = readers.since(a.clone(), 0, 2).await.unwrap() else { panic!() };
    assert_eq!((through, updates.len()), (5, 2), "no more than was asked for, but a whole row");
    let nothing = Since::Rows { through: 6, updates: Vec::new() };
    assert_eq!(readers.since(a, 6, 1000).await.unwrap(), nothing);
}

#[tokio::test]
async fn quarantine_is_remembered_until_it_is_released() {
    let scratch = Scratch::new();
    let a = name("a");
    {
        let (_directory, store) = scratch.open(7);
        let mut store = store.unwrap();
        store.append([row(&a, 1, 1, &text("a1"))], 1).unwrap();
        store.quarantine(&a, "timeout", 42).unwrap();
    }
    let (_directory, store) = scratch.open(7);
    let mut store = store.unwrap();
    assert!(load(&store, &a).await.unwrap().unwrap().quarantined);
    let expected = Quarantined { name: "a".into(), reason: "timeout".into(), at_ms: 42 };
    assert_eq!(store.quarantined().unwrap(), [expected]);
    assert!(store.release(&a).unwrap());
    assert!(!store.release(&a).unwrap());
    assert!(!load(&store, &a).await.unwrap().unwrap().quarantined);
}

#[test]
fn a_store_of_a_newer_schema_is_refused_and_left_as_it_is() {
    let scratch = Scratch::new();
    {
        let (_directory, store) = scratch.open(7);
        store.unwrap().connection.pragma_update(None, "user_version", 99).unwrap();
    }
    let before = std::fs::read(scratch.file()).unwrap();
    let (_directory, store) = scratch.open(7);
    assert!(matches!(store, Err(OpenError::TooNew { found: 99, known: 5 })));
    assert_eq!(std::fs::read(scratch.file()).unwrap(), before);
}

#[test]
fn a_file_that_is_no_store_of_ours_is_refused_and_left_as_it_is() {
    {
        let content = "not a database, but long enough to have a header of one hundred bytes".repeat(9);
        let scratch = Scratch::new();
        std::fs::write(scratch.file(), &content).unwrap();
        let (_directory, store) = scratch.open(7);
        assert!(matches!(store, Err(OpenError::Sqlite(_))));
        assert_eq!(std::fs::read(scratch.file()).unwrap(), content.as_bytes());
    }
    let scratch = Scratch::new();
    Connection::open(scratch.file()).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let before = std::fs::read(scratch.file()).unwrap();
    let (_directory, store) = scratch.open(7);
    assert!(matches!(store, Err(OpenError::NotOurs)));
    assert_eq!(std::fs::read(scratch.file()).unwrap(), before);
}

#[test]
fn commits_wait_for_the_disk() {
    let scratch = Scratch::new();
    let (_directory, store) = scratch.open(7);
    let store = store.unwrap();
    let mode: String = store.connection.pragma_query_value(None, "journal_mode", |r| r.get(0)).unwrap();
    let synchronous: i64 = store.connection.pragma_query_value(None, "synchronous", |r| r.get(0)).unwrap();
    assert_eq!((mode.as_str(), synchronous), ("wal", 2));
    store.checkpointer().unwrap().run().unwrap();
}

#[test]
fn revocations_are_there_after_opening_again_without_those_that_others_include() {
    let scratch = Scratch::new();
    let documents =
        |pattern: &str, before_s| Revocation::Documents { pattern: pattern.parse().unwrap(), before_s };
    let subject = |subject: &str, before_s| Revocation::Subject { subject: subject.to_owned(), before_s };
    let token = Revocation::Token { token_id: "acme/7".to_owned() };
    {
        let (_directory, store) = scratch.open(7);
        let mut store = store.unwrap();
        let all = [
            documents("acme/list", 10),
            documents("acme/list", 5),
            documents("acme/list/42", 20),
            documents("acme", 20),
            documents("acmes/list", 20),
            documents("acme/**", 20),
            documents("acme/list/43", 30),
            documents("old", 2),
            subject("ada", 2),
            subject("bob", 9),
            token.clone(),
            Revocation::Everything { before_s: 3 },
        ];
        let (first, last) = all.split_at(3);
        store.revoke(first).unwrap();
        store.revoke(last).unwrap();
    }
    let (_directory, store) = scratch.open(8);
    let store = store.unwrap();
    let expected = [
        Revocation::Everything { before_s: 3 },
        subject("bob", 9),
        token,
        documents("acme", 20),
        documents("acme/**", 20),
        documents("acme/list/43", 30),
        documents("acmes/list", 20),
    ];
    assert_eq!(store.revocations().unwrap(), expected);
    // What is not understood would not be in force.
    for damage in ["name = 'a*' WHERE name = 'acme'", "kind = 9 WHERE name = 'bob'"] {
        let changing = store.connection.unchecked_transaction().unwrap();
        changing.execute(&format!("UPDATE revocation SET {damage}"), []).unwrap();
        assert!(store.revocations().is_err(), "{damage}");
        changing.rollback().unwrap();
    }
    assert!(store.revocations().is_ok());
}
