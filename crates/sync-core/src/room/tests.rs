use super::*;
use crate::admission::LoadError;
use crate::protocol::Cursor;
use yrs::updates::encoder::Encode;
use yrs::{Doc, GetString, Options, ReadTxn, Text, Transact};

/// One yrs document with a client ID of its own; each edit is an update.
struct Author {
    doc: Doc,
}

impl Author {
    fn new(client: u64) -> Self {
        let mut options = Options::with_client_id(yrs::block::ClientID::new(client));
        options.offset_kind = yrs::OffsetKind::Utf16;
        Author { doc: Doc::with_options(options) }
    }

    fn types(&self, text: &str) -> Bytes {
        let root = self.doc.get_or_insert_text("t");
        let mut transaction = self.doc.transact_mut();
        let end = root.len(&transaction);
        root.insert(&mut transaction, end, text);
        transaction.encode_update_v1().into()
    }

    fn applies(&self, update: &Bytes) {
        use yrs::updates::decoder::Decode;
        let update = yrs::Update::decode_v1(update).unwrap();
        self.doc.transact_mut().apply_update(update).unwrap();
    }

    fn text(&self) -> String {
        self.doc.get_or_insert_text("t").get_string(&self.doc.transact())
    }

    fn state(&self) -> Bytes {
        self.doc.transact().encode_diff_v1(&yrs::StateVector::default()).into()
    }

    fn state_vector(&self) -> StateVector {
        StateVector::decode(&self.doc.transact().state_vector().encode_v1()).unwrap()
    }
}

fn room() -> Room {
    Room::new(DocumentName::parse("a/b").unwrap(), 1, 77, 0, Admitted::new())
}

fn newcomer(room: &mut Room) -> MemberId {
    room.join(Position::StateVector(StateVector::default())).unwrap()
}

fn commit(room: &mut Room) {
    let batch = room.take_batch().expect("something waits");
    room.committed(batch.committed());
}

fn push(room: &mut Room, member: MemberId, number: u64, update: &Bytes) -> Pushed {
    room.push(member, PushKind::Edit, Some(number), update).unwrap()
}

#[test]
fn rm1_nothing_is_said_before_the_commit() {
    let (mut room, author) = (room(), Author::new(1));
    let (writer, reader) = (newcomer(&mut room), newcomer(&mut room));
    assert!(push(&mut room, writer, 1, &author.types("a")).to_store);
    let batch = room.take_batch().unwrap();
    for member in [writer, reader] {
        let out = room.collect(member);
        assert!(out.ready.is_none() && out.ack.is_none() && out.behind.is_none());
    }
    assert!(room.committed_state_vector().is_empty(), "nor in a state vector");
    room.committed(batch.committed());
    assert_eq!(room.collect(writer).ack.map(|ack| (ack.number(), ack.sequence())), Some((1, 1)));
    let ready = room.collect(reader).ready.unwrap();
    assert_eq!((ready.through, ready.updates.len()), (1, 1));
}

#[test]
fn rm2_a_push_that_adds_nothing_is_acknowledged_after_the_commit_of_the_original() {
    let (mut room, author) = (room(), Author::new(1));
    let (first, second) = (newcomer(&mut room), newcomer(&mut room));
    let update = author.types("a");
    push(&mut room, first, 1, &update);
    assert!(!push(&mut room, second, 9, &update).to_store);
    assert!(room.collect(second).ack.is_none());
    let batch = room.take_batch().unwrap();
    push(&mut room, second, 10, &update);
    assert!(room.collect(second).ack.is_none());
    room.committed(batch.committed());
    assert_eq!(room.collect(second).ack.map(Acknowledgement::number), Some(10));
    let pushed = push(&mut room, second, 11, &update);
    assert_eq!(pushed.wake, [second], "with nothing on its way it is acknowledged at once");
    assert_eq!(room.collect(second).ack.map(Acknowledgement::number), Some(11));
}

