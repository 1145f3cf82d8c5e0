//! A replica's place on the connection: how its document is opened, what comes and goes, and what the relay refuses.

use super::{Link, Offer, Persist, Replica, ReplicaEffect};
use crate::admission::Admitted;
use crate::code::Code;
use crate::limits::{PIECE_BYTES_MAX, UPDATE_BYTES_MAX};
use crate::protocol::{Access, ClientMessage, Cursor, Position, Resume};
use crate::state_vector::StateVector;
use crate::update::{EMPTY, diff};
use bytes::Bytes;
use yrs::updates::decoder::Decode;
use yrs::{ReadTxn, Transact};

impl Replica {
    /// From now on the document is opened by what is here, so that the relay asks for what it lacks.
    pub(super) fn offer_again(&mut self) {
        self.cursor = None;
        if !matches!(self.link, Link::Opening | Link::Live) {
            return;
        }
        self.effects.push(ReplicaEffect::Send(ClientMessage::Close { channel: self.channel }));
        self.outbox.lost();
        self.open(Position::StateVector(self.admitted.state_vector()));
    }

    /// The connection is there: opens the document on it.
    pub fn connected(&mut self, lineage: Option<u64>) {
        // What was forbidden may be granted by the token that this connection was made with, and other channels may be
        // closed since there were too many.
        if let Link::Refused(code) = self.link
            && !matches!(code, Code::Forbidden | Code::ChannelsExceeded)
        {
            return;
        }
        self.lineage = lineage.unwrap_or(self.lineage);
        self.unanswered = 0;
        self.open_where_it_is();
    }

    /// Takes the place of `before`, whose channel was closed on this connection. An opening of it may still be answered.
    pub(crate) fn follow(&mut self, before: &Replica, lineage: Option<u64>) {
        self.lineage = lineage.unwrap_or(self.lineage);
        self.unanswered = before.unanswered;
        self.open_where_it_is();
    }

    fn open_where_it_is(&mut self) {
        let position = match self.cursor {
            Some(cursor) => Position::Cursor(cursor),
            None => Position::StateVector(self.admitted.state_vector()),
        };
        self.open(position);
    }

    fn open(&mut self, position: Position) {
        self.set_link(Link::Opening);
        self.unanswered += 1;
        (self.has_another_token, self.is_refused_for_good) = (false, false);
        let by_state_vector = matches!(&position, Position::StateVector(known) if !known.is_empty());
        self.offer = if by_state_vector { Offer::Owed } else { Offer::Settled };
        self.through = None;
        let (channel, document) = (self.channel, self.name.clone());
        self.effects.push(ReplicaEffect::Send(ClientMessage::Open { channel, document, position }));
    }

    /// The connection has another token: a document that was forbidden is opened again.
    pub fn token_changed(&mut self, lineage: Option<u64>) {
        match self.link {
            Link::Refused(Code::Forbidden) => self.open_again(lineage),
            Link::Opening | Link::Live => self.has_another_token = true,
            Link::Closed | Link::Refused(_) => {}
        }
    }

    /// Opens a refused document again on the same connection. The relay may not have closed it with its refusal.
    pub(crate) fn open_again(&mut self, lineage: Option<u64>) {
        self.effects.push(ReplicaEffect::Send(ClientMessage::Close { channel: self.channel }));
        self.lineage = lineage.unwrap_or(self.lineage);
        self.open_where_it_is();
    }

    /// The relay's history has a name, which the welcome tells.
    pub fn welcomed(&mut self, lineage: u64) {
        self.lineage = lineage;
    }

    /// The relay has answered `Open`.
    pub fn opened(&mut self, _access: Access, epoch: u64, sequence: u64, resume: Resume) {
        self.unanswered = self.unanswered.saturating_sub(1);
        if self.unanswered > 0 {
            return;
        }
        // Also of a document that was refused meanwhile: what comes goes on being stored, under this epoch.
        self.epoch = epoch;
        self.opened_at = sequence;
        // What is taken for the refusal of an opening may be of another token that was shown before it.
        let was_forbidden = self.link == Link::Refused(Code::Forbidden) && !self.is_refused_for_good;
        if self.link != Link::Opening && !was_forbidden {
            return;
        }
        if let Some(cursor) = self.cursor
            && cursor.lineage == self.lineage
            && cursor.epoch != epoch
        {
            self.refused(Code::DocumentReset);
            return;
        }
        match resume {
            Resume::Continues => {
                self.set_link(Link::Live);
                self.pump();
            }
            Resume::NeedsStateVector => {
                self.cursor = None;
                self.open(Position::StateVector(self.admitted.state_vector()));
            }
        }
    }

    /// Commits came from the relay.
    pub fn received(&mut self, through: u64, updates: Vec<Bytes>) -> Result<(), Code> {
        if self.link == Link::Opening {
            // Sent before the relay knew that this channel was opened anew; the new opening covers it.
            return Ok(());
        }
        let was_current = self.is_current();
        let mut has_gap = false;
        for update in &updates {
            has_gap |= !self.take(update)?.is_empty();
        }
        let is_owed = self.retry_held();
        if has_gap || is_owed {
            // With a gap the cursor promised something that is not here: ask for everything that is lacking.
            self.effects.push(ReplicaEffect::Persist(Persist::Received { updates, cursor: None }));
            self.offer_again();
            return Ok(());
        }
        if self.offer == Offer::Settled && !self.holds_received() && !self.is_refused_for_good {
            self.cursor = Some(Cursor { epoch: self.epoch, lineage: self.lineage, sequence: through });
            self.effects.push(ReplicaEffect::Persist(Persist::Received { updates, cursor: self.cursor }));
        } else {
            self.effects.push(ReplicaEffect::Persist(Persist::Received { updates, cursor: None }));
            self.through = Some(through);
            self.settle_offer();
        }
        if !was_current && self.is_current() {
            // Whoever waits to merge a branch hears of it.
            self.effects.push(ReplicaEffect::Status);
        }
        self.pump();
        Ok(())
    }

