//! What an update must look like, whatever document it is for: AD1 to AD9.

use crate::crafted::{after, gc, hex, in_root, skip, string, uint, update, update_and_deletes};
use bytes::Bytes;
use tidewell_sync_core::admission::Admitted;
use tidewell_sync_core::lib0::ReadError;
use tidewell_sync_core::limits::{CLIENT_ID_END, CLOCK_END, KEY_BYTES_MAX, VALUE_DEPTH_MAX};
use tidewell_sync_core::update::InvalidUpdate;
use yrs::{ReadTxn, Text, Transact};

fn refusal(update: &Bytes) -> Option<InvalidUpdate> {
    let mut admitted = Admitted::new();
    let refusal = admitted.admit(update).err();
    assert!(refusal.is_none() || admitted == Admitted::new(), "ad10: a refused update left a trace");
    refusal
}

fn is_taken(update: &Bytes) -> bool {
    let mut admitted = Admitted::new();
    matches!(admitted.admit(update), Ok(admission) if admission.is_complete())
}

#[test]
fn ad1_bytes_after_the_end_are_refused() {
    let whole = update(&[(1, 0, vec![in_root("t").text("a")])]);
    assert!(is_taken(&whole));
    assert_eq!(refusal(&[&whole[..], &[0]].concat().into()), Some(InvalidUpdate::Trailing));
}

#[test]
fn ad1_every_update_of_format_v2_is_refused() {
    let doc = yrs::Doc::new();
    let text = doc.get_or_insert_text("t");
    for word in ["", "a", "hello", "🙂 and more"] {
        text.push(&mut doc.transact_mut(), word);
        let v2 = doc.transact().encode_state_as_update_v2(&yrs::StateVector::default());
        assert_eq!(v2.first(), Some(&0));
        assert!(refusal(&v2.into()).is_some());
    }
}

#[test]
fn ad1_every_shorter_part_of_an_update_is_refused() {
    let whole = update_and_deletes(
        &[(1, 0, vec![in_root("t").text("ab"), after(1, 1).embed("{\"a\":[1]}"), gc(3)])],
        &[(1, vec![(0, 1)])],
    );
    assert!(is_taken(&whole));
    for len in 0..whole.len() {
        assert!(refusal(&whole.slice(..len)).is_some(), "the first {len} bytes");
    }
}

#[test]
fn ad2_a_count_of_more_than_the_bytes_can_hold_is_refused() {
    let too_many = [
        "80 80 80 80 01 00",                      // sections
        "01 80 80 80 80 01 01 00 00",             // structs
        "00 80 80 80 80 01",                      // clients that delete
        "00 01 01 80 80 80 80 01",                // deletions
        "01 01 01 00 08 01 01 61 ff ff 01 00",    // values
        "01 01 01 00 08 01 01 61 01 75 ff 01 00", // elements of an array
        "01 01 01 00 08 01 01 61 01 76 ff 01 00", // entries of a map
        "01 01 01 00 04 01 01 61 ff 01 61 00",    // bytes of a string
        "01 01 01 00 03 01 01 61 ff 01 61 00",    // bytes of a buffer
    ];
    for bytes in too_many {
        assert_eq!(refusal(&hex(bytes)), Some(InvalidUpdate::Read(ReadError::End)), "{bytes}");
    }
}

#[test]
fn ad3_a_number_not_in_its_shortest_form_is_refused() {
    let longer = InvalidUpdate::Read(ReadError::Number);
    assert_eq!(refusal(&hex("80 00 00")), Some(longer));
    assert_eq!(refusal(&hex("01 01 81 00 00 00 01 00")), Some(longer), "a client");
    assert_eq!(refusal(&hex("01 01 01 00 00 81 80 80 80 80 80 80 80 80 80 00 00")), Some(longer), "a length");
    assert_eq!(refusal(&hex("01 01 01 00 08 01 01 61 01 7d 80 00 00")), Some(longer), "a value");
}

#[test]
fn ad3_a_client_of_two_to_the_53_is_refused() {
    let with = |client| update(&[(client, 0, vec![gc(1)])]);
    assert!(is_taken(&with(CLIENT_ID_END - 1)));
    assert!(refusal(&with(CLIENT_ID_END)).is_some());
    assert!(refusal(&with(u64::MAX)).is_some());
    assert!(refusal(&update(&[(1, 0, vec![after(CLIENT_ID_END, 0).text("a")])])).is_some());
    assert!(refusal(&update_and_deletes(&[], &[(CLIENT_ID_END, vec![(0, 1)])])).is_some());
}

