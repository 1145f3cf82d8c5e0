use super::compaction::compact;
use super::directory::Directory;
use super::entry;
use super::frame::PAYLOAD_BYTES_MAX;
use super::log::{Log, LogError};
use super::writer::{Report, Writer};
use crate::branch::Branch;
use bytes::Bytes;
use proptest::prelude::*;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tidewell_sync_core::client::ReplicaId;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::limits::UPDATE_BYTES_MAX;
use tidewell_sync_core::protocol::Cursor;
use tidewell_sync_core::replica::{OutboxRow, Persist, Replica, ReplicaEffect, RowId, Stored};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use yrs::{GetString, ReadTxn, Text, Transact, WriteTxn};

/// Steps towards the disk that are left before the power goes, and the directories that were synced.
#[derive(Debug, Clone)]
pub(crate) struct Power(Arc<AtomicUsize>, Arc<Mutex<Vec<PathBuf>>>);

impl Default for Power {
    fn default() -> Self {
        Power(Arc::new(AtomicUsize::new(usize::MAX)), Arc::default())
    }
}

impl Power {
    pub(super) fn step(&self) -> io::Result<()> {
        let take = |left: usize| left.checked_sub(1);
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::other("the power is gone")),
        }
    }

    pub(super) fn synced(&self, directory: &Path) {
        self.1.lock().unwrap().push(directory.to_path_buf());
    }

    pub(crate) fn goes_after(&self, steps: usize) {
        self.0.store(steps, Ordering::Relaxed);
    }

    fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A directory on a disk whose power can go.
pub(crate) fn directory_on(power: &Power, path: &Path) -> Directory {
    let disk = super::directory::Disk { power: power.clone() };
    Directory::open_on(disk, path).unwrap()
}

fn name() -> DocumentName {
    DocumentName::parse("acme/list/42").unwrap()
}

/// A replica that types, and what it asks to be written.
fn typist() -> Replica {
    Replica::new(name(), 0, 77)
}

fn type_one(replica: &mut Replica, text: &str) -> Persist {
    replica.edit(1_000, 1, |transaction| {
        let root = transaction.get_or_insert_text("text");
        root.push(transaction, text);
    });
    let mut persists = replica.drain().into_iter().filter_map(|effect| match effect {
        ReplicaEffect::Persist(persist) => Some(persist),
        _ => None,
    });
    persists.next().unwrap()
}

fn row_of(persist: &Persist) -> OutboxRow {
    match persist {
        Persist::Edit(row) => row.clone(),
        other => panic!("{other:?} is no edit"),
    }
}

fn append(directory: &Directory, log: &mut Log, persist: &Persist) -> io::Result<()> {
    let mut payload = Vec::new();
    entry::write(&mut payload, persist);
    log.append(&directory.disk, &payload)
}

fn text_of(replica: &Replica) -> String {
    let transaction = replica.doc().transact();
    transaction.get_text("text").map(|text| text.get_string(&transaction)).unwrap_or_default()
}

fn acknowledged(rows: &[u64]) -> Persist {
    Persist::Acknowledged { rows: rows.iter().copied().map(RowId).collect(), sequence: 9 }
}

fn only_log(path: &Path) -> PathBuf {
    let files = std::fs::read_dir(path).unwrap().map(|file| file.unwrap().path());
    let mut logs = files.filter(|file| file.extension().is_some_and(|extension| extension == "log"));
    let log = logs.next().unwrap();
    assert_eq!(logs.next(), None);
    log
}

