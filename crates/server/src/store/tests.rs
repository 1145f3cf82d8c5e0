use super::*;
use crate::limits::{PRUNE_ROWS_MAX, RECENT_FACTOR_MAX, SETTLE_ROWS, SETTLE_ROWS_AT_ONCE};
use crate::revocations::Revocation;
use bytes::Bytes;
use std::sync::Arc;
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

#[tokio::test]
async fn a_snapshot_keeps_the_rows_of_the_history_and_deletes_older_ones() {
    let scratch = Scratch::new();
    let (_directory, store) = scratch.open(7);
    let mut store = store.unwrap();
    let a = name("a");
    for sequence in 1..=4 {
        store.append([row(&a, sequence, sequence, &text("row"))], sequence * 100).unwrap();
    }
    store.swap_snapshot(&snapshot(&a, 3, b"snapshot"), 400).unwrap();
    assert_eq!(store.prune(&each([&name("b")], since(200))).unwrap(), 0, "another document");
    assert_eq!(store.readers(1).prunable(since(100), u64::MAX).await.unwrap(), []);
    assert_eq!(store.readers(1).prunable(since(200), u64::MAX).await.unwrap(), each([&a], since(200)));
    assert_eq!(store.prune(&each([&a], since(200))).unwrap(), 1);
    let found = load(&store, &a).await.unwrap().unwrap();
    assert_eq!((found.sequence, found.snapshot_sequence), (4, 3));
    assert_eq!(found.updates().collect::<Vec<_>>(), [&b"snapshot"[..], b"row"]);
    let readers = store.readers(2);
    assert_eq!(readers.since(a.clone(), 0, 1000).await.unwrap(), Since::Pruned);
    let Since::Rows { through, updates } = readers.since(a.clone(), 1, 1000).await.unwrap() else {
        panic!("the rows of the history are there")
    };
    assert_eq!((through, updates.len()), (4, 3));
    let both = [&name("b"), &a];
    assert_eq!(store.prune(&each(both, since(500))).unwrap(), 2, "what the snapshot does not cover stays");
    assert_eq!(readers.prunable(since(500), u64::MAX).await.unwrap(), []);
    assert_eq!(readers.since(a.clone(), 2, 1000).await.unwrap(), Since::Pruned);
    assert_eq!(load(&store, &a).await.unwrap().unwrap().sequence, 4);
}

#[tokio::test]
async fn a_log_that_was_deleted_to_its_end_is_not_taken_for_nothing_new() {
    let scratch = Scratch::new();
    let (_directory, store) = scratch.open(7);
    let mut store = store.unwrap();
    let a = name("a");
    store.append([row(&a, 1, 1, &text("a1")), row(&a, 2, 2, &text("a2"))], 100).unwrap();
    store.swap_snapshot(&snapshot(&a, 2, b"all"), 500).unwrap();
    assert_eq!(store.prune(&each([&a], since(500))).unwrap(), 2);
    let readers = store.readers(1);
    assert_eq!(readers.since(a.clone(), 1, 1000).await.unwrap(), Since::Pruned);
    let nothing = Since::Rows { through: 2, updates: Vec::new() };
    assert_eq!(readers.since(a.clone(), 2, 1000).await.unwrap(), nothing);
    let found = load(&store, &a).await.unwrap().unwrap();
    assert_eq!((found.sequence, found.tail.len()), (2, 0));
    store.append([row(&a, 3, 3, &text("a3"))], 600).unwrap();
    assert_eq!(load(&store, &a).await.unwrap().unwrap().sequence, 3);
}

