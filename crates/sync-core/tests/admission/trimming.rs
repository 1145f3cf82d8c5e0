//! What is taken of updates that come in any order, with holes, twice, or partly known: AD11, AD12,
//! AD18 to AD21.

use crate::crafted::{after, gc, in_root, skip, update, update_and_deletes};
use crate::dice::Dice;
use crate::history::{History, Shape, apply, new_doc, state};
use crate::oracle::{Guarded, assert_same};
use bytes::Bytes;
use tidewell_sync_core::admission::Admitted;
use tidewell_sync_core::limits::{PIECE_BYTES_MAX, PIECE_STRUCTS_MAX};
use tidewell_sync_core::state_vector::StateVector;
use tidewell_sync_core::update::{Id, Scan, diff};
use yrs::{diff_updates_v1, merge_updates_v1};

fn in_order(log: &[Bytes]) -> Admitted {
    let mut admitted = Admitted::new();
    for update in log {
        assert!(admitted.admit(update).unwrap().is_complete());
    }
    admitted
}

/// Updates in another order, some merged over holes, some cut at a random clock, some twice.
fn disordered(dice: &mut Dice, log: &[Bytes]) -> Vec<Bytes> {
    let mut out: Vec<Bytes> = log.to_vec();
    for _ in 0..log.len() / 2 {
        let parts: Vec<Bytes> = (0..2 + dice.below(3)).map(|_| dice.pick(log).clone()).collect();
        // With a hole in the merged update yrs has been seen to lose what follows it: it only adds.
        out.push(merge_updates_v1(&parts).unwrap().into());
    }
    for _ in 0..log.len() {
        let update = dice.pick(log).clone();
        let clocks = Scan::new(&update).unwrap();
        let known: StateVector = clocks
            .sections
            .iter()
            .map(|section| (section.client, section.clock + 1 + dice.below(9) as u32))
            .collect();
        out.extend(diff(&update, &known).unwrap());
    }
    dice.shuffle(&mut out);
    out
}

#[test]
fn ad11_updates_in_any_order_offered_often_enough_are_the_whole() {
    for seed in 0..40 {
        println!("seed {seed}");
        let mut dice = Dice::seeded(seed);
        let mut shape = Shape::of(&mut dice);
        shape.cuts_emoji = false;
        let history = History::random(&mut dice, shape);
        let updates = disordered(&mut dice, &history.log);
        let mut guarded = Guarded::new();
        let mut rounds = 0;
        loop {
            let before = guarded.admitted.clone();
            let missing = updates.iter().filter(|update| !guarded.take(update).is_complete()).count();
            rounds += 1;
            if missing == 0 {
                break;
            }
            assert_ne!(before, guarded.admitted, "nothing goes on, and {missing} updates are still trimmed");
            assert!(rounds <= updates.len());
        }
        assert_same(&guarded.doc, &history.replayed());
        assert_eq!(guarded.admitted.state_vector(), in_order(&history.log).state_vector());
        let ordered = in_order(&history.log);
        assert!(guarded.admitted.covers_deletes_of(&ordered) && ordered.covers_deletes_of(&guarded.admitted));
    }
}

#[test]
fn ad11_the_admitted_state_does_not_depend_on_the_order_of_arrival() {
    for seed in 0..40 {
        println!("seed {seed}");
        let mut dice = Dice::seeded(seed);
        let shape = Shape::of(&mut dice);
        let history = History::random(&mut dice, shape);
        let mut updates = history.log.clone();
        dice.shuffle(&mut updates);
        let mut admitted = Admitted::new();
        let mut rounds = 0;
        while updates.iter().filter(|update| !admitted.admit(update).unwrap().is_complete()).count() > 0 {
            rounds += 1;
            assert!(rounds <= updates.len(), "something waits for ever");
        }
        assert_eq!(admitted, in_order(&history.log));
    }
}

