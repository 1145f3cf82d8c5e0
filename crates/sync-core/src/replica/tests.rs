use super::*;
use crate::limits::{PIECE_BYTES_MAX, PUSH_BYTES_MAX, PUSHED_BYTES_MAX, UPDATE_BYTES_MAX};
use crate::protocol::{Access, Position, Resume};
use crate::state_vector::StateVector;
use yrs::{GetString, Text, WriteTxn};

const LINEAGE: u64 = 7;

fn replica(client_id: u64) -> Replica {
    Replica::new(DocumentName::parse("a/b").unwrap(), 3, client_id)
}

/// A replica that the relay has opened, with nothing left to say.
fn live(client_id: u64) -> Replica {
    let mut replica = replica(client_id);
    go_live(&mut replica);
    replica
}

fn go_live(replica: &mut Replica) {
    replica.connected(None);
    replica.welcomed(LINEAGE);
    replica.opened(Access::Write, 1, 0, Resume::Continues);
}

fn types(replica: &mut Replica, text: &str) {
    replica.edit(1_000, 1, |transaction| {
        let root = transaction.get_or_insert_text("t");
        let end = root.len(transaction);
        root.insert(transaction, end, text);
    });
}

fn text(replica: &Replica) -> String {
    replica.doc().get_or_insert_text("t").get_string(&replica.doc().transact())
}

fn sent(replica: &mut Replica) -> Vec<ClientMessage> {
    let send = |effect| match effect {
        ReplicaEffect::Send(message) => Some(message),
        _ => None,
    };
    replica.drain().into_iter().filter_map(send).collect()
}

/// The document is opened anew, by what is known of it.
fn assert_opened_by_state_vector(replica: &mut Replica) {
    let messages = sent(replica);
    assert!(
        matches!(
            messages.as_slice(),
            [ClientMessage::Close { .. }, ClientMessage::Open { position: Position::StateVector(_), .. }]
        ),
        "{messages:?}"
    );
}

fn persisted(replica: &mut Replica) -> Vec<Persist> {
    let persist = |effect| match effect {
        ReplicaEffect::Persist(persist) => Some(persist),
        _ => None,
    };
    replica.drain().into_iter().filter_map(persist).collect()
}

/// What a device would find after a restart.
fn stored(effects: Vec<Persist>) -> Stored {
    let mut stored = Stored::default();
    for effect in effects {
        match effect {
            Persist::Edit(row) => stored.outbox.push(row),
            Persist::Received { updates, cursor } => {
                stored.received.extend(updates);
                stored.cursor = cursor.or(stored.cursor);
            }
            Persist::Acknowledged { rows, .. } => {
                let (gone, kept) = stored.outbox.into_iter().partition(|row| rows.contains(&row.id));
                let gone: Vec<OutboxRow> = gone;
                stored.received.extend(gone.into_iter().map(|row| row.update));
                stored.outbox = kept;
            }
        }
    }
    stored
}

#[test]
fn rp1_an_edit_is_stored_and_sent_in_the_same_turn() {
    let mut replica = live(1);
    replica.drain();
    types(&mut replica, "tide");
    let effects = replica.drain();
    assert!(matches!(effects.first(), Some(ReplicaEffect::Persist(Persist::Edit(row))) if row.edits == 1));
    let pushed = ClientMessage::Push { channel: 3, number: 1, update: replica.encode() };
    assert_eq!(effects.last(), Some(&ReplicaEffect::Send(pushed)));
}

#[test]
fn rp2_rows_leave_the_outbox_only_when_acknowledged_and_are_pushed_again_after_a_loss() {
    let mut replica = live(1);
    types(&mut replica, "a");
    types(&mut replica, "b");
    replica.disconnected();
    assert_eq!(replica.unsent().edits, 2);
    replica.drain();
    go_live(&mut replica);
    let messages = sent(&mut replica);
    assert!(matches!(messages.last(), Some(ClientMessage::Push { number: 1, .. })), "merged: {messages:?}");
    let last = replica.last_row().unwrap();
    assert!(!replica.is_acknowledged(last));
    replica.acknowledged(1, 9);
    assert!(replica.is_acknowledged(last));
    assert_eq!(replica.unsent(), Unsent::default());
}