#[test]
fn what_was_written_is_there_after_reopening_with_its_outbox_counts() {
    let folder = tempfile::tempdir().unwrap();
    let mut replica = typist();
    let cursor = Cursor { epoch: u64::MAX, lineage: 7, sequence: 1 << 60 };
    {
        let directory = Directory::open(folder.path()).unwrap();
        let mut loaded = directory.load(&name(), 0, 1).unwrap();
        assert_eq!(text_of(&loaded.replica), "");
        for text in ["a", "b", "c", "d"] {
            append(&directory, &mut loaded.log, &type_one(&mut replica, text)).unwrap();
        }
        append(&directory, &mut loaded.log, &acknowledged(&[0, 1])).unwrap();
        let received = Persist::Received { updates: vec![], cursor: Some(cursor) };
        append(&directory, &mut loaded.log, &received).unwrap();
    }
    let directory = Directory::open(folder.path()).unwrap();
    let loaded = directory.load(&name(), 0, 2).unwrap();
    assert_eq!(text_of(&loaded.replica), "abcd");
    assert_eq!(loaded.replica.unsent().edits, 2);
    assert_eq!(loaded.replica.unsent().since_ms, Some(1_000));
    assert_eq!(loaded.replica.last_row(), Some(RowId(3)));
    assert_eq!(loaded.replica.cursor(), Some(cursor));
    assert_eq!(loaded.torn, None);
}

#[test]
fn one_directory_has_one_client() {
    let folder = tempfile::tempdir().unwrap();
    let first = Directory::open(folder.path()).unwrap();
    let second = Directory::open(folder.path());
    assert!(matches!(second, Err(super::DirectoryError::Locked { .. })));
    drop(first);
    assert!(Directory::open(folder.path()).is_ok());
}

#[test]
fn the_names_of_all_directories_that_are_made_are_synced() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let power = Power::default();
    // The second opening finds what the first one made, perhaps without having synced it.
    for _ in 0..2 {
        directory_on(&power, &folder.join("a/b/c"));
        let synced = std::mem::take(&mut *power.1.lock().unwrap());
        for parent in ["a/b", "a", ""] {
            assert!(synced.contains(&folder.join(parent)), "{parent:?} of {synced:?}");
        }
    }
}

#[test]
fn a_row_that_is_made_after_opening_again_is_not_taken_for_one_made_before() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::open(folder.path()).unwrap();
    for (client_id, text) in [(1, "a"), (2, "b"), (3, "c")] {
        let mut loaded = directory.load(&name(), 0, client_id).unwrap();
        let persist = type_one(&mut loaded.replica, text);
        append(&directory, &mut loaded.log, &persist).unwrap();
    }
    let mut loaded = directory.load(&name(), 0, 4).unwrap();
    append(&directory, &mut loaded.log, &acknowledged(&[0])).unwrap();
    let loaded = directory.load(&name(), 0, 5).unwrap();
    assert_eq!(text_of(&loaded.replica), "abc");
    assert_eq!((loaded.replica.unsent().edits, loaded.replica.last_row()), (2, Some(RowId(2))));
}

#[test]
fn documents_of_one_directory_do_not_mix_and_long_names_are_names() {
    let folder = tempfile::tempdir().unwrap();
    let long = DocumentName::parse(&"é/".repeat(170)).unwrap();
    let save = |name: &DocumentName, text: &str| {
        let directory = Directory::open(folder.path()).unwrap();
        let mut loaded = directory.load(name, 0, 1).unwrap();
        append(&directory, &mut loaded.log, &type_one(&mut typist(), text)).unwrap();
    };
    save(&name(), "one");
    save(&long, "two");
    let directory = Directory::open(folder.path()).unwrap();
    assert_eq!(text_of(&directory.load(&name(), 0, 1).unwrap().replica), "one");
    assert_eq!(text_of(&directory.load(&long, 0, 1).unwrap().replica), "two");
}

/// A log of some commits, and where each of them ends.
fn log_of_commits(folder: &Path, texts: &[&str]) -> (PathBuf, Vec<u64>) {
    let directory = Directory::open(folder).unwrap();
    let mut loaded = directory.load(&name(), 0, 1).unwrap();
    let mut replica = typist();
    let mut ends = vec![loaded.log.length()];
    for text in texts {
        append(&directory, &mut loaded.log, &type_one(&mut replica, text)).unwrap();
        ends.push(loaded.log.length());
    }
    (only_log(folder), ends)
}

const TEXTS: [&str; 4] = ["Wind ", "and ", "sand ", "and tide"];

