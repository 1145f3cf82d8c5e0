//! TLS, with certificates made for each test.

use crate::author::Author;
use crate::client::{Client, PATIENCE, Raw, close_of, closed};
use crate::process::{Relay, data};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::protocol::SUBPROTOCOL;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::Request;
use tokio_tungstenite::{Connector, MaybeTlsStream, client_async_tls_with_config};

/// A certificate's and its key's files.
struct Files {
    folder: PathBuf,
}

/// Who trusts one certificate and nothing else.
type Trust = CertificateDer<'static>;

impl Files {
    fn new(folder: &Path) -> (Files, Trust) {
        let files = Files { folder: folder.to_owned() };
        let trust = files.renew();
        (files, trust)
    }

    /// Another certificate with another key.
    fn renew(&self) -> Trust {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(self.certificate(), cert.pem()).unwrap();
        fs::write(self.key(), signing_key.serialize_pem()).unwrap();
        cert.der().clone()
    }

    fn certificate(&self) -> PathBuf {
        self.folder.join("certificate.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.join("key.pem")
    }

    fn start(&self, more: &[&str]) -> Relay {
        let (certificate, key) = (self.certificate(), self.key());
        let tls = ["--tls-certificate", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
        Relay::start_with(&self.folder.join("data"), &[&tls, more].concat())
    }
}

fn connector(trust: &Trust) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(trust.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

fn request(origin: Option<&str>) -> Request<()> {
    let mut request = "wss://localhost/v1/sync".into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse().unwrap());
    if let Some(origin) = origin {
        request.headers_mut().insert("origin", origin.parse().unwrap());
    }
    request
}

/// `None` when the relay's certificate is not the one that is trusted.
async fn connect(relay: &Relay, trust: &Trust, origin: Option<&str>) -> Option<Raw> {
    let stream = tokio::net::TcpStream::connect(&relay.address).await.unwrap();
    let connector = Connector::Rustls(connector(trust));
    let connected = client_async_tls_with_config(request(origin), stream, None, Some(connector));
    match tokio::time::timeout(PATIENCE, connected).await.expect("an answer") {
        Ok((socket, _)) => Some(socket),
        Err(error) => {
            assert!(error.to_string().contains("certificate"), "{error}");
            None
        }
    }
}

async fn client(relay: &Relay, trust: &Trust) -> Client {
    Client::over(connect(relay, trust, None).await.expect("a trusted certificate")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_travel_over_tls() {
    let (folder, _) = data();
    let (files, trust) = Files::new(folder.path());
    let relay = files.start(&[]);
    let (mut one, mut two) = (client(&relay, &trust).await, client(&relay, &trust).await);
    let MaybeTlsStream::Rustls(stream) = one.socket.get_ref() else { panic!("it is not encrypted") };
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));
    let (author, reader) = (Author::new(1), Author::new(2));
    one.open(1, "a/doc").await;
    two.open(1, "a/doc").await;
    let text = "much ".repeat(100_000);
    one.push(1, 1, author.types(&text)).await;
    let sequence = one.acknowledged(1).await;
    two.updates_through(sequence).await.iter().for_each(|update| reader.applies(update));
    assert!(reader.text() == text);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_told_apart_by_their_origin_over_tls_too() {
    let (folder, _) = data();
    let (files, trust) = Files::new(folder.path());
    let relay = files.start(&["--allow-origin", "https://app.example"]);
    for origin in ["https://evil.example", "http://app.example"] {
        let mut refused = connect(&relay, &trust, Some(origin)).await.expect("a trusted certificate");
        assert_eq!(closed(&mut refused).await, close_of(Code::OriginForbidden), "{origin}");
    }
    for origin in ["https://app.example", "https://localhost:5173"] {
        Client::over(connect(&relay, &trust, Some(origin)).await.expect("a trusted certificate")).await;
    }
}

#[test]
fn who_speaks_no_tls_is_answered_nothing_and_the_relay_goes_on() {
    let (folder, _) = data();
    let (files, trust) = Files::new(folder.path());
    let relay = files.start(&[]);
    let mut plain = std::net::TcpStream::connect(&relay.address).unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: relay\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).unwrap();
    // A TLS alert at most.
    assert!(answer.is_empty() || answer.starts_with(&[21, 3]), "{answer:?}");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(client(&relay, &trust));
    assert!(relay.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_for_those_who_come_later_and_a_damaged_one_for_nobody() {
    let (folder, _) = data();
    let (files, first) = Files::new(folder.path());
    let relay = files.start(&[]);
    let mut early = client(&relay, &first).await;
    let second = files.renew();
    while connect(&relay, &first, None).await.is_some() {}
    client(&relay, &second).await;
    early.settled().await;

    // A key without its certificate, then none at all: both are noticed, and change nothing.
    let failed = async |count: f64| {
        loop {
            let stream = tokio::net::TcpStream::connect(&relay.address).await.unwrap();
            let tls = tokio_rustls::TlsConnector::from(connector(&second));
            let mut stream = tls.connect("localhost".try_into().unwrap(), stream).await.unwrap();
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            stream
                .write_all(b"GET /metrics HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n")
                .await
                .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            if answer.contains(&format!("tidewell_tls_certificate_failed_total {count}\n")) {
                return;
            }
        }
    };
    let key = fs::read(files.key()).unwrap();
    files.renew();
    fs::write(files.key(), key).unwrap();
    failed(1.0).await;
    client(&relay, &second).await;
    fs::remove_file(files.certificate()).unwrap();
    failed(2.0).await;
    client(&relay, &second).await;
    let third = files.renew();
    while connect(&relay, &third, None).await.is_none() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_is_never_finished_ends_by_itself_and_holds_nobody_up() {
    let (folder, _) = data();
    let (files, trust) = Files::new(folder.path());
    let relay = files.start(&[]);
    // Some say nothing, some the beginning of a handshake. One after the other they would take longer than anybody waits.
    let mut streams: Vec<_> =
        (0..20).map(|_| std::net::TcpStream::connect(&relay.address).unwrap()).collect();
    for stream in streams.iter_mut().skip(10) {
        stream.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
    }
    client(&relay, &trust).await.settled().await;
    for mut stream in streams {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.read_to_end(&mut Vec::new()).expect("the relay gave it up");
    }
    client(&relay, &trust).await.settled().await;
}
