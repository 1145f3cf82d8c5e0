//! The fault proxy as a program, for tests that are not written in Rust.
//!
//! `fault-proxy [target]` prints `listening on 127.0.0.1:PORT`, then reads one command a line, as
//! `{"do":"cut"}` or `{"do":"delay","ms":50}`, and answers each with `ok` or what is wrong. It ends with
//! its standard input.

use anyhow::Context;
use tidewell_tests::proxy::{Fault, Proxy};
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let target = std::env::args().nth(1).map(|target| target.parse()).transpose();
    let proxy = Proxy::start(target.context("the target is no address and port")?).await?;
    println!("listening on {}", proxy.address());
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str::<Fault>(&line) {
            Ok(fault) => {
                proxy.apply(fault);
                println!("ok");
            }
            Err(error) => println!("{error}"),
        }
    }
    Ok(())
}