#[tokio::test]
async fn a_row_that_was_written_while_the_clock_was_ahead_keeps_those_that_follow() {
    let scratch = Scratch::new();
    let (_directory, store) = scratch.open(7);
    let mut store = store.unwrap();
    let a = name("a");
    for (sequence, at_ms) in [(1, 100), (2, 9_000), (3, 300), (4, 400), (5, 500)] {
        store.append([row(&a, sequence, sequence, &text("row"))], at_ms).unwrap();
    }
    store.swap_snapshot(&snapshot(&a, 4, b"snapshot"), 600).unwrap();
    assert_eq!(store.prune(&each([&a], since(1_000))).unwrap(), 1);
    let readers = store.readers(1);
    for (after, count) in [(1, 4), (2, 3), (3, 2), (4, 1)] {
        let rows = Since::Rows { through: 5, updates: vec![text("row"); count] };
        assert_eq!(readers.since(a.clone(), after, 1000).await.unwrap(), rows);
    }
    assert_eq!(store.prune(&each([&a], since(10_000))).unwrap(), 3);
}

#[tokio::test]
async fn a_gap_among_rows_that_the_snapshot_covers_is_taken_for_pruned() {
    let scratch = Scratch::new();
    let (_directory, store) = scratch.open(7);
    let mut store = store.unwrap();
    let a = name("a");
    for sequence in 1..=6 {
        store.append([row(&a, sequence, sequence, &text("row"))], 100).unwrap();
    }
    store.swap_snapshot(&snapshot(&a, 4, b"snapshot"), 600).unwrap();
    settle(&mut store);
    let readers = store.readers(1);
    let delete = |sequence| {
        store.connection.execute("DELETE FROM log WHERE sequence = ?1", [sequence]).unwrap();
    };
    delete(3);
    assert!(covered_rows(&store.connection, &a, 4).unwrap().is_none());
    for (after, is_pruned) in [(0, true), (1, true), (2, true), (3, false), (4, false)] {
        let since = readers.since(a.clone(), after, 1000).await.unwrap();
        assert_eq!(since == Since::Pruned, is_pruned, "after {after}: {since:?}");
    }
    assert_eq!(load(&store, &a).await.unwrap().unwrap().sequence, 6);
    delete(5);
    assert!(matches!(readers.since(a.clone(), 3, 1000).await, Err(ReadError::Gap { after: 4 })));
    assert!(matches!(load(&store, &a).await, Err(ReadError::Gap { after: 4 })));
}

#[test]
fn old_rows_are_deleted_a_bounded_number_and_size_at_a_time() {
    let scratch = Scratch::new();
    let (_directory, store) = scratch.open(7);
    let mut store = store.unwrap();
    let (many, large) = (name("many"), name("large"));
    let (small, update) = (text("row"), Bytes::from(vec![b'x'; 6 << 20]));
    let rows = PRUNE_ROWS_MAX as u64 + 1;
    store.append((1..=rows).map(|sequence| row(&many, sequence, sequence, &small)), 10).unwrap();
    store.swap_snapshot(&snapshot(&many, rows, b"snapshot"), 20).unwrap();
    for sequence in 1..=5 {
        store.append([row(&large, sequence, sequence, &update)], 10).unwrap();
    }
    store.swap_snapshot(&snapshot(&large, 5, b"snapshot"), 20).unwrap();
    let documents = [&many, &large];
    assert_eq!(store.prune(&each(documents, since(10))).unwrap(), 0);
    let pruned: Vec<usize> =
        std::iter::repeat_with(|| store.prune(&each(documents, since(20))).unwrap()).take(4).collect();
    assert_eq!(pruned, [PRUNE_ROWS_MAX, 1 + 3, 2, 0]);
}