#[test]
fn rp2_what_was_pushed_before_an_opening_is_pushed_again_behind_it_with_numbers_from_1() {
    let opened_anew: [fn(&mut Replica); 3] = [
        |replica| {
            replica.push_refused(0, Code::Forbidden);
            replica.token_changed(None);
        },
        |replica| {
            replica.token_changed(None);
            replica.push_refused(0, Code::Forbidden);
        },
        |replica| {
            let [_, gap] = two_updates();
            replica.received(2, vec![gap]).unwrap();
        },
    ];
    for open_anew in opened_anew {
        let mut replica = live(2);
        replica.received(1, Vec::new()).unwrap();
        types(&mut replica, "mine");
        sent(&mut replica);
        open_anew(&mut replica);
        assert!(matches!(
            sent(&mut replica).as_slice(),
            [ClientMessage::Close { .. }, ClientMessage::Open { .. }]
        ));
        // By its cursor the relay would not ask for it.
        replica.opened(Access::Write, 1, 1, Resume::Continues);
        assert!(matches!(sent(&mut replica).as_slice(), [ClientMessage::Push { number: 1, .. }]));
    }
}

#[test]
fn rp3_only_updates_move_the_cursor() {
    let mut replica = live(1);
    types(&mut replica, "a");
    replica.acknowledged(1, 5);
    assert_eq!(replica.cursor(), None);
    replica.received(5, Vec::new()).unwrap();
    assert_eq!(replica.cursor(), Some(Cursor { epoch: 1, lineage: LINEAGE, sequence: 5 }));
}

#[test]
fn rp4_the_answer_to_a_need_has_what_others_wrote_too() {
    let (mut other, mut replica) = (live(1), live(2));
    types(&mut other, "others ");
    replica.received(1, vec![other.encode()]).unwrap();
    types(&mut replica, "mine");
    replica.drain();
    replica.needed(&StateVector::default());
    let messages = sent(&mut replica);
    let Some(ClientMessage::Have { number: 2, update, .. }) = messages.first() else {
        panic!("{messages:?}")
    };
    let mut fresh = live(3);
    fresh.received(1, vec![update.clone()]).unwrap();
    assert_eq!(text(&fresh), "others mine");
    replica.acknowledged(2, 2);
    assert_eq!(replica.unsent().edits, 0, "the answer carried the outbox");
}

#[test]
fn rp5_an_edit_of_another_tab_that_comes_too_early_is_held_back() {
    let (mut tab, mut replica) = (live(1), live(2));
    types(&mut tab, "a");
    let first = persisted(&mut tab);
    types(&mut tab, "b");
    let second = persisted(&mut tab);
    let update = |effects: &[Persist]| match effects.first() {
        Some(Persist::Edit(row)) => row.update.clone(),
        other => panic!("{other:?}"),
    };
    replica.sibling_edit(&update(&second)).unwrap();
    assert_eq!(text(&replica), "");
    replica.sibling_edit(&update(&first)).unwrap();
    assert_eq!(text(&replica), "ab");
}

#[test]
fn rp5_a_row_that_is_held_back_is_acknowledged_only_after_it_was_pushed_whole() {
    let (mut gone, mut replica) = (live(1), live(2));
    let mut rows = Vec::new();
    for letter in ["a", "b"] {
        types(&mut gone, letter);
        rows.extend(stored(persisted(&mut gone)).outbox.into_iter().map(|row| AdoptedRow {
            update: row.update,
            edits: row.edits,
            made_ms: row.made_ms,
        }));
    }
    let second = rows.pop().unwrap();
    replica.drain();
    replica.adopt(vec![second]);
    replica.opened(Access::Write, 1, 0, Resume::Continues);
    types(&mut replica, "mine");
    replica.needed(&StateVector::default());
    replica.acknowledged(2, 1);
    assert_eq!(replica.unsent().edits, 1, "the answer did not hold it");
    sent(&mut replica);
    replica.adopt(rows);
    let messages = sent(&mut replica);
    let pushed = messages.iter().map(|message| match message {
        ClientMessage::Push { update, .. } => update,
        other => panic!("{other:?}"),
    });
    // In the order of their making; what the relay cannot take yet it asks for.
    let mut relay = Admitted::new();
    pushed.rev().for_each(|update| drop(relay.admit(update).unwrap()));
    assert_eq!(relay.clock(1), 2, "both were pushed");
    replica.acknowledged(4, 2);
    assert_eq!(replica.unsent(), Unsent::default());
}