#[test]
fn pushes_that_add_nothing_count_while_they_wait_for_a_disk() {
    let (mut room, author) = (room(), Author::new(1));
    let (first, second) = (newcomer(&mut room), newcomer(&mut room));
    let update = author.types("a");
    push(&mut room, first, 1, &update);
    let batch = room.take_batch().unwrap();
    let before = room.uncommitted_bytes();
    (2..1_000).for_each(|number| drop(push(&mut room, first, number, &update)));
    let one = room.uncommitted_bytes() - before;
    assert!(one > 0 && one < 200, "those of one author are one: {one} bytes");
    for number in 1_000..1_100 {
        push(&mut room, second, number, &update);
        push(&mut room, first, number, &update);
    }
    assert_eq!(room.uncommitted_bytes(), before + 201 * one);
    room.committed(batch.committed());
    assert_eq!(room.uncommitted_bytes(), 0);
    for member in [first, second] {
        assert_eq!(room.collect(member).ack.map(Acknowledgement::number), Some(1_099));
    }
}

#[test]
fn rm3_a_failed_batch_stays_first_in_line() {
    let (mut room, author) = (room(), Author::new(1));
    let writer = newcomer(&mut room);
    push(&mut room, writer, 1, &author.types("a"));
    room.take_batch().unwrap();
    push(&mut room, writer, 2, &author.types("b"));
    assert!(room.take_batch().is_none(), "one at a time");
    assert!(!room.has_batch());
    room.returned();
    assert!(room.has_batch());
    let again = room.take_batch().unwrap();
    assert_eq!((again.first(), again.through()), (1, 1));
    room.committed(again.committed());
    assert_eq!(room.collect(writer).ack.map(Acknowledgement::number), Some(1));
    commit(&mut room);
    assert_eq!(room.collect(writer).ack.map(Acknowledgement::number), Some(2));
}

#[test]
fn rm4_the_updates_of_one_commit_are_one_row_with_a_sequence_for_each() {
    let (mut room, author, reader_doc) = (room(), Author::new(1), Author::new(2));
    let (writer, reader) = (newcomer(&mut room), newcomer(&mut room));
    for (number, letter) in ["t", "i", "d", "e"].iter().enumerate() {
        push(&mut room, writer, number as u64 + 1, &author.types(letter));
    }
    let batch = room.take_batch().unwrap();
    assert_eq!((batch.first(), batch.through()), (1, 4));
    assert_eq!(Scan::new(batch.update()).unwrap().structs, 1, "typed text is one item");
    room.committed(batch.committed());
    let ready = room.collect(reader).ready.unwrap();
    ready.updates.iter().for_each(|update| reader_doc.applies(update));
    assert_eq!((ready.through, reader_doc.text().as_str()), (4, "tide"));
    let own = room.collect(writer);
    assert_eq!(own.ack.map(Acknowledgement::number), Some(4));
    assert_eq!(own.ready.map(|ready| (ready.through, ready.updates.len())), Some((4, 0)), "not echoed");
}

#[test]
fn rm5_a_push_with_a_gap_is_asked_about_once_and_acknowledged_with_the_answer() {
    let (mut room, author) = (room(), Author::new(1));
    let writer = newcomer(&mut room);
    author.types("lost");
    push(&mut room, writer, 1, &author.types("b"));
    assert_eq!(room.collect(writer).need, Some(StateVector::default()));
    push(&mut room, writer, 2, &author.types("c"));
    let out = room.collect(writer);
    assert!(out.need.is_none() && out.ack.is_none());
    room.push(writer, PushKind::Answer, Some(3), &author.state()).unwrap();
    commit(&mut room);
    assert_eq!(room.collect(writer).ack.map(Acknowledgement::number), Some(3));
}

