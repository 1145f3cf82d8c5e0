//! What a member that is far behind is sent: read from the store, computed once for all who need it.

use crate::connections::Registered;
use crate::limits::{
    CATCH_UP_COMMITS_BEHIND_MAX, CATCH_UP_LOG_BYTES, CATCH_UP_PART_BYTES, CATCH_UP_WHOLE_BYTES,
};
use crate::room_handle::RoomHandle;
use crate::store::{ReadError, Readers, Since, StoredDocument};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Instant;
use thiserror::Error;
use tidewell_sync_core::admission::{Admitted, LoadError};
use tidewell_sync_core::room::Behind;
use tidewell_sync_core::state_vector::StateVector;
use tidewell_sync_core::update::{InvalidUpdate, MergeError, diff, merge};

/// Updates that bring somebody to a sequence; not always to the last one.
#[derive(Debug)]
pub(crate) struct CatchUp {
    /// With these everything up to this sequence is known.
    pub(crate) through: u64,
    /// To be applied in this order.
    pub(crate) parts: Arc<[Bytes]>,
    /// Who keeps them.
    pub(crate) owner: Owner,
}

/// Whose memory bytes are on their way to a member.
#[derive(Debug, Clone)]
pub(crate) enum Owner {
    /// All who are told the same share them, and the room has them too.
    Everybody,
    /// All who hold one of these share them: members, and the room for as long as it keeps them.
    Holders(Arc<Holder>),
    /// They were read or made for this member alone.
    Member,
}

/// One of those who share bytes.
#[derive(Debug, Default)]
pub(crate) struct Holder(Arc<()>);

impl Owner {
    /// The part of so many bytes for which the member counts now.
    pub(crate) fn share(&self, bytes: usize) -> usize {
        match self {
            Owner::Everybody => 0,
            Owner::Holders(holder) => bytes / Arc::strong_count(&holder.0),
            Owner::Member => bytes,
        }
    }

    /// For another one who shares them.
    fn shared(&self) -> Owner {
        match self {
            Owner::Holders(holder) => Owner::Holders(Arc::new(Holder(holder.0.clone()))),
            owner => owner.clone(),
        }
    }
}