#[test]
fn a_log_torn_at_any_byte_keeps_every_commit_before_the_tear_and_says_what_was_cut() {
    let folder = tempfile::tempdir().unwrap();
    let (path, ends) = log_of_commits(folder.path(), &TEXTS);
    let whole = std::fs::read(&path).unwrap();
    for length in ends[0]..whole.len() as u64 {
        std::fs::write(&path, &whole[..length as usize]).unwrap();
        let kept = ends.iter().filter(|end| **end <= length).count() - 1;
        for attempt in 0..2 {
            let directory = Directory::open(folder.path()).unwrap();
            let loaded = directory.load(&name(), 0, 1).unwrap();
            assert_eq!(text_of(&loaded.replica), TEXTS[..kept].concat(), "torn at {length}");
            assert_eq!(loaded.replica.unsent().edits, kept as u64);
            let cut = loaded.torn.map_or((length, 0), |torn| (torn.offset, torn.bytes));
            let expected = if attempt == 0 { (ends[kept], length - ends[kept]) } else { (ends[kept], 0) };
            assert_eq!(cut.1, expected.1, "torn at {length}, attempt {attempt}");
            assert!(cut.1 == 0 || cut.0 == expected.0);
        }
    }
}

#[test]
fn damage_at_any_byte_before_the_last_commit_is_refused_and_the_file_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (path, ends) = log_of_commits(folder.path(), &TEXTS);
    let whole = std::fs::read(&path).unwrap();
    let last = ends[ends.len() - 2];
    for at in ends[0]..last {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at as usize] ^= flip;
            std::fs::write(&path, &damaged).unwrap();
            let directory = Directory::open(folder.path()).unwrap();
            let loaded = directory.load(&name(), 0, 1);
            assert!(matches!(loaded, Err(LogError::Damaged { .. })), "byte {at} ^ {flip:#x}");
            assert_eq!(std::fs::read(&path).unwrap(), damaged);
        }
    }
}

#[test]
fn a_directory_with_a_damaged_header_is_refused_rather_than_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (path, ends) = log_of_commits(folder.path(), &TEXTS);
    let whole = std::fs::read(&path).unwrap();
    for at in 0..ends[0] as usize {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x40;
        std::fs::write(&path, &damaged).unwrap();
        assert!(Directory::open(folder.path()).is_err(), "byte {at}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_torn_end_of_any_bytes_is_cut(garbage in prop::collection::vec(any::<u8>(), 1..300), kept in 0usize..4) {
        let folder = tempfile::tempdir().unwrap();
        let (path, ends) = log_of_commits(folder.path(), &TEXTS);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.truncate(ends[kept] as usize);
        bytes.extend_from_slice(&garbage);
        std::fs::write(&path, &bytes).unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        let loaded = directory.load(&name(), 0, 1).unwrap();
        prop_assert_eq!(text_of(&loaded.replica), TEXTS[..kept].concat());
        prop_assert_eq!(loaded.torn.map(|torn| torn.bytes), Some(garbage.len() as u64));
    }
}

/// Saves edits, has some acknowledged, compacts, saves more; answers the texts that were saved.
fn live_until_the_power_goes(directory: &Directory, saved: &mut String, unsent: &mut u64) -> Option<()> {
    let mut loaded = directory.load(&name(), 0, 5).ok()?;
    let mut replica = typist();
    let mut save = |log: &mut Log, saved: &mut String, unsent: &mut u64, text: &str| {
        append(directory, log, &type_one(&mut replica, text)).ok()?;
        saved.push_str(text);
        *unsent += 1;
        Some(())
    };
    for text in ["a", "b", "c"] {
        save(&mut loaded.log, saved, unsent, text)?;
    }
    append(directory, &mut loaded.log, &acknowledged(&[0, 1])).ok()?;
    *unsent -= 2;
    let mut log = compact(&directory.disk, &loaded.log).ok()??;
    for text in ["d", "e"] {
        save(&mut log, saved, unsent, text)?;
    }
    append(directory, &mut log, &acknowledged(&[2])).ok()?;
    *unsent -= 1;
    let mut log = compact(&directory.disk, &log).ok()??;
    save(&mut log, saved, unsent, "f")
}

