use super::{Client, Options, Store};
use crate::document::{EditError, SavedError};
use crate::store::tests::{Power, directory_on};
use std::path::Path;
use std::sync::Arc;

fn open(power: &Power, folder: &Path) -> Client {
    let store = Store::Directory(folder.into());
    let options = Options { paused: true, ..Options::new("ws://127.0.0.1:1/v1/sync", store) };
    Client::start(options, None, Some(Arc::new(directory_on(power, folder)))).unwrap()
}

#[tokio::test]
async fn closing_fails_when_the_disk_does_and_the_client_has_ended_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let power = Power::default();
    let client = open(&power, folder.path());
    let document = client.document("a").await.unwrap();
    document.insert_text("t", 0, "saved").await.unwrap();
    document.saved_device().await.unwrap();
    power.goes_after(0);
    document.insert_text("t", 5, " and lost").await.unwrap();
    let closed = client.clone().close().await;
    assert!(matches!(closed, Err(SavedError::Device(_))), "{closed:?}");
    assert_eq!(document.text("t").await, Err(EditError::Closed));
    assert!(matches!(client.close().await, Err(SavedError::Closed)));

    power.goes_after(usize::MAX);
    let client = open(&power, folder.path());
    assert_eq!(client.document("a").await.unwrap().text("t").await.unwrap(), "saved");
    client.close().await.unwrap();
}

#[tokio::test]
async fn closing_writes_what_could_not_be_written_before() {
    let folder = tempfile::tempdir().unwrap();
    let power = Power::default();
    let client = open(&power, folder.path());
    let document = client.document("a").await.unwrap();
    power.goes_after(0);
    document.insert_text("t", 0, "kept").await.unwrap();
    document.saved_device().await.unwrap_err();
    power.goes_after(usize::MAX);
    client.close().await.unwrap();
    let document = open(&power, folder.path()).document("a").await.unwrap();
    assert_eq!(document.text("t").await.unwrap(), "kept");
}