#[test]
fn rm5_a_whole_push_behind_one_with_a_gap_waits_for_the_answer_too() {
    let (mut room, author, other) = (room(), Author::new(1), Author::new(2));
    let writer = newcomer(&mut room);
    author.types("lost");
    push(&mut room, writer, 1, &author.types("b"));
    push(&mut room, writer, 2, &other.types("whole"));
    commit(&mut room);
    assert!(room.collect(writer).ack.is_none(), "it would stand for the push before it too");
    room.push(writer, PushKind::Answer, Some(3), &author.state()).unwrap();
    commit(&mut room);
    assert_eq!(room.collect(writer).ack.map(Acknowledgement::number), Some(3));
}

#[test]
fn rm6_an_answer_with_a_hole_is_not_acknowledged_before_the_next_one() {
    let (mut room, other, device) = (room(), Author::new(1), Author::new(2));
    let lost = other.types("x");
    device.applies(&lost);
    let on_top = device.types("y");
    let (member, filler) = (newcomer(&mut room), newcomer(&mut room));
    room.push(member, PushKind::Answer, Some(1), &on_top).unwrap();
    assert!(room.collect(member).ack.is_none());
    push(&mut room, filler, 1, &lost);
    commit(&mut room);
    let out = room.collect(member);
    assert!(out.ack.is_none() && out.need.is_some());
    room.push(member, PushKind::Answer, Some(2), &device.state()).unwrap();
    commit(&mut room);
    assert_eq!(room.collect(member).ack.map(Acknowledgement::number), Some(2));
}

#[test]
fn rm6_a_member_whose_answer_had_a_hole_is_asked_again_when_the_hole_is_filled() {
    let (mut room, other, stock) = (room(), Author::new(1), Author::new(2));
    let lost = other.types("x");
    stock.applies(&lost);
    let on_top = stock.types("y");
    let (member, filler) = (room.join_stock(), newcomer(&mut room));
    assert!(room.collect(member).need.is_some(), "a stock client is asked when it joins");
    room.push(member, PushKind::Answer, None, &on_top).unwrap();
    assert!(room.collect(member).need.is_none(), "no question without news");
    room.push(member, PushKind::Edit, None, &on_top).unwrap();
    assert!(room.collect(member).need.is_none(), "the same hole is no news");
    let pushed = push(&mut room, filler, 1, &lost);
    assert_eq!(pushed.wake, [member]);
    assert!(room.collect(member).need.is_some());
    room.push(member, PushKind::Answer, None, &stock.state()).unwrap();
    commit(&mut room);
    assert_eq!(room.committed_state_vector(), stock.state_vector());
}

#[test]
fn ad1_an_update_over_the_limit_is_refused_before_it_is_read() {
    let mut room = room();
    let writer = newcomer(&mut room);
    let large = vec![0; UPDATE_BYTES_MAX + 1].into();
    assert_eq!(room.push(writer, PushKind::Edit, Some(1), &large), Err(InvalidUpdate::TooLarge));
}

#[test]
fn a_stock_client_is_told_nothing_that_would_have_a_hole_before_it() {
    let (mut room, author) = (room(), Author::new(1));
    let writer = newcomer(&mut room);
    push(&mut room, writer, 1, &author.types("a"));
    commit(&mut room);
    let stock = room.join_stock();
    push(&mut room, writer, 2, &author.types("b"));
    commit(&mut room);
    let early = room.collect(stock);
    assert!(early.ready.is_none() && early.behind.is_none(), "it has not said what it has");
    room.asked(stock, StateVector::default());
    assert_eq!(room.collect(stock).behind, Some(Behind::StateVector(StateVector::default())));
    room.caught_up(stock, 2);
    push(&mut room, writer, 3, &author.types("c"));
    commit(&mut room);
    assert_eq!(room.collect(stock).ready.map(|ready| ready.through), Some(3));
}

