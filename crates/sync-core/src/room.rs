//! A room: the relay's copy of one document, and its members.
//!
//! A room never builds the document. It holds the admitted state, what waits to be committed, a ring of
//! recent commits, and each member's cursor. What it must never do: let anything out that the store has
//! not made durable. Whatever it tells a member is made from a [`Receipt`], and a batch becomes one
//! only after its commit. Rules RM1 to RM11 of `docs/protocol.md`.

mod batch;
mod member;

pub use batch::{Acknowledgement, Batch, Receipt};
use member::{Asking, Member, Members, Progress};
pub use member::{Behind, MemberId, Outgoing, Ready};

use crate::admission::Admitted;
use crate::document_name::DocumentName;
use crate::limits::{BATCH_BYTES_MAX, RING_BYTES_MAX, UNCOMMITTED_BYTES_MAX, UPDATE_BYTES_MAX};
use crate::protocol::{Position, Resume};
use crate::state_vector::StateVector;
use crate::update::{InvalidUpdate, Scan, merge};
use bytes::Bytes;
use std::collections::VecDeque;

/// Why a member sent an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushKind {
    /// It has new edits.
    Edit,
    /// It was asked for what the room lacks.
    Answer,
}

/// What a push led to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// There is something for the store: the room belongs in the writer's queue.
    pub to_store: bool,
    /// Members that have something to collect now.
    pub wake: Vec<MemberId>,
}

/// An update, or only its place in the order, on its way to the store.
#[derive(Debug)]
struct Waiting {
    author: MemberId,
    /// Acknowledged to its author with the commit.
    number: Option<u64>,
    /// `None` for a push that added nothing: it is acknowledged after everything before it.
    update: Option<Bytes>,
}

impl Waiting {
    /// With the entry itself: thousands of pushes that add nothing may wait for a disk.
    fn bytes(&self) -> usize {
        size_of::<Waiting>() + self.update.as_ref().map_or(0, Bytes::len)
    }
}

/// A batch in the store's hands, or on its way back to them.
#[derive(Debug)]
struct Taken {
    batch: Batch,
    is_out: bool,
    acks: Vec<(MemberId, u64)>,
    author: Option<MemberId>,
}

impl Taken {
    fn bytes(&self) -> usize {
        self.batch.update().len() + size_of_val(self.acks.as_slice())
    }
}

/// A commit that members may not have yet.
#[derive(Debug)]
struct Commit {
    through: u64,
    update: Bytes,
    /// The only author, who need not get it back.
    author: Option<MemberId>,
}

/// The relay's copy of one document.
#[derive(Debug)]
pub struct Room {
    document: DocumentName,
    epoch: u64,
    lineage: u64,
    /// Everything admitted, committed or not.
    admitted: Admitted,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    taken: Option<Taken>,
    /// The last commit: proof for everything that is said.
    receipt: Receipt,
    ring: VecDeque<Commit>,
    ring_bytes: usize,
    /// The ring holds all commits after this one.
    ring_after: u64,
    members: Members,
    next_member: u64,
    /// Members that have everything committed.
    up_to_date: usize,
}

impl Room {
    /// A room of the commits up to `sequence`, which led to `admitted` (see [`Admitted::load`]).
    pub fn new(document: DocumentName, epoch: u64, lineage: u64, sequence: u64, admitted: Admitted) -> Self {
        Room {
            document,
            epoch,
            lineage,
            admitted,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            taken: None,
            receipt: Receipt::loaded(sequence),
            ring: VecDeque::new(),
            ring_bytes: 0,
            ring_after: sequence,
            members: Members::default(),
            next_member: 0,
            up_to_date: 0,
        }
    }

    /// The document's name.
    pub fn document(&self) -> &DocumentName {
        &self.document
    }

    /// Identity of the document's incarnation.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The last commit.
    pub fn sequence(&self) -> u64 {
        self.receipt.through()
    }

    /// Number of members.
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// True when the room can be forgotten: the store has everything, and nobody is here.
    pub fn is_idle(&self) -> bool {
        self.members.is_empty() && self.waiting.is_empty() && self.taken.is_none()
    }

