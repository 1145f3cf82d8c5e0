//! A replica: one open copy of a document on a device.
//!
//! It owns the yrs document, what is known of it, the outbox, and its place on the connection. Everything
//! that enters the document passes admission first; everything that this device made stays in the outbox
//! until the relay has acknowledged it. Rules RP1 to RP18 of `docs/protocol.md`.

mod connection;
mod outbox;

use outbox::Outbox;
pub use outbox::{AdoptedRow, OutboxRow, RowId, Unsent};

use crate::admission::{Admission, Admitted};
use crate::branch::{self, SetAside};
use crate::caret::{Edits, Typing};
use crate::code::Code;
use crate::document_name::DocumentName;
use crate::draft::Draft;
use crate::limits::{HELD_BYTES_MAX, UPDATE_BYTES_MAX};
use crate::protocol::{ClientMessage, Cursor};
use crate::update::{EMPTY, Id, InvalidUpdate};
use bytes::Bytes;
use std::collections::HashSet;
use yrs::block::ClientID;
use yrs::updates::decoder::Decode;
use yrs::{BranchID, Doc, OffsetKind, Options, ReadTxn, Transact, TransactionMut, Update};

/// A yrs document with every option set: positions in UTF-16 units as in JavaScript, deleted content
/// collected, and no clean-up of formats, which would delete things that no update carries.
pub fn new_doc(client_id: u64) -> Doc {
    Doc::with_options(Options {
        client_id: ClientID::new(client_id % crate::limits::CLIENT_ID_END),
        guid: "".into(),
        collection_id: None,
        offset_kind: OffsetKind::Utf16,
        skip_gc: false,
        auto_load: false,
        should_load: true,
        cleanup_formatting: false,
    })
}

/// What a device has stored of a document.
#[derive(Debug, Default)]
pub struct Stored {
    /// Where its knowledge of the relay's commits ends.
    pub cursor: Option<Cursor>,
    /// Snapshot and updates that came from the relay, or went there, in any order.
    pub received: Vec<Bytes>,
    /// Edits that the relay has not acknowledged.
    pub outbox: Vec<OutboxRow>,
}

/// What loading found that it could not use. The rows stay where they are.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Positions in [`Stored::received`] of rows that cannot be read.
    pub unreadable_received: Vec<usize>,
    /// Rows of the outbox that cannot be read: set aside, never sent.
    pub unreadable_outbox: Vec<RowId>,
    /// True when some rows build on others that are not there; they wait in memory.
    pub has_gap: bool,
}

/// Where a replica stands with the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// No connection, or the document is not open on it.
    Closed,
    /// The relay has not answered yet.
    Opening,
    /// Edits go out and come in.
    Live,
    /// The relay takes no edits for this document. They are kept.
    Refused(Code),
}

/// What a device must write. The cursor is stored together with what it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Persist {
    /// A new edit: a row of the outbox, strict.
    Edit(OutboxRow),
    /// Updates from the relay, and the cursor that covers them.
    Received {
        /// v1 updates; may be empty when only the cursor moved.
        updates: Vec<Bytes>,
        /// Everything up to here is known; `None` leaves the stored cursor as it is.
        cursor: Option<Cursor>,
    },
    /// Rows that are durable at the relay: they leave the outbox and join what was received.
    Acknowledged {
        /// Which.
        rows: Vec<RowId>,
        /// A commit that has them.
        sequence: u64,
    },
}

/// One thing a replica asks of its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicaEffect {
    /// Write to the device's store.
    Persist(Persist),
    /// Send on the connection.
    Send(ClientMessage),
    /// What is in the outbox will never be taken, for this reason. The owner puts all of it aside as a local branch, in
    /// one write, and has the document loaded anew without it, under another client ID. Asked again after the next
    /// load if it does not come to that.
    Branch(Code),
    /// The document's content changed.
    Changed,
    /// The status changed.
    Status,
}

/// A relay that was told a state vector asks for what it lacks. Until it has made the answer durable no
/// cursor may be kept: the next connection would resume by it, and what only this device still has (after
/// a restored backup: other people's edits and deletions) would never be offered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offer {
    /// Nothing is owed.
    Settled,
    /// The relay has not asked yet.
    Owed,
    /// The answer is on its way.
    Sent { number: u64 },
    /// The answer is durable; no commit has come yet for a cursor to name, or newer edits are not acknowledged.
    Taken,
}

