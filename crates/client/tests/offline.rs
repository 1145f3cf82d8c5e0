//! A client without a relay: everything works, nothing is lost.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]
use std::time::Duration;
use tidewell_client::{
    Client, Code, DocumentError, EditError, OpenError, Options, SavedError, Store, Unsent,
};
use tidewell_client::{DirectoryError, yrs::Text, yrs::WriteTxn};

fn offline(store: Store) -> Options {
    Options { paused: true, ..Options::new("ws://127.0.0.1:1/v1/sync", store) }
}

async fn open(path: &std::path::Path) -> Client {
    Client::open(offline(Store::Directory(path.into()))).await.unwrap()
}

#[tokio::test]
async fn edits_and_their_count_are_there_after_reopening_without_a_relay() {
    let folder = tempfile::tempdir().unwrap();
    let client = open(folder.path()).await;
    let document = client.document("acme/list/42").await.unwrap();
    for text in ["milk", ", bread", ", tea"] {
        let length = document.text("notes").await.unwrap().encode_utf16().count() as u32;
        document.insert_text("notes", length, text).await.unwrap();
    }
    document.delete_text("notes", 0, 6).await.unwrap();
    document.saved_device().await.unwrap();
    client.close().await.unwrap();
    assert_eq!(document.text("notes").await, Err(EditError::Closed));
    assert!(matches!(document.saved_relay().await, Err(SavedError::Closed)));

    let client = open(folder.path()).await;
    let document = client.document("acme/list/42").await.unwrap();
    assert_eq!(document.text("notes").await.unwrap(), "bread, tea");
    let unsent: Unsent = document.status().borrow().unsent;
    assert_eq!(unsent.edits, 4);
    assert_eq!(document.opened(), &Default::default());
}

#[tokio::test]
async fn closing_writes_what_nobody_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let client = open(folder.path()).await;
    let document = client.document("a").await.unwrap();
    for _ in 0..500 {
        document.insert_text("t", 0, "x").await.unwrap();
    }
    client.close().await.unwrap();
    let document = open(folder.path()).await.document("a").await.unwrap();
    assert_eq!(document.text("t").await.unwrap(), "x".repeat(500));
}

#[tokio::test]
async fn a_client_ends_when_its_last_handle_is_dropped_and_frees_its_directory() {
    let folder = tempfile::tempdir().unwrap();
    let client = open(folder.path()).await;
    let document = client.document("a").await.unwrap();
    document.insert_text("t", 0, "kept").await.unwrap();
    let in_use = Client::open(offline(Store::Directory(folder.path().into()))).await;
    assert!(matches!(in_use, Err(OpenError::Directory(DirectoryError::Locked { .. }))));
    let mut ended = client.connection();
    drop((client, document));
    while ended.changed().await.is_ok() {}
    let document = open(folder.path()).await.document("a").await.unwrap();
    assert_eq!(document.text("t").await.unwrap(), "kept");
}

#[tokio::test]
async fn a_document_asked_for_many_times_at_once_is_one_document() {
    let folder = tempfile::tempdir().unwrap();
    let client = open(folder.path()).await;
    let names = ["a", "b", "a", "a", "b"];
    let documents: Vec<_> = names.iter().map(|name| client.document(name)).collect();
    let documents = futures_util::future::join_all(documents).await;
    for document in &documents {
        document.as_ref().unwrap().insert_text("t", 0, "x").await.unwrap();
    }
    assert_eq!(documents[0].as_ref().unwrap().text("t").await.unwrap(), "xxx");
    assert_eq!(documents[1].as_ref().unwrap().text("t").await.unwrap(), "xx");
    let nameless = client.document("").await;
    assert!(matches!(nameless, Err(DocumentError::Name(Code::InvalidName))));
}

#[tokio::test]
async fn a_panicking_edit_is_passed_to_its_caller_and_what_it_wrote_is_an_edit_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let client = open(folder.path()).await;
    let document = client.document("a").await.unwrap();
    let panicking = document.clone();
    let caller = tokio::spawn(async move {
        let edit = panicking.edit(|transaction| {
            let text = transaction.get_or_insert_text("t");
            text.insert(transaction, 0, "half");
            panic!("in the middle");
        });
        edit.await
    });
    assert!(caller.await.unwrap_err().is_panic());
    document.insert_text("t", 4, " and whole").await.unwrap();
    client.close().await.unwrap();
    let document = open(folder.path()).await.document("a").await.unwrap();
    assert_eq!(document.text("t").await.unwrap(), "half and whole");
    assert_eq!(document.status().borrow().unsent.edits, 2);
}

#[tokio::test]
async fn what_lies_outside_the_text_is_an_error_and_no_edit() {
    let client = Client::open(offline(Store::Memory)).await.unwrap();
    let document = client.document("a").await.unwrap();
    document.insert_text("t", 0, "four").await.unwrap();
    assert_eq!(document.insert_text("t", 5, "x").await, Err(EditError::Range));
    assert_eq!(document.delete_text("t", 3, 2).await, Err(EditError::Range));
    assert_eq!(document.delete_text("t", u32::MAX, 2).await, Err(EditError::Range));
    assert_eq!(document.text("t").await.unwrap(), "four");
    assert_eq!(document.status().borrow().unsent.edits, 1);
}

#[tokio::test]
async fn a_wait_for_the_relay_can_be_given_up_and_memory_is_not_called_saved() {
    let client = Client::open(offline(Store::Memory)).await.unwrap();
    let document = client.document("a").await.unwrap();
    document.saved_relay().await.unwrap();
    document.insert_text("t", 0, "x").await.unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(20), document.saved_relay()).await;
    assert!(waiting.is_err(), "there is no relay");
    let saved = document.saved_device().await.unwrap_err();
    assert_eq!(saved.code(), Code::DeviceUnavailable);
}

#[tokio::test]
async fn changes_are_told_to_whoever_watches() {
    let client = Client::open(offline(Store::Memory)).await.unwrap();
    let document = client.document("a").await.unwrap();
    let mut changes = document.changes();
    let before = *changes.borrow_and_update();
    document.insert_text("t", 0, "x").await.unwrap();
    changes.changed().await.unwrap();
    assert!(*changes.borrow() > before);
}

#[tokio::test]
async fn an_address_that_can_never_be_reached_is_refused_at_once() {
    for url in ["", "relay", "http://127.0.0.1/v1/sync", "ws:///v1/sync"] {
        let opened = Client::open(Options::new(url, Store::Memory)).await;
        assert!(matches!(opened, Err(OpenError::Url(_))), "{url}");
    }
}
