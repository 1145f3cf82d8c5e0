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
use tidewell_sync_core::admission::Admitted;
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
    #[error("a stored update builds on something that is missing")]
    Gap,
    #[error("the document is not in the store")]
    Missing,
    #[error("the relay is ending")]
    Ending,
}

/// What is at hand for those who know nothing.
#[derive(Debug, Default)]
pub(crate) enum Source {
    /// Nothing: the store is to be read.
    #[default]
    Nothing,
    /// The rows, as the room was loaded from them.
    Stored(Box<StoredDocument>, Instant),
    /// Ready to be sent.
    Ready(CatchUp, Instant),
}

impl Source {
    /// When it was last used.
    pub(crate) fn used_at(&self) -> Option<Instant> {
        match self {
            Source::Nothing => None,
            Source::Stored(_, at) | Source::Ready(_, at) => Some(*at),
        }
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
                Ok(CatchUp { through, parts })
            }
            Since::Pruned => whole(room, readers, sequence + 1).await,
        },
        Behind::StateVector(_) if room.sequence() == 0 => {
            Ok(CatchUp { through: 0, parts: Vec::new().into() })
        }
        Behind::StateVector(vector) if vector.is_empty() => whole(room, readers, 0).await,
        Behind::StateVector(vector) => {
            let whole = whole(room, readers, 0).await?;
            let through = whole.through;
            let parts = blocking(move || beyond(&whole, &vector)).await?;
            Ok(CatchUp { through, parts })
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
    let mut source = room.catch_up.lock().await;
    let now = Instant::now();
    if let Source::Ready(ready, used_at) = &mut *source
        && ready.through >= sequence_min
        && room.sequence().saturating_sub(ready.through) <= CATCH_UP_COMMITS_BEHIND_MAX
    {
        *used_at = now;
        return Ok(ready.clone());
    }
    let stored = match std::mem::take(&mut *source) {
        Source::Stored(stored, _) if stored.sequence >= sequence_min => *stored,
        _ => readers.document(room.document().clone()).await?.ok_or(CatchUpError::Missing)?,
    };
    let ready = blocking(move || {
        let mut parts: Vec<Bytes> = stored.snapshot.iter().cloned().collect();
        parts.extend(merged(&stored.tail)?);
        if parts.iter().map(Bytes::len).sum::<usize>() > CATCH_UP_WHOLE_BYTES {
            parts = in_pieces(&parts)?;
        }
        Ok(CatchUp { through: stored.sequence, parts: parts.into() })
    })
    .await?;
    *source = Source::Ready(ready.clone(), now);
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

/// Cuts a document into updates of bounded struct count and size. Stock clients take one WebSocket message for
/// each, and tungstenite keeps a buffer of the largest one for as long as a connection lives.
fn in_pieces(parts: &[Bytes]) -> Result<Vec<Bytes>, CatchUpError> {
    let mut admitted = Admitted::new();
    let mut pieces = Vec::new();
    for part in parts {
        let admission = admitted.admit(part)?;
        if !admission.is_complete() {
            return Err(CatchUpError::Gap);
        }
        pieces.extend(admission.pieces);
    }
    Ok(pieces)
}

/// What of it lies beyond a state vector.
fn beyond(whole: &CatchUp, vector: &StateVector) -> Result<Arc<[Bytes]>, CatchUpError> {
    let parts: Result<Vec<_>, _> = whole.parts.iter().map(|part| diff(part, vector)).collect();
    Ok(parts?.into_iter().flatten().collect())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CatchUpError> + Send + 'static,
) -> Result<T, CatchUpError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| CatchUpError::Ending)?
}
