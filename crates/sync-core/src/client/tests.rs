use super::*;

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
fn cn3_bytes_that_are_no_frame_end_the_connection_with_a_code() {
    let mut client = Client::new();
    client.connected(String::new(), 0);
    client.drain();
    client.frame(Bytes::from_static(&[0x7f]), 1);
    assert_eq!(client.drain(), [Effect::Close(Some(Code::InvalidFrame))]);
}