#[test]
fn rp5_a_row_that_waits_for_something_else_stays_held_back() {
    let mut replica = live(2);
    replica.drain();
    let [first, second] = two_updates_of(1, "b");
    let [_, other] = two_updates_of(4, "b");
    let adopted = |update| AdoptedRow { update, edits: 1, made_ms: 1_000 };
    replica.adopt(vec![adopted(second), adopted(other)]);
    replica.opened(Access::Write, 1, 0, Resume::Continues);
    sent(&mut replica);
    replica.sibling_edit(&first).unwrap();
    assert!(matches!(sent(&mut replica).as_slice(), [ClientMessage::Push { number: 1, .. }]));
    replica.needed(&StateVector::default());
    replica.acknowledged(2, 1);
    assert_eq!(replica.unsent().edits, 1, "neither the push nor the answer held it");
}

#[test]
fn rp6_no_cursor_is_kept_until_what_was_offered_is_durable() {
    let mut replica = live(1);
    types(&mut replica, "a");
    replica.disconnected();
    replica.drain();
    replica.connected(None);
    assert!(matches!(
        sent(&mut replica).as_slice(),
        [ClientMessage::Open { position: Position::StateVector(vector), .. }] if !vector.is_empty()
    ));
    replica.opened(Access::Write, 1, 0, Resume::Continues);
    replica.received(4, Vec::new()).unwrap();
    replica.needed(&StateVector::default());
    assert_eq!(replica.cursor(), None);
    let answered = sent(&mut replica).iter().find_map(|message| match message {
        ClientMessage::Have { number, .. } => Some(*number),
        _ => None,
    });
    types(&mut replica, "b");
    replica.acknowledged(answered.unwrap(), 5);
    assert_eq!(replica.cursor(), None, "the newer edit may still be refused");
    replica.acknowledged(answered.unwrap() + 1, 6);
    assert_eq!(replica.cursor().map(|cursor| cursor.sequence), Some(4));
    let effects = persisted(&mut replica);
    assert!(
        effects.iter().any(|persist| matches!(
            persist,
            Persist::Received { updates, cursor: Some(_) } if updates.as_slice() == [replica.encode()]
        )),
        "the cursor is stored with the whole document: {effects:?}"
    );
}

#[test]
fn rp7_a_refusal_keeps_the_edits() {
    let mut replica = live(1);
    types(&mut replica, "a");
    replica.refused(Code::InvalidUpdate);
    types(&mut replica, "b");
    assert_eq!((replica.link(), replica.unsent().edits), (Link::Refused(Code::InvalidUpdate), 2));
    replica.disconnected();
    assert_eq!(replica.link(), Link::Refused(Code::InvalidUpdate), "permanent");
    let mut waiting = live(2);
    waiting.refused(Code::StorageUnavailable);
    waiting.disconnected();
    assert_eq!(waiting.link(), Link::Closed, "transient");
}

#[test]
fn rp8_a_document_that_was_made_anew_is_never_merged_with_the_old_one() {
    let mut replica = live(1);
    replica.received(5, Vec::new()).unwrap();
    replica.disconnected();
    replica.connected(None);
    replica.opened(Access::Write, 2, 0, Resume::NeedsStateVector);
    assert_eq!(replica.link(), Link::Refused(Code::DocumentReset));
}

