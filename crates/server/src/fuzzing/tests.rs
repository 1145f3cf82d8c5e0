//! The targets without a fuzzer: all that it starts from and once found, and seeded mutants of that.

use super::*;
use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, IteratorRandom};
use rand::{Rng, SeedableRng};
use std::fs;
use std::path::Path;

/// Of each target: about a second of a debug build.
const MUTANTS: u64 = 2_000;

/// An input, taken apart.
type Parts = Vec<Vec<u8>>;

/// How a target's inputs are taken apart and put together, so that most mutants get past what is looked at first.
struct Form {
    parts: fn(&[u8]) -> Parts,
    whole: fn(&[Vec<u8>]) -> Vec<u8>,
}

/// Text, of which JSON, JWTs, patterns and lists of addresses are made: words and what stands between them.
const TEXT: Form = Form {
    parts: |input| {
        input.split_inclusive(|byte| b"\0\n {}[]\",:./*".contains(byte)).map(<[u8]>::to_vec).collect()
    },
    whole: <[_]>::concat,
};

/// Rows as [`stored_rows`] reads them, whose fourth byte is the length of what follows.
const ROWS: Form = Form {
    parts: |mut input| {
        let mut rows = Vec::new();
        while let [_, _, _, length, after @ ..] = input {
            let (row, rest) = input.split_at(4 + usize::from(*length).min(after.len()));
            rows.push(row.to_vec());
            input = rest;
        }
        rows
    },
    whole: |rows| {
        let mut input = Vec::new();
        for row in rows {
            let start = input.len();
            input.extend_from_slice(row);
            if let ([_, _, _, length, ..], Ok(bytes)) =
                (&mut input[start..], u8::try_from(row.len().max(4) - 4))
            {
                *length = bytes;
            }
        }
        input
    },
};

/// The updates of requests to a materializer.
const REQUESTS: Form = Form { parts: materializer::fuzzing::updates, whole: materializer::fuzzing::request };

/// Shows what a target was fed when that makes it panic: these bytes become a file in `fuzz/regressions/<target>`.
struct Fed<'a>(&'a [u8]);

impl Drop for Fed<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("it was fed b\"{}\"", self.0.escape_ascii());
        }
    }
}

/// Feeds a target every file of its corpus and its regressions, then mutants of them.
fn run(name: &str, target: fn(&[u8]), form: &Form) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let feed = |input: &[u8]| {
        let _fed = Fed(input);
        target(input);
    };
    let mut inputs = Vec::new();
    for folder in ["corpus", "regressions"] {
        let Ok(entries) = fs::read_dir(fuzz.join(folder).join(name)) else { continue };
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files {
            println!("{}", file.display());
            let input = fs::read(file).unwrap();
            feed(&input);
            inputs.push((form.parts)(&input));
        }
    }
    for seed in 0..MUTANTS {
        // The last line before a crash or a hang names the seed.
        println!("seed {seed}");
        let mut random = SmallRng::seed_from_u64(seed);
        feed(&(form.whole)(&mutant(&mut random, &inputs)));
    }
}

/// One input with a few things changed, some to what stands in others.
fn mutant(random: &mut SmallRng, inputs: &[Parts]) -> Parts {
    let [input, other] = [(); 2].map(|()| inputs.choose(random).expect("there is a corpus"));
    let mut parts = input.clone();
    for _ in 0..random.random_range(1..=3) {
        let at = random.random_range(0..=parts.len());
        let Some(part) = parts.get_mut(at) else {
            parts.extend(other.choose(random).cloned());
            continue;
        };
        match random.random_range(0..10) {
            0 => parts.truncate(at),
            1 => drop(parts.remove(at)),
            2 => parts.insert(at, parts[at].clone()),
            3 => parts.extend(other.iter().skip(random.random_range(0..=other.len())).cloned()),
            4 => {
                let with = random.random_range(0..parts.len());
                parts.swap(at, with);
            }
            // What ends in the same way mostly leaves JSON as it should be, but for what it says.
            5..=7 => {
                let alike = other.iter().filter(|other| other.last() == part.last());
                *part = alike.choose(random).unwrap_or(part).clone();
            }
            _ => damage(random, part),
        }
    }
    parts
}

/// Changes some of its bytes.
fn damage(random: &mut SmallRng, part: &mut Vec<u8>) {
    let at = random.random_range(0..=part.len());
    let Some(byte) = part.get_mut(at) else { return part.push(random.random()) };
    match random.random_range(0..5) {
        0 => *byte ^= 1 << random.random_range(0..8),
        1 => *byte = *b"\x00\x01\x7f\x80\xff09-".choose(random).unwrap_or(&0),
        2 => part.insert(at, random.random()),
        3 => part.truncate(at),
        _ => {
            part.remove(at);
        }
    }
}

#[test]
fn no_token_upsets_its_reader_and_none_that_is_accepted_has_expired() {
    run("token", token, &TEXT);
}

#[test]
fn no_keys_file_and_no_pattern_upsets_its_reader() {
    run("keys", keys, &TEXT);
}

#[test]
fn no_body_of_a_request_upsets_its_reader_and_nobody_is_believed_whom_no_proxy_vouches_for() {
    run("request", request, &TEXT);
}

#[test]
fn rows_of_a_damaged_store_are_refused_or_make_a_document_that_is_whole() {
    run("stored_rows", stored_rows, &ROWS);
}

#[test]
fn what_admission_hands_on_becomes_a_snapshot_of_the_same_document_or_is_refused_for_its_values() {
    run("materializer", materializer, &REQUESTS);
}
