//! `wasm-bindgen-test-runner`: what `cargo test --target wasm32-unknown-unknown` runs each test binary with.
//!
//! The engine is chosen by the one driver variable that is set (`CHROMEDRIVER`, `GECKODRIVER` or `SAFARIDRIVER`);
//! `cargo xtask test` sets it.

fn main() -> anyhow::Result<()> {
    wasm_bindgen_cli::wasm_bindgen_test_runner::run_cli_with_args(std::env::args_os())
}
