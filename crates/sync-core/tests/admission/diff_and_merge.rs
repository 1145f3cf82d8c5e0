//! Merging the updates of a log, and cutting what another knows: UP1 to UP4.

use crate::crafted::{after, in_root, skip, update, update_and_deletes};
use crate::dice::Dice;
use crate::history::{History, Shape, apply, new_doc, state};
use crate::oracle::{Guarded, assert_same, state_vector};
use bytes::Bytes;
use std::time::Instant;
use tidewell_sync_core::admission::Admitted;
use tidewell_sync_core::state_vector::StateVector;
use tidewell_sync_core::update::{MergeError, Scan, diff, merge};
use yrs::{Array, Text, Transact};

/// A log as rooms keep it: admitted pieces in the order of their admission.
fn logs() -> impl Iterator<Item = (History, Vec<Bytes>)> {
    (0..40).map(|seed| {
        println!("seed {seed}");
        let mut dice = Dice::seeded(seed + 1000);
        let shape = Shape::of(&mut dice);
        let history = History::random(&mut dice, shape);
        let mut admitted = Admitted::new();
        let log = history.log.iter().flat_map(|update| admitted.admit(update).unwrap().pieces).collect();
        (history, log)
    })
}

#[test]
fn up1_the_merged_log_is_the_log() {
    for (history, log) in logs() {
        let merged = merge(&log).unwrap();
        let doc = new_doc(12, false);
        apply(&doc, &merged);
        assert_same(&doc, &history.replayed());
        let (mut whole, mut one_by_one) = (Guarded::new(), Guarded::new());
        whole.take_whole(&merged);
        log.iter().for_each(|update| drop(one_by_one.take_whole(update)));
        assert_eq!(whole.admitted, one_by_one.admitted);
    }
}

#[test]
fn up1_parts_of_a_log_are_merged_and_merged_again() {
    for (history, log) in logs() {
        let parts: Vec<Bytes> = log.chunks(9).map(|part| merge(part).unwrap()).collect();
        let mut guarded = Guarded::new();
        parts.iter().for_each(|part| drop(guarded.take_whole(part)));
        assert_same(&guarded.doc, &history.replayed());
        assert_eq!(merge(&parts).unwrap(), merge(&log).unwrap());
    }
}

#[test]
fn up1_nothing_merged_is_the_empty_update() {
    assert_eq!(merge([]).unwrap(), tidewell_sync_core::update::EMPTY);
}

#[test]
fn up1_updates_with_a_gap_between_them_are_not_merged() {
    let first = update(&[(1, 0, vec![in_root("t").text("a")])]);
    let third = update(&[(1, 2, vec![after(1, 1).text("c")])]);
    assert_eq!(merge([&first, &third]), Err(MergeError::Gap));
    assert_eq!(merge([&first, &first]), Err(MergeError::Gap));
    let with_a_hole = update(&[(1, 1, vec![skip(1), after(1, 1).text("c")])]);
    assert_eq!(merge([&first, &with_a_hole]), Err(MergeError::Gap));
}

#[test]
fn up1_text_typed_before_a_neighbour_that_has_come_since_stays_before_it() {
    let log = [
        update(&[(5, 0, vec![in_root("t").text("a")])]),
        update(&[(2, 0, vec![after(5, 0).text("others")])]),
        update(&[(5, 1, vec![after(5, 0).before(2, 0).text("b")])]),
    ];
    let (merged_doc, doc) = (new_doc(8, false), new_doc(8, false));
    apply(&merged_doc, &merge(&log).unwrap());
    log.iter().for_each(|update| apply(&doc, update));
    assert_same(&merged_doc, &doc);
}

#[test]
fn up2_a_typed_sentence_is_merged_into_one_item() {
    let doc = new_doc(1, false);
    let text = doc.get_or_insert_text("t");
    let mut log = Vec::new();
    for (at, char) in "a sentence, typed char by char: 🙂🙂".encode_utf16().enumerate() {
        let mut txn = doc.transact_mut();
        text.insert(&mut txn, at as u32, &String::from_utf16_lossy(&[char]));
        log.push(Bytes::from(txn.encode_update_v1()));
    }
    let merged = merge(&log).unwrap();
    assert_eq!(Scan::new(&merged).unwrap().structs, 1);
    let mut guarded = Guarded::new();
    guarded.take_whole(&merged);
    assert_same(&guarded.doc, &doc);
}

