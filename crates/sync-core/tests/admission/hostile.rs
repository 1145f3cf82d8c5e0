//! Bytes that are known to kill yrs 0.28.1 (see `tests/hostile/README.md`).

use crate::crafted::{hex, in_root, in_type, update};
use crate::history::{apply, new_doc};
use crate::oracle::Guarded;
use bytes::Bytes;
use std::process::Command;
use std::time::{Duration, Instant};
use tidewell_sync_core::admission::Admitted;
use tidewell_sync_core::update::InvalidUpdate;
use yrs::{ReadTxn, Text, Transact};

struct Sample {
    name: &'static str,
    input: Bytes,
    base: Bytes,
    full: Bytes,
}

fn samples() -> Vec<Sample> {
    let files = [
        ("v1-flip-8527", include_str!("../hostile/v1-flip-8527.txt")),
        ("v1-splice-1832", include_str!("../hostile/v1-splice-1832.txt")),
        ("v1-flip-53453", include_str!("../hostile/v1-flip-53453.txt")),
    ];
    let field = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the file has this field");
        hex(line)
    };
    let sample = |(name, text)| Sample {
        name,
        input: field(text, "input "),
        base: field(text, "base "),
        full: field(text, "full "),
    };
    files.into_iter().map(sample).collect()
}

/// Runs one test of this binary in a process of its own, so that a crash or a hang is a failure of it
/// alone, and says how it ended.
pub(crate) fn run_alone(test: &str, variable: &str, value: &str, limit: Duration) -> Result<(), String> {
    let binary = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut child = Command::new(binary)
        .args(["--exact", test, "--nocapture"])
        .env(variable, value)
        .env("RUST_BACKTRACE", "0")
        .spawn()
        .map_err(|error| error.to_string())?;
    let start = Instant::now();
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("{test} with {variable}={value}: {status}")),
            None if start.elapsed() > limit => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{test} with {variable}={value}: hangs"));
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

const SAMPLE: &str = "TIDEWELL_TEST_SAMPLE";

#[test]
fn ad15_no_known_crasher_reaches_yrs_in_a_form_that_harms_it() {
    for sample in samples() {
        for base in ["empty", "base"] {
            let value = format!("{} {base}", sample.name);
            run_alone("hostile::one_sample_alone", SAMPLE, &value, Duration::from_secs(240)).unwrap();
        }
    }
}

/// Does nothing unless it is told which sample; then it is the child of the test above.
#[test]
fn one_sample_alone() {
    let Ok(value) = std::env::var(SAMPLE) else { return };
    let (name, base) = value.split_once(' ').unwrap();
    let sample = samples().into_iter().find(|sample| sample.name == name).unwrap();
    let mut guarded = Guarded::new();
    if base == "base" {
        guarded.take_whole(&sample.base);
    }
    let before = guarded.admitted.clone();
    match guarded.admitted.admit(&sample.input) {
        Err(error) => {
            println!("{value}: refused, {error}");
            assert_eq!(before, guarded.admitted, "ad10: a refused update left a trace");
        }
        Ok(admission) => {
            println!("{value}: {} pieces, {:?} missing", admission.pieces.len(), admission.missing);
            admission.pieces.iter().for_each(|piece| apply(&guarded.doc, piece));
        }
    }
    // Whatever was let in, yrs goes on to work: somebody else's edit and the whole state.
    let other = new_doc(77, false);
    other.get_or_insert_text("t").push(&mut other.transact_mut(), "still here");
    let edit = other.transact().encode_diff_v1(&yrs::StateVector::default());
    guarded.take_whole(&edit.into());
    let _ = guarded.admitted.admit(&sample.full).map(|admission| {
        admission.pieces.iter().for_each(|piece| apply(&guarded.doc, piece));
    });
    apply(&new_doc(78, false), &crate::history::state(&guarded.doc));
}

fn refusal(bytes: &Bytes) -> Option<InvalidUpdate> {
    let mut admitted = Admitted::new();
    admitted.admit(&update(&[(1, 0, vec![in_root("t").text("abcdef")])])).unwrap();
    let before = admitted.clone();
    let refusal = admitted.admit(bytes).err();
    assert_eq!(before, admitted);
    refusal
}

#[test]
fn ad8_a_value_nested_twenty_thousand_deep_is_refused() {
    let mut bytes = hex("01 01 01 00 08 01 01 61 01").to_vec();
    bytes.extend([0x75, 0x01].repeat(20_000));
    bytes.extend([0x7e, 0x00]);
    assert_eq!(refusal(&bytes.into()), Some(InvalidUpdate::ValueDepth));
}

#[test]
fn ad2_half_a_gigabyte_from_six_bytes_is_refused() {
    let bytes = hex("80 80 80 80 01 00");
    assert!(refusal(&bytes).is_some());
    assert!(tidewell_sync_core::state_vector::StateVector::decode(&bytes).is_err());
    assert!(tidewell_sync_core::awareness::decode(&bytes).is_err());
}

#[test]
fn ad2_sixteen_gigabytes_from_a_nested_map_are_refused() {
    let mut bytes = hex("01 01 01 00 08 01 01 61 01").to_vec();
    bytes.extend([0x76, 0x80, 0x80, 0x80, 0x08, 0x01, 0x6b].repeat(500));
    bytes.extend([0x7e, 0x00]);
    assert!(refusal(&bytes.into()).is_some());
}

#[test]
fn ad4_a_hole_that_wraps_the_clock_is_refused() {
    let bytes = hex("01 02 01 00 0a f8 ff ff ff 0f 04 01 01 74 06 61 62 63 64 65 66 00");
    assert_eq!(refusal(&bytes), Some(InvalidUpdate::Clock));
}

#[test]
fn ad14_text_as_a_parent_is_refused_where_yrs_drops_the_text() {
    let mut guarded = Guarded::new();
    guarded.take_whole(&update(&[(100, 0, vec![in_root("t").text("hello")])]));
    let before = guarded.admitted.clone();
    let hostile = hex("01 01 09 00 04 00 64 00 01 7a 00");
    assert_eq!(guarded.admitted.admit(&hostile), Err(InvalidUpdate::Parent));
    assert_eq!(before, guarded.admitted);
}

#[test]
fn ad12_text_as_a_parent_waits_while_it_is_not_known() {
    let mut guarded = Guarded::new();
    let hostile = hex("01 01 09 00 04 00 64 00 01 7a 00");
    let admission = guarded.take(&hostile);
    assert!(admission.pieces.is_empty() && !admission.is_complete());
    assert!(guarded.admitted.is_empty());
}

#[test]
fn a_list_that_holds_an_emoji_as_text_is_read_to_its_end() {
    let mut guarded = Guarded::new();
    let list = in_root("m").at_key("k").shared(0);
    guarded.take_whole(&update(&[(1, 0, vec![list, in_type(1, 0).text("\u{1f642}")])]));
    let root = guarded.doc.get_or_insert_array("a");
    guarded.take_whole(&update(&[(2, 0, vec![in_root("a").text("\u{1f642}")])]));
    assert_eq!(yrs::Array::len(&root, &guarded.doc.transact()), 2);
    // yrs itself never ends reading either.
    let values = tidewell_sync_core::value::document(&guarded.doc.transact());
    assert!(values.contains_key("m"));
}
