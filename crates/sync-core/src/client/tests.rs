use super::*;
use crate::document_name::DocumentName;
use crate::limits::UPDATE_BYTES_MAX;
use crate::protocol::{Access, Resume};
use yrs::{Text, WriteTxn};

#[test]
fn cn1_the_wait_before_a_reconnection_doubles_up_to_a_bound_with_full_jitter() {
    assert_eq!(backoff_ms(0, 250), 250);
    assert_eq!(backoff_ms(0, 251), 0);
    assert_eq!(backoff_ms(1, 500), 500);
    assert_eq!(backoff_ms(7, u64::MAX), u64::MAX % 30_001);
    for attempt in 0..40 {
        assert!(backoff_ms(attempt, 0x9e37_79b9_7f4a_7c15) <= 30_000);
    }
}

#[test]
fn cn2_a_silent_relay_is_asked_and_then_given_up() {
    let mut client = Client::new();
    client.connected(String::new(), 0);
    client.drain();
    client.tick(PING_AFTER_MS - 1);
    assert_eq!(client.drain(), []);
    client.tick(PING_AFTER_MS);
    assert!(matches!(client.drain().as_slice(), [Effect::Send(_)]));
    client.tick(PING_AFTER_MS + 1);
    assert_eq!(client.drain(), [], "asked once");
    client.tick(PING_AFTER_MS + LOST_AFTER_MS);
    assert_eq!(client.drain(), [Effect::Close(Some(Code::Timeout))]);
}

#[test]
fn cn2_a_client_that_slept_asks_before_it_gives_up() {
    let mut client = Client::new();
    client.connected(String::new(), 0);
    client.drain();
    for minute in 1..4 {
        client.tick(minute * 60_000);
        assert!(matches!(client.drain().as_slice(), [Effect::Send(_)]));
        let mut pong = Vec::new();
        RelayMessage::Pong { nonce: 0 }.write(&mut pong);
        client.frame(pong.into(), minute * 60_000 + 5);
        client.drain();
    }
    client.tick(240_000);
    client.drain();
    client.tick(300_000);
    assert_eq!(client.drain(), [Effect::Close(Some(Code::Timeout))]);
}

#[test]
fn cn2_a_clock_that_is_set_back_hides_no_silence() {
    let mut client = Client::new();
    client.connected(String::new(), 5_000_000);
    client.drain();
    let back_ms = 1_000_000;
    client.tick(back_ms);
    client.drain();
    client.tick(back_ms + PING_AFTER_MS);
    assert!(matches!(client.drain().as_slice(), [Effect::Send(_)]));
    client.tick(back_ms / 2);
    client.tick(back_ms / 2 + LOST_AFTER_MS);
    assert_eq!(client.drain(), [Effect::Close(Some(Code::Timeout))]);
}

#[test]
fn cn2_a_clock_that_is_set_back_keeps_no_document_closed() {
    let mut client = Client::new();
    client.connected(String::new(), 5_000_000);
    client.frame(welcome(0), 5_000_000);
    client.add(Replica::new(DocumentName::parse("a/0").unwrap(), 0, 1));
    let mut refused = Vec::new();
    RelayMessage::Refused { channel: 0, number: 0, code: Code::LoadFailed }.write(&mut refused);
    client.frame(refused.into(), 5_000_000);
    client.drain();
    client.tick(1_000_000);
    assert_eq!(said(&mut client), []);
    client.tick(1_000_000 + REOPEN_AFTER_MS);
    assert!(matches!(
        said(&mut client).as_slice(),
        [ClientMessage::Close { channel: 0 }, ClientMessage::Open { channel: 0, .. }]
    ));
}

/// A client that a relay has let in, and that has asked for one document.
fn opening() -> (Client, ReplicaId, DocumentName) {
    let name = DocumentName::parse("a/0").unwrap();
    let mut client = Client::new();
    client.connected(String::new(), 0);
    client.frame(welcome(0), 0);
    let id = client.add(Replica::new(name.clone(), 0, 1));
    (client, id, name)
}

