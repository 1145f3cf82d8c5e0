//! The native client as a program, for tests that are not written in Rust.
//!
//! `await-text URL DOCUMENT ROOT` reads a text from its standard input and ends when the document has exactly
//! that text at that root.

use anyhow::Context;
use std::io::Read;
use tidewell_client::{Client, Options, Store};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = || arguments.next().context("usage: await-text URL DOCUMENT ROOT");
    let (url, name, root) = (argument()?, argument()?, argument()?);
    let mut expected = String::new();
    std::io::stdin().read_to_string(&mut expected)?;

    let client = Client::open(Options::new(url, Store::Memory)).await?;
    let document = client.document(&name).await?;
    let mut changes = document.changes();
    while document.text(&root).await? != expected {
        changes.changed().await?;
    }
    Ok(client.close().await?)
}
