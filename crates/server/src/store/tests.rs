use super::*;
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

fn row<'a>(document: &'a DocumentName, first: u64, through: u64, update: &'a [u8]) -> Row<'a> {
    Row { document, epoch: FIRST_EPOCH, first, through, update }
}

fn snapshot(document: &DocumentName, sequence: u64, update: &'static [u8]) -> Snapshot {
    let update = Bytes::from_static(update);
    Snapshot { document: document.clone(), epoch: FIRST_EPOCH, sequence, update }
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
        store.append([row(&a, 1, 1, b"a1"), row(&b, 1, 3, b"b123")], 10).unwrap();
        store.append([row(&a, 2, 5, b"a2345")], 11).unwrap();
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
    let unknown = store.append([row(&a, 1, 1, b"a1"), row(&b, 2, 2, b"b2")], 10);
    assert!(matches!(unknown, Err(CommitError::Document { .. })));
    assert_eq!(load(&store, &a).await.unwrap(), None);
    store.append([row(&a, 1, 1, b"a1")], 10).unwrap();
    assert!(store.append([row(&a, 2, 2, b"a2"), row(&a, 2, 2, b"twice")], 10).is_err());
    assert_eq!(load(&store, &a).await.unwrap().unwrap().sequence, 1);
}

#[tokio::test]
async fn a_gap_in_the_log_is_an_error_and_not_a_shorter_document() {
    let scratch = Scratch::new();
    let (_directory, store) = scratch.open(7);
    let mut store = store.unwrap();
    let a = name("a");
    store.append([row(&a, 1, 1, b"a1"), row(&a, 2, 2, b"a2"), row(&a, 3, 3, b"a3")], 10).unwrap();
    store.connection.execute("DELETE FROM log WHERE sequence = 2", []).unwrap();
    assert!(matches!(load(&store, &a).await, Err(ReadError::Gap { after: 1 })));
    store.connection.execute("DELETE FROM log WHERE sequence = 1", []).unwrap();
    assert!(matches!(load(&store, &a).await, Err(ReadError::Gap { after: 0 })));
}

#[tokio::test]
async fn a_snapshot_keeps_the_rows_of_the_history_and_deletes_older_ones() {
    let scratch = Scratch::new();
    let (_directory, store) = scratch.open(7);
    let mut store = store.unwrap();
    let a = name("a");
    for sequence in 1..=4 {
        store.append([row(&a, sequence, sequence, b"row")], sequence * 100).unwrap();
    }
    store.swap_snapshot(&snapshot(&a, 3, b"snapshot"), 400).unwrap();
    assert_eq!(store.prune(Some(&name("b")), 200, 100).unwrap(), 0, "another document");
    assert_eq!(store.prune(Some(&a), 200, 100).unwrap(), 1);
    let found = load(&store, &a).await.unwrap().unwrap();
    assert_eq!((found.sequence, found.snapshot_sequence), (4, 3));
    assert_eq!(found.updates().collect::<Vec<_>>(), [&b"snapshot"[..], b"row"]);
    let readers = store.readers(2);
    assert_eq!(readers.since(a.clone(), 0, 1000).await.unwrap(), Since::Pruned);
    let Since::Rows { through, updates } = readers.since(a.clone(), 1, 1000).await.unwrap() else {
        panic!("the rows of the history are there")
    };
    assert_eq!((through, updates.len()), (4, 3));
    assert_eq!(store.prune(None, 400, 100).unwrap(), 2, "what the snapshot does not cover stays");
    assert_eq!(readers.since(a.clone(), 2, 1000).await.unwrap(), Since::Pruned);
    assert_eq!(load(&store, &a).await.unwrap().unwrap().sequence, 4);
}

#[tokio::test]
async fn a_log_that_was_deleted_to_its_end_is_not_taken_for_nothing_new() {
    let scratch = Scratch::new();
    let (_directory, store) = scratch.open(7);
    let mut store = store.unwrap();
    let a = name("a");
    store.append([row(&a, 1, 1, b"a1"), row(&a, 2, 2, b"a2")], 100).unwrap();
    store.swap_snapshot(&snapshot(&a, 2, b"all"), 500).unwrap();
    assert_eq!(store.prune(Some(&a), 500, 100).unwrap(), 2);
    let readers = store.readers(1);
    assert_eq!(readers.since(a.clone(), 1, 1000).await.unwrap(), Since::Pruned);
    let nothing = Since::Rows { through: 2, updates: Vec::new() };
    assert_eq!(readers.since(a.clone(), 2, 1000).await.unwrap(), nothing);
    let found = load(&store, &a).await.unwrap().unwrap();
    assert_eq!((found.sequence, found.tail.len()), (2, 0));
    store.append([row(&a, 3, 3, b"a3")], 600).unwrap();
    assert_eq!(load(&store, &a).await.unwrap().unwrap().sequence, 3);
}

#[tokio::test]
async fn a_snapshot_that_does_not_fit_is_refused_and_changes_nothing() {
    let scratch = Scratch::new();
    let (_directory, store) = scratch.open(7);
    let mut store = store.unwrap();
    let a = name("a");
    store.append([row(&a, 1, 1, b"a1"), row(&a, 2, 2, b"a2")], 100).unwrap();
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
    store.append([row(&a, 1, 1, b"1"), row(&a, 2, 5, b"2-5"), row(&a, 6, 6, b"6")], 1).unwrap();
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
        store.append([row(&a, 1, 1, b"a1")], 1).unwrap();
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
    assert!(matches!(store, Err(OpenError::TooNew { found: 99, known: 1 })));
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
