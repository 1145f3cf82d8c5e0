use super::*;
use crate::document_name::DocumentName;
use crate::protocol::{Access, Resume};
use crate::replica::{OutboxRow, Persist, Replica, ReplicaEffect};
use proptest::prelude::*;
use yrs::{Array, ArrayPrelim, GetString, Map, MapPrelim, Text, Transact, TransactionMut, WriteTxn};

const LAWFUL: u64 = 1;
const REFUSED: u64 = 2;
const NAME: &str = "77";

fn replica(client_id: u64) -> Replica {
    Replica::new(DocumentName::parse("a/b").unwrap(), 0, client_id)
}

fn rows(replica: &mut Replica) -> Vec<Bytes> {
    let row = |effect| match effect {
        ReplicaEffect::Persist(Persist::Edit(OutboxRow { update, .. })) => Some(update),
        _ => None,
    };
    replica.drain().into_iter().filter_map(row).collect()
}

/// A replica with what `updates` bring.
fn with(client_id: u64, updates: &[Bytes]) -> Replica {
    let mut replica = replica(client_id);
    updates.iter().for_each(|update| replica.sibling_edit(update).unwrap());
    replica.drain();
    replica
}

fn content(replica: &Replica) -> String {
    let doc = replica.doc();
    let (text, list) = (doc.get_or_insert_text("t"), doc.get_or_insert_array("l"));
    let tx = doc.transact();
    format!(
        "{} {:?}",
        text.get_string(&tx),
        list.iter(&tx).map(|item| item.to_string(&tx)).collect::<Vec<_>>()
    )
}

/// One edit out of three numbers: text typed, text deleted, or something in a list.
fn edit(replica: &mut Replica, (kind, at, len): (u8, u32, u32)) {
    replica.edit(0, 1, |tx: &mut TransactionMut<'_>| {
        let text = tx.get_or_insert_text("t");
        let end = text.len(tx);
        let at = at % (end + 1);
        match kind % 4 {
            0 | 1 => text.insert(tx, at, &"abcdefgh"[..1 + (len % 8) as usize]),
            2 => text.remove_range(tx, at, len.min(end - at)),
            _ => {
                let list = tx.get_or_insert_array("l");
                let map = list.push_back(tx, MapPrelim::from([("k", at)]));
                map.insert(tx, "k", ArrayPrelim::from([len]));
                if len % 3 == 0 && list.len(tx) > 1 {
                    list.remove(tx, 0);
                }
            }
        }
    });
}

fn edits() -> impl Strategy<Value = Vec<(u8, u32, u32)>> {
    prop::collection::vec((any::<u8>(), 0u32..40, 0u32..12), 1..12)
}

proptest! {
    #[test]
    fn br1_edits_made_anew_lead_to_what_they_led_to_whatever_the_relay_has_of_them(
        before in edits(), refused in edits(), stored in 0usize..12,
    ) {
        let mut author = replica(LAWFUL);
        before.into_iter().for_each(|one| edit(&mut author, one));
        let mut document = rows(&mut author);
        let mut device = with(REFUSED, &document);
        refused.into_iter().for_each(|one| edit(&mut device, one));
        let branch = rows(&mut device);
        document.extend_from_slice(&branch[..stored.min(branch.len())]);

        let mut merged = with(3, &document);
        let known = merged.admitted().clone();
        let anew = made_anew(NAME, &branch, &known).unwrap();
        for update in &anew {
            let scan = Scan::new(update).unwrap();
            prop_assert!(scan.sections.iter().all(|section| ![LAWFUL, REFUSED].contains(&section.client)));
            merged.sibling_edit(update).unwrap();
        }
        prop_assert_eq!(content(&merged), content(&device));
        let again = made_anew(NAME, &branch, device.admitted()).unwrap();
        prop_assert!(again.is_empty(), "what is known is not made again");
        // Some of it came to the relay before the device died, whose disk had failed.
        for update in &anew {
            let again = made_anew(NAME, &branch, merged.admitted()).unwrap();
            prop_assert!(again.is_empty(), "what was merged before is not merged again");
            let mut partly = with(5, &document);
            partly.sibling_edit(update).ok();
            for update in made_anew(NAME, &branch, partly.admitted()).unwrap() {
                partly.sibling_edit(&update).unwrap();
            }
            prop_assert_eq!(content(&partly), content(&device));
        }
        // Everybody agrees on the order, also those who get the new edits before others.
        let other = with(4, &[document, anew].concat());
        prop_assert_eq!(content(&other), content(&device));
    }

    #[test]
    fn br2_a_branch_as_one_update_makes_its_content(before in edits(), refused in edits()) {
        let mut author = replica(LAWFUL);
        before.into_iter().for_each(|one| edit(&mut author, one));
        let mut document = rows(&mut author);
        let mut device = with(REFUSED, &document);
        refused.into_iter().for_each(|one| edit(&mut device, one));
        let branch = rows(&mut device);
        prop_assume!(!branch.is_empty());
        document.push(as_one_update(&branch).unwrap());
        prop_assert_eq!(content(&with(3, &document)), content(&device));
    }
}