#[test]
fn ad11_any_cut_of_a_state_and_what_it_leaves_are_the_whole() {
    for seed in 0..60 {
        println!("seed {seed}");
        let mut dice = Dice::seeded(seed);
        let mut shape = Shape::of(&mut dice);
        shape.cuts_emoji = false;
        let history = History::random(&mut dice, shape);
        let part = dice.below(history.log.len());
        // Partial overlaps, with everything that a state can hold: joined text, values, collected ranges.
        let mut guarded = Guarded::new();
        for update in &history.log[..part] {
            guarded.take_whole(update);
        }
        guarded.take_whole(&state(&history.replayed()));
        assert_same(&guarded.doc, &history.replayed());
    }
}

#[test]
fn ad11_what_is_known_is_cut_off_unit_by_unit() {
    let kinds = [
        (in_root("t").text("abcdef"), in_root("t").text("ab🙂🙂é")),
        (in_root("t").numbers(&[1, 2, 3, 4, 5, 6]), in_root("t").numbers(&[1, 2, 3, 4, 5, 6, 7])),
        (in_root("t").deleted(6), in_root("t").deleted(7)),
        (gc(6), gc(7)),
    ];
    for (short, long) in kinds {
        for known in 1..7 {
            let cut = update(&[(1, 0, vec![long.clone()])]);
            let known_vector: StateVector = [(1, known)].into_iter().collect();
            // yrs cuts the same way.
            let ours = diff(&cut, &known_vector).unwrap().unwrap();
            let vector = yrs::updates::encoder::Encode::encode_v1(&yrs_vector(&known_vector));
            let theirs = diff_updates_v1(&cut, &vector).unwrap();
            assert_eq!(ours, theirs, "after {known} units");
        }
        let mut guarded = Guarded::new();
        guarded.take_whole(&update(&[(1, 0, vec![short])]));
        let admission = guarded.take_whole(&update(&[(1, 0, vec![long])]));
        assert_eq!(guarded.admitted.clock(1), 7);
        let scan = Scan::new(&admission.pieces[0]).unwrap();
        assert_eq!(scan.sections[0].clock, 6);
    }
}

fn yrs_vector(vector: &StateVector) -> yrs::StateVector {
    <yrs::StateVector as yrs::updates::decoder::Decode>::decode_v1(&vector.encode()).unwrap()
}

#[test]
fn ad11_an_emoji_that_is_cut_leaves_a_replacement_character() {
    let mut guarded = Guarded::new();
    guarded.take_whole(&update(&[(1, 0, vec![in_root("t").text("a\u{fffd}")])]));
    let admission = guarded.take_whole(&update(&[(1, 0, vec![in_root("t").text("a🙂b")])]));
    assert_eq!(admission.pieces, [update(&[(1, 2, vec![after(1, 1).text("\u{fffd}b")])])]);
}

#[test]
fn ad12_what_follows_a_hole_waits_and_what_precedes_it_enters() {
    let holed = update(&[
        (2, 0, vec![in_root("t").text("ab"), skip(3), after(2, 4).text("z")]),
        (1, 0, vec![after(2, 1).text("c"), after(2, 5).text("d")]),
    ]);
    let mut guarded = Guarded::new();
    let admission = guarded.take(&holed);
    assert_eq!(
        admission.pieces,
        [update(&[(2, 0, vec![in_root("t").text("ab")]), (1, 0, vec![after(2, 1).text("c")]),])]
    );
    assert_eq!(
        admission.missing,
        [Id { client: 1, clock: 0 }, Id { client: 2, clock: 2 }]
            .map(|missing| { if missing.client == 1 { Id { client: 2, clock: 5 } } else { missing } })
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
    );
    guarded.take_whole(&update(&[(2, 2, vec![after(2, 1).text("xyz")])]));
    guarded.take_whole(&holed);
    assert_eq!(guarded.admitted.state_vector(), [(1, 2), (2, 6)].into_iter().collect());
}