#[test]
fn a_kill_between_any_two_steps_loses_no_edit_that_was_saved() {
    let mut finished = false;
    let mut steps = 0;
    while !finished {
        let folder = tempfile::tempdir().unwrap();
        let power = Power::default();
        let (mut saved, mut unsent) = (String::new(), 0);
        {
            let directory = directory_on(&power, folder.path());
            power.goes_after(steps);
            finished = live_until_the_power_goes(&directory, &mut saved, &mut unsent).is_some();
            assert!(finished || power.left() == 0);
        }
        let directory = Directory::open(folder.path()).unwrap();
        let loaded = directory.load(&name(), 0, 6).unwrap();
        let text = text_of(&loaded.replica);
        // What was being written when the power went may be there as well.
        assert!(text.starts_with(&saved) && text.len() <= saved.len() + 1, "{text} for {saved} at {steps}");
        let known = text.len() as u64 - saved.len() as u64 + unsent;
        let edits = loaded.replica.unsent().edits;
        // An acknowledgement may have been written that was not answered for.
        assert!(edits <= known && edits + 2 >= known, "{edits} unsent for {known} at {steps}");
        assert_eq!(loaded.report, Default::default());
        steps += 1;
    }
    assert!(steps > 40, "only {steps} steps were tried");
}

#[test]
fn a_failed_write_can_be_tried_again() {
    let mut steps = 0;
    loop {
        let folder = tempfile::tempdir().unwrap();
        let power = Power::default();
        let directory = directory_on(&power, folder.path());
        let mut loaded = directory.load(&name(), 0, 5).unwrap();
        let mut replica = typist();
        append(&directory, &mut loaded.log, &type_one(&mut replica, "first, ")).unwrap();
        let second = type_one(&mut replica, "a second that is longer, ");
        power.goes_after(steps);
        let worked = append(&directory, &mut loaded.log, &second).is_ok();
        power.goes_after(usize::MAX);
        append(&directory, &mut loaded.log, &type_one(&mut replica, "x")).unwrap();
        drop(directory);
        let loaded = Directory::open(folder.path()).unwrap().load(&name(), 0, 6).unwrap();
        assert_eq!(loaded.replica.unsent().edits, if worked { 3 } else { 2 }, "failed at step {steps}");
        if worked {
            break;
        }
        steps += 1;
    }
    assert!(steps >= 3);
}

#[test]
fn compaction_folds_what_is_acknowledged_and_no_row_of_the_outbox() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::open(folder.path()).unwrap();
    let mut loaded = directory.load(&name(), 0, 1).unwrap();
    let mut replica = typist();
    let rows: Vec<Persist> = (0..200).map(|_| type_one(&mut replica, "word ")).collect();
    for row in &rows {
        append(&directory, &mut loaded.log, row).unwrap();
    }
    append(&directory, &mut loaded.log, &acknowledged(&(0..190).collect::<Vec<u64>>())).unwrap();
    let before = loaded.log.length();
    let compacted = compact(&directory.disk, &loaded.log).unwrap().unwrap();
    assert!(compacted.length() < before / 3, "{} of {before}", compacted.length());
    let (_, contents) = Log::open(&directory.disk, &only_log(folder.path())).unwrap();
    assert_eq!(contents.stored.received.len(), 1);
    let kept: Vec<OutboxRow> = rows[190..].iter().map(row_of).collect();
    assert_eq!(contents.stored.outbox, kept);
    let mut again = Replica::new(name(), 0, 3);
    assert_eq!(again.load(contents.stored), Default::default());
    assert_eq!(text_of(&again), "word ".repeat(200));
}

#[test]
fn a_log_with_a_row_that_cannot_be_read_is_not_compacted() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::open(folder.path()).unwrap();
    let mut loaded = directory.load(&name(), 0, 1).unwrap();
    append(&directory, &mut loaded.log, &type_one(&mut typist(), "kept")).unwrap();
    let received = Persist::Received { updates: vec![Bytes::from_static(&[9, 9, 9])], cursor: None };
    append(&directory, &mut loaded.log, &received).unwrap();
    assert!(compact(&directory.disk, &loaded.log).unwrap().is_none());
    let loaded = directory.load(&name(), 0, 1).unwrap();
    assert_eq!(loaded.report.unreadable_received, [0]);
    assert_eq!(text_of(&loaded.replica), "kept");
}