#[test]
fn ad4_a_clock_that_reaches_two_to_the_31_is_refused() {
    let end = u64::from(CLOCK_END);
    let clock = Some(InvalidUpdate::Clock);
    assert!(is_taken(&update(&[(1, 0, vec![gc(end - 1)])])));
    assert_eq!(refusal(&update(&[(1, 0, vec![gc(end)])])), clock);
    assert_eq!(refusal(&update(&[(1, end - 2, vec![gc(1), gc(1)])])), clock);
    assert_eq!(refusal(&update(&[(1, end, vec![])])), clock);
    assert!(refusal(&update(&[(1, 1 << 32, vec![gc(1)])])).is_some());
    assert_eq!(refusal(&update(&[(1, 0, vec![gc(end - 1), gc(end - 1), gc(end - 1)])])), clock);
    assert_eq!(refusal(&update(&[(1, 0, vec![after(2, CLOCK_END).text("a")])])), clock);
    assert_eq!(refusal(&update_and_deletes(&[], &[(1, vec![(end - 1, 1)])])), clock);
    assert_eq!(refusal(&update_and_deletes(&[], &[(1, vec![(1, (1 << 32) - 1)])])), clock);
    let overflow = hex("01 02 01 00 0a f8 ff ff ff 0f 04 01 01 74 06 61 62 63 64 65 66 00");
    assert_eq!(refusal(&overflow), clock, "yrs panics on a document that has client 1");
}

#[test]
fn ad5_two_sections_of_one_client_are_refused() {
    let twice = update(&[(1, 0, vec![gc(1)]), (2, 0, vec![gc(1)]), (1, 1, vec![gc(1)])]);
    assert_eq!(refusal(&twice), Some(InvalidUpdate::Section));
}

#[test]
fn ad6_a_struct_without_length_is_refused() {
    for empty in [gc(0), skip(0), in_root("t").text(""), in_root("t").numbers(&[]), in_root("t").deleted(0)] {
        assert_eq!(refusal(&update(&[(1, 0, vec![empty])])), Some(InvalidUpdate::Form));
    }
}