#[tokio::test]
async fn a_history_that_has_too_many_bytes_is_shorter() {
    let scratch = Scratch::new();
    let (directory, store) = scratch.open(7);
    let mut store = store.unwrap();
    let (a, small) = (name("a"), name("small"));
    let update = Bytes::from(vec![b'x'; 1000]);
    let bounded = History { since_ms: 0, bytes_max: 3500 };
    let append = |store: &mut Store, sequences: std::ops::RangeInclusive<u64>| {
        for sequence in sequences {
            store.append([row(&a, sequence, sequence, &update)], 100).unwrap();
        }
    };
    append(&mut store, 1..=4);
    store.append([row(&small, 1, 1, &update)], 100).unwrap();
    store.swap_snapshot(&snapshot(&small, 1, b"snapshot"), 200).unwrap();
    store.swap_snapshot(&snapshot(&a, 3, b"snapshot"), 200).unwrap();
    let documents = [&a, &small];
    assert_eq!(store.prune(&each(documents, bounded)).unwrap(), 0, "what is not covered does not count");
    append(&mut store, 5..=6);
    store.swap_snapshot(&snapshot(&a, 5, b"snapshot"), 200).unwrap();
    let readers = store.readers(1);
    assert_eq!(readers.prunable(bounded, u64::MAX).await.unwrap(), each([&a], bounded));
    assert_eq!(store.prune(&each(documents, bounded)).unwrap(), 2);
    assert_eq!(store.prune(&each(documents, bounded)).unwrap(), 0);
    assert_eq!(readers.prunable(bounded, u64::MAX).await.unwrap(), []);
    assert_eq!(readers.since(a.clone(), 1, 9000).await.unwrap(), Since::Pruned);
    let rows = Since::Rows { through: 6, updates: vec![update.clone(); 4] };
    assert_eq!(readers.since(a.clone(), 2, 9000).await.unwrap(), rows);

    // A store of before has them counted when it is opened.
    store.connection.execute_batch("ALTER TABLE document DROP COLUMN history_bytes").unwrap();
    store.connection.pragma_update(None, "user_version", 3).unwrap();
    drop((store, directory));
    let (_directory, store) = scratch.open(7);
    let mut store = store.unwrap();
    assert_eq!(store.prune(&each(documents, History { bytes_max: 3000, ..bounded })).unwrap(), 0);
    assert_eq!(store.prune(&each(documents, History { bytes_max: 2000, ..bounded })).unwrap(), 1);
    assert_eq!(load(&store, &a).await.unwrap().unwrap().sequence, 6);
}

#[tokio::test]
async fn the_documents_of_a_tenant_that_have_too_long_histories_together_have_shorter_ones() {
    let scratch = Scratch::new();
    let (_directory, store) = scratch.open(7);
    let mut store = store.unwrap();
    let names = [name("a/1"), name("a/2"), name("ab/1"), name("a")];
    let update = Bytes::from(vec![b'x'; 100]);
    for (document, rows) in names.iter().zip([30, 10, 30, 0]) {
        for sequence in 1..=rows + 1 {
            store.append([row(document, sequence, sequence, &update)], 100).unwrap();
        }
        if rows > 0 {
            store.swap_snapshot(&snapshot(document, rows, b"snapshot"), 200).unwrap();
        }
    }
    let readers = store.readers(1);
    let history = History { since_ms: 0, bytes_max: 3_500 };
    for unbounded in [4_000, u64::MAX] {
        assert_eq!(readers.prunable(history, unbounded).await.unwrap(), []);
    }
    let prunable = readers.prunable(history, 3_000).await.unwrap();
    let kept = |bytes_max| History { bytes_max, ..history };
    assert_eq!(prunable, [(names[0].clone(), kept(2_250)), (names[1].clone(), kept(750))]);
    assert_eq!(store.prune(&prunable).unwrap(), 8 + 3);
    assert_eq!(readers.prunable(history, 3_000).await.unwrap(), []);
    assert_eq!(readers.since(names[0].clone(), 7, 9_000).await.unwrap(), Since::Pruned);
    let rows = Since::Rows { through: 31, updates: vec![update; 23] };
    assert_eq!(readers.since(names[0].clone(), 8, 9_000).await.unwrap(), rows);
}

/// What one document should read as.
#[derive(Default)]
struct Expected {
    /// The sequences and texts of all rows.
    rows: Vec<(u64, Bytes)>,
    snapshot: u64,
}

impl Expected {
    fn last(&self) -> u64 {
        self.rows.last().map_or(0, |(sequence, _)| *sequence)
    }
}

