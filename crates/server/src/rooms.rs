//! The rooms in memory: loaded once when first needed, forgotten when nobody needs them.

use crate::catch_up::{CatchUp, CatchUpError};
use crate::compaction::LogSize;
use crate::connections::random_return_ms;
use crate::limits::{CATCH_UP_KEPT, LOADS_AT_ONCE, ROOM_IDLE_AFTER};
use crate::memory::Pressure;
use crate::metrics::{Limit, Metrics};
use crate::quotas::Quotas;
use crate::room_handle::RoomHandle;
use crate::store::{FIRST_EPOCH, ReadError, Readers};
use crate::token::name_pattern::NamePattern;
use crate::writer::WriterQueue;
use futures_util::FutureExt;
use futures_util::future::Shared;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use thiserror::Error;
use tidewell_sync_core::admission::Admitted;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::room::Room;
use tokio::sync::{Semaphore, oneshot};

/// All rooms of the relay. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rooms {
    shared: Arc<Inner>,
}

struct Inner {
    entries: Mutex<FxHashMap<DocumentName, Entry>>,
    readers: Readers,
    writer: Arc<WriterQueue>,
    quotas: Quotas,
    /// Documents that are loaded, or wait for it, and how many there may be.
    loading: AtomicUsize,
    loads_max: usize,
    /// For those that are loaded now.
    loads: Semaphore,
    lineage: u64,
    metrics: Arc<Metrics>,
}

type Loading = Shared<oneshot::Receiver<Result<Arc<RoomHandle>, Code>>>;

enum Entry {
    /// One task reads the store; all who want the room wait for it.
    Loading(Loading),
    Ready(Arc<RoomHandle>),
}

/// Why a document cannot be served. It is never served empty instead.
#[derive(Debug, Error)]
enum OpenError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    CatchUp(#[from] CatchUpError),
    #[error("the relay is ending")]
    Ending,
    #[error("loading it panicked")]
    Panicked,
}

impl Rooms {
    pub(crate) fn new(
        readers: Readers,
        writer: Arc<WriterQueue>,
        quotas: Quotas,
        loads_max: usize,
        lineage: u64,
        metrics: Arc<Metrics>,
    ) -> Self {
        let inner = Inner {
            entries: Mutex::default(),
            readers,
            writer,
            quotas,
            loading: AtomicUsize::new(0),
            loads_max,
            loads: Semaphore::new(LOADS_AT_ONCE),
            lineage,
            metrics,
        };
        Rooms { shared: Arc::new(inner) }
    }

    /// When somebody shall come back whose document cannot even wait to be loaded.
    pub(crate) fn return_ms(&self) -> u64 {
        random_return_ms(self.shared.loading.load(Ordering::Relaxed))
    }

    /// The room of a document, loaded if need be. The same one for everybody until it is evicted. `Overloaded` when too
    /// many others wait to be loaded.
    pub(crate) async fn open(&self, document: &DocumentName) -> Result<Arc<RoomHandle>, Code> {
        let loading = {
            let mut entries = self.shared.entries.lock();
            match entries.get(document) {
                Some(Entry::Ready(room)) => return Ok(room.clone()),
                Some(Entry::Loading(loading)) => loading.clone(),
                None if self.shared.loading.load(Ordering::Relaxed) >= self.shared.loads_max => {
                    self.shared.metrics.hit(Limit::Loads);
                    return Err(Code::Overloaded);
                }
                None => {
                    self.shared.loading.fetch_add(1, Ordering::Relaxed);
                    let (done, loading) = oneshot::channel();
                    let loading = loading.shared();
                    entries.insert(document.clone(), Entry::Loading(loading.clone()));
                    // A task of its own: it ends what it began although whoever asked may go.
                    let shared = self.shared.clone();
                    let reading = {
                        let document = document.clone();
                        async move { shared.read(document).await }
                    };
                    tokio::spawn(self.clone().load(document.clone(), reading, done));
                    loading
                }
            }
        };
        loading.await.unwrap_or(Err(Code::LoadFailed))
    }

    async fn load(
        self,
        document: DocumentName,
        reading: impl Future<Output = Result<Arc<RoomHandle>, OpenError>>,
        done: oneshot::Sender<Result<Arc<RoomHandle>, Code>>,
    ) {
        // A panic must not leave the room loading for ever (a thread that cannot be started is one).
        let loaded = AssertUnwindSafe(reading).catch_unwind().await.unwrap_or(Err(OpenError::Panicked));
        let mut entries = self.shared.entries.lock();
        self.shared.loading.fetch_sub(1, Ordering::Relaxed);
        let answer = match loaded {
            Ok(room) => {
                entries.insert(document, Entry::Ready(room.clone()));
                self.shared.metrics.rooms.increment(1);
                Ok(room)
            }
            Err(error) => {
                tracing::error!(%document, %error, "a document cannot be loaded");
                entries.remove(&document);
                Err(Code::LoadFailed)
            }
        };
        drop(entries);
        let _ = done.send(answer);
    }

    /// Ends the connections that have a document open; answers how many.
    pub(crate) fn kick(&self, document: &DocumentName) -> usize {
        let entries = self.shared.entries.lock();
        let Some(Entry::Ready(room)) = entries.get(document) else { return 0 };
        let room = room.clone();
        drop(entries);
        room.kick()
    }

