//! The rooms in memory: loaded once when first needed, forgotten when nobody needs them.

use crate::catch_up::{CatchUp, CatchUpError};
use crate::compaction::LogSize;
use crate::metrics::Metrics;
use crate::quotas::Quotas;
use crate::room_handle::RoomHandle;
use crate::store::{FIRST_EPOCH, ReadError, Readers};
use crate::writer::WriterQueue;
use futures_util::FutureExt;
use futures_util::future::Shared;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;
use thiserror::Error;
use tidewell_sync_core::admission::Admitted;
use tidewell_sync_core::code::Code;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::room::Room;
use tokio::sync::oneshot;

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
        lineage: u64,
        metrics: Arc<Metrics>,
    ) -> Self {
        let entries = Mutex::default();
        Rooms { shared: Arc::new(Inner { entries, readers, writer, quotas, lineage, metrics }) }
    }

    /// The room of a document, loaded if need be. The same one for everybody until it is evicted.
    pub(crate) async fn open(&self, document: &DocumentName) -> Result<Arc<RoomHandle>, Code> {
        let loading = {
            let mut entries = self.shared.entries.lock();
            match entries.get(document) {
                Some(Entry::Ready(room)) => return Ok(room.clone()),
                Some(Entry::Loading(loading)) => loading.clone(),
                None => {
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

    /// The rooms that are to be compacted now.
    pub(crate) fn start_compactions(&self, now: Instant) -> Vec<Arc<RoomHandle>> {
        let entries = self.shared.entries.lock();
        let rooms = entries.values().filter_map(|entry| match entry {
            Entry::Ready(room) => Some(room),
            Entry::Loading(_) => None,
        });
        rooms.filter(|room| room.start_compaction(now)).cloned().collect()
    }

    /// Evicts rooms that nobody needs.
    pub(crate) fn sweep(&self, now: Instant) {
        let mut entries = self.shared.entries.lock();
        let before = entries.len();
        entries.retain(|_, entry| {
            let Entry::Ready(room) = entry else { return true };
            room.drop_old_catch_up(now);
            !room.evict(now)
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

    #[tokio::test]
    async fn a_panic_while_a_room_is_loaded_is_an_error_for_those_who_wait_and_the_next_one_loads_it() {
        let folder = tempfile::tempdir().unwrap();
        let directory = DataDirectory::create(folder.path()).unwrap();
        let store = Store::open(&directory, 1).unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let quotas = Quotas::new(u64::MAX, None, None, |_| Ok::<(), ()>(())).unwrap();
        let rooms = Rooms::new(store.readers(1), WriterQueue::new(metrics.clone()), quotas, 1, metrics);
        let document = DocumentName::parse("a/doc").unwrap();
        let (done, loading) = oneshot::channel();
        rooms.shared.entries.lock().insert(document.clone(), Entry::Loading(loading.shared()));
        let reading = async { panic!("while it is read") };
        let load = tokio::spawn(rooms.clone().load(document.clone(), reading, done));
        let waiting = rooms.open(&document).await.map(|_| ());
        assert_eq!(waiting, Err(Code::LoadFailed));
        load.await.unwrap();
        assert!(rooms.open(&document).await.is_ok());
    }
}