/// Commits, moves of rows, snapshots, deletions and crashes in any order: every reader sees every row.
#[tokio::test]
async fn rows_on_their_way_to_their_places_are_read_like_all_others() {
    use rand::{Rng, SeedableRng};
    for seed in 0..5 {
        let mut random = rand::rngs::SmallRng::seed_from_u64(seed);
        let scratch = Scratch::new();
        let (mut directory, store) = scratch.open(7);
        let mut store = store.unwrap();
        let names: Vec<_> = (0..12).map(|index| name(&format!("d/{index}"))).collect();
        let mut expected: Vec<Expected> = names.iter().map(|_| Expected::default()).collect();
        for step in 0..100u64 {
            match random.random_range(0..10) {
                0..=5 => {
                    let mut updates = Vec::new();
                    for (index, expected) in expected.iter_mut().enumerate() {
                        if random.random_range(0..3) > 0 {
                            continue;
                        }
                        // Some are large enough for their place at once.
                        let length = if random.random_range(0..12) == 0 { 3_000 } else { 20 };
                        let update = Bytes::from(format!("{index}/{step} ").repeat(length / 4));
                        let (first, through) =
                            (expected.last() + 1, expected.last() + random.random_range(1..4));
                        expected.rows.push((through, update.clone()));
                        updates.push((index, first, through, update));
                    }
                    let rows = updates
                        .iter()
                        .map(|(index, first, through, update)| row(&names[*index], *first, *through, update));
                    // The clock is ahead now and then.
                    let at_ms = if random.random_range(0..4) == 0 { 10 * step } else { step };
                    store.append(rows, at_ms).unwrap();
                }
                6 => store.start_settling(),
                7 => store.settle_some().unwrap(),
                8 => {
                    let index = random.random_range(0..names.len());
                    let (name, expected) = (&names[index], &mut expected[index]);
                    if expected.last() > expected.snapshot {
                        expected.snapshot = expected.last();
                        store.swap_snapshot(&snapshot(name, expected.snapshot, b"snapshot"), step).unwrap();
                        store.prune(&each([name], since(step))).unwrap();
                    }
                }
                // As after a crash: nothing is tidied up.
                _ => {
                    drop(store);
                    drop(directory);
                    let opened = scratch.open(7);
                    (directory, store) = (opened.0, opened.1.unwrap());
                }
            }
            for (name, expected) in names.iter().zip(&expected) {
                let Some(found) = load(&store, name).await.unwrap() else {
                    assert_eq!(expected.last(), 0, "seed {seed}, step {step}, {name}");
                    continue;
                };
                let tail = expected.rows.iter().filter(|(sequence, _)| *sequence > expected.snapshot);
                let tail: Vec<_> = tail.map(|(_, update)| update.clone()).collect();
                assert_eq!(found.sequence, expected.last(), "seed {seed}, step {step}, {name}");
                assert!(found.tail == tail, "seed {seed}, step {step}, {name}");
                let since =
                    store.readers(1).since(name.clone(), expected.snapshot, usize::MAX).await.unwrap();
                assert!(since == Since::Rows { through: expected.last(), updates: tail });
                let after = random.random_range(0..=expected.last());
                let since = store.readers(1).since(name.clone(), after, usize::MAX).await.unwrap();
                assert!(after < expected.snapshot || since != Since::Pruned);
            }
        }
        store.close().unwrap();
        let (_directory, store) = {
            drop(directory);
            scratch.open(7)
        };
        let left: i64 =
            store.unwrap().connection.query_row("SELECT count(*) FROM recent", [], |r| r.get(0)).unwrap();
        assert_eq!(left, 0);
    }
}