#[test]
fn rp15_the_answer_to_an_opening_of_before_is_not_taken_for_that_to_the_last() {
    let (mut client, id, name) = opening();
    client.replace(id, Replica::new(name, 0, 2));
    client.drain();
    let opened = |resume| {
        let (channel, access, epoch, sequence) = (0, Access::Write, 1, 0);
        on_channel_0(&RelayMessage::Opened { channel, access, epoch, sequence, resume })
    };
    client.frame(opened(Resume::NeedsStateVector), 0);
    assert_eq!(said(&mut client), [], "it is the first one's");
    assert_eq!(client.replica(id).unwrap().link(), Link::Opening);
    client.frame(opened(Resume::Continues), 0);
    assert_eq!(client.replica(id).unwrap().link(), Link::Live);
}

/// What a relay says about channel 0, in one frame.
fn on_channel_0(message: &RelayMessage) -> Bytes {
    let mut out = Vec::new();
    message.write(&mut out);
    out.into()
}

#[test]
fn rp15_a_refused_push_of_an_opening_before_does_not_refuse_the_last_one() {
    let (mut client, id, name) = opening();
    let opened = |sequence| {
        let (channel, access, epoch, resume) = (0, Access::Write, 1, Resume::Continues);
        on_channel_0(&RelayMessage::Opened { channel, access, epoch, sequence, resume })
    };
    client.frame(opened(0), 0);
    client.with(id, |replica| replica.edit(0, 1, |tx| tx.get_or_insert_text("t").insert(tx, 0, "a")));
    client.replace(id, Replica::new(name, 0, 2));
    client.drain();
    client.frame(on_channel_0(&RelayMessage::Refused { channel: 0, number: 1, code: Code::Forbidden }), 0);
    assert_eq!(client.replica(id).unwrap().link(), Link::Opening);
    client.frame(opened(3), 0);
    assert_eq!(client.replica(id).unwrap().link(), Link::Live);
}

#[test]
fn rp15_the_refusal_of_an_opening_before_is_not_taken_for_the_answer_to_the_last() {
    let (mut client, id, name) = opening();
    client.replace(id, Replica::new(name, 0, 2));
    client.frame(on_channel_0(&RelayMessage::Refused { channel: 0, number: 0, code: Code::LoadFailed }), 0);
    assert_eq!(client.replica(id).unwrap().link(), Link::Opening);
    let (channel, access, epoch, sequence, resume) = (0, Access::Write, 1, 0, Resume::Continues);
    client.frame(on_channel_0(&RelayMessage::Opened { channel, access, epoch, sequence, resume }), 0);
    assert_eq!(client.replica(id).unwrap().link(), Link::Live);
}

#[test]
fn rp15_a_document_that_is_refused_while_it_opens_knows_the_epoch_of_what_comes() {
    let mut client = Client::new();
    client.connected(String::new(), 0);
    client.frame(welcome(0), 0);
    let id = client.add(Replica::new(DocumentName::parse("a/0").unwrap(), 0, 1));
    client.with(id, |replica| replica.refused(Code::UpdateTooLarge));
    let (channel, access, epoch, sequence, resume) = (0, Access::Write, 7, 3, Resume::Continues);
    client.frame(on_channel_0(&RelayMessage::Opened { channel, access, epoch, sequence, resume }), 0);
    client.frame(on_channel_0(&RelayMessage::Updates { channel, through: 3, updates: Vec::new() }), 0);
    let replica = client.replica(id).unwrap();
    assert_eq!(replica.link(), Link::Refused(Code::UpdateTooLarge));
    assert_eq!(replica.cursor().map(|cursor| (cursor.epoch, cursor.sequence)), Some((7, 3)));
}

#[test]
fn cn3_bytes_that_are_no_frame_end_the_connection_with_a_code() {
    let mut client = Client::new();
    client.connected(String::new(), 0);
    client.drain();
    client.frame(Bytes::from_static(&[0x7f]), 1);
    assert_eq!(client.drain(), [Effect::Close(Some(Code::InvalidFrame))]);
}

