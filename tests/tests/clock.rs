//! The wall clock jumps while the relay runs.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::process::Command;
use tidewell_client::yrs::{Doc, Text, Transact, WriteTxn};
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::protocol::{ClientMessage, RelayMessage};
use tidewell_sync_core::replica::new_doc;
use tidewell_tests::disk::Disk;
use tidewell_tests::raw::TidewellSocket;
use tidewell_tests::relay::{PATIENCE, Relay, binary};
use tokio::time::timeout;

const HOUR_S: i64 = 3600;

fn token(arguments: &[&str], keys: &Path) -> String {
    let mut command = Command::new(binary("tidewell").unwrap());
    let output = command.arg("token").args(arguments).arg("--keys").arg(keys).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The relay's part of new keys, and a token for an hour.
fn keys(folder: &Path) -> (PathBuf, String) {
    let (private, public) = (folder.join("private.json"), folder.join("public.json"));
    std::fs::write(&public, token(&["key"], &private)).unwrap();
    let mint = ["mint", "--subject", "ada", "--document", "write:**", "--for", "1h"];
    (public, token(&mint, &private))
}

struct Author {
    doc: Doc,
    pushes: u64,
}

impl Author {
    /// Pushes an edit and waits for its acknowledgement.
    async fn push(&mut self, socket: &mut TidewellSocket) -> anyhow::Result<()> {
        let update: Bytes = {
            let mut transaction = self.doc.transact_mut();
            let text = transaction.get_or_insert_text("t");
            text.insert(&mut transaction, 0, "x");
            transaction.encode_update_v1().into()
        };
        self.pushes += 1;
        let number = self.pushes;
        socket.say(&ClientMessage::Push { channel: 1, number, update }).await?;
        while !matches!(socket.next().await?, RelayMessage::Ack { number: acknowledged, .. } if acknowledged == number)
        {
        }
        Ok(())
    }
}

async fn open(relay: &Relay, token: &str) -> TidewellSocket {
    let mut socket = TidewellSocket::connect_with(relay.address(), token.to_owned()).await.unwrap();
    socket.open(1, &DocumentName::parse("clock").unwrap()).await.unwrap();
    socket
}

/// The code with which a connection ends.
async fn end(socket: &mut TidewellSocket) -> Code {
    let ends = async {
        loop {
            match socket.next().await.expect("the relay says why") {
                RelayMessage::Error { code, .. } => return code,
                _ => continue,
            }
        }
    };
    timeout(PATIENCE, ends).await.expect("the connection ends")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_ends_tokens_in_time_and_loses_nothing() {
    let (data, aside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let disk = Disk::of(data.path()).unwrap();
    let (public, token) = keys(aside.path());
    let arguments = ["--keys", public.to_str().unwrap()];
    let relay = Relay::start_in(data.path(), &arguments, &disk.variables()).await.unwrap();
    let mut author = Author { doc: new_doc(1), pushes: 0 };
    let mut socket = open(&relay, &token).await;
    author.push(&mut socket).await.unwrap();

    // Forward, as after a machine has slept: what has expired meanwhile ends, and does not come back.
    disk.set_clock(2 * HOUR_S).unwrap();
    assert_eq!(end(&mut socket).await, Code::TokenExpired);
    assert_eq!(end(&mut open(&relay, &token).await).await, Code::TokenExpired);

    // Back: tokens are good by the relay's clock again.
    disk.set_clock(0).unwrap();
    let mut socket = open(&relay, &token).await;
    author.push(&mut socket).await.unwrap();

    // Far back, with a connection that is there, and forward within the token's time.
    for seconds in [-24 * HOUR_S, 0, HOUR_S / 2] {
        disk.set_clock(seconds).unwrap();
        author.push(&mut socket).await.unwrap();
    }
    relay.kill().await.unwrap();
    let relay = Relay::start_in(data.path(), &arguments, &[]).await.unwrap();
    let mut socket = open(&relay, &token).await;
    let opened = async {
        loop {
            if let RelayMessage::Opened { sequence, .. } = socket.next().await.unwrap() {
                return sequence;
            }
        }
    };
    assert_eq!(opened.await, 5, "commits, one for each push");
}
