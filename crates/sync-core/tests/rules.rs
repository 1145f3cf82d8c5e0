//! Every rule of `docs/protocol.md` has a test, every rule that a test quotes exists, and so do the codes that it lists.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use tidewell_sync_core::code::Code;

/// The workspace's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// An ID such as `AD12` at the beginning of `text`, in capitals.
fn id_at(text: &str) -> Option<String> {
    let letters: String = text.chars().take(2).collect();
    let digits: String = text.chars().skip(2).take_while(char::is_ascii_digit).collect();
    let is_id = letters.len() == 2 && letters.chars().all(|c| c.is_ascii_alphabetic()) && !digits.is_empty();
    is_id.then(|| format!("{}{digits}", letters.to_uppercase()))
}

fn protocol() -> String {
    fs::read_to_string(root().join("docs/protocol.md")).unwrap()
}

fn rules_defined() -> BTreeSet<String> {
    protocol().lines().filter_map(|line| line.strip_prefix("- **")).filter_map(id_at).collect()
}

/// All files below `folder` with one of the endings, without what was built or installed.
fn files(folder: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !["target", "node_modules", "dist", "generated"].contains(&name.as_str()) {
                files(&path, endings, found);
            }
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        }
    }
}

/// The ID that the name of a function begins with.
fn id_of_function(line: &str) -> Option<String> {
    let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
    let id = id_at(name)?;
    name[id.len()..].starts_with('_').then_some(id)
}

/// IDs at the beginning of the names of tests: `fn ad12_…` below `#[test]` in Rust, `test('AD12 …` in TypeScript.
fn rules_quoted() -> BTreeSet<String> {
    let mut found = Vec::new();
    for folder in ["crates", "tests", "web"] {
        files(&root().join(folder), &[".rs", ".test.ts", ".test.mjs"], &mut found);
    }
    let mut rules = BTreeSet::new();
    for path in found {
        let text = fs::read_to_string(&path).unwrap();
        let mut is_below_attribute = false;
        for line in text.lines().map(str::trim_start) {
            rules.extend(id_of_function(line).filter(|_| is_below_attribute));
            is_below_attribute = line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            let script =
                ["test('", "it('", "test(\"", "it(\""].iter().find_map(|start| line.strip_prefix(start));
            rules.extend(script.filter(|rest| rest.starts_with(char::is_uppercase)).and_then(id_at));
        }
    }
    rules
}

#[test]
fn every_rule_has_a_test_and_every_quoted_rule_exists() {
    let (defined, quoted) = (rules_defined(), rules_quoted());
    assert!(defined.len() > 60, "the rules were not found: {defined:?}");
    let untested: Vec<_> = defined.difference(&quoted).collect();
    let unknown: Vec<_> = quoted.difference(&defined).collect();
    assert!(untested.is_empty(), "rules without a test: {untested:?}");
    assert!(unknown.is_empty(), "tests quote rules that do not exist: {unknown:?}");
}

/// Codes that no peer is told.
const AT_HOME: &[Code] = &[
    Code::DocumentReset,
    Code::UpdateIncomplete,
    Code::InvalidValue,
    Code::InvalidRange,
    Code::InvalidPath,
    Code::Closed,
    Code::Aborted,
    Code::DeviceCorrupt,
    Code::Disconnected,
    Code::DeviceFailed,
    Code::DeviceFull,
    Code::DeviceUnavailable,
    Code::Recovered,
];

/// Numbers and names in the table of codes, which has two of them in each row.
fn codes_listed() -> BTreeSet<(u64, String)> {
    let text = protocol();
    let rows = text.lines().filter(|line| line.starts_with("| ") && line.contains("_"));
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    let pairs = cells.flat_map(|cells| {
        let pair = |pair: &[&str]| Some((pair[0].parse().ok()?, pair[1].trim_matches('`').to_owned()));
        cells.windows(2).filter_map(pair).collect::<Vec<_>>()
    });
    pairs.collect()
}

#[test]
fn cd1_the_protocol_lists_every_code_that_a_peer_is_told() {
    let told = Code::ALL.iter().filter(|code| !AT_HOME.contains(code));
    let told: BTreeSet<_> = told.map(|code| (u64::from(code.number()), code.name().to_owned())).collect();
    assert_eq!(codes_listed(), told);
}