#[test]
fn up2_text_with_something_typed_between_is_not_joined() {
    let log = [
        update(&[(1, 0, vec![in_root("t").text("ab")])]),
        update(&[(1, 2, vec![after(1, 0).before(1, 1).text("x")])]),
        update(&[(1, 3, vec![after(1, 2).before(1, 1).text("y")])]),
        update(&[(1, 4, vec![after(1, 3).text("z")])]),
        update(&[(2, 0, vec![after(1, 4).text("other")])]),
        update_and_deletes(&[(1, 5, vec![after(1, 4).text("!")])], &[(1, vec![(2, 2)])]),
    ];
    let merged = merge(&log).unwrap();
    assert_eq!(Scan::new(&merged).unwrap().structs, 4, "ab, xy, z!, other");
    let (merged_doc, doc) = (new_doc(8, false), new_doc(8, false));
    apply(&merged_doc, &merged);
    log.iter().for_each(|update| apply(&doc, update));
    assert_same(&merged_doc, &doc);
}

#[test]
fn up3_a_diff_and_what_the_state_vector_covers_are_the_whole() {
    for (history, log) in logs() {
        let merged = merge(&log).unwrap();
        for until in (0..=log.len()).step_by(5) {
            let mut guarded = Guarded::new();
            log[..until].iter().for_each(|update| drop(guarded.take_whole(update)));
            let known = guarded.admitted.state_vector();
            for source in [&merged, &state(&history.replayed())] {
                if let Some(rest) = diff(source, &known).unwrap() {
                    assert!(
                        Scan::new(&rest)
                            .unwrap()
                            .sections
                            .iter()
                            .all(|section| known.get(section.client) <= section.clock)
                    );
                    guarded.take_whole(&rest);
                }
                assert_eq!(guarded.admitted.state_vector(), state_vector(&history.replayed()));
                if !history.shape.cuts_emoji {
                    assert_same(&guarded.doc, &history.replayed());
                }
            }
        }
    }
}

#[test]
fn up3_a_diff_against_clocks_that_cut_items_holds_every_unit_beyond_them() {
    for (history, log) in logs() {
        let mut dice = Dice::seeded(log.len() as u64);
        let merged = merge(&log).unwrap();
        let whole = state_vector(&history.replayed());
        let known: StateVector =
            whole.iter().map(|(client, clock)| (client, dice.below(clock as usize + 2) as u32)).collect();
        let Some(rest) = diff(&merged, &known).unwrap() else { continue };
        let scan = Scan::new(&rest).unwrap();
        for (client, clock) in whole.iter().filter(|(client, clock)| known.get(*client) < *clock) {
            let section = scan.sections.iter().find(|section| section.client == client).unwrap();
            assert_eq!(section.clock, known.get(client));
            let mut reader = tidewell_sync_core::lib0::Reader::at(&rest, section.start);
            let end = (0..section.count).fold(section.clock, |at, _| {
                tidewell_sync_core::update::read_struct(&mut reader, at).unwrap().end()
            });
            assert_eq!(end, clock);
        }
        assert_eq!(scan.delete_set(), Scan::new(&merged).unwrap().delete_set());
    }
}

#[test]
fn up3_a_diff_against_everything_has_only_the_deletions() {
    let with = |deletes: &[(u64, Vec<(u64, u64)>)]| {
        update_and_deletes(&[(1, 0, vec![in_root("t").text("abc")])], deletes)
    };
    let all: StateVector = [(1, 3)].into_iter().collect();
    let beyond: StateVector = [(1, 30)].into_iter().collect();
    for known in [all, beyond] {
        assert_eq!(diff(&with(&[]), &known), Ok(None));
        let deletes = [(1, vec![(0, 1)])];
        assert_eq!(diff(&with(&deletes), &known), Ok(Some(update_and_deletes(&[], &deletes))));
    }
    assert_eq!(diff(&Bytes::from_static(&[0, 0]), &StateVector::default()), Ok(None));
}

#[test]
fn up4_merging_and_cutting_many_updates_takes_linear_time() {
    let log_of = |units: u32| {
        let doc = new_doc(1, false);
        let (text, array) = (doc.get_or_insert_text("t"), doc.get_or_insert_array("a"));
        let mut log = Vec::new();
        for at in 0..units {
            let mut txn = doc.transact_mut();
            // Typing backwards, and values: nothing of it can be joined.
            if at % 2 == 0 {
                text.insert(&mut txn, 0, "x");
            } else {
                array.push_front(&mut txn, 1);
            }
            log.push(Bytes::from(txn.encode_update_v1()));
        }
        log
    };
    let time = |log: &[Bytes]| {
        let start = Instant::now();
        let merged = merge(log).unwrap();
        for known in (0..20).map(|part| part * log.len() as u32 / 20) {
            let known: StateVector = [(1, known)].into_iter().collect();
            diff(&merged, &known).unwrap();
        }
        start.elapsed()
    };
    let (small, large) = (log_of(2_000), log_of(20_000));
    let (small, large) = (time(&small), time(&large));
    println!("2,000 updates: {small:?}, 20,000 updates: {large:?}");
}
