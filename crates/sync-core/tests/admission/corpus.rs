//! What the fuzzers start from, and what they once found, replayed without them.

use crate::dice::Dice;
use crate::hostile::run_alone;
use crate::survival::{known_part, survive, taken_pieces};
use bytes::Bytes;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tidewell_sync_core::protocol::{ClientMessage, Reassembly, RelayMessage};
use tidewell_sync_core::state_vector::StateVector;
use tidewell_sync_core::update::Scan;
use tidewell_sync_core::y_protocol::YMessage;

const TARGET: &str = "TIDEWELL_TEST_CORPUS";

/// `fuzz/corpus` is where they start, `fuzz/regressions` holds what they found, by the name of the target.
fn inputs(target: &str) -> Vec<PathBuf> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let mut found = Vec::new();
    for folder in ["corpus", "regressions"] {
        let Ok(entries) = fs::read_dir(fuzz.join(folder).join(target)) else { continue };
        found.extend(entries.map(|entry| entry.unwrap().path()));
    }
    found.sort();
    found
}

fn replay(target: &str, bytes: &[u8]) {
    let shared = Bytes::copy_from_slice(bytes);
    match target {
        "admission_then_yrs" => survive(&mut Dice::of_bytes(bytes)),
        "admission" => {
            if let [log, known, update @ ..] = bytes {
                let mut admitted = known_part(usize::from(*log), usize::from(*known)).clone();
                taken_pieces(&mut admitted, &Bytes::copy_from_slice(update));
            }
        }
        "update_scan" => {
            if Scan::new(&shared).is_ok() {
                <yrs::Update as yrs::updates::decoder::Decode>::decode_v1(bytes).expect("yrs decodes it too");
            }
        }
        "client_frames" => drop(ClientMessage::read_all(&shared)),
        "relay_frames" => drop(RelayMessage::read_all(&shared)),
        "fragments" => drop(Reassembly::default().take(shared)),
        "y_frames" => drop(YMessage::read_all(&shared)),
        "state_vector" => drop(StateVector::decode(bytes)),
        "awareness" => drop(tidewell_sync_core::awareness::decode(bytes)),
        other => panic!("there is no fuzz target {other}"),
    }
}

#[test]
fn fr2_what_the_fuzzers_start_from_and_found_harms_nothing() {
    let targets = [
        "admission_then_yrs",
        "admission",
        "update_scan",
        "client_frames",
        "relay_frames",
        "fragments",
        "y_frames",
        "state_vector",
        "awareness",
    ];
    for target in targets {
        run_alone("corpus::target_alone", TARGET, target, Duration::from_secs(240)).unwrap();
    }
}

/// Does nothing unless it is told which target; then it is the child of the test above.
#[test]
fn target_alone() {
    let Ok(target) = std::env::var(TARGET) else { return };
    let inputs = inputs(&target);
    assert!(!inputs.is_empty(), "{target} has no corpus");
    for input in inputs {
        println!("{}", input.display());
        replay(&target, &fs::read(input).unwrap());
    }
}