#[test]
fn fr3_what_is_sent_together_is_no_larger_than_the_largest_message() {
    let mut client = Client::new();
    client.connected(String::new(), 0);
    let welcome = RelayMessage::Welcome {
        lineage: 1,
        time_ms: 0,
        frame_bytes_max: FRAME_BYTES_MAX as u64,
        update_bytes_max: UPDATE_BYTES_MAX as u64,
    };
    let mut answers = Vec::new();
    welcome.write(&mut answers);
    for (channel, bytes) in [(0, FRAME_BYTES_MAX / 4), (1, UPDATE_BYTES_MAX - 64)] {
        let name = DocumentName::parse(&format!("a/{channel}")).unwrap();
        let id = client.add(Replica::new(name, channel, u64::from(channel) + 1));
        let edit = |replica: &mut Replica| {
            replica.edit(0, 1, |transaction| {
                transaction.get_or_insert_text("t").insert(transaction, 0, &"x".repeat(bytes));
            });
        };
        client.with(id, edit).unwrap();
        let (access, resume) = (Access::Write, Resume::Continues);
        RelayMessage::Opened { channel, access, epoch: 1, sequence: 0, resume }.write(&mut answers);
    }
    client.drain();
    client.frame(answers.into(), 1);
    let (mut relay, mut pushes) = (Reassembly::default(), 0);
    for effect in client.drain() {
        let Effect::Send(frame) = effect else { continue };
        let Some(messages) = relay.take(frame).unwrap() else { continue };
        pushes += ClientMessage::read_all(&messages).unwrap().len();
    }
    assert_eq!(pushes, 2);
}

#[test]
fn fr6_what_leaves_with_hello_fits_into_one_frame() {
    let mut client = Client::new();
    client.connected(String::new(), 0);
    for (number, bytes) in [(1, FRAME_BYTES_MAX / 2 - 1_000), (2, FRAME_BYTES_MAX - 1_000)] {
        client.say(&ClientMessage::Push { channel: 1, number, update: vec![0; bytes].into() });
    }
    let effects = client.drain();
    let [Effect::Send(first), Effect::Send(second)] = effects.as_slice() else { panic!("{effects:?}") };
    let messages = |frame: &Bytes| {
        let whole = Reassembly::default().take(frame.clone()).unwrap().expect("no fragment");
        ClientMessage::read_all(&whole).unwrap()
    };
    assert!(matches!(messages(first).as_slice(), [ClientMessage::Hello { .. }, ClientMessage::Push { .. }]));
    assert!(matches!(messages(second).as_slice(), [ClientMessage::Push { .. }]));
}

/// A JWT that expires at this second since 1970.
fn token(expires_s: u64) -> String {
    let signs = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut claims = String::new();
    for part in format!("{{\"exp\":{expires_s}}}").as_bytes().chunks(3) {
        let bits = part
            .iter()
            .chain([0; 2].iter())
            .take(3)
            .fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        claims.extend((0..=part.len()).map(|at| char::from(signs[bits >> (18 - 6 * at) & 63])));
    }
    format!("e30.{claims}.")
}

fn welcome(time_ms: u64) -> Bytes {
    let mut out = Vec::new();
    RelayMessage::Welcome { lineage: 1, time_ms, frame_bytes_max: 1 << 20, update_bytes_max: 1 << 20 }
        .write(&mut out);
    out.into()
}

fn said(client: &mut Client) -> Vec<ClientMessage> {
    let frames = client.drain().into_iter().filter_map(|effect| match effect {
        Effect::Send(frame) => Some(frame),
        _ => None,
    });
    frames.flat_map(|frame| ClientMessage::read_all(&frame).unwrap()).collect()
}

#[test]
fn tc2_a_token_is_asked_for_before_it_expires_by_the_clock_of_the_relay_and_again_until_there_is_one() {
    let mut client = Client::new();
    // This device's clock is an hour behind.
    let (now_ms, relay_ms) = (1_000_000, 4_600_000);
    client.connected(token(relay_ms / 1000 + 100), now_ms);
    client.frame(welcome(relay_ms), now_ms);
    client.drain();
    let asked_ms = (now_ms..now_ms + 100_000).step_by(1000).find(|now_ms| {
        client.heard_ms = *now_ms;
        client.tick(*now_ms);
        client.drain().contains(&Effect::Token)
    });
    let asked_ms = asked_ms.unwrap();
    assert!((now_ms + 50_000..=now_ms + 71_000).contains(&asked_ms), "{asked_ms}");
    client.tick(asked_ms + TOKEN_AFTER_MS - 1);
    assert_eq!(client.drain(), [], "asked once");
    client.tick(asked_ms + TOKEN_AFTER_MS);
    assert_eq!(client.drain(), [Effect::Token]);
    let other = token(relay_ms / 1000 + 1_000);
    client.refresh(other.clone(), asked_ms + TOKEN_AFTER_MS);
    assert_eq!(said(&mut client), [ClientMessage::Refresh { token: other }]);
    client.tick(asked_ms + 15_000);
    assert_eq!(client.drain(), [], "the new one lives for longer");
    client.disconnected();
    client.refresh(token(9_999_999), asked_ms);
    assert_eq!(client.drain(), [], "without a connection there is nobody to show it to");
}

