//! Rows on their way from where they are committed to their places.

use super::*;
use crate::limits::{RECENT_FACTOR_MAX, SETTLE_ROWS, SETTLE_ROWS_AT_ONCE};
use std::sync::Arc;

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
