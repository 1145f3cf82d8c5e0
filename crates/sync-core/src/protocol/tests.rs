use super::*;
use proptest::prelude::*;

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..300, 0u64..1 << 53]
}

fn state_vector() -> impl Strategy<Value = StateVector> {
    prop::collection::vec((number(), 1u32..1 << 31), 0..4).prop_map(|list| list.into_iter().collect())
}

fn name() -> impl Strategy<Value = DocumentName> {
    "[a-z/é📄]{1,20}".prop_map(|text| DocumentName::parse(&text).unwrap())
}

fn client_message() -> impl Strategy<Value = ClientMessage> {
    let cursor = (number(), number(), number())
        .prop_map(|(epoch, lineage, sequence)| Position::Cursor(Cursor { epoch, lineage, sequence }));
    let position = prop_oneof![cursor, state_vector().prop_map(Position::StateVector)];
    prop_oneof![
        (number(), ".{0,9}").prop_map(|(version, token)| ClientMessage::Hello { version, token }),
        (any::<u32>(), name(), position).prop_map(|(channel, document, position)| ClientMessage::Open {
            channel,
            document,
            position
        }),
        any::<u32>().prop_map(|channel| ClientMessage::Close { channel }),
        (any::<u32>(), number(), bytes()).prop_map(|(channel, number, update)| ClientMessage::Push {
            channel,
            number,
            update
        }),
        (any::<u32>(), number(), bytes()).prop_map(|(channel, number, update)| ClientMessage::Have {
            channel,
            number,
            update
        }),
        number().prop_map(|nonce| ClientMessage::Ping { nonce }),
        ".{0,9}".prop_map(|token| ClientMessage::Refresh { token }),
    ]
}

fn relay_message() -> impl Strategy<Value = RelayMessage> {
    let access = prop_oneof![Just(Access::Read), Just(Access::Comment), Just(Access::Write)];
    let resume = prop_oneof![Just(Resume::Continues), Just(Resume::NeedsStateVector)];
    let code = (0..Code::ALL.len()).prop_map(|index| Code::ALL[index]);
    prop_oneof![
        (number(), number(), number(), number()).prop_map(
            |(lineage, time_ms, frame_bytes_max, update_bytes_max)| RelayMessage::Welcome {
                lineage,
                time_ms,
                frame_bytes_max,
                update_bytes_max
            }
        ),
        (any::<u32>(), access.clone())
            .prop_map(|(channel, access)| RelayMessage::Granted { channel, access }),
        (any::<u32>(), access, number(), number(), resume).prop_map(
            |(channel, access, epoch, sequence, resume)| RelayMessage::Opened {
                channel,
                access,
                epoch,
                sequence,
                resume
            }
        ),
        (any::<u32>(), number(), prop::collection::vec(bytes(), 0..4))
            .prop_map(|(channel, through, updates)| RelayMessage::Updates { channel, through, updates }),
        (any::<u32>(), number(), number()).prop_map(|(channel, number, sequence)| RelayMessage::Ack {
            channel,
            number,
            sequence
        }),
        (any::<u32>(), state_vector())
            .prop_map(|(channel, state_vector)| RelayMessage::Need { channel, state_vector }),
        (any::<u32>(), number(), code.clone()).prop_map(|(channel, number, code)| RelayMessage::Refused {
            channel,
            number,
            code
        }),
        number().prop_map(|after_ms| RelayMessage::GoAway { after_ms }),
        (code, ".{0,9}").prop_map(|(code, message)| RelayMessage::Error { code, message }),
        number().prop_map(|nonce| RelayMessage::Pong { nonce }),
    ]
}

proptest! {
    #[test]
    fn fr1_a_frame_of_client_messages_reads_back(messages in prop::collection::vec(client_message(), 0..6)) {
        let mut out = Vec::new();
        messages.iter().for_each(|message| message.write(&mut out));
        prop_assert_eq!(ClientMessage::read_all(&out.into()), Ok(messages));
    }

    #[test]
    fn fr1_a_frame_of_relay_messages_reads_back(messages in prop::collection::vec(relay_message(), 0..6)) {
        let mut out = Vec::new();
        messages.iter().for_each(|message| message.write(&mut out));
        prop_assert_eq!(RelayMessage::read_all(&out.into()), Ok(messages));
    }

    #[test]
    fn fr2_no_frame_makes_the_decoders_panic(frame in prop::collection::vec(any::<u8>(), 0..80)) {
        let frame = Bytes::from(frame);
        let _ = ClientMessage::read_all(&frame);
        let _ = RelayMessage::read_all(&frame);
        let _ = Reassembly::default().take(frame);
    }

    #[test]
    fn fr3_a_message_over_the_frame_limit_travels_in_fragments(
        message in prop::collection::vec(any::<u8>(), 1..400),
        frame_bytes_max in 16usize..100,
    ) {
        let mut whole = Vec::new();
        ClientMessage::Push { channel: 1, number: 2, update: message.into() }.write(&mut whole);
        let whole = Bytes::from(whole);
        let mut reassembly = Reassembly::default();
        let mut back = None;
        for frame in split(whole.clone(), frame_bytes_max) {
            prop_assert!(frame.len() <= frame_bytes_max);
            prop_assert!(back.is_none());
            back = reassembly.take(frame).unwrap();
        }
        prop_assert_eq!(back, Some(whole));
    }
}

proptest! {
    #[test]
    fn fr3_a_shared_update_travels_as_the_same_message(
        update in prop::collection::vec(any::<u8>(), 0..400),
        frame_bytes_max in 16usize..100,
    ) {
        let update = Bytes::from(update);
        let mut shared = RelayMessage::shared_update(7, 300, update.clone());
        let mut reassembly = Reassembly::default();
        let mut back = None;
        while let Some(frame) = shared.next_frame(frame_bytes_max) {
            prop_assert!(frame.len() <= frame_bytes_max);
            prop_assert!(back.is_none());
            back = reassembly.take(frame).unwrap();
        }
        let message = RelayMessage::Updates { channel: 7, through: 300, updates: vec![update] };
        prop_assert_eq!(RelayMessage::read_all(&back.unwrap()), Ok(vec![message]));
    }
}

#[test]
fn fr4_fragments_beyond_the_message_limit_are_refused() {
    let mut reassembly = Reassembly::default();
    let mut part = vec![0, 1];
    part.resize(crate::limits::FRAME_BYTES_MAX, 7);
    let part = Bytes::from(part);
    let outcome = (0..20).map(|_| reassembly.take(part.clone())).find(Result::is_err);
    assert_eq!(outcome, Some(Err(Code::FrameTooLarge)));
}

#[test]
fn fr5_another_message_between_fragments_is_refused() {
    let mut reassembly = Reassembly::default();
    assert_eq!(reassembly.take(Bytes::from_static(&[0, 1, 9])), Ok(None));
    assert_eq!(reassembly.take(Bytes::from_static(&[6, 1])), Err(Code::InvalidFrame));
}
