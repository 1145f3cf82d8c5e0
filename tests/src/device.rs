//! A device: a native client in a process of its own, killed and started again.

use crate::relay::{PATIENCE, binary};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// A running device. Dropping it kills it.
#[derive(Debug)]
pub struct Device {
    process: Child,
    requests: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Device {
    /// Starts a device on its directory, with one document open.
    pub async fn start(url: &str, document: &str, directory: &Path) -> Device {
        Device::start_with(url, document, directory, &[]).await
    }

    /// The same, with further variables in its environment.
    pub async fn start_with(
        url: &str,
        document: &str,
        directory: &Path,
        variables: &[(&str, OsString)],
    ) -> Device {
        let mut process = Command::new(binary("native-peer").unwrap())
            .envs(variables.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let requests = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut device = Device { process, requests, answers };
        device.ask(json!({ "do": "open", "url": url, "document": document, "directory": directory })).await;
        device
    }

    /// Sends a request of `native-peer`, which is answered with this number.
    pub async fn say(&mut self, id: u64, mut request: Value) {
        request["id"] = id.into();
        request["peer"] = "device".into();
        self.requests.write_all(format!("{request}\n").as_bytes()).await.unwrap();
    }

    /// The next answer, and to which request.
    pub async fn answer(&mut self) -> (u64, Value) {
        let line = timeout(PATIENCE, self.answers.next_line()).await.expect("an answer").unwrap();
        let answer: Value = serde_json::from_str(&line.expect("the device lives")).unwrap();
        assert_eq!(answer.get("error"), None);
        (answer["id"].as_u64().unwrap(), answer["value"].clone())
    }

    /// Sends a request and waits for its answer.
    pub async fn ask(&mut self, request: Value) -> Value {
        self.say(0, request).await;
        self.answer().await.1
    }

    /// The document's text.
    pub async fn text(&mut self) -> String {
        let dump = self.ask(json!({ "do": "dump" })).await;
        dump["text"].as_array().unwrap().iter().map(|part| part["insert"].as_str().unwrap()).collect()
    }

    /// Kills it with SIGKILL, and waits until it is gone.
    pub async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }
}

/// The request that types `token` at the beginning.
pub fn insert(token: &str) -> Value {
    json!({ "do": "edit", "operations": [{ "op": "insert", "at": 0.0, "text": token }] })
}
