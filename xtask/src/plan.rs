//! What `cargo xtask check` and `cargo xtask test` do, in order.

use crate::step::{Failure, Outcome, Step, step};
use crate::{consumer, dependencies, end_to_end, engine, fuzz, npm, rust, setup, simulator};

/// What a commit must pass; under three minutes when warm.
pub(crate) const CHECK: &[Step] = &[
    Step {
        name: "setup",
        proves: "the compiler and the npm dependencies are there",
        failure: Failure::Stops,
        action: || setup::building().map(|()| Outcome::Passed),
    },
    step("format", "Rust is formatted", rust::format),
    step("lint", "clippy has nothing to say, natively and for the browser", rust::lint),
    step("web-check", "TypeScript is formatted, linted and typed", npm::check),
    step("core", "the unit tests of the core", rust::test_core),
];

/// Everything.
pub(crate) const TEST: &[Step] = &[
    Step {
        name: "setup",
        proves: "this machine has what the tests need",
        failure: Failure::Stops,
        action: || setup::everything().map(|()| Outcome::Passed),
    },
    step("format", "Rust is formatted", rust::format),
    step("lint", "clippy has nothing to say, natively and for the browser", rust::lint),
    step("document", "the reference pages build, without a dead link", rust::document),
    step("dependencies", "licences, sources and versions of what we build on", dependencies::check),
    step("rust", "the tests of all crates", rust::test),
    step("web-check", "TypeScript is formatted, linted and typed", npm::check),
    step("web", "the unit tests of the npm package", npm::test),
    step("pack", "the npm package works in a project that installs it", consumer::test),
    step("wasm-chromium", "the module in Chromium", engine::test_chromium),
    step("wasm-firefox", "the module in Firefox", engine::test_firefox),
    step("wasm-webkit", "the module in WebKitGTK", engine::test_webkit),
    step("browser", "the package end to end in a real browser", end_to_end::browser),
    step("stock", "stock Yjs clients on the same relay", end_to_end::stock),
    step("simulator", "no seed breaks an invariant", simulator::test),
    step("fuzz", "hostile bytes, for a short time", fuzz::test),
];