/// An update that builds on something which is not here yet.
struct Held {
    update: Bytes,
    missing: Vec<Id>,
    /// It was stored as received. The relay may have lost it with a backup that was restored, and is not asked for it by
    /// anybody else once it was offered what could be applied.
    is_received: bool,
}

impl Held {
    /// Bytes for which it counts. What is stored was in memory when it was loaded, and nobody else offers it.
    fn bytes(&self) -> usize {
        if self.is_received { 0 } else { self.update.len() }
    }
}

/// One open copy of a document.
pub struct Replica {
    name: DocumentName,
    doc: Doc,
    admitted: Admitted,
    /// Updates of sibling tabs or of the store that build on something not here yet.
    held: Vec<Held>,
    held_bytes: usize,
    outbox: Outbox,
    cursor: Option<Cursor>,
    channel: u32,
    link: Link,
    /// Lineage of the connection's relay, from its welcome.
    lineage: u64,
    /// The epoch that the relay named when it opened the document.
    epoch: u64,
    offer: Offer,
    /// The last commit that came while the offer was open.
    through: Option<u64>,
    /// The last commit at the relay when it opened the document.
    opened_at: u64,
    /// Openings on this connection that the relay has not answered; only the answer to the last one counts.
    unanswered: u32,
    /// Another token was shown since the document was opened: a refusal that comes now may be of the one before.
    has_another_token: bool,
    /// A push was refused, and not the channel: its rows are on their way to a branch, and no cursor is kept that may
    /// cover them.
    is_refused_for_good: bool,
    effects: Vec<ReplicaEffect>,
    /// Shared types that changed, for whoever keeps values of them.
    touched: Option<HashSet<BranchID>>,
    /// Where this device types.
    pub(crate) typing: Typing,
    /// Why a push was refused that held nothing of the outbox: rows of another tab, which may be gone.
    owed_branch: Option<Code>,
    /// What is in branches, which other tabs may not have put aside yet.
    aside: SetAside,
}

fn note(touched: &mut Option<HashSet<BranchID>>, transaction: &TransactionMut<'_>) {
    if let Some(touched) = touched {
        touched.extend(transaction.changed_parent_types().iter().map(|branch| branch.id()));
    }
}

impl Replica {
    /// An empty replica. `client_id` is random below 2^53, never used before; it enters the document with
    /// the first edit only.
    pub fn new(name: DocumentName, channel: u32, client_id: u64) -> Self {
        Replica {
            name,
            doc: new_doc(client_id),
            admitted: Admitted::new(),
            held: Vec::new(),
            held_bytes: 0,
            outbox: Outbox::default(),
            cursor: None,
            channel,
            link: Link::Closed,
            lineage: 0,
            epoch: 0,
            offer: Offer::Settled,
            through: None,
            opened_at: 0,
            unanswered: 0,
            has_another_token: false,
            is_refused_for_good: false,
            effects: Vec::new(),
            touched: None,
            typing: Typing::default(),
            owed_branch: None,
            aside: SetAside::default(),
        }
    }

    /// Fills an empty replica with what the device has stored. Asks for nothing to be written.
    pub fn load(&mut self, stored: Stored) -> LoadReport {
        let mut report = LoadReport::default();
        for (index, update) in stored.received.iter().enumerate() {
            if self.take_or_hold(update, true).is_err() {
                report.unreadable_received.push(index);
            }
        }
        for row in stored.outbox {
            if self.take_or_hold(&row.update, false).is_ok() {
                self.keep(row);
            } else {
                self.outbox.skip(row.id);
                report.unreadable_outbox.push(row.id);
            }
        }
        report.has_gap = !self.held.is_empty();
        // A cursor promises that everything before it is here. When rows are gone it does not hold.
        let is_whole = !report.has_gap && report.unreadable_received.is_empty();
        self.cursor = stored.cursor.filter(|_| is_whole);
        self.effects.clear();
        self.check_sizes();
        report
    }

    /// The document's name.
    pub fn name(&self) -> &DocumentName {
        &self.name
    }

    /// The document, for reading and observing. Writing goes through [`Replica::edit`].
    pub fn doc(&self) -> &Doc {
        &self.doc
    }

    /// Where the replica stands with the relay.
    pub fn link(&self) -> Link {
        self.link
    }