fn types(replica: &mut Replica, text: &str) -> Bytes {
    replica.edit(0, 1, |tx| {
        let root = tx.get_or_insert_text("t");
        let end = root.len(tx);
        root.insert(tx, end, text);
    });
    rows(replica).remove(0)
}

#[test]
fn br1_edits_that_build_on_what_is_gone_are_not_made_anew() {
    let mut device = replica(REFUSED);
    let (first, second) = (types(&mut device, "a"), types(&mut device, "b"));
    let nothing = Admitted::new();
    assert_eq!(made_anew(NAME, std::slice::from_ref(&second), &nothing), Err(Code::UpdateIncomplete));
    assert_eq!(made_anew(NAME, &[second, first], &nothing).unwrap().len(), 2, "in any order");
}

#[test]
fn br3_what_builds_on_a_refused_edit_is_found_and_nothing_else() {
    let mut device = replica(REFUSED);
    let first = types(&mut device, "a");
    let refused = types(&mut device, "b");
    // It names no unit of the other; its maker's clock is what makes it wait.
    device.edit(0, 1, |tx| {
        let list = tx.get_or_insert_array("l");
        list.push_back(tx, 1);
    });
    let own_next = rows(&mut device).remove(0);
    let mut beside = with(5, std::slice::from_ref(&first));
    let elsewhere = types(&mut beside, "x");
    let mut behind = with(6, &[first.clone(), refused.clone()]);
    let sibling = types(&mut behind, "y");
    let mut further = with(7, &[with(8, &[]).encode(), behind.encode()]);
    further.edit(0, 1, |tx| {
        let root = tx.get_or_insert_text("t");
        root.remove_range(tx, 2, 1);
    });
    let deletes = rows(&mut further).remove(0);
    let all = [deletes, elsewhere, sibling, own_next];
    let known = with(9, std::slice::from_ref(&first));
    assert_eq!(dependents(std::slice::from_ref(&refused), &all, known.admitted()), [0, 2, 3]);
    let stored = with(9, &[first, refused.clone()]);
    assert!(dependents(&[refused], &all, stored.admitted()).is_empty(), "the relay has it");
}

#[test]
fn br5_what_another_tab_tells_is_not_taken_when_something_of_it_is_in_a_branch_that_the_relay_does_not_have()
{
    let mut device = replica(REFUSED);
    let mut author = replica(LAWFUL);
    let lawful = [types(&mut author, "a"), types(&mut author, "b")];
    let mut told = with(REFUSED, &lawful);
    let refused = types(&mut told, "x");
    let builds_on_it = types(&mut told, "y");
    let delete = |replica: &mut Replica| {
        replica.edit(0, 1, |tx| tx.get_or_insert_text("t").remove_range(tx, 0, 1));
        rows(replica).remove(0)
    };
    let deletes = delete(&mut with(8, &lawful));
    let deletes_too = delete(&mut with(9, &lawful));
    let all = told.encode();
    for update in lawful {
        device.sibling_edit(&update).unwrap();
    }
    device.set_aside(&[refused.clone(), deletes.clone()]);
    for update in [&refused, &builds_on_it, &all, &deletes_too] {
        device.sibling_edit(update).unwrap();
        assert_eq!(content(&device), "ab []");
    }
    let elsewhere = types(&mut with(5, &[]), "z");
    device.sibling_edit(&elsewhere).unwrap();
    assert_eq!(content(&device).len(), "abz []".len(), "the rest is taken");

    // The relay has taken them before.
    device.connected(Some(7));
    device.opened(Access::Write, 1, 0, Resume::Continues);
    device.received(2, vec![refused, deletes]).unwrap();
    let before = content(&device).len();
    device.sibling_edit(&builds_on_it).unwrap();
    device.sibling_edit(&deletes_too).unwrap();
    assert_eq!(content(&device).len(), before + 1);
}

/// Open at a relay that has no commits.
fn live(client_id: u64) -> Replica {
    let mut replica = replica(client_id);
    replica.connected(Some(7));
    replica.opened(Access::Write, 1, 0, Resume::Continues);
    replica
}

#[test]
fn br4_a_refused_push_asks_for_a_branch_and_a_refused_channel_does_not() {
    let branches = |replica: &mut Replica| {
        replica.drain().iter().filter(|effect| matches!(effect, ReplicaEffect::Branch(_))).count()
    };
    for (number, code, expected) in
        [(1, Code::InvalidUpdate, 1), (0, Code::InvalidUpdate, 0), (1, Code::StorageUnavailable, 0)]
    {
        let mut replica = live(REFUSED);
        types(&mut replica, "a");
        replica.push_refused(number, code);
        assert_eq!(branches(&mut replica), expected, "{number} {code}");
        assert_eq!(replica.unsent().edits, 1);
    }
    let mut empty = live(REFUSED);
    empty.push_refused(1, Code::InvalidUpdate);
    assert_eq!(branches(&mut empty), 0, "there is nothing to put aside");
}