    /// True when something that is stored cannot be read. It is not offered before it can be, and until then no cursor is
    /// kept: with one the next connection would not offer it.
    fn holds_received(&self) -> bool {
        self.held.iter().any(|held| held.is_received)
    }

    /// Once the offer is taken, a cursor stands for everything again. It is stored with the whole
    /// document: the relay left out what it was told is here, and not all of that need be on disk. Edits that may
    /// still be refused would be stored with it for good.
    fn settle_offer(&mut self) {
        let is_certain = self.outbox.last().is_none() && !self.holds_received();
        if let (Offer::Taken, Some(sequence), true) = (self.offer, self.through, is_certain) {
            self.offer = Offer::Settled;
            self.cursor = Some(Cursor { epoch: self.epoch, lineage: self.lineage, sequence });
            let updates = vec![self.encode()];
            self.effects.push(ReplicaEffect::Persist(Persist::Received { updates, cursor: self.cursor }));
        }
    }

    /// The relay has made pushes durable.
    pub fn acknowledged(&mut self, number: u64, sequence: u64) {
        let rows = self.outbox.acknowledge(number);
        if !rows.is_empty() {
            self.effects.push(ReplicaEffect::Persist(Persist::Acknowledged { rows, sequence }));
            self.effects.push(ReplicaEffect::Status);
        }
        if matches!(self.offer, Offer::Sent { number: offered } if offered <= number) {
            self.offer = Offer::Taken;
        }
        self.settle_offer();
        self.pump();
    }

    /// The relay lacks something: answers with all of the document that it lacks, whoever made it.
    pub fn needed(&mut self, known: &StateVector) {
        if self.link != Link::Live {
            return;
        }
        let mut answer = self.beyond(known);
        if answer.iter().any(|update| update.len() > UPDATE_BYTES_MAX) {
            // The relay would end the whole connection for it, again and again.
            self.refused(Code::UpdateTooLarge);
            return;
        }
        let channel = self.channel;
        // The relay takes it for the answer when it has the last part.
        let last = answer.pop().unwrap_or(Bytes::from_static(EMPTY));
        for update in answer {
            let number = self.outbox.push_part(update.len());
            self.effects.push(ReplicaEffect::Send(ClientMessage::Push { channel, number, update }));
        }
        let number = self.outbox.push_all(last.len());
        if self.offer == Offer::Owed {
            self.offer = Offer::Sent { number };
        }
        self.effects.push(ReplicaEffect::Send(ClientMessage::Have { channel, number, update: last }));
    }

    /// What lies beyond `known`, as one update if it is small, otherwise in parts to be applied in
    /// their order.
    fn beyond(&self, known: &StateVector) -> Vec<Bytes> {
        let update = match yrs::StateVector::decode_v1(&known.encode()) {
            Ok(known) => Bytes::from(self.doc.transact().encode_diff_v1(&known)),
            Err(_) => self.encode(),
        };
        if update.len() <= PIECE_BYTES_MAX {
            return vec![update];
        }
        // Only from its beginning on can a document be cut into parts that are closed.
        match Admitted::new().admit(&self.encode()) {
            Ok(whole) => whole.pieces.iter().filter_map(|piece| diff(piece, known).ok().flatten()).collect(),
            Err(_) => vec![update],
        }
    }

    /// The relay has refused a push: nothing that builds on it can enter any more. Number 0 is the whole channel,
    /// whose edits may be taken another time.
    pub fn push_refused(&mut self, number: u64, code: Code) {
        if self.link == Link::Opening {
            if number > 0 {
                // Nothing was pushed since: it is of an opening before, and what is still here will be pushed again.
                return;
            }
            self.unanswered = self.unanswered.saturating_sub(1);
            if self.unanswered > 0 {
                return;
            }
        }
        let is_of_channel = number == 0 || self.outbox.last().is_none();
        if is_of_channel && code == Code::Forbidden && self.has_another_token {
            self.outbox.lost();
            self.open_again(None);
        } else if number == 0 || code.is_transient() {
            self.refused(code);
        } else {
            self.refused_for_good(code);
        }
    }

    pub(super) fn refused_for_good(&mut self, code: Code) {
        self.refused(code);
        self.is_refused_for_good = true;
        if self.outbox.last().is_some() {
            self.effects.push(ReplicaEffect::Branch(code));
        } else {
            self.owed_branch = Some(code);
        }
    }

    /// The relay will not take this document's edits. They stay in the outbox.
    pub fn refused(&mut self, code: Code) {
        self.outbox.lost();
        self.set_link(Link::Refused(code));
    }

    /// The connection is gone: what was not acknowledged will be pushed again.
    pub fn disconnected(&mut self) {
        self.outbox.lost();
        match self.link {
            Link::Refused(code) if !code.is_transient() => {}
            _ => self.set_link(Link::Closed),
        }
    }

    fn set_link(&mut self, link: Link) {
        if self.link != link {
            self.link = link;
            self.owed_branch = None;
            self.effects.push(ReplicaEffect::Status);
        }
    }

    /// Pushes as much of the outbox as the connection should carry.
    pub(super) fn pump(&mut self) {
        while self.link == Link::Live {
            let Some((number, update)) = self.outbox.next_push() else { return };
            let channel = self.channel;
            self.effects.push(ReplicaEffect::Send(ClientMessage::Push { channel, number, update }));
        }
    }
}