#[test]
fn rp9_rows_in_any_order_load_and_a_gap_voids_the_cursor() {
    let mut first = live(1);
    types(&mut first, "a");
    types(&mut first, "b");
    first.received(2, Vec::new()).unwrap();
    first.acknowledged(2, 2);
    let Stored { mut received, cursor, .. } = stored(persisted(&mut first));
    received.reverse();
    let mut again = replica(2);
    let whole = Stored { cursor, received: received.clone(), outbox: Vec::new() };
    assert_eq!(again.load(whole), LoadReport::default());
    assert_eq!((text(&again).as_str(), again.cursor()), ("ab", cursor));
    assert!(again.drain().is_empty(), "a read-only opening writes nothing");
    received.pop();
    let mut holey = replica(3);
    assert!(holey.load(Stored { cursor, received, outbox: Vec::new() }).has_gap);
    assert_eq!(holey.cursor(), None);
}

#[test]
fn rp9_a_received_row_that_cannot_be_read_voids_the_cursor() {
    let [first, _] = two_updates();
    let mut replica = replica(2);
    let cursor = Some(Cursor { epoch: 1, lineage: LINEAGE, sequence: 2 });
    let received = vec![first, Bytes::from_static(&[9])];
    replica.load(Stored { cursor, received, outbox: Vec::new() });
    assert_eq!((text(&replica).as_str(), replica.cursor()), ("a", None));
}

#[test]
fn rp9_rows_in_any_order_load_however_large_they_are() {
    let [first, second] = two_updates_of(1, &"x".repeat(HELD_BYTES_MAX));
    let mut replica = replica(2);
    let cursor = Some(Cursor { epoch: 1, lineage: LINEAGE, sequence: 2 });
    let report = replica.load(Stored { cursor, received: vec![second, first], outbox: Vec::new() });
    assert_eq!(report, LoadReport::default());
    assert_eq!((text(&replica).len(), replica.cursor()), (1 + HELD_BYTES_MAX, cursor));
}

#[test]
fn rp10_counts_are_right_after_a_reload_and_unreadable_rows_are_set_aside() {
    let mut first = live(1);
    for letter in ["a", "b", "c"] {
        types(&mut first, letter);
    }
    let mut stored = stored(persisted(&mut first));
    let damaged = RowId(9);
    let update = Bytes::from_static(&[1, 2, 3]);
    stored.outbox.push(OutboxRow { id: damaged, update, edits: 1, made_ms: 0 });
    stored.received.push(Bytes::from_static(&[9]));
    let mut again = replica(2);
    let report = again.load(stored);
    assert_eq!((report.unreadable_outbox, report.unreadable_received), (vec![damaged], vec![0]));
    assert_eq!((again.unsent().edits, again.unsent().since_ms), (3, Some(1_000)));
    assert_eq!(text(&again), "abc");
    types(&mut again, "d");
    assert!(again.last_row() > Some(damaged), "the name of a row on the disk is not used again");
}

#[test]
fn rp11_a_long_backlog_goes_out_in_bounded_pieces() {
    let mut replica = replica(1);
    let line = "x".repeat(PUSH_BYTES_MAX / 4);
    for _ in 0..40 {
        types(&mut replica, &line);
    }
    go_live(&mut replica);
    let mut numbers = 0;
    while replica.unsent().edits > 0 {
        let messages = sent(&mut replica);
        let sizes: Vec<usize> = messages
            .iter()
            .filter_map(|message| match message {
                ClientMessage::Push { update, .. } => Some(update.len()),
                _ => None,
            })
            .collect();
        assert!(sizes.iter().all(|size| *size <= PUSH_BYTES_MAX + 64), "{sizes:?}");
        assert!(sizes.iter().sum::<usize>() <= PUSHED_BYTES_MAX + PUSH_BYTES_MAX + 64);
        assert!(!sizes.is_empty());
        numbers += sizes.len() as u64;
        replica.acknowledged(numbers, numbers);
    }
    assert!(numbers > 10);
}

