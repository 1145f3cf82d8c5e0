//! The programs of `fuzz/` as modules: with libFuzzer and its sanitizer they take ten minutes to compile, and nothing else
//! would notice that one does not.

#![allow(unused_attributes, reason = "each says that it is a program without `main`")]

use std::ffi::OsString;

macro_rules! targets {
    ($($name:ident $path:literal)*) => {
        $(#[path = $path] mod $name;)*

        /// What is run for each file.
        const TARGETS: &[(&str, fn(&[u8]))] = &[$((stringify!($name), $name::run)),*];
    };
}

targets! {
    keys "../../fuzz/fuzz_targets/keys.rs"
    materializer "../../fuzz/fuzz_targets/materializer.rs"
    request "../../fuzz/fuzz_targets/request.rs"
    stored_rows "../../fuzz/fuzz_targets/stored_rows.rs"
    token "../../fuzz/fuzz_targets/token.rs"
}

/// Stands in for libFuzzer's, which has the fuzzer call the target.
#[macro_export]
macro_rules! fuzz_target {
    (|$bytes:ident: &[u8]| $action:expr) => {
        pub(super) fn run($bytes: &[u8]) {
            $action
        }
    };
}

#[test]
fn no_fuzz_target_is_left_out() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/fuzz_targets");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name()).collect();
    files.sort();
    let targets: Vec<OsString> = TARGETS.iter().map(|(name, _)| format!("{name}.rs").into()).collect();
    assert_eq!(files, targets);
    TARGETS.iter().for_each(|(_, run)| run(b""));
}