#[test]
fn a_branch_survives_compaction_and_the_rows_behind_it_may_have_its_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::open(folder.path()).unwrap();
    let mut loaded = directory.load(&name(), 0, 1).unwrap();
    let mut replica = typist();
    let refused: Vec<Persist> = (0..3).map(|_| type_one(&mut replica, "refused ")).collect();
    let again = type_one(&mut typist(), "again");
    let received = |sequence| Persist::Received {
        updates: Vec::new(),
        cursor: Some(Cursor { epoch: 1, lineage: 7, sequence }),
    };
    append(&directory, &mut loaded.log, &received(1)).unwrap();
    for row in &refused {
        append(&directory, &mut loaded.log, row).unwrap();
    }
    let mut branched = Vec::new();
    let names: Vec<RowId> = refused.iter().map(|row| row_of(row).id).collect();
    entry::write_branched(&mut branched, Code::UpdateTooLarge, &names);
    loaded.log.append(&directory.disk, &branched).unwrap();
    let (_, contents) = Log::open(&directory.disk, &only_log(folder.path())).unwrap();
    assert_eq!(contents.stored.cursor, None, "it may cover what the relay has of the branch");
    append(&directory, &mut loaded.log, &again).unwrap();
    append(&directory, &mut loaded.log, &received(2)).unwrap();
    for _ in 0..2 {
        compact(&directory.disk, &loaded.log).unwrap().unwrap();
        let (_, contents) = Log::open(&directory.disk, &only_log(folder.path())).unwrap();
        let rows = refused.iter().map(row_of).collect();
        assert_eq!(contents.branches, [Branch { code: Code::UpdateTooLarge, rows }]);
        assert_eq!(contents.stored.outbox, [row_of(&again)]);
        assert_eq!(contents.stored.cursor.map(|cursor| cursor.sequence), Some(2));
        let text = text_of(&directory.load(&name(), 0, 1).unwrap().replica);
        assert_eq!(text, "again", "it is no part of the document");
    }
}

#[test]
fn a_row_number_that_is_used_again_after_its_acknowledgement_is_a_new_row() {
    let mut stored = Stored::default();
    let mut payload = Vec::new();
    let edit = |update: &'static [u8]| {
        let update = Bytes::from_static(update);
        Persist::Edit(OutboxRow { id: RowId(0), update, edits: 1, made_ms: 1 })
    };
    entry::write(&mut payload, &edit(b"old"));
    entry::write(&mut payload, &acknowledged(&[0]));
    entry::write(&mut payload, &edit(b"new"));
    entry::read_all(&payload, &mut stored, &mut Vec::new()).unwrap();
    assert_eq!(stored.received, [Bytes::from_static(b"old")]);
    assert_eq!(stored.outbox.iter().map(|row| row.update.clone()).collect::<Vec<_>>(), ["new"]);
}

/// A writer on a disk whose power can go, with one document that somebody types into.
struct Desk {
    writer: Writer,
    reports: UnboundedReceiver<Report>,
    replica: Replica,
    written: u64,
    saved: u64,
}

impl Desk {
    fn open(folder: &Path, power: &Power) -> Desk {
        let directory = Arc::new(directory_on(power, folder));
        let loaded = directory.load(&name(), 0, 1).unwrap();
        let (reports_in, reports) = unbounded_channel();
        let writer = Writer::start(directory, reports_in).unwrap();
        writer.adopt(ReplicaId(0), loaded.log);
        Desk { writer, reports, replica: typist(), written: 0, saved: 0 }
    }

    fn write(&mut self, persist: Persist) {
        self.written += 1;
        self.writer.write(ReplicaId(0), self.written, persist);
    }

    fn type_one(&mut self, text: &str) {
        let persist = type_one(&mut self.replica, text);
        self.write(persist);
    }

    /// The next report: how far the disk is, or that it fails.
    fn report(&mut self) -> Option<u64> {
        let through = self.reports.blocking_recv().unwrap().outcome.ok();
        self.saved = through.unwrap_or(self.saved);
        through
    }

    fn wait_until_all_is_saved(&mut self) {
        while self.saved != self.written {
            self.report();
        }
    }
}