    /// Bytes of what was admitted and is not committed yet, with what waits for its commit.
    pub fn uncommitted_bytes(&self) -> usize {
        self.waiting_bytes + self.taken.as_ref().map_or(0, Taken::bytes)
    }

    /// True when members should not be read until the store has caught up.
    pub fn is_full(&self) -> bool {
        self.uncommitted_bytes() > UNCOMMITTED_BYTES_MAX
    }

    /// Takes a member in. It is served from its position on; a cursor of another history answers
    /// [`Resume::NeedsStateVector`], and the caller comes again with a state vector.
    pub fn join(&mut self, position: Position) -> Result<MemberId, Resume> {
        let progress = match position {
            Position::Cursor(cursor) => {
                let same = cursor.lineage == self.lineage && cursor.epoch == self.epoch;
                if !same || cursor.sequence > self.sequence() {
                    return Err(Resume::NeedsStateVector);
                }
                (Progress::At(cursor.sequence), Asking::Nothing)
            }
            Position::StateVector(vector) => {
                let asking = if vector.is_empty() { Asking::Nothing } else { Asking::ToSend };
                let is_empty = self.sequence() == 0;
                (if is_empty { Progress::At(0) } else { Progress::Needs(self.known_here(vector)) }, asking)
            }
        };
        Ok(self.add_member(progress.0, progress.1))
    }

    /// Takes a stock Yjs client in: it is asked at once for what it has, and told everything from its own
    /// question on (see [`Room::asked`]). Before that, updates would have a hole before them.
    pub fn join_stock(&mut self) -> MemberId {
        self.add_member(Progress::CatchingUp, Asking::ToSend)
    }

    fn add_member(&mut self, progress: Progress, asking: Asking) -> MemberId {
        let id = MemberId(self.next_member);
        self.next_member += 1;
        self.up_to_date += usize::from(progress == Progress::At(self.sequence()));
        self.members.push(id, Member::new(progress, asking));
        id
    }

    /// A stock client asks for everything beyond its state vector: it is served from there on.
    pub fn asked(&mut self, id: MemberId, vector: StateVector) {
        let (sequence, vector) = (self.sequence(), self.known_here(vector));
        let Some(member) = self.members.get_mut(&id) else { return };
        self.up_to_date -= usize::from(member.progress == Progress::At(sequence));
        member.progress = Progress::Needs(vector);
    }

    /// Only what is said of the document's own clients counts, and is kept: whoever makes up others could have the relay
    /// keep megabytes for each document that is opened.
    fn known_here(&self, mut vector: StateVector) -> StateVector {
        vector.retain(|client| self.admitted.clock(client) > 0);
        vector
    }

    /// Lets a member go. What it pushed stays.
    pub fn leave(&mut self, id: MemberId) {
        if let Some(member) = self.members.remove(&id) {
            self.up_to_date -= usize::from(member.progress == Progress::At(self.sequence()));
            self.forget_ring_if_all_have_it();
        }
    }

    /// True when an update holds no content that is not here, committed or not; it may delete more.
    pub fn knows_structs_of(&self, update: &[u8]) -> Result<bool, InvalidUpdate> {
        self.admitted.knows_structs_of(update)
    }

    /// Admits a member's update. `number` is acknowledged when this and everything before it is durable.
    pub fn push(
        &mut self,
        id: MemberId,
        kind: PushKind,
        number: Option<u64>,
        update: &Bytes,
    ) -> Result<Pushed, InvalidUpdate> {
        if update.len() > UPDATE_BYTES_MAX {
            return Err(InvalidUpdate::TooLarge);
        }
        let admission = self.admitted.admit(update)?;
        let number = match self.members.get_mut(&id) {
            Some(member) => member.pushed(kind, number, &admission.missing),
            None => None,
        };
        let mut pushed = Pushed { to_store: !admission.pieces.is_empty(), wake: Vec::new() };
        if pushed.to_store {
            pushed.wake = self.ask_again();
        }
        let last = admission.pieces.len().saturating_sub(1);
        for (index, piece) in admission.pieces.into_iter().enumerate() {
            let number = if index == last { number } else { None };
            self.wait(Waiting { author: id, number, update: Some(piece) });
        }
        if let (false, Some(number)) = (pushed.to_store, number) {
            if self.waiting.is_empty() && self.taken.is_none() {
                self.acknowledge(id, number);
            } else {
                self.wait(Waiting { author: id, number: Some(number), update: None });
            }
        }
        if self.members.get(&id).is_some_and(|member| member.has_something_to_say()) {
            pushed.wake.push(id);
        }
        Ok(pushed)
    }

