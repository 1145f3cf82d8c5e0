//! `wasm-bindgen`, at the version that `Cargo.lock` fixes: turns our compiled module into a module and its JavaScript.

fn main() -> anyhow::Result<()> {
    wasm_bindgen_cli::wasm_bindgen::run_cli_with_args(std::env::args_os())
}
