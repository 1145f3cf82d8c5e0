//! Everything that yrs produces is admitted whole, and applying the pieces gives the same document.

use crate::dice::Dice;
use crate::history::{History, Shape, apply, new_doc, state};
use crate::oracle::{Guarded, assert_same};
use bytes::Bytes;
use yrs::merge_updates_v1;

fn histories() -> impl Iterator<Item = (u64, History)> {
    (0..60).map(|seed| {
        let mut dice = Dice::seeded(seed);
        let shape = Shape::of(&mut dice);
        (seed, History::random(&mut dice, shape))
    })
}

#[test]
fn ad12_updates_in_the_order_of_their_making_are_admitted_whole() {
    for (seed, history) in histories() {
        println!("seed {seed}");
        let mut guarded = Guarded::new();
        for update in &history.log {
            guarded.take_whole(update);
        }
        assert_same(&guarded.doc, &history.replayed());
        guarded.check_deletes();
    }
}

#[test]
fn ad12_the_state_of_a_document_is_admitted_whole() {
    for (seed, history) in histories() {
        println!("seed {seed}");
        let whole = history.replayed();
        for doc in history.docs.iter().chain([&whole]) {
            let mut guarded = Guarded::new();
            guarded.take_whole(&state(doc));
            // What was collected in one may be merely deleted in the other, but no user sees that.
            assert_same(&guarded.doc, doc);
            guarded.check_deletes();
        }
    }
}

#[test]
fn ad12_the_states_of_all_authors_together_are_the_document() {
    for (seed, history) in histories().filter(|(_, history)| !history.shape.cuts_emoji) {
        println!("seed {seed}");
        let mut guarded = Guarded::new();
        for doc in &history.docs {
            guarded.take_whole(&state(doc));
        }
        assert_same(&guarded.doc, &history.replayed());
    }
}

#[test]
fn ad12_what_yrs_merges_is_admitted_whole() {
    for (seed, history) in histories() {
        println!("seed {seed}");
        let mut guarded = Guarded::new();
        for chunk in history.log.chunks(7) {
            let merged: Bytes = merge_updates_v1(chunk).unwrap().into();
            guarded.take_whole(&merged);
        }
        assert_same(&guarded.doc, &history.replayed());
    }
}

#[test]
fn ad21_a_second_offer_adds_nothing() {
    for (_, history) in histories().take(10) {
        let mut guarded = Guarded::new();
        for update in &history.log {
            guarded.take_whole(update);
            let before = guarded.admitted.clone();
            let again = guarded.take_whole(update);
            assert!(again.pieces.is_empty());
            assert_eq!(before, guarded.admitted);
        }
        assert!(guarded.take_whole(&state(&history.replayed())).pieces.iter().all(|piece| {
            // Deletions that no update carried, from values of one key set at the same time.
            piece.first() == Some(&0)
        }));
    }
}

#[test]
fn ad20_an_update_that_is_new_and_small_is_handed_on_as_it_came() {
    let doc = new_doc(1, false);
    let update = {
        use yrs::{Text, Transact, WriteTxn};
        let mut txn = doc.transact_mut();
        txn.get_or_insert_text("t").insert(&mut txn, 0, "hello");
        Bytes::from(txn.encode_update_v1())
    };
    let mut guarded = Guarded::new();
    let admission = guarded.take_whole(&update);
    assert_eq!(admission.pieces.len(), 1);
    assert_eq!(admission.pieces[0].as_ptr(), update.as_ptr(), "without a copy");
    apply(&doc, &update);
}