    fn wait(&mut self, waiting: Waiting) {
        // An acknowledgement stands for all pushes before it.
        if let (None, Some(last)) = (&waiting.update, self.waiting.back_mut())
            && (last.author, &last.update) == (waiting.author, &None)
        {
            last.number = waiting.number;
            return;
        }
        self.waiting_bytes += waiting.bytes();
        self.waiting.push_back(waiting);
    }

    /// Members whose answer had a hole are asked again once something it waited for is there.
    fn ask_again(&mut self) -> Vec<MemberId> {
        let mut wake = Vec::new();
        for (id, member) in self.members.iter_mut() {
            if member.asks_again(&self.admitted) {
                wake.push(id);
            }
        }
        wake
    }

    fn acknowledge(&mut self, id: MemberId, number: u64) {
        if let Some(member) = self.members.get_mut(&id) {
            member.ack = Some(Acknowledgement::new(&self.receipt, number));
        }
    }

    /// The next commit of this room, for the store: one at a time, in order.
    pub fn take_batch(&mut self) -> Option<Batch> {
        if let Some(taken) = &mut self.taken {
            let again = !taken.is_out;
            taken.is_out = true;
            return again.then(|| taken.batch.clone());
        }
        let (count, update) = self.next_update()?;
        let (mut author, mut acks, mut updates) = (None, Vec::new(), 0);
        for next in self.waiting.drain(..count) {
            self.waiting_bytes -= next.bytes();
            acks.extend(next.number.map(|number| (next.author, number)));
            if next.update.is_some() {
                let is_same = updates == 0 || author == Some(next.author);
                author = is_same.then_some(next.author);
                updates += 1;
            }
        }
        let through = self.sequence() + updates;
        let batch = Batch::new(self.document.clone(), self.epoch, self.sequence() + 1, through, update);
        self.taken = Some(Taken { batch: batch.clone(), is_out: true, acks, author });
        Some(batch)
    }

    /// What waits, merged up to the size limit, and how many of those waiting it is.
    fn next_update(&self) -> Option<(usize, Bytes)> {
        let mut updates: Vec<&Bytes> = Vec::new();
        let (mut count, mut bytes) = (0, 0);
        for waiting in &self.waiting {
            if let Some(update) = &waiting.update {
                if !updates.is_empty() && bytes + update.len() > BATCH_BYTES_MAX {
                    break;
                }
                bytes += update.len();
                updates.push(update);
            }
            count += 1;
        }
        if let [_, _, ..] = updates.as_slice() {
            // Admission made them contiguous, so they merge; if they did not, they would go one by one.
            if let Ok(merged) = merge(updates.iter().copied()) {
                return Some((count, merged));
            }
        }
        let first = self.waiting.iter().position(|waiting| waiting.update.is_some())?;
        let count = if updates.len() == 1 { count } else { first + 1 };
        Some((count, self.waiting.get(first)?.update.clone()?))
    }

    /// The store could not commit: the batch stays first in line and is taken again.
    pub fn returned(&mut self) {
        if let Some(taken) = &mut self.taken {
            taken.is_out = false;
        }
    }

