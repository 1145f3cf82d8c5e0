//! Where items may live: AD12 to AD17.

use crate::crafted::{after, gc, in_root, in_type, update, update_and_deletes};
use crate::history::{apply, new_doc, state};
use crate::oracle::Guarded;
use bytes::Bytes;
use tidewell_sync_core::admission::{Admission, Admitted};
use tidewell_sync_core::limits::TYPE_DEPTH_MAX;
use tidewell_sync_core::update::{Id, InvalidUpdate};
use yrs::{Array, Map, Transact};

/// Offers an update to what the first one made, and checks that a refusal leaves no trace.
fn offered(base: &Bytes, next: &Bytes) -> Result<Admission, InvalidUpdate> {
    let mut guarded = Guarded::new();
    guarded.take_whole(base);
    let before = guarded.admitted.clone();
    let outcome = guarded.admitted.admit(next);
    match &outcome {
        Ok(admission) => admission.pieces.iter().for_each(|piece| apply(&guarded.doc, piece)),
        Err(_) => assert_eq!(before, guarded.admitted, "ad10: a refused update left a trace"),
    }
    apply(&new_doc(99, false), &state(&guarded.doc));
    outcome
}

fn id(client: u64, clock: u32) -> Id {
    Id { client, clock }
}

/// Client 1: text `abc` in root `t`, numbers in root `a`, a map in root `a` with a text in it.
fn base() -> Bytes {
    update(&[(
        1,
        0,
        vec![
            in_root("t").text("abc"),                // 0..3
            in_root("a").numbers(&[1, 2]),           // 3..5
            after(1, 4).shared(1),                   // 5: a map
            in_type(1, 5).at_key("k").shared(2),     // 6: a text in it
            in_type(1, 6).text("xyz"),               // 7..10
            in_type(1, 5).at_key("n").numbers(&[7]), // 10
        ],
    )])
}

#[test]
fn ad12_an_item_waits_for_its_origins_and_its_parent() {
    let waiting = [
        after(9, 3).text("z"),
        after(1, 2).before(9, 3).text("z"),
        in_type(9, 3).text("z"),
        after(1, 11).text("z"),
    ];
    for item in waiting {
        let admission = offered(&base(), &update(&[(2, 0, vec![item])])).unwrap();
        assert!(admission.pieces.is_empty());
        assert!(matches!(admission.missing[..], [Id { clock: 3 | 11, .. }]), "{:?}", admission.missing);
    }
}

#[test]
fn ad12_sections_that_need_each_other_by_turns_are_taken_whole() {
    let update = update(&[
        (3, 0, vec![in_root("t").text("a"), after(2, 1).text("b"), after(1, 3).text("c")]),
        (2, 0, vec![after(3, 0).text("d"), after(1, 1).text("e"), after(3, 1).text("f")]),
        (1, 0, vec![after(2, 0).text("gh"), after(2, 1).text("i"), after(2, 2).text("j")]),
    ]);
    Guarded::new().take_whole(&update);
}

#[test]
fn ad13_items_that_wait_for_each_other_are_refused() {
    let cycles = [
        vec![(2, 0, vec![after(2, 0).text("a")])],
        vec![(2, 0, vec![after(2, 7).text("a")])],
        vec![(2, 0, vec![after(3, 0).text("a")]), (3, 0, vec![after(2, 0).text("a")])],
        vec![(2, 0, vec![in_type(3, 1).text("a")]), (3, 0, vec![gc(1), in_type(2, 0).text("a")])],
        vec![
            (2, 0, vec![after(1, 2).before(3, 0).text("a")]),
            (3, 0, vec![after(4, 0).text("a")]),
            (4, 0, vec![after(2, 0).text("a")]),
        ],
    ];
    for sections in cycles {
        assert_eq!(offered(&base(), &update(&sections)), Err(InvalidUpdate::Cycle), "{sections:?}");
    }
}

#[test]
fn ad14_an_explicit_parent_that_is_no_shared_type_is_refused() {
    for clock in [0, 2, 3, 4, 7, 10] {
        let child = update(&[(2, 0, vec![in_type(1, clock).text("z")])]);
        assert_eq!(offered(&base(), &child), Err(InvalidUpdate::Parent), "clock {clock}");
    }
    for clock in [5, 6] {
        assert!(offered(&base(), &update(&[(2, 0, vec![in_type(1, clock).text("z")])])).is_ok());
    }
    let in_one_update = update(&[(2, 0, vec![in_root("t").text("z"), in_type(2, 0).text("z")])]);
    assert_eq!(offered(&base(), &in_one_update), Err(InvalidUpdate::Parent));
}

#[test]
fn ad14_children_of_what_was_collected_are_collected() {
    for parent in [gc(1), in_root("a").deleted(1)] {
        let children = update(&[(
            2,
            0,
            vec![
                parent,
                in_type(2, 0).shared(1),
                in_type(2, 1).text("b"),
                after(2, 2).text("c"),
                in_type(2, 2).text("d"),
            ],
        )]);
        let admission = offered(&base(), &children).unwrap();
        assert!(admission.is_complete());
    }
}