/// Why nobody can be brought up to date now. Nothing was changed.
#[derive(Debug, Error)]
pub(crate) enum CatchUpError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("stored updates cannot be merged: {0}")]
    Merge(#[from] MergeError),
    #[error("a stored update is invalid: {0}")]
    Invalid(#[from] InvalidUpdate),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the document is not in the store")]
    Missing,
    #[error("the relay is ending")]
    Ending,
    /// Nor is anything wrong. The connection is nudged when that is over.
    #[error("connections make the relay keep too much")]
    HeldBack,
}

/// What is at hand for those who know nothing, and when it was last used.
pub(crate) type SharedCatchUp = Option<(CatchUp, Instant)>;

impl CatchUp {
    /// Of a whole document. It is cut into updates of bounded struct count and size unless it is small: stock clients
    /// take one WebSocket message for each, and tungstenite keeps a buffer of the largest one for as long as a connection
    /// lives.
    pub(crate) fn load(stored: StoredDocument) -> Result<(Admitted, CatchUp), CatchUpError> {
        let mut parts: Vec<Bytes> = stored.snapshot.into_iter().collect();
        parts.extend(merged(&stored.tail)?);
        let (admitted, pieces) = Admitted::load(parts.iter().cloned())?;
        if parts.iter().map(Bytes::len).sum::<usize>() > CATCH_UP_WHOLE_BYTES {
            parts = pieces;
        }
        let (through, parts) = (stored.sequence, parts.into());
        Ok((admitted, CatchUp { through, parts, owner: Owner::Holders(Arc::default()) }))
    }

    /// For another member.
    fn shared(&self) -> Self {
        CatchUp { through: self.through, parts: self.parts.clone(), owner: self.owner.shared() }
    }

    /// Bytes for which the member counts.
    fn held_bytes(&self) -> usize {
        self.owner.share(self.parts.iter().map(Bytes::len).sum())
    }
}

/// Brings somebody up to date whose connection may have the relay keep more, and counts what that is.
pub(crate) async fn catch_up(
    room: &Arc<RoomHandle>,
    readers: &Readers,
    registered: &Registered,
    behind: &Behind,
) -> Result<CatchUp, CatchUpError> {
    match behind {
        Behind::After(sequence) => {
            let turn = registered.turn().await.ok_or(CatchUpError::HeldBack)?;
            let Since::Rows { through, updates } = after(room, readers, *sequence).await? else {
                drop(turn);
                return whole(room, readers, registered, sequence + 1).await;
            };
            let parts = blocking(move || Ok(merged(&updates)?.into())).await?;
            let ready = CatchUp { through, parts, owner: Owner::Member };
            registered.holds_more(ready.held_bytes());
            Ok(ready)
        }
        Behind::StateVector(_) if room.sequence() == 0 => {
            Ok(CatchUp { through: 0, parts: Vec::new().into(), owner: Owner::Everybody })
        }
        Behind::StateVector(vector) if vector.is_empty() => whole(room, readers, registered, 0).await,
        Behind::StateVector(vector) => {
            let (whole, vector) = (whole(room, readers, registered, 0).await?, vector.clone());
            // So that not all who come back at once have a document each in memory.
            let _turn = registered.turn().await.ok_or(CatchUpError::HeldBack)?;
            let ready = blocking(move || beyond(&whole, &vector)).await?;
            registered.holds_more(ready.held_bytes());
            Ok(ready)
        }
    }
}

/// Rows for somebody who is behind, a bounded number of bytes: there may be more behind them.
async fn after(room: &Arc<RoomHandle>, readers: &Readers, sequence: u64) -> Result<Since, ReadError> {
    readers.since(room.document().clone(), sequence, CATCH_UP_LOG_BYTES).await
}

/// The whole document at `sequence_min` or later, for as many as want it: read and merged once.
async fn whole(
    room: &Arc<RoomHandle>,
    readers: &Readers,
    registered: &Registered,
    sequence_min: u64,
) -> Result<CatchUp, CatchUpError> {
    let mut shared = room.catch_up.lock().await;
    let now = Instant::now();
    if let Some((ready, used_at)) = &mut *shared
        && ready.through >= sequence_min
        && room.sequence().saturating_sub(ready.through) <= CATCH_UP_COMMITS_BEHIND_MAX
    {
        *used_at = now;
        return Ok(ready.shared());
    }
    let _turn = registered.turn().await.ok_or(CatchUpError::HeldBack)?;
    // Two of a large document are not held at once.
    *shared = None;
    let stored = readers.document(room.document().clone()).await?.ok_or(CatchUpError::Missing)?;
    let (_, ready) = blocking(move || CatchUp::load(stored)).await?;
    let theirs = ready.shared();
    registered.holds_more(theirs.held_bytes());
    *shared = Some((ready, now));
    Ok(theirs)
}

/// Merges rows into few updates of bounded size.
fn merged(rows: &[Bytes]) -> Result<Vec<Bytes>, MergeError> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut bytes = 0;
    for (index, row) in rows.iter().enumerate() {
        if index > start && bytes + row.len() > CATCH_UP_PART_BYTES {
            parts.push(merge_some(rows.get(start..index).unwrap_or_default())?);
            (start, bytes) = (index, 0);
        }
        bytes += row.len();
    }
    if start < rows.len() {
        parts.push(merge_some(rows.get(start..).unwrap_or_default())?);
    }
    Ok(parts)
}

fn merge_some(rows: &[Bytes]) -> Result<Bytes, MergeError> {
    match rows {
        [one] => Ok(one.clone()),
        several => merge(several),
    }
}