    /// What the relay has not acknowledged.
    pub fn unsent(&self) -> Unsent {
        self.outbox.unsent()
    }

    /// The rows of the outbox, the oldest first.
    pub fn outbox(&self) -> impl Iterator<Item = RowId> {
        self.outbox.names()
    }

    /// The newest row of the outbox: what is awaited when everything made so far is to be acknowledged.
    pub fn last_row(&self) -> Option<RowId> {
        self.outbox.last()
    }

    /// True when every row up to `row` is acknowledged.
    pub fn is_acknowledged(&self, row: RowId) -> bool {
        self.outbox.first().is_none_or(|first| first > row)
    }

    /// Where the device's knowledge of the relay's commits ends.
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// What is known of the document.
    pub fn admitted(&self) -> &Admitted {
        &self.admitted
    }

    /// The whole document as one update, for snapshots and exports.
    pub fn encode(&self) -> Bytes {
        self.doc.transact().encode_diff_v1(&yrs::StateVector::default()).into()
    }

    /// Runs `edit` in one transaction and puts what it changed into the outbox. yrs cannot roll back, so
    /// `edit` must check before it writes: what no relay would take (too large, nested too deeply, a kind
    /// of content that not everybody can read) is kept, and refuses the document from there on.
    pub fn edit<T>(&mut self, now_ms: u64, edits: u32, edit: impl FnOnce(&mut TransactionMut<'_>) -> T) -> T {
        self.edit_known(now_ms, edits, |transaction, edits| {
            edits.elsewhere();
            edit(transaction)
        })
    }

    /// Writes a draft in one transaction and puts it into the outbox. The draft is empty afterwards.
    pub fn write(&mut self, now_ms: u64, edits: u32, draft: &mut Draft) {
        self.edit_known(now_ms, edits, |transaction, edits| draft.apply(transaction, edits));
    }

    fn edit_known<T>(
        &mut self,
        now_ms: u64,
        edits: u32,
        edit: impl FnOnce(&mut TransactionMut<'_>, &mut Edits<'_>) -> T,
    ) -> T {
        let (result, update) = {
            let client = self.doc.client_id().get();
            let mut transaction = self.doc.transact_mut();
            let mut known = Edits::new(&mut self.typing, &self.admitted, client);
            let result = edit(&mut transaction, &mut known);
            // Copied: yrs encodes into a kilobyte, which the outbox would keep for every letter that is typed.
            let update = Bytes::copy_from_slice(&transaction.encode_update_v1());
            transaction.commit();
            note(&mut self.touched, &transaction);
            (result, update)
        };
        if update.as_ref() != EMPTY {
            self.add_own(update, edits, now_ms);
        }
        result
    }

    fn add_own(&mut self, update: Bytes, edits: u32, now_ms: u64) {
        let admission = match update.len() > UPDATE_BYTES_MAX {
            true => Err(InvalidUpdate::TooLarge),
            false => self.admitted.admit(&update),
        };
        self.typing.note(&update);
        self.typing.learn(&update, &self.admitted);
        let is_refused = admission.is_err() || matches!(self.link, Link::Refused(_));
        debug_assert!(
            is_refused || admission.as_ref().is_ok_and(Admission::is_complete),
            "own edits have no gap"
        );
        let row = OutboxRow { id: self.outbox.next_id(), update, edits, made_ms: now_ms };
        self.outbox.push(row.clone());
        self.effects.push(ReplicaEffect::Persist(Persist::Edit(row)));
        self.effects.push(ReplicaEffect::Changed);
        self.effects.push(ReplicaEffect::Status);
        if let Err(invalid) = admission {
            // yrs cannot roll back, and the relay would send the whole connection away for it, again and
            // again. So it is kept, and never sent.
            self.typing.lost();
            self.refused_for_good(invalid.code());
        }
        self.pump();
    }

    /// Makes the edits of a branch anew, as [`branch::made_anew`] says: new rows of the outbox that count as `edits`.
    /// `name` is the branch's own, random and never used before. Fails with `disconnected` unless everything is here that
    /// the relay has: of what it has stored of them nothing would be known. Rows that the relay has become rows of the
    /// outbox as they are: nothing else on this device need have them, and the relay may be restored to before them. On an
    /// error nothing was changed.
    pub fn merge_branch(&mut self, name: &str, rows: &[Bytes], edits: u32, now_ms: u64) -> Result<(), Code> {
        if !self.is_current() {
            return Err(Code::Disconnected);
        }
        let known = rows.iter().filter(|row| self.admitted.covers(row) == Ok(true)).cloned();
        let known: Vec<Bytes> = known.collect();
        let updates = self.made_anew(name, rows)?;
        for update in known {
            self.keep_merged(update, 0, now_ms);
        }
        for (index, update) in updates.into_iter().enumerate() {
            self.take(&update)?;
            let edits = if index == 0 { edits } else { 0 };
            self.keep_merged(update, edits, now_ms);
        }
        self.effects.push(ReplicaEffect::Status);
        self.pump();
        Ok(())
    }

    fn keep_merged(&mut self, update: Bytes, edits: u32, now_ms: u64) {
        let row = OutboxRow { id: self.outbox.next_id(), update, edits, made_ms: now_ms };
        self.outbox.push(row.clone());
        self.effects.push(ReplicaEffect::Persist(Persist::Edit(row)));
    }

    /// What was received and builds on the branch is made anew with it: the relay had it once, and a backup was restored
    /// since.
    fn made_anew(&mut self, name: &str, rows: &[Bytes]) -> Result<Vec<Bytes>, Code> {
        let (places, received): (Vec<usize>, Vec<Bytes>) = self
            .held
            .iter()
            .enumerate()
            .filter(|(_, held)| held.is_received)
            .map(|(place, held)| (place, held.update.clone()))
            .unzip();
        let building = branch::dependents(rows, &received, &self.admitted);
        let all = building.iter().filter_map(|at| received.get(*at as usize));
        let all: Vec<Bytes> = rows.iter().chain(all).cloned().collect();
        match branch::made_anew(name, &all, &self.admitted) {
            Ok(updates) => {
                for at in building.into_iter().rev() {
                    let place = places.get(at as usize).copied();
                    place.into_iter().for_each(|place| drop(self.held.remove(place)));
                }
                Ok(updates)
            }
            // Some of it builds on something else too.
            Err(_) => branch::made_anew(name, rows, &self.admitted),
        }
    }

    /// True when the document is open at the relay, and everything is here that it had at the opening.
    fn is_current(&self) -> bool {
        let known = self.through.into_iter().chain(self.cursor.map(|cursor| cursor.sequence)).max();
        self.link == Link::Live && known.unwrap_or(0) >= self.opened_at
    }

    /// The document goes on without the edits of its branches, whose `rows` these are.
    pub fn set_aside(&mut self, rows: &[Bytes]) {
        self.aside = SetAside::new(rows);
    }

    /// What another tab of this device knows: edits that it has stored and will push, or what the relay has. When
    /// something of it is in a branch, of which that tab has not heard yet, nothing of it is taken.
    pub fn sibling_edit(&mut self, update: &Bytes) -> Result<(), Code> {
        if self.aside.is_in(update, &self.admitted) {
            return Ok(());
        }
        self.take_or_hold(update, false)?;
        self.pump();
        Ok(())
    }

    /// What another tab of this device has and this one may lack: the answer of one that last knew of `lineage`. If that
    /// is not this one's, the relay may lack what is new, and is offered it.
    pub fn sibling_answer(&mut self, update: &Bytes, lineage: u64) -> Result<(), Code> {
        if self.aside.is_in(update, &self.admitted) {
            return Ok(());
        }
        let is_new = self.admitted.covers(update) != Ok(true);
        self.take_or_hold(update, false)?;
        if is_new && lineage != self.lineage {
            self.offer_again();
        }
        self.pump();
        Ok(())
    }

    /// The name of the relay's history, as the last connection told it; 0 before.
    pub fn lineage(&self) -> u64 {
        self.lineage
    }

    /// Takes over rows of a tab that is gone: their content may be here already. They get names in this
    /// replica, in the order of `rows`; what cannot be read gets none.
    pub fn adopt(&mut self, rows: Vec<AdoptedRow>) -> Vec<Option<RowId>> {
        let mut names = Vec::new();
        for AdoptedRow { update, edits, made_ms } in rows {
            let id = self.outbox.next_id();
            let is_readable = self.take_or_hold(&update, false).is_ok();
            if is_readable {
                self.keep(OutboxRow { id, update, edits, made_ms });
            }
            names.push(is_readable.then_some(id));
        }
        self.effects.push(ReplicaEffect::Status);
        self.check_sizes();
        if let Some(code) = self.owed_branch.take() {
            self.refused_for_good(code);
        }
        if self.outbox.has_held() {
            // What could be taken of them is shown here, and the relay is to have it too.
            self.offer_again();
        }
        self.pump();
        names
    }

    /// A row of the store that is too large to be sent was refused when it was made.
    fn check_sizes(&mut self) {
        if self.outbox.largest() > UPDATE_BYTES_MAX {
            self.refused_for_good(Code::UpdateTooLarge);
        }
    }

    /// Puts a row of the device's store into the outbox. One that is held back is not pushed before what it builds on
    /// has come: the answer to the question that would follow could not have it, and yet would acknowledge it.
    fn keep(&mut self, row: OutboxRow) {
        if self.held.is_empty() || self.admitted.covers(&row.update) == Ok(true) {
            self.outbox.push(row);
        } else {
            self.outbox.push_held(row);
        }
    }

    /// Admits and applies an update. What cannot be applied yet is held back.
    fn take_or_hold(&mut self, update: &Bytes, is_received: bool) -> Result<(), Code> {
        let missing = self.take(update)?;
        if !missing.is_empty() {
            self.hold(Held { update: update.clone(), missing, is_received });
        }
        if self.retry_held() {
            self.offer_again();
        }
        Ok(())
    }

    /// Admits and applies what can be; answers what is missing for the rest.
    fn take(&mut self, update: &Bytes) -> Result<Vec<Id>, Code> {
        let admission = self.admitted.admit(update).map_err(|invalid| invalid.code())?;
        for piece in &admission.pieces {
            self.apply(piece).inspect_err(|_| self.typing.lost())?;
        }
        if !admission.pieces.is_empty() {
            self.effects.push(ReplicaEffect::Changed);
        }
        Ok(admission.missing)
    }

    /// A transaction of its own for each piece: one for many is quadratic in yrs.
    fn apply(&mut self, piece: &Bytes) -> Result<(), Code> {
        let update = Update::decode_v1(piece).map_err(|_| Code::InvalidUpdate)?;
        let mut transaction = self.doc.transact_mut();
        transaction.apply_update(update).map_err(|_| Code::InvalidUpdate)?;
        transaction.commit();
        note(&mut self.touched, &transaction);
        let changed = transaction.changed_parent_types();
        self.typing.changed(|text| changed.iter().any(|branch| branch.id() == *text));
        self.typing.note(piece);
        Ok(())
    }

    /// From now on remembers which shared types change.
    pub fn track_touched(&mut self) {
        self.touched.get_or_insert_default();
    }

    /// The shared types that changed since the last call, and all that they lie in.
    pub fn take_touched(&mut self) -> HashSet<BranchID> {
        self.touched.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn hold(&mut self, held: Held) {
        self.held_bytes += held.bytes();
        self.held.push(held);
        while self.held_bytes > HELD_BYTES_MAX
            && let Some(oldest) = self.held.iter().position(|held| !held.is_received)
        {
            // Another tab pushes it, and the relay passes it on; or it is in the outbox, and is loaded again.
            let dropped = self.held.remove(oldest);
            self.held_bytes -= dropped.bytes();
        }
    }

    /// Applies what was held back and can be applied now. Answers true when the relay may not have it: no answer to its
    /// question had it, and no outbox does.
    fn retry_held(&mut self) -> bool {
        let (mut has_taken, mut is_owed) = (false, false);
        loop {
            let admitted = &self.admitted;
            let ready = self.held.iter().position(|held| held.missing.iter().any(|id| admitted.knows(*id)));
            let Some(index) = ready else { break };
            let held = self.held.swap_remove(index);
            self.held_bytes -= held.bytes();
            let Held { update, is_received, .. } = held;
            (has_taken, is_owed) = (true, is_owed || is_received);
            if let Ok(missing) = self.take(&update)
                && !missing.is_empty()
            {
                self.hold(Held { update, missing, is_received });
            }
        }
        if has_taken {
            self.outbox.release(&self.admitted);
        }
        is_owed
    }

    /// Takes the effects so far, in order.
    pub fn drain(&mut self) -> Vec<ReplicaEffect> {
        std::mem::take(&mut self.effects)
    }
}

#[cfg(test)]
mod tests;