    /// Has the connections that have documents of a pattern open look again at what they wait for.
    pub(crate) fn nudge(&self, documents: &NamePattern) {
        let entries = self.shared.entries.lock();
        let rooms = entries.iter().filter_map(|(document, entry)| match entry {
            Entry::Ready(room) if documents.matches(document.as_str()) => Some(room.clone()),
            _ => None,
        });
        let rooms: Vec<_> = rooms.collect();
        drop(entries);
        rooms.iter().for_each(|room| room.nudge());
    }

    /// The rooms that are to be compacted now.
    pub(crate) fn start_compactions(&self, now: Instant) -> Vec<Arc<RoomHandle>> {
        let entries = self.shared.entries.lock();
        let rooms = entries.values().filter_map(|entry| match entry {
            Entry::Ready(room) => Some(room),
            Entry::Loading(_) => None,
        });
        rooms.filter(|room| room.start_compaction(now)).cloned().collect()
    }

    /// Evicts rooms that nobody needs. Where memory is short, also what may be needed soon and can be read again.
    pub(crate) fn sweep(&self, now: Instant, pressure: Pressure) {
        let is_tight = pressure >= Pressure::Tight;
        let (idle_after, kept) =
            if is_tight { (Duration::ZERO, Duration::ZERO) } else { (ROOM_IDLE_AFTER, CATCH_UP_KEPT) };
        let mut entries = self.shared.entries.lock();
        let before = entries.len();
        entries.retain(|_, entry| {
            let Entry::Ready(room) = entry else { return true };
            room.drop_old_catch_up(now, kept);
            if is_tight {
                room.forget_recent();
            }
            !room.evict(now, idle_after)
        });
        let evicted = before - entries.len();
        self.shared.quotas.sweep();
        if entries.len() < entries.capacity() / 4 {
            entries.shrink_to_fit();
        }
        self.shared.metrics.rooms.decrement(u32::try_from(evicted).unwrap_or(u32::MAX));
    }
}

impl Inner {
    async fn read(&self, document: DocumentName) -> Result<Arc<RoomHandle>, OpenError> {
        let _permit = self.loads.acquire().await.map_err(|_| OpenError::Ending)?;
        let (lineage, writer, quotas) = (self.lineage, self.writer.clone(), self.quotas.clone());
        let Some(stored) = self.readers.document(document.clone()).await? else {
            let room = Room::new(document, FIRST_EPOCH, lineage, 0, Admitted::new());
            return Ok(RoomHandle::new(room, LogSize::empty(), None, writer, &quotas));
        };
        // Admission of a long log takes a while: not on a thread that sockets wait for.
        let load = move || {
            let (epoch, sequence, log) = (stored.epoch, stored.sequence, LogSize::of(&stored));
            let (admitted, catch_up) = CatchUp::load(stored)?;
            let room = Room::new(document, epoch, lineage, sequence, admitted);
            Ok(RoomHandle::new(room, log, Some((catch_up, Instant::now())), writer, &quotas))
        };
        tokio::task::spawn_blocking(load).await.map_err(|_| OpenError::Ending)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_directory::DataDirectory;
    use crate::store::Store;

    fn rooms(loads_max: usize) -> (tempfile::TempDir, Store, Rooms) {
        let folder = tempfile::tempdir().unwrap();
        let directory = DataDirectory::create(folder.path()).unwrap();
        let store = Store::open(&directory, 1).unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let quotas = Quotas::new(u64::MAX, None, None, |_| Ok::<(), ()>(())).unwrap();
        let rooms =
            Rooms::new(store.readers(1), WriterQueue::new(metrics.clone()), quotas, loads_max, 1, metrics);
        (folder, store, rooms)
    }

    #[tokio::test]
    async fn a_panic_while_a_room_is_loaded_is_an_error_for_those_who_wait_and_the_next_one_loads_it() {
        let (_folder, _store, rooms) = rooms(1);
        let document = DocumentName::parse("a/doc").unwrap();
        let (done, loading) = oneshot::channel();
        rooms.shared.entries.lock().insert(document.clone(), Entry::Loading(loading.shared()));
        rooms.shared.loading.fetch_add(1, Ordering::Relaxed);
        let reading = async { panic!("while it is read") };
        let load = tokio::spawn(rooms.clone().load(document.clone(), reading, done));
        let waiting = rooms.open(&document).await.map(|_| ());
        assert_eq!(waiting, Err(Code::LoadFailed));
        load.await.unwrap();
        assert!(rooms.open(&document).await.is_ok());
    }

    #[tokio::test]
    async fn lm6_a_bounded_number_of_documents_waits_to_be_loaded_and_those_who_share_one_wait_too() {
        let (_folder, _store, rooms) = rooms(2);
        let permits = rooms.shared.loads.acquire_many(LOADS_AT_ONCE.try_into().unwrap()).await.unwrap();
        let open = |name: &'static str| {
            let rooms = rooms.clone();
            async move {
                rooms.open(&DocumentName::parse(name).unwrap()).await.map(|room| room.document().clone())
            }
        };
        let waiting = ["a/1", "a/2", "a/1"].map(|name| tokio::spawn(open(name)));
        while rooms.shared.loading.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(open("a/3").await, Err(Code::Overloaded));
        drop(permits);
        for waiting in waiting {
            assert!(waiting.await.unwrap().is_ok());
        }
        assert!(open("a/3").await.is_ok());
    }
}
