//! Every rule of `docs/protocol.md` has a test, and every rule that a test quotes exists.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

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

fn rules_defined() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("docs/protocol.md")).unwrap();
    text.lines().filter_map(|line| line.strip_prefix("- **")).filter_map(id_at).collect()
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

/// IDs at the beginning of the names of tests: `fn ad12_…` in Rust, `test('AD12 …` in TypeScript.
fn rules_quoted() -> BTreeSet<String> {
    let mut found = Vec::new();
    for folder in ["crates", "tests", "web"] {
        files(&root().join(folder), &[".rs", ".test.ts", ".test.mjs"], &mut found);
    }
    let mut rules = BTreeSet::new();
    for path in found {
        let text = fs::read_to_string(&path).unwrap();
        for line in text.lines().map(str::trim_start) {
            let line = line.trim_start_matches("async ");
            let rust = line.strip_prefix("fn ").filter(|rest| rest.get(3..).is_some_and(|r| r.contains('_')));
            let script =
                ["test('", "it('", "test(\"", "it(\""].iter().find_map(|start| line.strip_prefix(start));
            let quoted = rust.and_then(|rest| {
                let id = id_at(rest)?;
                rest[id.len()..].starts_with('_').then_some(id)
            });
            rules.extend(quoted);
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