/// What of it lies beyond a state vector.
fn beyond(whole: &CatchUp, vector: &StateVector) -> Result<CatchUp, CatchUpError> {
    let (mut parts, mut owner) = (Vec::new(), whole.owner.shared());
    for part in whole.parts.iter() {
        let Some(beyond) = diff(part, vector)? else { continue };
        // What is sent as it was is the same bytes.
        if beyond.as_ptr() != part.as_ptr() {
            owner = Owner::Member;
        }
        parts.push(beyond);
    }
    Ok(CatchUp { through: whole.through, parts: parts.into(), owner })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CatchUpError> + Send + 'static,
) -> Result<T, CatchUpError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| CatchUpError::Ending)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compaction::LogSize;
    use crate::connections::{ConnectionLimits, Connections};
    use crate::data_directory::DataDirectory;
    use crate::limits::READERS_MAX;
    use crate::metrics::Metrics;
    use crate::places::{PlaceLimits, Places, Standing};
    use crate::quotas::Quotas;
    use crate::store::{FIRST_EPOCH, Row, Store};
    use crate::writer::WriterQueue;
    use futures_util::future::join_all;
    use tidewell_sync_core::document_name::DocumentName;
    use tidewell_sync_core::room::Room;
    use yrs::{Doc, ReadTxn, Text, Transact};

    #[test]
    fn lm7_what_members_share_counts_in_parts_and_whole_for_the_last_who_has_it() {
        let parts = [Bytes::from(vec![1; 600])];
        let of_the_room = CatchUp { through: 1, parts: parts.into(), owner: Owner::Holders(Arc::default()) };
        let [first, second] = [0; 2].map(|_| of_the_room.shared());
        assert_eq!([first.held_bytes(), second.held_bytes()], [200; 2]);
        let leaving = (first.owner.clone(), first.owner.clone());
        assert_eq!(second.held_bytes(), 200, "each member once, however many messages");
        drop(of_the_room);
        assert_eq!(second.held_bytes(), 300);
        drop((first, leaving));
        assert_eq!(second.held_bytes(), 600);
    }

    #[tokio::test]
    async fn lm7_of_many_who_are_behind_at_once_as_many_are_read_for_as_there_is_room_for() {
        const MEMBERS: usize = 64;
        const FIT: usize = 8;
        let doc = Doc::with_client_id(1);
        let text = doc.get_or_insert_text("t");
        text.insert(&mut doc.transact_mut(), 0, &"x".repeat(64 << 10));
        let update = Bytes::from(doc.transact().encode_diff_v1(&yrs::StateVector::default()));
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&DataDirectory::create(folder.path()).unwrap(), 1).unwrap();
        let (document, bytes) = (DocumentName::parse("a/doc").unwrap(), update.len());
        for number in 1..=2 {
            let (first, through) = (number, number);
            let row = Row { document: &document, epoch: FIRST_EPOCH, first, through, update: &update };
            store.append([row], 1).unwrap();
        }
        let readers = store.readers(READERS_MAX);
        let writer = WriterQueue::new(Arc::new(Metrics::new().unwrap()));
        let quotas = Quotas::new(u64::MAX, None, None, |_| Ok::<(), ()>(())).unwrap();
        let room = Room::new(document, FIRST_EPOCH, 1, 2, Admitted::new());
        let whole = CatchUp { through: 2, parts: [update].into(), owner: Owner::Everybody };
        let shared = Some((whole, Instant::now()));
        let room = RoomHandle::new(room, LogSize::empty(), shared, writer, &quotas);
        let limits = ConnectionLimits { per_subject: MEMBERS, joins: MEMBERS, held_bytes: (FIT - 1) * bytes };
        let connections = Connections::new(limits);
        let places = Places::new(PlaceLimits { total: MEMBERS, per_address: MEMBERS, per_loopback: MEMBERS });
        let enter = || match places.arrive([192, 0, 2, 1].into()) {
            Some(Standing::Inside(place)) => connections.enter(place).unwrap(),
            standing => panic!("{standing:?}"),
        };
        for behind in [Behind::After(1), Behind::StateVector([(1, 1)].into_iter().collect())] {
            let members: Vec<_> = (0..MEMBERS).map(|_| enter()).collect();
            let reading = members.iter().map(|member| catch_up(&room, &readers, member, &behind));
            let ends = join_all(reading).await;
            let count = ends.iter().flatten().count();
            assert!((FIT..FIT + READERS_MAX).contains(&count), "{count} for {behind:?}");
            let waiting = ends.iter().position(|end| matches!(end, Err(CatchUpError::HeldBack))).unwrap();
            members.iter().for_each(|member| member.holds(0));
            assert!(catch_up(&room, &readers, &members[waiting], &behind).await.is_ok());
        }
    }
}