#[test]
fn ad12_a_hole_over_what_is_known_is_no_hole() {
    let mut guarded = Guarded::new();
    guarded.take_whole(&update(&[(2, 0, vec![in_root("t").text("abcde")])]));
    guarded.take_whole(&update(&[(2, 0, vec![in_root("t").text("ab"), skip(3), after(2, 4).text("z")])]));
    assert_eq!(guarded.admitted.clock(2), 6);
}

#[test]
fn ad12_a_hole_at_the_end_of_a_section_hides_nothing() {
    let mut guarded = Guarded::new();
    guarded.take_whole(&update(&[(2, 0, vec![in_root("t").text("ab"), skip(3)])]));
    assert_eq!(guarded.admitted.clock(2), 2);
}

#[test]
fn ad18_deletions_beyond_the_known_clocks_wait() {
    let mut guarded = Guarded::new();
    guarded.take_whole(&update(&[(1, 0, vec![in_root("t").text("abcdef")])]));
    let admission = guarded.take(&update_and_deletes(&[], &[(1, vec![(4, 10)]), (2, vec![(0, 3)])]));
    assert_eq!(admission.missing, [Id { client: 1, clock: 6 }, Id { client: 2, clock: 0 }]);
    assert_eq!(admission.pieces, [update_and_deletes(&[], &[(1, vec![(4, 2)])])]);
    guarded.check_deletes();
}

#[test]
fn ad18_only_new_deletions_are_handed_on() {
    let mut guarded = Guarded::new();
    guarded.take_whole(&update(&[(1, 0, vec![in_root("t").text("abcdef")])]));
    guarded.take_whole(&update_and_deletes(&[], &[(1, vec![(1, 2)])]));
    let admission = guarded.take_whole(&update_and_deletes(&[], &[(1, vec![(0, 6)])]));
    assert_eq!(admission.pieces, [update_and_deletes(&[], &[(1, vec![(0, 1), (3, 3)])])]);
    assert!(guarded.take_whole(&update_and_deletes(&[], &[(1, vec![(0, 6)])])).pieces.is_empty());
}

#[test]
fn ad18_a_delete_set_that_yrs_would_read_otherwise_is_written_anew() {
    let sections = [(1, 0, vec![in_root("t").text("abcdefgh")])];
    let clean = update_and_deletes(&sections, &[(1, vec![(0, 3), (4, 1), (6, 1)])]);
    let unclean = [
        vec![(1, vec![(4, 1), (0, 3), (6, 1)])],
        vec![(1, vec![(0, 3), (4, 1)]), (1, vec![(6, 1)])],
        vec![(1, vec![(0, 3), (1, 1), (4, 1), (6, 1)])],
        vec![(1, vec![(0, 3), (3, 0), (4, 1), (6, 1)]), (3, vec![])],
    ];
    for deletes in unclean {
        let mut guarded = Guarded::new();
        let admission = guarded.take_whole(&update_and_deletes(&sections, &deletes));
        assert_eq!(admission.pieces.as_slice(), std::slice::from_ref(&clean), "{deletes:?}");
        guarded.check_deletes();
    }
}

#[test]
fn ad20_sections_without_structs_are_not_handed_on() {
    let admission = Guarded::new().take_whole(&update(&[(3, 7, vec![]), (1, 0, vec![gc(1)])]));
    assert_eq!(admission.pieces, [update(&[(1, 0, vec![gc(1)])])]);
    assert!(Guarded::new().take_whole(&update(&[(3, 7, vec![])])).pieces.is_empty());
}

#[test]
fn ad20_pieces_hold_at_most_512_structs_and_are_closed_one_after_the_other() {
    // Two clients who answer each other, unit by unit.
    let mut structs = [vec![in_root("t").text("a")], vec![after(1, 0).text("b")]];
    for clock in 1..3000u32 {
        structs[0].push(after(2, clock - 1).text("a"));
        structs[1].push(after(1, clock).text("b"));
    }
    let [first, second] = structs;
    for sections in [vec![(1, 0, first.clone()), (2, 0, second.clone())], vec![(2, 0, second), (1, 0, first)]]
    {
        let mut guarded = Guarded::new();
        let admission = guarded.take_whole(&update(&sections));
        assert!(admission.pieces.len() >= 6000 / PIECE_STRUCTS_MAX);
        for piece in &admission.pieces {
            assert!(Scan::new(piece).unwrap().structs <= PIECE_STRUCTS_MAX);
        }
        let mut again = Guarded::new();
        admission.pieces.iter().for_each(|piece| drop(again.take_whole(piece)));
        assert_eq!(again.admitted, guarded.admitted);
    }
}