#[test]
fn br4_until_refused_rows_are_put_aside_no_cursor_is_kept_that_may_cover_them() {
    let mut replica = live(REFUSED);
    types(&mut replica, "a");
    replica.push_refused(1, Code::InvalidUpdate);
    replica.drain();
    replica.received(3, Vec::new()).unwrap();
    assert_eq!(replica.cursor(), None);
    let stored = Persist::Received { updates: Vec::new(), cursor: None };
    assert_eq!(replica.drain().first(), Some(&ReplicaEffect::Persist(stored)));
}

#[test]
fn br4_a_push_of_another_tabs_rows_that_was_refused_asks_for_a_branch_once_they_are_adopted() {
    let row = types(&mut live(REFUSED), "a");
    let mut replica = live(3);
    replica.sibling_edit(&row).unwrap();
    replica.push_refused(1, Code::InvalidUpdate);
    replica.adopt(Vec::new());
    assert!(!replica.drain().iter().any(|effect| matches!(effect, ReplicaEffect::Branch(_))));
    replica.adopt(vec![crate::replica::AdoptedRow { update: row, edits: 1, made_ms: 0 }]);
    assert!(replica.drain().contains(&ReplicaEffect::Branch(Code::InvalidUpdate)));
}

#[test]
fn br4_a_row_that_is_too_large_to_be_sent_asks_for_a_branch_again_after_a_crash() {
    let mut device = replica(REFUSED);
    let row = types(&mut device, &"x".repeat(UPDATE_BYTES_MAX));
    let mut again = replica(3);
    let adopted = crate::replica::AdoptedRow { update: row, edits: 1, made_ms: 0 };
    again.adopt(vec![adopted]);
    assert!(again.drain().contains(&ReplicaEffect::Branch(Code::UpdateTooLarge)));
}

#[test]
fn br1_a_branch_is_merged_when_all_that_the_relay_has_is_here_and_goes_out_in_parts_that_it_takes() {
    let mut device = replica(REFUSED);
    let row = types(&mut device, &"x".repeat(UPDATE_BYTES_MAX));
    let mut merging = replica(3);
    let merge = |replica: &mut Replica| replica.merge_branch(NAME, std::slice::from_ref(&row), 1, 5);
    assert_eq!(merge(&mut merging), Err(Code::Disconnected));
    merging.connected(Some(7));
    merging.opened(Access::Write, 1, 4, Resume::Continues);
    assert_eq!(merge(&mut merging), Err(Code::Disconnected), "commit 4 has not come yet");
    merging.received(4, Vec::new()).unwrap();
    merging.drain();
    merge(&mut merging).unwrap();
    assert_eq!(merging.unsent().edits, 1);
    let made = rows(&mut merging);
    assert!(made.len() > 1 && made.iter().all(|row| row.len() < 2 << 20));
    assert_eq!(content(&merging), content(&device));
    assert_eq!(with(4, &made).admitted().state_vector(), merging.admitted().state_vector());
}

#[test]
fn br1_what_the_relay_has_of_a_branch_is_in_the_outbox_as_it_was_until_it_is_acknowledged() {
    let mut device = replica(REFUSED);
    let (first, second) = (types(&mut device, "known "), types(&mut device, "anew"));
    let mut merging = replica(3);
    merging.connected(Some(7));
    merging.opened(Access::Write, 1, 1, Resume::Continues);
    merging.received(1, vec![first.clone()]).unwrap();
    merging.drain();
    merging.merge_branch(NAME, &[first.clone(), second], 2, 5).unwrap();
    assert_eq!(content(&merging), content(&device), "nothing is there twice");
    assert_eq!(merging.unsent().edits, 2);
    let made = rows(&mut merging);
    assert_eq!(made.first(), Some(&first), "the relay may be restored to before it");
    assert_eq!(content(&with(4, &made)), content(&device));
}

#[test]
fn br6_what_was_received_and_builds_on_a_branch_is_made_anew_with_it() {
    let mut device = replica(REFUSED);
    let row = types(&mut device, "refused ");
    let mut other = with(5, std::slice::from_ref(&row));
    let building = types(&mut other, "answer");
    let elsewhere = types(&mut with(6, &[types(&mut replica(8), "gone")]), "never");
    let mut merging = replica(3);
    let received = vec![building, elsewhere];
    assert!(merging.load(crate::replica::Stored { received, ..Default::default() }).has_gap);
    merging.connected(Some(7));
    merging.opened(Access::Write, 1, 0, Resume::Continues);
    merging.drain();
    merging.merge_branch(NAME, std::slice::from_ref(&row), 1, 5).unwrap();
    assert_eq!(content(&merging), content(&other));
    let made = rows(&mut merging);
    assert_eq!(content(&with(4, &made)), content(&other), "the relay has both");
}
