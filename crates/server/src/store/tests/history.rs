//! What is deleted of the rows that snapshots cover.

use super::*;
use crate::limits::PRUNE_ROWS_MAX;

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
    assert_eq!(store.readers(1).prunable(since(100), None).await.unwrap(), []);
    assert_eq!(store.readers(1).prunable(since(200), None).await.unwrap(), each([&a], since(200)));
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
    assert_eq!(readers.prunable(since(500), None).await.unwrap(), []);
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
    assert_eq!(readers.prunable(bounded, None).await.unwrap(), each([&a], bounded));
    assert_eq!(store.prune(&each(documents, bounded)).unwrap(), 2);
    assert_eq!(store.prune(&each(documents, bounded)).unwrap(), 0);
    assert_eq!(readers.prunable(bounded, None).await.unwrap(), []);
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
    for unbounded in [Some(4_000), None] {
        assert_eq!(readers.prunable(history, unbounded).await.unwrap(), []);
    }
    let old = History { since_ms: 101, ..history };
    let unbounded = names[..3].iter().map(|name| (name.clone(), old));
    let prunable = readers.prunable(old, Some(4_000)).await.unwrap();
    assert_eq!(prunable, unbounded.collect::<Vec<_>>(), "what is added meanwhile has room");
    let prunable = readers.prunable(history, Some(3_000)).await.unwrap();
    let kept = |bytes_max| History { bytes_max, ..history };
    assert_eq!(prunable, [(names[0].clone(), kept(2_250)), (names[1].clone(), kept(750))]);
    assert_eq!(store.prune(&prunable).unwrap(), 8 + 3);
    assert_eq!(readers.prunable(history, Some(3_000)).await.unwrap(), []);
    assert_eq!(readers.since(names[0].clone(), 7, 9_000).await.unwrap(), Since::Pruned);
    let rows = Since::Rows { through: 31, updates: vec![update; 23] };
    assert_eq!(readers.since(names[0].clone(), 8, 9_000).await.unwrap(), rows);
}