#[tokio::test]
async fn rows_that_the_log_refuses_stay_where_they_are_and_hold_up_no_others() {
    let scratch = Scratch::new();
    let (_directory, store) = scratch.open(7);
    let mut store = store.unwrap();
    let [a, b, c] = ["a", "b", "c"].map(name);
    for document in [&a, &b, &c] {
        store.append([row(document, 1, 1, &text("1")), row(document, 2, 2, &text("2"))], 10).unwrap();
    }
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON log WHEN NEW.sequence = 2 AND NEW.document =
                  (SELECT id FROM document WHERE name = 'b') BEGIN SELECT RAISE(ABORT, 'refused'); END";
    store.connection.execute_batch(refuse).unwrap();
    store.start_settling();
    let refused: Vec<CommitError> = std::iter::from_fn(|| {
        let is_settling = store.is_settling();
        is_settling.then(|| store.settle_some())
    })
    .filter_map(Result::err)
    .collect();
    assert!(matches!(&refused[..], [CommitError::Row { document, .. }] if *document == b), "{refused:?}");
    let in_log = |store: &Store, document: &str| {
        let count = "SELECT count(*) FROM log WHERE document = (SELECT id FROM document WHERE name = ?1)";
        store.connection.query_row(count, [document], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(["a", "b", "c"].map(|document| in_log(&store, document)), [2, 0, 2]);
    let count = |store: &Store| {
        let count = "SELECT count(*) FROM recent WHERE document = (SELECT id FROM document WHERE name = 'b')";
        store.connection.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(count(&store), 2, "a crash now does not lose them");
    let more = store.append([row(&a, 3, 3, &text("3")), row(&b, 3, 3, &text("3"))], 11);
    assert!(
        matches!(more, Err(CommitError::Row { document, .. }) if document == b),
        "memory takes no more of it"
    );
    store.append([row(&a, 3, 3, &text("3"))], 11).unwrap();
    for (document, last) in [(&a, 3), (&b, 2), (&c, 2)] {
        assert_eq!(load(&store, document).await.unwrap().unwrap().sequence, last);
    }
    store.connection.execute_batch("DROP TRIGGER refuse").unwrap();
    store.append([row(&b, 3, 3, &text("3"))], 12).unwrap();
    settle(&mut store);
    assert_eq!(["a", "b", "c"].map(|document| in_log(&store, document)), [3, 3, 2]);
    assert_eq!((count(&store), store.recent.rows(&b, 0).len()), (0, 0));
}

#[test]
fn while_rows_cannot_be_moved_memory_takes_a_bounded_number_and_then_nothing_is_committed() {
    let scratch = Scratch::new();
    let (_directory, store) = scratch.open(7);
    let mut store = store.unwrap();
    let documents: Vec<_> = (0..SETTLE_ROWS).map(|number| name(&number.to_string())).collect();
    store.connection.execute_batch("ALTER TABLE log RENAME TO elsewhere").unwrap();
    let update = text("row");
    let mut committed = 0;
    let failed = (1..=2 * RECENT_FACTOR_MAX as u64).find_map(|sequence| {
        let rows = documents.iter().map(|document| row(document, sequence, sequence, &update));
        let failed = store.append(rows, 10).err();
        committed += u64::from(failed.is_none());
        assert!(store.settle_some().is_err() || !store.is_settling());
        failed
    });
    assert!(matches!(failed, Some(CommitError::Behind)), "{failed:?}");
    assert_eq!(committed, RECENT_FACTOR_MAX as u64);
    store.connection.execute_batch("ALTER TABLE elsewhere RENAME TO log").unwrap();
    settle(&mut store);
    let next = committed + 1;
    store.append(documents.iter().map(|document| row(document, next, next, &update)), 11).unwrap();
}

/// Bytes that this thread has read of files.
#[cfg(target_os = "linux")]
fn bytes_read() -> usize {
    let io = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn large_rows_of_one_document_are_not_read_for_the_rows_of_another() {
    const LARGE: usize = 8 << 20;
    let scratch = Scratch::new();
    let (_directory, store) = scratch.open(7);
    let mut store = store.unwrap();
    let (a, b) = (name("a"), name("b"));
    let large = Bytes::from(vec![7; LARGE]);
    for sequence in 1..=4 {
        store.append([row(&a, sequence, sequence, &large)], 10).unwrap();
    }
    let before = bytes_read();
    for sequence in 1..=50 {
        store.append([row(&b, sequence, sequence, &text("small"))], 11).unwrap();
        settle(&mut store);
    }
    store.swap_snapshot(&snapshot(&b, 50, b"snapshot"), 12).unwrap();
    assert_eq!(store.prune(&each([&b], since(1000))).unwrap(), 50);
    let read = bytes_read() - before;
    assert!(read < LARGE, "{read} bytes");
}

#[test]
fn rows_of_one_document_move_a_bounded_number_at_a_time_too() {
    let scratch = Scratch::new();
    let (_directory, store) = scratch.open(7);
    let mut store = store.unwrap();
    let (a, step) = (name("a"), u64::try_from(SETTLE_ROWS_AT_ONCE).unwrap());
    for sequence in 1..=3 * step + 1 {
        store.append([row(&a, sequence, sequence, &text("row"))], 10).unwrap();
    }
    store.start_settling();
    let mut moved = Vec::new();
    while !store.recent.rows(&a, 0).is_empty() {
        store.settle_some().unwrap();
        let count = "SELECT count(*) FROM log";
        moved.push(store.connection.query_row(count, [], |row| row.get::<_, u64>(0)).unwrap());
    }
    assert_eq!(moved, [step, 2 * step, 3 * step, 3 * step + 1]);
}

#[test]
fn rows_that_come_faster_than_they_move_are_a_bounded_number_in_memory() {
    let scratch = Scratch::new();
    let (_directory, store) = scratch.open(7);
    let mut store = store.unwrap();
    let documents: Vec<_> = (0..SETTLE_ROWS).map(|number| name(&number.to_string())).collect();
    let update = text("row");
    for sequence in 1..=2 * RECENT_FACTOR_MAX as u64 {
        store
            .append(documents.iter().map(|document| row(document, sequence, sequence, &update)), 10)
            .unwrap();
        store.settle().unwrap();
    }
}

#[test]
fn a_closed_store_has_every_row_in_its_place() {
    let scratch = Scratch::new();
    let (directory, store) = scratch.open(7);
    let mut store = store.unwrap();
    let rows = u64::try_from(crate::limits::SETTLE_ROWS_AT_ONCE).unwrap() + 1;
    for sequence in 1..=rows {
        store.append([row(&name("a"), sequence, sequence, &text("row"))], 10).unwrap();
    }
    store.start_settling();
    store.settle_some().unwrap();
    assert!(store.is_settling(), "some are on their way");
    store.append([row(&name("b"), 1, 1, &text("late"))], 11).unwrap();
    store.close().unwrap();
    drop(directory);
    let count = |table: &str| -> u64 {
        let count = format!("SELECT count(*) FROM {table}");
        open_read_only(&scratch.file()).unwrap().query_row(&count, [], |row| row.get(0)).unwrap()
    };
    assert_eq!((count("log"), count("recent")), (rows + 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_every_commit_while_rows_move() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let scratch = Scratch::new();
    let (_directory, store) = scratch.open(7);
    let mut store = store.unwrap();
    let readers = store.readers(2);
    let names: Vec<_> = (0..50).map(|index| name(&format!("d/{index}"))).collect();
    let committed = Arc::new(AtomicU64::new(0));
    let writing = tokio::task::spawn_blocking({
        let (names, committed, update) = (names.clone(), committed.clone(), text("letters"));
        move || {
            for sequence in 1..=400 {
                store.append(names.iter().map(|name| row(name, sequence, sequence, &update)), 1).unwrap();
                committed.store(sequence, Ordering::Release);
                if sequence % 3 == 0 {
                    store.start_settling();
                }
                store.settle_some().unwrap();
            }
        }
    });
    let mut reads = 0;
    while !writing.is_finished() || reads == 0 {
        let name = &names[reads % names.len()];
        let known = committed.load(Ordering::Acquire);
        let found = readers.document(name.clone()).await.unwrap();
        assert!(found.map_or(0, |found| found.sequence) >= known);
        reads += 1;
    }
    writing.await.unwrap();
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
        all.iter().for_each(|revocation| store.revoke(revocation).unwrap());
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