#[test]
fn rp12_a_commit_with_a_gap_leads_to_a_new_opening_by_state_vector() {
    let (mut other, mut replica) = (live(1), live(2));
    types(&mut other, "lost");
    let known = other.admitted().state_vector();
    types(&mut other, "b");
    let gap = crate::update::diff(&other.encode(), &known).unwrap().unwrap();
    replica.drain();
    replica.received(2, vec![gap]).unwrap();
    assert_opened_by_state_vector(&mut replica);
    replica.received(2, Vec::new()).unwrap();
    assert_eq!(replica.cursor(), None, "what was on its way before the new opening counts for nothing");
    replica.opened(Access::Write, 1, 0, Resume::Continues);
    replica.received(2, vec![other.encode()]).unwrap();
    assert_eq!((text(&replica).as_str(), replica.cursor().is_some()), ("lostb", true));
}

#[test]
fn rp13_an_edit_that_no_relay_takes_is_kept_and_never_sent_and_the_document_is_refused() {
    let mut replica = live(1);
    types(&mut replica, "small ");
    sent(&mut replica);
    let large = "x".repeat(UPDATE_BYTES_MAX);
    types(&mut replica, &large);
    types(&mut replica, " more");
    assert_eq!(replica.link(), Link::Refused(Code::UpdateTooLarge));
    let effects = replica.drain();
    assert!(!effects.iter().any(|effect| matches!(effect, ReplicaEffect::Send(_))));
    let kept = effects.iter().filter(|effect| matches!(effect, ReplicaEffect::Persist(Persist::Edit(_))));
    assert_eq!(kept.count(), 2);
    assert_eq!(replica.unsent().edits, 3);
    replica.disconnected();
    replica.connected(None);
    assert_eq!(sent(&mut replica), [], "a new connection is not spoilt by it either");
}

#[test]
fn rp14_an_answer_of_any_size_goes_out_in_parts_and_is_taken_with_the_last() {
    let (mut first, mut second, mut replica) = (live(1), live(2), live(3));
    let half = "x".repeat(UPDATE_BYTES_MAX / 2);
    for (number, other) in [&mut first, &mut second].into_iter().enumerate() {
        types(other, &half);
        replica.received(number as u64 + 1, vec![other.encode()]).unwrap();
    }
    types(&mut replica, "mine");
    replica.drain();
    let mut relay = Admitted::new();
    relay.admit(&first.encode()).unwrap();
    replica.needed(&StateVector::default());
    let messages = sent(&mut replica);
    let (last, parts) = messages.split_last().unwrap();
    for part in parts {
        let ClientMessage::Push { update, .. } = part else { panic!("{part:?}") };
        assert!(update.len() <= UPDATE_BYTES_MAX && relay.admit(update).unwrap().is_complete());
    }
    let ClientMessage::Have { number, update, .. } = last else { panic!("{last:?}") };
    assert!(relay.admit(update).unwrap().is_complete());
    assert_eq!(relay.state_vector(), replica.admitted().state_vector());
    replica.acknowledged(number - 1, 1);
    assert_eq!(replica.unsent().edits, 1, "not the whole answer");
    replica.acknowledged(*number, 2);
    assert_eq!(replica.unsent(), Unsent::default());
}

#[test]
fn rp14_a_part_of_an_answer_is_not_taken_for_the_answer() {
    let mut replica = live(3);
    for client in [1, 2] {
        let mut other = live(client);
        types(&mut other, &"x".repeat(PIECE_BYTES_MAX));
        replica.received(client, vec![other.encode()]).unwrap();
    }
    replica.disconnected();
    replica.connected(None);
    replica.opened(Access::Write, 1, 0, Resume::NeedsStateVector);
    replica.opened(Access::Write, 1, 0, Resume::Continues);
    replica.received(1, Vec::new()).unwrap();
    replica.drain();
    replica.needed(&StateVector::default());
    let messages = sent(&mut replica);
    let Some(ClientMessage::Have { number, .. }) = messages.last() else { panic!("{messages:?}") };
    replica.acknowledged(number - 1, 2);
    assert_eq!(replica.cursor(), None, "with one the next connection would not offer the rest");
    replica.acknowledged(*number, 3);
    assert_eq!(replica.cursor().map(|cursor| cursor.sequence), Some(1));
}

