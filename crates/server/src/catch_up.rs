//! What a member that is far behind is sent: read from the store, computed once for all who need it.

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
#[derive(Debug, Clone)]
pub(crate) struct CatchUp {
    /// With these everything up to this sequence is known.
    pub(crate) through: u64,
    /// To be applied in this order.
    pub(crate) parts: Arc<[Bytes]>,
    /// Who keeps them.
    pub(crate) owner: Owner,
}

/// Whose memory bytes are on their way to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// All who are told the same share them.
    Everybody,
    /// They were read or made for this member alone.
    Member,
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
        Ok((admitted, CatchUp { through, parts, owner: Owner::Everybody }))
    }
}

/// Brings somebody up to date.
pub(crate) async fn catch_up(
    room: &Arc<RoomHandle>,
    readers: &Readers,
    behind: Behind,
) -> Result<CatchUp, CatchUpError> {
    match behind {
        Behind::After(sequence) => match after(room, readers, sequence).await? {
            Since::Rows { through, updates } => {
                let parts = blocking(move || Ok(merged(&updates)?.into())).await?;
                Ok(CatchUp { through, parts, owner: Owner::Member })
            }
            Since::Pruned => whole(room, readers, sequence + 1).await,
        },
        Behind::StateVector(_) if room.sequence() == 0 => {
            Ok(CatchUp { through: 0, parts: Vec::new().into(), owner: Owner::Everybody })
        }
        Behind::StateVector(vector) if vector.is_empty() => whole(room, readers, 0).await,
        Behind::StateVector(vector) => {
            let whole = whole(room, readers, 0).await?;
            // So that not all who come back at once have a document each in memory.
            let _turn = readers.turn().await?;
            blocking(move || beyond(&whole, &vector)).await
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
    sequence_min: u64,
) -> Result<CatchUp, CatchUpError> {
    let mut shared = room.catch_up.lock().await;
    let now = Instant::now();
    if let Some((ready, used_at)) = &mut *shared
        && ready.through >= sequence_min
        && room.sequence().saturating_sub(ready.through) <= CATCH_UP_COMMITS_BEHIND_MAX
    {
        *used_at = now;
        return Ok(ready.clone());
    }
    // Two of a large document are not held at once.
    *shared = None;
    let stored = readers.document(room.document().clone()).await?.ok_or(CatchUpError::Missing)?;
    let (_, ready) = blocking(move || CatchUp::load(stored)).await?;
    *shared = Some((ready.clone(), now));
    Ok(ready)
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
    let (mut parts, mut owner) = (Vec::new(), Owner::Everybody);
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