#[test]
fn tc3_a_refusal_that_was_on_its_way_when_another_token_was_shown_is_asked_about_once() {
    let mut client = Client::new();
    client.connected(String::new(), 0);
    client.frame(welcome(0), 0);
    client.add(Replica::new(DocumentName::parse("a/0").unwrap(), 0, 1));
    client.refresh("other".to_owned(), 0);
    client.drain();
    let mut refused = Vec::new();
    RelayMessage::Refused { channel: 0, number: 0, code: Code::Forbidden }.write(&mut refused);
    let refused = Bytes::from(refused);
    client.frame(refused.clone(), 0);
    assert!(matches!(
        said(&mut client).as_slice(),
        [ClientMessage::Close { channel: 0 }, ClientMessage::Open { channel: 0, .. }]
    ));
    client.frame(refused, 0);
    assert_eq!(said(&mut client), []);
    assert_eq!(client.replica(ReplicaId(0)).unwrap().link(), Link::Refused(Code::Forbidden));
}

#[test]
fn tc3_what_was_forbidden_is_opened_again_on_the_next_connection() {
    let mut client = Client::new();
    client.connected(String::new(), 0);
    client.frame(welcome(0), 0);
    client.add(Replica::new(DocumentName::parse("a/0").unwrap(), 0, 1));
    let mut refused = Vec::new();
    RelayMessage::Refused { channel: 0, number: 0, code: Code::Forbidden }.write(&mut refused);
    client.frame(refused.into(), 0);
    client.disconnected();
    assert_eq!(client.replica(ReplicaId(0)).unwrap().link(), Link::Refused(Code::Forbidden));
    client.drain();
    client.connected("other".to_owned(), 0);
    assert!(matches!(
        said(&mut client).as_slice(),
        [ClientMessage::Hello { .. }, ClientMessage::Open { channel: 0, .. }]
    ));
}

#[test]
fn a_document_that_was_one_too_many_is_opened_when_another_is_closed_and_on_the_next_connection() {
    let mut client = Client::new();
    client.connected(String::new(), 0);
    client.frame(welcome(0), 0);
    for channel in 0..2 {
        client.add(Replica::new(DocumentName::parse(&format!("a/{channel}")).unwrap(), channel, 1));
    }
    let refuse = |client: &mut Client| {
        let mut refused = Vec::new();
        RelayMessage::Refused { channel: 1, number: 0, code: Code::ChannelsExceeded }.write(&mut refused);
        client.frame(refused.into(), 0);
        client.drain();
    };
    refuse(&mut client);
    client.tick(REOPEN_AFTER_MS);
    assert_eq!(said(&mut client), [], "there are as many as before");
    client.remove(ReplicaId(0));
    client.tick(REOPEN_AFTER_MS);
    assert!(matches!(
        said(&mut client).as_slice(),
        [
            ClientMessage::Close { channel: 0 },
            ClientMessage::Close { channel: 1 },
            ClientMessage::Open { channel: 1, .. }
        ]
    ));
    refuse(&mut client);
    client.disconnected();
    client.drain();
    client.connected(String::new(), 0);
    assert!(matches!(
        said(&mut client).as_slice(),
        [ClientMessage::Hello { .. }, ClientMessage::Open { channel: 1, .. }]
    ));
}

#[test]
fn tc3_what_was_forbidden_is_opened_again_behind_the_new_token() {
    let mut client = Client::new();
    client.connected(String::new(), 0);
    client.frame(welcome(0), 0);
    for channel in 0..2 {
        client.add(Replica::new(DocumentName::parse(&format!("a/{channel}")).unwrap(), channel, 1));
    }
    let mut refused = Vec::new();
    RelayMessage::Refused { channel: 1, number: 0, code: Code::Forbidden }.write(&mut refused);
    client.frame(refused.into(), 0);
    assert_eq!(client.replica(ReplicaId(1)).unwrap().link(), Link::Refused(Code::Forbidden));
    client.drain();
    client.refresh("other".to_owned(), 0);
    assert!(matches!(
        said(&mut client).as_slice(),
        [
            ClientMessage::Refresh { .. },
            ClientMessage::Close { channel: 1 },
            ClientMessage::Open { channel: 1, .. }
        ]
    ));
}
