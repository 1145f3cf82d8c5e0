//! Arguments and data directories: a clear message, a nonzero exit, nothing changed.

use crate::author::Author;
use crate::client::Client;
use crate::process::{Relay, data, output, program};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

fn refused(arguments: &[&str], message: &str) {
    let output = output(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{arguments:?}");
    assert!(error.contains(message), "{arguments:?}: {error}");
    let parts: Vec<&str> = error.trim_end().split(": ").collect();
    assert!(parts.windows(2).all(|pair| pair[0] != pair[1]), "something is said twice: {error}");
}

#[test]
fn wrong_arguments_are_refused_before_anything_is_made() {
    let (folder, data) = data();
    let path = data.to_str().unwrap();
    refused(&["serve", "--data", path, "--listen", "0.0.0.0:0"], "not a loopback address");
    refused(&["serve", "--data", path, "--listen", "[::]:0"], "not a loopback address");
    refused(&["serve", "--data", path, "--keys", "/not/there"], "/not/there");
    refused(&["serve", "--data", path, "--keys", "/dev/null"], "no JWKS");
    refused(&["serve", "--data", path, "--issuer", "x"], "--keys");
    refused(&["serve", "--data", path, "--keys", "x", "--anyone-may-read-and-write"], "cannot be used with");
    refused(&["serve", "--data", path, "--listen", "nonsense"], "invalid value");
    refused(&["serve", "--data", path, "--history", "soon"], "a duration is");
    refused(&["serve", "--data", path, "--allow-origin", "app.example"], "not an origin");
    refused(&["serve", "--data", path, "--trusted-proxy", "10.0.0.1/8"], "10.0.0.0/8");
    refused(&["serve", "--data", path, "--tls-key", "/dev/null"], "--tls-certificate");
    let tls = |certificate, key, said| {
        refused(&["serve", "--data", path, "--tls-certificate", certificate, "--tls-key", key], said);
    };
    tls("/not/there", "/dev/null", "/not/there");
    tls("/dev/null", "/dev/null", "/dev/null is no certificate");
    refused(&["serve", "--data", path, "--assets", "/not/there"], "--assets /not/there");
    refused(&["serve", "--data", path, "--log", "xml"], "invalid value");
    refused(&["serve", "--data", "/dev/null/there"], "/dev/null/there");
    refused(&["verify", "--backup", "/not/there"], "/not/there");
    refused(&["serve"], "--data");
    refused(&["sing"], "unrecognized subcommand");
    refused(&["quarantine", "list", "--data", path], "holds no Tidewell store");
    refused(&["quarantine", "release", "--data", path, "a\nb"], "A document name");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn other_addresses_than_loopback_are_served_with_keys_or_when_anyone_may() {
    let issuer = crate::tokens::Issuer::new();
    for open in [&["--keys", issuer.path().as_str()][..], &["--anyone-may-read-and-write"]] {
        let (_folder, data) = data();
        let mut command = program();
        command.args(["serve", "--listen", "0.0.0.0:0", "--data"]).arg(&data).args(open);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(line.starts_with("listening on http://0.0.0.0:"), "{open:?}: {line}");
    }
}

#[test]
fn a_data_directory_that_is_in_use_is_refused_and_its_relay_goes_on() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let path = data.to_str().unwrap();
    refused(&["serve", "--data", path, "--listen", "127.0.0.1:0"], "in use by another relay");
    refused(&["quarantine", "release", "--data", path, "a/doc"], "in use by another relay");
    assert!(
        output(&["quarantine", "list", "--data", path]).status.success(),
        "who only reads is no other relay"
    );
    assert!(relay.get("/readyz").starts_with("HTTP/1.1 200"));
}

#[test]
fn a_store_of_a_newer_version_or_of_another_program_is_refused_and_left_as_it_is() {
    let (_folder, data) = data();
    let path = data.to_str().unwrap();
    Relay::start(&data).terminate();
    let file = data.join("tidewell.db");
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let before = std::fs::read(&file).unwrap();
    refused(&["serve", "--data", path, "--listen", "127.0.0.1:0"], "use a newer relay");
    assert_eq!(std::fs::read(&file).unwrap(), before);
    std::fs::write(&file, "this is no database at all, and it is longer than its header").unwrap();
    refused(&["serve", "--data", path, "--listen", "127.0.0.1:0"], "not a database");
}

#[test]
fn an_address_in_use_is_refused() {
    let (_folder, data) = data();
    let (_other_folder, other) = crate::process::data();
    let relay = Relay::start(&data);
    refused(&["serve", "--data", other.to_str().unwrap(), "--listen", &relay.address], "cannot listen on");
}

#[test]
fn operators_find_health_readiness_metrics_and_nothing_else() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    assert!(relay.get("/healthz").starts_with("HTTP/1.1 200"));
    assert!(relay.get("/readyz").starts_with("HTTP/1.1 200"));
    let metrics = relay.get("/metrics");
    for name in ["connections", "rooms", "unacknowledged_bytes", "quarantined", "materializer_restarts_total"]
    {
        assert!(metrics.contains(&format!("tidewell_{name}")), "{name} in {metrics}");
    }
    assert!(relay.get("/elsewhere").starts_with("HTTP/1.1 404"));
    assert!(relay.get("/v1/sync").starts_with("HTTP/1.1 4"), "no upgrade");
    assert!(relay.get("/yjs/%ff").starts_with("HTTP/1.1 4"), "not a name");
}