#[test]
fn ad20_the_pieces_of_a_large_document_are_the_document() {
    let mut dice = Dice::seeded(1);
    let shape = Shape { authors: 3, edits: 1500, subdocuments: false, cuts_emoji: false };
    let history = History::random(&mut dice, shape);
    let whole = state(&history.replayed());
    let mut guarded = Guarded::new();
    let admission = guarded.take_whole(&whole);
    assert!(admission.pieces.len() > 2);
    assert_same(&guarded.doc, &history.replayed());
    let doc = new_doc(3, false);
    admission.pieces.iter().for_each(|piece| apply(&doc, piece));
    assert_same(&doc, &guarded.doc);
}

#[test]
fn ad20_long_texts_and_lists_are_cut_and_are_the_same_document() {
    use yrs::{Array, Text, Transact};
    let author = new_doc(5, false);
    let (text, list) = (author.get_or_insert_text("t"), author.get_or_insert_array("l"));
    let mut log = Vec::new();
    // Characters of one to four bytes, so that no cut falls on a round number.
    for words in ["aé🙂語".repeat(300_000), "known ".repeat(10), "b".repeat(2 * PIECE_BYTES_MAX)] {
        let mut transaction = author.transact_mut();
        text.push(&mut transaction, &words);
        log.push(Bytes::from(transaction.encode_update_v1()));
    }
    let mut transaction = author.transact_mut();
    list.insert_range(&mut transaction, 0, (0..300_000).map(|index| format!("value {index}")));
    log.push(transaction.encode_update_v1().into());
    drop(transaction);

    let whole = state(&author);
    for known in 0..log.len() {
        let mut guarded = Guarded::new();
        log.iter().take(known).for_each(|update| drop(guarded.take_whole(update)));
        let admission = guarded.take_whole(&whole);
        let largest = admission.pieces.iter().map(Bytes::len).max().unwrap();
        assert!(largest < PIECE_BYTES_MAX + 64, "{largest}");
        assert_same(&guarded.doc, &author);
    }
}

#[test]
fn ad20_very_many_deletions_are_handed_on_in_parts() {
    let mut guarded = Guarded::new();
    guarded.take_whole(&update(&[(1, 0, vec![in_root("t").text(&"x".repeat(200_000))])]));
    let every_second: Vec<_> = (0..100_000).map(|index| (2 * index + 1, 1)).collect();
    let admission = guarded.admitted.clone().admit(&update_and_deletes(&[], &[(1, every_second)])).unwrap();
    assert!(admission.is_complete() && admission.pieces.len() > 2);
    let mut again = guarded.admitted.clone();
    for piece in &admission.pieces {
        assert!(piece.len() < PIECE_BYTES_MAX && again.admit(piece).unwrap().is_complete());
    }
    assert_eq!(again.deletes().map(|(_, ranges)| ranges.len()).sum::<usize>(), 100_000);
}

#[test]
fn ad18_one_deletion_is_not_handed_on_as_very_many() {
    let mut guarded = Guarded::new();
    guarded.take_whole(&update(&[(1, 0, vec![in_root("t").text(&"x".repeat(10_000))])]));
    let every_second = (0..5000).map(|index| (2 * index + 1, 1)).collect();
    guarded.take_whole(&update_and_deletes(&[], &[(1, every_second)]));
    let all = update_and_deletes(&[], &[(1, vec![(0, 10_000)])]);
    assert_eq!(guarded.take_whole(&all).pieces, [all]);
    guarded.check_deletes();
}