#[test]
fn a_disk_that_fails_is_reported_and_everything_is_written_once_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let power = Power::default();
    let mut desk = Desk::open(folder.path(), &power);
    desk.type_one("before ");
    desk.wait_until_all_is_saved();
    power.goes_after(1);
    desk.type_one("during ");
    assert_eq!(desk.report(), None);
    desk.type_one("still ");
    power.goes_after(usize::MAX);
    desk.wait_until_all_is_saved();
    let Desk { writer, mut reports, .. } = desk;
    drop(writer);
    assert!(reports.blocking_recv().is_none(), "nothing is left");
    let loaded = Directory::open(folder.path()).unwrap().load(&name(), 0, 2).unwrap();
    assert_eq!(text_of(&loaded.replica), "before during still ");
    assert_eq!(loaded.torn, None);
}

#[test]
fn what_has_piled_up_beyond_the_largest_frame_is_written_once_the_disk_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let power = Power::default();
    let mut desk = Desk::open(folder.path(), &power);
    power.goes_after(0);
    desk.type_one("first, ");
    let large = Bytes::from(vec![7; UPDATE_BYTES_MAX]);
    let count = PAYLOAD_BYTES_MAX / UPDATE_BYTES_MAX + 1;
    for _ in 0..count {
        desk.write(Persist::Received { updates: vec![large.clone()], cursor: None });
    }
    // Each of them is a round, and ends with an attempt.
    for _ in 0..count {
        assert_eq!(desk.report(), None);
    }
    desk.type_one("last");
    power.goes_after(usize::MAX);
    while desk.saved != desk.written {
        match desk.reports.blocking_recv().unwrap().outcome {
            Ok(through) => desk.saved = through,
            Err(error) => assert_ne!(error.kind(), io::ErrorKind::FileTooLarge, "it would never be written"),
        }
    }
    let disk = super::directory::Disk::default();
    let (_, contents) = Log::open(&disk, &only_log(folder.path())).unwrap();
    assert!(contents.stored.received.iter().all(|update| *update == large));
    assert_eq!((contents.stored.received.len(), contents.stored.outbox.len()), (count, 2));
}

#[test]
fn a_log_that_has_grown_is_compacted_and_a_failure_at_any_step_of_it_loses_nothing() {
    const LARGE: usize = 1_000_000;
    let (mut compacted, mut failed) = (0, 0);
    for steps in 0..14 {
        let folder = tempfile::tempdir().unwrap();
        let power = Power::default();
        let mut desk = Desk::open(folder.path(), &power);
        for round in 0..4 {
            desk.type_one(&"x".repeat(LARGE));
            desk.replica.edit(2_000, 1, |transaction| {
                let root = transaction.get_or_insert_text("text");
                root.remove_range(transaction, 0, LARGE as u32);
            });
            let deletion = desk.replica.drain().into_iter().find_map(|effect| match effect {
                ReplicaEffect::Persist(persist) => Some(persist),
                _ => None,
            });
            desk.write(deletion.unwrap());
            desk.write(acknowledged(&[2 * round, 2 * round + 1]));
        }
        desk.wait_until_all_is_saved();
        // With this the log has grown enough; the power goes while it is written or in the compaction.
        power.goes_after(steps);
        desk.type_one(&"y".repeat(LARGE));
        desk.report();
        desk.type_one("z");
        failed += u64::from(desk.report().is_none());
        power.goes_after(usize::MAX);
        desk.wait_until_all_is_saved();
        let Desk { writer, mut reports, .. } = desk;
        drop(writer);
        while reports.blocking_recv().is_some() {}
        let log = only_log(folder.path());
        compacted += u64::from(std::fs::metadata(&log).unwrap().len() < 2 * LARGE as u64);
        let loaded = Directory::open(folder.path()).unwrap().load(&name(), 0, 2).unwrap();
        let expected = format!("{}z", "y".repeat(LARGE));
        assert!(
            text_of(&loaded.replica) == expected,
            "something is lost when the power goes after {steps} steps"
        );
        assert_eq!(loaded.replica.unsent().edits, 2);
    }
    assert!(compacted > 0 && failed > 0, "{compacted} logs were compacted, {failed} writes failed");
}
