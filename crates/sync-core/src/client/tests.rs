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