#[test]
fn ad6_kinds_that_do_not_exist_are_refused() {
    for kind in (12..32).chain([0, 10]) {
        let item = in_root("t").at_key("k").content(kind, &[1, 1, 1]);
        assert_eq!(refusal(&update(&[(1, 0, vec![item])])), Some(InvalidUpdate::Form), "content {kind}");
    }
    for kind in [8, 10, 11, 14, 16, 255] {
        let item = in_root("t").shared(kind);
        assert_eq!(refusal(&update(&[(1, 0, vec![item])])), Some(InvalidUpdate::Form), "type {kind}");
    }
    for tag in (0..116).chain(128..=255) {
        let item = in_root("t").content(8, &[1, tag, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(refusal(&update(&[(1, 0, vec![item])])), Some(InvalidUpdate::Form), "value {tag}");
    }
    let parent = [vec![4, 2], string("t"), string("a")].concat();
    assert_eq!(refusal(&update(&[(1, 0, vec![parent])])), Some(InvalidUpdate::Form), "a parent of kind 2");
    let subdocument = in_root("t").content(9, &[string("guid"), vec![126]].concat());
    assert_eq!(refusal(&update(&[(1, 0, vec![subdocument])])), Some(InvalidUpdate::Form));
}

#[test]
fn ad7_content_that_not_every_client_reads_is_refused() {
    let unsupported = [
        in_root("t").content(2, &[vec![1], string("1")].concat()), // legacy JSON
        in_root("t").content(11, &[0, 1, 0, 1, 0]),                // a move
        in_root("t").content(7, &[vec![5], string("hook")].concat()),
        in_root("t").content(7, &[7, 0, 1, 0]), // a weak link
        in_root("t").shared(9),
        in_root("t").shared(15),
    ];
    for item in unsupported {
        assert_eq!(refusal(&update(&[(1, 0, vec![item])])), Some(InvalidUpdate::Unsupported));
    }
}

fn nested_value(depth: usize) -> Vec<u8> {
    let mut content = vec![1];
    for level in 0..depth {
        if level % 2 == 0 { content.extend([117, 1]) } else { content.extend([118, 1, 1, b'k']) }
    }
    content.push(126);
    content
}

#[test]
fn ad8_values_nested_deeper_than_64_are_refused() {
    let value = |depth| update(&[(1, 0, vec![in_root("t").content(8, &nested_value(depth))])]);
    assert!(is_taken(&value(VALUE_DEPTH_MAX)));
    assert_eq!(refusal(&value(VALUE_DEPTH_MAX + 1)), Some(InvalidUpdate::ValueDepth));
    assert_eq!(refusal(&value(20_000)), Some(InvalidUpdate::ValueDepth), "yrs overflows its stack");
    let json = |depth: usize| {
        let text = "[".repeat(depth) + &"]".repeat(depth);
        update(&[(1, 0, vec![in_root("t").embed(&text)])])
    };
    assert!(is_taken(&json(VALUE_DEPTH_MAX)));
    assert_eq!(refusal(&json(VALUE_DEPTH_MAX + 1)), Some(InvalidUpdate::Json));
    let options = [string("guid"), nested_value(VALUE_DEPTH_MAX + 2)[4..].to_vec()].concat();
    assert!(refusal(&update(&[(1, 0, vec![in_root("t").content(9, &options)])])).is_some(), "a subdocument");
}

#[test]
fn ad8_names_longer_than_16_kib_are_refused() {
    let long = "k".repeat(KEY_BYTES_MAX + 1);
    let fits = &long[1..];
    let named: [fn(&str) -> Vec<u8>; 7] = [
        |name| in_root(name).text("a"),
        |name| in_root("t").at_key(name).numbers(&[1]),
        |name| in_root("t").format(name, "true"),
        |name| in_root("t").content(7, &[vec![3], string(name)].concat()),
        |name| in_root("t").content(9, &[string(name), vec![118, 0]].concat()),
        |name| in_root("t").content(8, &[vec![1, 118, 1], string(name), vec![126]].concat()),
        |name| in_root("t").embed(&format!("{{\"{name}\":1}}")),
    ];
    for (index, item) in named.into_iter().enumerate() {
        assert!(is_taken(&update(&[(1, 0, vec![item(fits)])])), "{index}");
        let expected = if index == 6 { InvalidUpdate::Json } else { InvalidUpdate::Key };
        assert_eq!(refusal(&update(&[(1, 0, vec![item(&long)])])), Some(expected), "{index}");
    }
}

#[test]
fn ad9_strings_that_are_no_utf_8_are_refused() {
    let strings = [
        in_root("t").content(4, &[2, 0xc3, 0x28]),
        in_root("t").content(4, &[3, 0xed, 0xa0, 0x80]), // a lone surrogate
        in_root("t").content(8, &[1, 119, 1, 0xff]),
        [vec![4, 1, 1, 0xff], string("a")].concat(),
        in_root("t").content(5, &[1, 0xff]),
    ];
    for item in strings {
        assert_eq!(refusal(&update(&[(1, 0, vec![item])])), Some(InvalidUpdate::Read(ReadError::Utf8)));
    }
}

#[test]
fn ad9_embeds_and_formats_that_are_no_json_are_refused() {
    let good = [
        "null",
        "1e300",
        "-0",
        "\"\\ud83d\\ude42\"",
        "{\"a\":{\"b\":[1,2.5,null]}}",
        " 1 ",
        "123456789012345678901",
    ];
    for json in good {
        assert!(is_taken(&update(&[(1, 0, vec![in_root("t").embed(json)])])), "{json}");
        assert!(is_taken(&update(&[(1, 0, vec![in_root("t").format("b", json)])])), "{json}");
    }
    let bad = [
        "",
        "{",
        "undefined",
        "NaN",
        "1e400",
        "\"\\ud800\"",
        "{\"\\udc00\":1}",
        "1 2",
        "{\"a\"}",
        "'a'",
        "01",
    ];
    for json in bad {
        for item in [in_root("t").embed(json), in_root("t").format("b", json)] {
            assert_eq!(refusal(&update(&[(1, 0, vec![item])])), Some(InvalidUpdate::Json), "{json}");
        }
    }
}

#[test]
fn ad9_what_yrs_reads_as_json_is_what_admission_takes() {
    for json in [
        "1e400",
        "\"\\ud800\"",
        "[1,]",
        "{\"a\":1,\"a\":2}",
        "1e308",
        "-1.5e-400",
        "18446744073709551615",
        "18446744073709551616",
    ] {
        let update = update(&[(1, 0, vec![in_root("t").embed(json)])]);
        let yrs_reads = <yrs::Update as yrs::updates::decoder::Decode>::decode_v1(&update).is_ok();
        assert_eq!(is_taken(&update), yrs_reads, "{json}");
    }
}

#[test]
fn ad2_a_number_of_structs_is_checked_against_the_bytes() {
    let mut bytes = uint(1);
    bytes.extend(uint(1000));
    bytes.extend([1, 0]);
    bytes.extend(gc(1));
    bytes.push(0);
    assert_eq!(refusal(&bytes.into()), Some(InvalidUpdate::Read(ReadError::End)));
}