    /// The store has committed the batch: now it may be spoken about. All members are to be woken.
    pub fn committed(&mut self, receipt: Receipt) {
        let Some(taken) = self.taken.take_if(|taken| taken.batch.through() == receipt.through()) else {
            return;
        };
        let update = taken.batch.update().clone();
        self.receipt = receipt;
        self.up_to_date = 0;
        self.ring_bytes += update.len();
        self.ring.push_back(Commit { through: self.sequence(), update, author: taken.author });
        while self.ring_bytes > RING_BYTES_MAX && self.ring.len() > 1 {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.ring_bytes -= oldest.update.len();
            self.ring_after = oldest.through;
        }
        taken.acks.into_iter().for_each(|(author, number)| self.acknowledge(author, number));
        while let Some(waiting) = self.waiting.pop_front_if(|waiting| waiting.update.is_none()) {
            self.waiting_bytes -= waiting.bytes();
            waiting.number.into_iter().for_each(|number| self.acknowledge(waiting.author, number));
        }
        self.forget_ring_if_all_have_it();
    }

    /// True when the store should ask for a batch.
    pub fn has_batch(&self) -> bool {
        match &self.taken {
            Some(taken) => !taken.is_out,
            None => !self.waiting.is_empty(),
        }
    }

    /// What a member is to be told now. It counts as told: the caller sends it or lets the member go.
    pub fn collect(&mut self, id: MemberId) -> Outgoing {
        let sequence = self.sequence();
        let mut out = Outgoing::default();
        let Some(member) = self.members.get_mut(&id) else { return out };
        out.ack = member.ack.take();
        let asks = member.asking.send();
        match &member.progress {
            Progress::At(at) if *at == sequence => {}
            Progress::At(at) if *at >= self.ring_after => {
                let after = *at;
                let recent = self.ring.iter().filter(|recent| recent.through > after);
                let others = recent.filter(|recent| recent.author != Some(id));
                let updates = others.map(|recent| recent.update.clone()).collect();
                out.ready = Some(Ready { through: sequence, updates });
                member.progress = Progress::At(sequence);
                self.up_to_date += 1;
                self.forget_ring_if_all_have_it();
            }
            Progress::At(at) => {
                out.behind = Some(Behind::After(*at));
                member.progress = Progress::CatchingUp;
            }
            Progress::Needs(vector) => {
                out.behind = Some(Behind::StateVector(vector.clone()));
                member.progress = Progress::CatchingUp;
            }
            Progress::CatchingUp => {}
        }
        if asks {
            out.need = Some(self.committed_state_vector());
        }
        out
    }

    /// A member that was behind has been sent everything up to `through`.
    pub fn caught_up(&mut self, id: MemberId, through: u64) {
        let sequence = self.sequence();
        let Some(member) = self.members.get_mut(&id) else { return };
        if member.progress == Progress::CatchingUp {
            member.progress = Progress::At(through);
            self.up_to_date += usize::from(through == sequence);
            self.forget_ring_if_all_have_it();
        }
    }

    /// Idle rooms keep no recent commits.
    fn forget_ring_if_all_have_it(&mut self) {
        if self.up_to_date == self.members.len() && !self.ring.is_empty() {
            self.forget_recent();
        }
    }

    /// Forgets the recent commits: members that have not had them are served from the log.
    pub fn forget_recent(&mut self) {
        self.ring = VecDeque::new();
        self.ring_bytes = 0;
        self.ring_after = self.sequence();
    }

    /// The clocks that are durable. What is admitted and not yet committed does not count: a crash can
    /// take it back, and a device that believed it were here would not send it again.
    pub fn committed_state_vector(&self) -> StateVector {
        let mut vector = self.admitted.state_vector();
        let waiting = self.waiting.iter().rev().filter_map(|waiting| waiting.update.as_ref());
        let taken = self.taken.iter().map(|taken| taken.batch.update());
        for update in waiting.chain(taken) {
            if let Ok(scan) = Scan::new(update) {
                scan.sections.iter().for_each(|section| vector.set(section.client, section.clock));
            }
        }
        vector
    }

    /// Everything admitted, committed or not.
    pub fn admitted(&self) -> &Admitted {
        &self.admitted
    }
}

#[cfg(test)]
mod tests;