#[test]
fn ad15_neighbours_in_different_lists_are_refused() {
    // Text and array, two keys of a map, a type and its own children, a key and a child of one map.
    let pairs = [(2, 3), (5, 6), (6, 10), (6, 7), (4, 9), (7, 10)];
    for (left, right) in pairs {
        for (left, right) in [(left, right), (right, left)] {
            let item = after(1, left).before(1, right).text("z");
            assert_eq!(offered(&base(), &update(&[(2, 0, vec![item])])), Err(InvalidUpdate::Neighbours));
        }
    }
    assert!(offered(&base(), &update(&[(2, 0, vec![after(1, 4).before(1, 5).text("z")])])).is_ok());
    assert!(offered(&base(), &update(&[(2, 0, vec![after(1, 5).before(1, 3).text("z")])])).is_ok());
}

#[test]
fn ad15_roots_of_different_names_and_keys_of_different_names_are_different_lists() {
    let entries = update(&[(
        1,
        0,
        vec![
            in_root("m").at_key("k").numbers(&[1]),
            in_root("m").at_key("l").numbers(&[1]),
            in_root("m").numbers(&[1]),
            in_root("n").numbers(&[1]),
        ],
    )]);
    for left in 0..4 {
        for right in 0..4 {
            let item = after(1, left).before(1, right).numbers(&[2]);
            let outcome = offered(&entries, &update(&[(2, 0, vec![item])]));
            assert_eq!(outcome.is_ok(), left == right, "{left} {right}");
        }
    }
}

#[test]
fn ad15_what_is_left_of_a_cut_item_lives_where_the_unit_before_the_cut_does() {
    // Client 1 wrote `abc` in `t`; this says that it wrote `vwxyz` before the numbers in `a`.
    let other = update(&[(1, 0, vec![in_root("a").before(1, 3).text("vwxyzvwxyzvwxyz")])]);
    assert_eq!(offered(&base(), &other), Err(InvalidUpdate::Neighbours));
    let lower = update(&[(
        1,
        2,
        vec![in_root("t").text("cdefghijk"), after(1, 10).shared(1), in_type(1, 11).shared(1)],
    )]);
    let mut admitted = Admitted::new();
    admitted.admit(&base()).unwrap();
    assert!(admitted.admit(&lower).unwrap().is_complete());
    // Clock 10 is a value of key `n`, and so is what came to stand behind it.
    let in_text = update(&[(2, 0, vec![after(1, 2).before(1, 11).text("z")])]);
    assert_eq!(admitted.admit(&in_text), Err(InvalidUpdate::Neighbours));
    let at_key = update(&[(2, 0, vec![after(1, 10).before(1, 11).numbers(&[1])])]);
    assert!(admitted.admit(&at_key).unwrap().is_complete());
}

#[test]
fn ad15_a_collected_neighbour_says_nothing_of_the_list() {
    let next = update(&[(
        2,
        0,
        vec![gc(1), after(2, 0).before(1, 2).text("z"), after(2, 1).before(1, 1).text("y")],
    )]);
    assert!(offered(&base(), &next).unwrap().is_complete());
    let elsewhere = update(&[(
        2,
        0,
        vec![gc(1), after(2, 0).before(1, 2).text("z"), after(2, 1).before(1, 4).text("y")],
    )]);
    assert_eq!(offered(&base(), &elsewhere), Err(InvalidUpdate::Neighbours));
}

/// Types, each in the one before, the first in a root.
fn tower(height: u32) -> Vec<Vec<u8>> {
    let level =
        |clock: u32| if clock == 0 { in_root("a").shared(0) } else { in_type(1, clock - 1).shared(0) };
    (0..height).map(level).collect()
}

#[test]
fn ad16_types_nested_deeper_than_256_are_refused() {
    let max = u32::from(TYPE_DEPTH_MAX);
    assert!(offered(&base_nothing(), &update(&[(1, 0, tower(max))])).is_ok());
    assert_eq!(offered(&base_nothing(), &update(&[(1, 0, tower(max + 1))])), Err(InvalidUpdate::TypeDepth));
    let mut admitted = Admitted::new();
    admitted.admit(&update(&[(1, 0, tower(max))])).unwrap();
    let beside = update(&[(2, 0, vec![in_type(1, max - 1).text("leaf"), after(1, max - 1).shared(0)])]);
    assert!(admitted.admit(&beside).is_ok());
    let deeper = update(&[(3, 0, vec![after(2, 3).shared(0)])]);
    assert_eq!(admitted.admit(&deeper), Err(InvalidUpdate::TypeDepth));
    let deeper = update(&[(3, 0, vec![in_type(2, 4).shared(0)])]);
    assert_eq!(admitted.admit(&deeper), Err(InvalidUpdate::TypeDepth));
}