/// Two updates of another device, of which the second builds on the first.
fn two_updates() -> [Bytes; 2] {
    two_updates_of(1, "b")
}

fn two_updates_of(client_id: u64, second: &str) -> [Bytes; 2] {
    let mut other = live(client_id);
    types(&mut other, "a");
    let first = other.encode();
    let known = other.admitted().state_vector();
    types(&mut other, second);
    [first, crate::update::diff(&other.encode(), &known).unwrap().unwrap()]
}

#[test]
fn rp16_what_was_received_and_could_not_be_read_is_offered_once_it_can_be() {
    let [first, second] = two_updates();
    let mut replica = replica(2);
    let cursor = Some(Cursor { epoch: 1, lineage: LINEAGE, sequence: 2 });
    assert!(replica.load(Stored { cursor, received: vec![second], outbox: Vec::new() }).has_gap);
    go_live(&mut replica);
    replica.received(3, Vec::new()).unwrap();
    assert_eq!(persisted(&mut replica), [Persist::Received { updates: Vec::new(), cursor: None }]);
    assert_eq!(replica.cursor(), None, "with one the next connection would not offer it");
    replica.received(4, vec![first]).unwrap();
    assert_eq!(text(&replica), "ab");
    let messages = sent(&mut replica);
    assert!(
        matches!(
            messages.as_slice(),
            [ClientMessage::Close { .. }, ClientMessage::Open { position: Position::StateVector(known), .. }]
                if known.iter().eq([(1, 2)])
        ),
        "{messages:?}"
    );
    replica.opened(Access::Write, 1, 4, Resume::Continues);
    replica.received(4, Vec::new()).unwrap();
    replica.needed(&StateVector::default());
    replica.acknowledged(1, 5);
    assert_eq!(replica.cursor().map(|cursor| cursor.sequence), Some(4), "the answer had it");
}

#[test]
fn rp16_no_answer_settles_an_offer_while_something_stored_cannot_be_read() {
    let [first, second] = two_updates();
    let [elsewhere, _] = two_updates_of(3, "b");
    let mut replica = replica(2);
    replica.load(Stored { received: vec![elsewhere, second], ..Stored::default() });
    go_live(&mut replica);
    replica.received(3, Vec::new()).unwrap();
    replica.needed(&StateVector::default());
    replica.drain();
    replica.acknowledged(1, 4);
    assert_eq!((replica.cursor(), persisted(&mut replica)), (None, Vec::new()), "the answer did not have it");
    replica.received(5, vec![first]).unwrap();
    assert_opened_by_state_vector(&mut replica);
}

#[test]
fn rp16_what_waits_for_two_things_is_offered_when_each_has_come() {
    let [first, second] = two_updates_of(1, "b");
    let [third, fourth] = two_updates_of(3, "b");
    let row = crate::update::merge([&second, &fourth]).unwrap();
    let mut replica = replica(2);
    replica.load(Stored { received: vec![row], ..Stored::default() });
    go_live(&mut replica);
    for (sequence, update) in [(1, first), (2, third)] {
        replica.drain();
        replica.received(sequence, vec![update]).unwrap();
        assert_opened_by_state_vector(&mut replica);
        replica.opened(Access::Write, 1, sequence, Resume::Continues);
    }
    assert_eq!(text(&replica).len(), 4);
}

#[test]
fn rp16_what_other_tabs_tell_too_early_takes_no_room_from_what_is_stored() {
    let half = "x".repeat(HELD_BYTES_MAX / 2 - 64);
    let [first, stored] = two_updates_of(1, &half);
    let mut replica = replica(2);
    replica.load(Stored { received: vec![stored], ..Stored::default() });
    go_live(&mut replica);
    for client in 3..6 {
        let [_, too_early] = two_updates_of(client, &half);
        replica.sibling_edit(&too_early).unwrap();
    }
    assert_eq!(replica.held.len(), 3, "the oldest of other tabs is gone");
    replica.drain();
    replica.received(1, vec![first]).unwrap();
    assert_eq!(text(&replica).len(), 1 + half.len());
    assert_opened_by_state_vector(&mut replica);
}