#[test]
fn rm7_a_cursor_of_another_history_is_answered_with_a_request_for_the_state_vector() {
    let (mut room, author) = (room(), Author::new(1));
    let writer = newcomer(&mut room);
    push(&mut room, writer, 1, &author.types("a"));
    commit(&mut room);
    let cursor = |epoch, lineage, sequence| Position::Cursor(Cursor { epoch, lineage, sequence });
    assert!(room.join(cursor(1, 77, 1)).is_ok());
    for other in [cursor(2, 77, 1), cursor(1, 78, 1), cursor(1, 77, 2)] {
        assert_eq!(room.join(other), Err(Resume::NeedsStateVector));
    }
}

#[test]
fn rm8_a_member_behind_the_ring_is_served_from_the_store_and_misses_nothing() {
    let (mut room, author, slow_doc) = (room(), Author::new(1), Author::new(2));
    let (writer, slow) = (newcomer(&mut room), newcomer(&mut room));
    let mut log = Vec::new();
    let large = "x".repeat(RING_BYTES_MAX / 3);
    for number in 1..=5 {
        push(&mut room, writer, number, &author.types(&large));
        let batch = room.take_batch().unwrap();
        log.push((batch.through(), batch.update().clone()));
        room.committed(batch.committed());
    }
    assert!(room.ring_bytes <= RING_BYTES_MAX);
    let out = room.collect(slow);
    assert_eq!((out.behind, out.ready.is_none()), (Some(Behind::After(0)), true));
    assert!(room.collect(slow).behind.is_none(), "one catch-up at a time");
    log.iter().for_each(|(_, update)| slow_doc.applies(update));
    room.caught_up(slow, 5);
    push(&mut room, writer, 6, &author.types("end"));
    commit(&mut room);
    room.collect(slow).ready.unwrap().updates.iter().for_each(|update| slow_doc.applies(update));
    assert_eq!(slow_doc.text(), author.text());
}

#[test]
fn rm9_an_idle_room_keeps_no_recent_commits() {
    let (mut room, author) = (room(), Author::new(1));
    let (writer, reader) = (newcomer(&mut room), newcomer(&mut room));
    push(&mut room, writer, 1, &author.types("hello"));
    commit(&mut room);
    assert!(!room.ring.is_empty());
    room.collect(writer);
    room.collect(reader);
    assert!(room.ring.is_empty());
    room.leave(writer);
    assert!(!room.is_idle());
    room.leave(reader);
    assert!(room.is_idle());
}

#[test]
fn a_room_is_not_forgotten_before_the_store_has_everything() {
    let (mut room, author) = (room(), Author::new(1));
    let writer = newcomer(&mut room);
    push(&mut room, writer, 1, &author.types("a"));
    room.leave(writer);
    assert!(!room.is_idle(), "something waits");
    let batch = room.take_batch().unwrap();
    assert!(!room.is_idle(), "it is in the store's hands");
    room.committed(batch.committed());
    assert!(room.is_idle());
}

#[test]
fn rm10_a_stored_row_that_builds_on_nothing_refuses_to_load() {
    let author = Author::new(1);
    author.types("lost");
    let gap = author.types("b");
    assert_eq!(Admitted::load([gap]).map(drop), Err(LoadError::Gap));
    let damaged = Admitted::load([Bytes::from_static(&[9, 9])]).map(drop);
    assert!(matches!(damaged, Err(LoadError::Invalid(_))));
    let (admitted, pieces) = Admitted::load([author.state()]).unwrap();
    assert_eq!((admitted.state_vector(), pieces), (author.state_vector(), vec![author.state()]));
}

#[test]
fn rm11_a_device_ahead_of_the_store_is_asked_for_what_it_has() {
    let (mut room, author) = (room(), Author::new(1));
    author.types("ahead");
    let member = room.join(Position::StateVector(author.state_vector())).unwrap();
    assert_eq!(room.collect(member).need, Some(StateVector::default()));
    room.push(member, PushKind::Answer, Some(1), &author.state()).unwrap();
    commit(&mut room);
    assert_eq!(room.committed_state_vector(), author.state_vector());
}
