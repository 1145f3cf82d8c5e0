//! Makes the bound module small to send: `compact-module MODULE GZIPPED` rewrites the one and writes the other.
//!
//! What counts is the size after deflate, which finds repetitions in the last 32 KiB only, while a module of generic code
//! repeats itself all over. So functions that are equal become one, similar ones are put side by side, and the search for
//! the smallest deflate stream is zopfli's. Of 208 kB that left 185 (2026-11); wasm-opt's -Oz, which makes the code shorter
//! and less alike, made it 226.

mod functions;
mod order;

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::bail;

fn main() -> anyhow::Result<()> {
    let mut paths = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(module), Some(gzipped), None) = (paths.next(), paths.next(), paths.next()) else {
        bail!("usage: compact-module MODULE GZIPPED");
    };
    let compact = functions::compact(&fs::read(&module)?)?;
    fs::write(module, &compact)?;
    zopfli::compress(
        zopfli::Options::default(),
        zopfli::Format::Gzip,
        compact.as_slice(),
        File::create(gzipped)?,
    )?;
    Ok(())
}