#[test]
fn rp17_what_another_tab_knows_of_another_history_is_offered() {
    let [first, _] = two_updates();
    for (lineage, is_offered) in [(LINEAGE, false), (LINEAGE + 1, true)] {
        let mut replica = live(2);
        replica.received(4, Vec::new()).unwrap();
        replica.drain();
        replica.sibling_answer(&first, lineage).unwrap();
        assert_eq!(text(&replica), "a");
        assert_eq!(replica.cursor().is_none(), is_offered);
        assert_eq!(sent(&mut replica).len(), if is_offered { 2 } else { 0 });
        go_live(&mut replica);
        replica.received(4, Vec::new()).unwrap();
        replica.drain();
        replica.sibling_answer(&first, lineage).unwrap();
        assert_eq!(sent(&mut replica), [], "nothing was new");
    }
}

#[test]
fn rp18_what_can_be_taken_of_an_adopted_row_is_offered_and_the_row_stays() {
    let mut gone = live(1);
    types(&mut gone, "ab");
    let first = gone.encode();
    // The second letter is somebody's of whom this device has nothing.
    let mut stranger = replica(3);
    stranger.sibling_edit(&first).unwrap();
    types(&mut stranger, "c");
    gone.sibling_edit(&stranger.encode()).unwrap();
    gone.drain();
    gone.edit(1_000, 1, |transaction| transaction.get_or_insert_text("t").remove_range(transaction, 1, 2));
    let row = stored(persisted(&mut gone)).outbox.remove(0);
    let mut replica = live(2);
    replica.received(4, vec![first.clone()]).unwrap();
    assert!(replica.cursor().is_some());
    replica.drain();
    replica.adopt(vec![AdoptedRow { update: row.update, edits: 1, made_ms: 1_000 }]);
    assert_eq!(text(&replica), "a");
    assert_opened_by_state_vector(&mut replica);
    replica.opened(Access::Write, 1, 4, Resume::Continues);
    replica.received(4, Vec::new()).unwrap();
    let known = replica.admitted().state_vector();
    replica.needed(&known);
    let messages = sent(&mut replica);
    let [ClientMessage::Have { number: 1, update, .. }] = messages.as_slice() else { panic!("{messages:?}") };
    let mut relay = Admitted::new();
    relay.admit(&first).unwrap();
    relay.admit(update).unwrap();
    assert!(relay.covers_deletes_of(replica.admitted()), "the answer has the deletion");
    replica.acknowledged(1, 5);
    assert_eq!(replica.unsent().edits, 1, "the other letter is not deleted anywhere yet");
}

#[test]
fn rp15_an_opening_is_good_though_the_refusal_of_another_token_was_taken_for_its_answer() {
    let mut replica = live(1);
    replica.drain();
    replica.token_changed(None);
    replica.push_refused(0, Code::Forbidden);
    assert_eq!(sent(&mut replica).len(), 2, "it may have been of the token before");
    // The relay had refused the channel twice before it read that.
    replica.push_refused(0, Code::Forbidden);
    assert_eq!(replica.link(), Link::Refused(Code::Forbidden));
    types(&mut replica, "a");
    replica.opened(Access::Write, 1, 0, Resume::Continues);
    assert_eq!(replica.link(), Link::Live);
    assert!(matches!(sent(&mut replica).as_slice(), [ClientMessage::Push { number: 1, .. }]));
}

#[test]
fn rp15_an_opening_is_not_good_for_rows_that_were_refused() {
    let mut replica = live(1);
    types(&mut replica, "a");
    replica.push_refused(1, Code::Forbidden);
    replica.drain();
    replica.opened(Access::Write, 1, 0, Resume::Continues);
    assert_eq!(replica.link(), Link::Refused(Code::Forbidden));
    assert_eq!(sent(&mut replica), []);
}
