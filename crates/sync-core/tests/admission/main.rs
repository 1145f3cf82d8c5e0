//! What admission promises, proven against yrs itself, against updates made by stock Yjs, and against
//! bytes made to do harm. Test names begin with the rule of `docs/protocol.md` that they prove.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

mod crafted;
mod dice;
mod history;
mod oracle;

mod corpus;
mod diff_and_merge;
mod hostile;
mod mutants;
mod mutation;
mod places;
mod resources;
mod stock;
mod structure;
mod survival;
#[allow(unreachable_pub, reason = "shared with the fuzz targets, which are crates of their own")]
mod targets;
mod trimming;
mod whole;