fn base_nothing() -> Bytes {
    Bytes::from_static(tidewell_sync_core::update::EMPTY)
}

#[test]
fn ad16_a_collected_neighbour_does_not_hide_the_depth() {
    let mut structs = vec![gc(1)];
    // Each type stands between something collected and a number in the type before.
    structs.push(in_root("a").shared(0));
    structs.push(in_type(1, 1).numbers(&[1]));
    for level in 0..300u32 {
        let number = 2 + level * 2;
        structs.push(after(1, 0).before(1, number).shared(0));
        structs.push(in_type(1, number + 1).numbers(&[1]));
    }
    assert_eq!(offered(&base_nothing(), &update(&[(1, 0, structs)])), Err(InvalidUpdate::TypeDepth));
}

#[test]
fn ad17_several_values_of_one_key_are_refused_unless_the_update_deletes_them_all() {
    let values = vec![in_type(1, 5).at_key("v").numbers(&[1, 2, 3])];
    let next = |deletes: Vec<(u64, u64)>| update_and_deletes(&[(2, 0, values.clone())], &[(2, deletes)]);
    for partly in [vec![], vec![(0, 2)], vec![(1, 2)], vec![(0, 1), (2, 1)]] {
        assert_eq!(offered(&base(), &next(partly)), Err(InvalidUpdate::Entry));
    }
    assert!(offered(&base(), &next(vec![(0, 3)])).unwrap().is_complete());
    assert!(offered(&base(), &next(vec![(2, 1), (0, 2)])).unwrap().is_complete());
    let behind = vec![after(1, 10).numbers(&[1, 2])];
    assert_eq!(offered(&base(), &update(&[(2, 0, behind)])), Err(InvalidUpdate::Entry));
    for text in
        [in_type(1, 5).at_key("v").text("ab"), in_type(1, 5).at_key("v").text("a"), after(1, 10).text("a")]
    {
        assert_eq!(offered(&base(), &update(&[(2, 0, vec![text])])), Err(InvalidUpdate::Entry));
    }
    let collected = vec![in_type(1, 5).at_key("v").deleted(5)];
    assert!(offered(&base(), &update(&[(2, 0, collected)])).is_ok());
}

#[test]
fn ad17_the_values_of_a_key_of_a_document_that_keeps_its_history_are_admitted() {
    let doc = new_doc(5, true);
    let map = doc.get_or_insert_map("m");
    let array = doc.get_or_insert_array("a");
    for number in 0..600 {
        map.insert(&mut doc.transact_mut(), "k", number);
        if number % 2 == 0 {
            array.push_back(&mut doc.transact_mut(), number);
        }
    }
    map.remove(&mut doc.transact_mut(), "k");
    map.insert(&mut doc.transact_mut(), "k", 1000);
    let mut guarded = Guarded::new();
    guarded.take_whole(&state(&doc));
    crate::oracle::assert_same(&guarded.doc, &doc);
}

#[test]
fn ad17_the_deletions_of_several_values_come_in_the_same_piece() {
    let mut structs = vec![];
    for index in 0..600u64 {
        structs.push(in_root("m").at_key(&format!("k{index}")).numbers(&[1, 2]));
    }
    let whole = update_and_deletes(&[(2, 0, structs)], &[(2, vec![(0, 1200)])]);
    let mut guarded = Guarded::new();
    let admission = guarded.take_whole(&whole);
    assert!(admission.pieces.len() > 1);
    for piece in &admission.pieces {
        let scan = tidewell_sync_core::update::Scan::new(piece).unwrap();
        assert!(!scan.deletes.is_empty(), "deletions came late");
    }
    guarded.check_deletes();
}

#[test]
fn ad19_at_most_sixteen_missing_ids_are_named() {
    let sections: Vec<_> = (2..100).map(|client| (client, 5, vec![gc(1)])).collect();
    let admission = offered(&base(), &update(&sections)).unwrap();
    assert_eq!(admission.missing.len(), tidewell_sync_core::limits::MISSING_MAX);
    assert_eq!(admission.missing[0], id(2, 0));
}

#[test]
fn ad22_a_subdocument_in_a_type_that_can_be_deleted_is_refused() {
    let subdocument = [crate::crafted::string("guid"), vec![118, 0]].concat();
    let refused = [in_type(1, 5), in_type(1, 5).at_key("d"), after(1, 7), after(1, 10)];
    for item in refused {
        let next = update(&[(2, 0, vec![item.content(9, &subdocument)])]);
        assert_eq!(offered(&base(), &next), Err(InvalidUpdate::Subdocument));
    }
    for item in [in_root("docs").at_key("d"), in_root("a"), after(1, 4)] {
        let next = update(&[(2, 0, vec![item.content(9, &subdocument)])]);
        assert!(offered(&base(), &next).unwrap().is_complete());
    }
}