#[test]
fn a_page_is_served_from_its_folder() {
    let (folder, data) = data();
    let page = folder.path().join("page");
    std::fs::create_dir(&page).unwrap();
    std::fs::write(page.join("index.html"), "<p>demo</p>").unwrap();
    let relay = Relay::start_with(&data, &["--assets", page.to_str().unwrap()]);
    assert!(relay.get("/").contains("<p>demo</p>"));
    assert!(relay.get("/../data/tidewell.db").starts_with("HTTP/1.1 404"));
}

#[test]
fn the_json_log_tells_the_address() {
    let (_folder, data) = data();
    let mut child = program()
        .args(["serve", "--log", "json", "--listen", "127.0.0.1:0", "--data"])
        .arg(&data)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let url = lines.map_while(Result::ok).find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        line["url"].as_str().map(str::to_owned)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let port = url.unwrap().strip_prefix("http://127.0.0.1:").unwrap().parse::<u16>().unwrap();
    assert_ne!(port, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_document_is_refused_and_never_served_empty_and_others_are_served() {
    let (_folder, data) = data();
    let relay = Relay::start(&data);
    let author = Author::new(1);
    let mut client = Client::connect(&relay).await;
    for (channel, document) in [(1, "a/damaged"), (2, "a/healthy")] {
        client.open(channel, document).await;
        client.push(channel, 1, author.state()).await;
        client.push(channel, 2, author.types("x")).await;
        client.acknowledged(2).await;
    }
    relay.terminate();
    let connection = rusqlite::Connection::open(data.join("tidewell.db")).unwrap();
    let damage = "UPDATE log SET update_v1 = x'0999' WHERE document = \
                  (SELECT id FROM document WHERE name = 'a/damaged')";
    assert!(connection.execute(damage, []).unwrap() > 0);
    drop(connection);
    let relay = Relay::start(&data);
    let mut client = Client::connect(&relay).await;
    use tidewell_sync_core::code::Code;
    use tidewell_sync_core::protocol::{Position, RelayMessage};
    let refused = client.open_at(1, "a/damaged", Position::StateVector(Default::default())).await;
    assert_eq!(refused, RelayMessage::Refused { channel: 1, number: 0, code: Code::LoadFailed });
    assert!(client.open(2, "a/healthy").await > 0);
    assert!(relay.get("/readyz").starts_with("HTTP/1.1 200"));
}
