//! What the fuzzers start from, and what they once found, replayed without them.

use crate::hostile::run_alone;
use crate::targets;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const TARGET: &str = "TIDEWELL_TEST_CORPUS";

/// What is in a folder of `fuzz`, sorted; nothing if the folder is not there.
fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(folder);
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// What a target does with its bytes.
fn action(target: &str) -> fn(&[u8]) {
    match target {
        "admission" => targets::admission,
        "admission_then_yrs" => targets::admission_then_yrs,
        "awareness" => targets::awareness,
        "client_frames" => targets::client_frames,
        "document_name" => targets::document_name,
        "fragments" => targets::fragments,
        "lib0_reader" => targets::lib0_reader,
        "relay_frames" => targets::relay_frames,
        "state_vector" => targets::state_vector,
        "update_scan" => targets::update_scan,
        "y_frames" => targets::y_frames,
        other => panic!("the fuzz target {other} is not replayed"),
    }
}

#[test]
fn fr2_what_the_fuzzers_start_from_and_found_harms_nothing() {
    let targets = files("fuzz_targets");
    assert!(!targets.is_empty(), "there are no fuzz targets");
    for target in targets {
        let target = target.file_stem().unwrap().to_str().unwrap();
        run_alone("corpus::target_alone", TARGET, target, Duration::from_secs(240)).unwrap();
    }
}

/// Does nothing unless it is told which target; then it is the child of the test above.
#[test]
fn target_alone() {
    let Ok(target) = std::env::var(TARGET) else { return };
    let action = action(&target);
    // Where it starts, and what it found.
    let [corpus, regressions] = ["corpus", "regressions"].map(|kind| files(&format!("{kind}/{target}")));
    assert!(!corpus.is_empty(), "{target} has no corpus");
    for input in corpus.into_iter().chain(regressions) {
        println!("{}", input.display());
        action(&fs::read(input).unwrap());
    }
}
