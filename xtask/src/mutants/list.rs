//! The mistakes: each is what a tempting shortcut or a slip in the core would be.

use super::Mutant;

/// In the order of the core's files, from the relay to the device and down to the bytes.
pub(super) const LIST: &[Mutant] = &[
    Mutant {
        what: "A cursor of another lineage is taken for one of this.",
        file: "room.rs",
        before: "let same = cursor.lineage == self.lineage && cursor.epoch == self.epoch;",
        after: "let same = cursor.epoch == self.epoch;",
    },
    Mutant {
        what: "A device that comes with a state vector is not asked for what the relay lacks.",
        file: "room.rs",
        before: "let asking = if vector.is_empty() { Asking::Nothing } else { Asking::ToSend };",
        after: "let asking = Asking::Nothing;",
    },
    Mutant {
        what: "A push that adds nothing is acknowledged while the original is in the store's hands.",
        file: "room.rs",
        before: "if self.waiting.is_empty() && self.taken.is_none() {",
        after: "if self.waiting.is_empty() {",
    },
    Mutant {
        what: "A commit of several authors counts as the last one's, who does not get it back.",
        file: "room.rs",
        before: "author = is_same.then_some(next.author);",
        after: "author = Some(next.author);",
    },
    Mutant {
        what: "A commit that failed is not tried again.",
        file: "room.rs",
        before: "taken.is_out = false;",
        after: "taken.is_out = true;",
    },
    Mutant {
        what: "A member that lacks the commit just before the recent ones is served from those.",
        file: "room.rs",
        before: "Progress::At(at) if *at >= self.ring_after => {",
        after: "Progress::At(at) if *at + 1 >= self.ring_after => {",
    },
    Mutant {
        what: "Where the recent commits begin is not moved when they are forgotten.",
        file: "room.rs",
        before: "self.ring_after = self.sequence();",
        after: "",
    },
    Mutant {
        what: "Where the recent commits begin is not moved when the oldest leaves.",
        file: "room.rs",
        before: "self.ring_after = oldest.through;",
        after: "",
    },
    Mutant {
        what: "A member that was served from the log counts as having what was committed meanwhile.",
        file: "room.rs",
        before: r"member.progress = Progress::At(through);
            self.up_to_date += usize::from(through == sequence);",
        after: r"member.progress = Progress::At(sequence);
            self.up_to_date += 1;",
    },
    Mutant {
        what: "What is in the store's hands counts as committed when a device is asked for what the relay lacks.",
        file: "room.rs",
        before: "for update in waiting.chain(taken) {",
        after: "for update in waiting {",
    },
    Mutant {
        what: "Of a client's updates that wait, the last one says what is committed.",
        file: "room.rs",
        before: "let waiting = self.waiting.iter().rev().filter_map(",
        after: "let waiting = self.waiting.iter().filter_map(",
    },
    Mutant {
        what: "A push with a gap is acknowledged.",
        file: "room/member.rs",
        before: r"(PushKind::Edit, false) => {
                self.has_gap = true;",
        after: "(PushKind::Edit, false) => {",
    },
    Mutant {
        what: "A gap that an answer has filled still holds back acknowledgements.",
        file: "room/member.rs",
        before: "self.has_gap = false;",
        after: "",
    },
    Mutant {
        what: "A stored row that waits for something is pushed as if it were here.",
        file: "replica.rs",
        before: "if self.held.is_empty() || self.admitted.covers(&row.update) == Ok(true) {",
        after: "if true {",
    },
    Mutant {
        what: "A branch is merged before everything is here that the relay had at the opening.",
        file: "replica.rs",
        before: "self.link == Link::Live && known.unwrap_or(0) >= self.opened_at",
        after: "self.link == Link::Live",
    },
    Mutant {
        what: "What was sent before the relay knew of a new opening moves the cursor.",
        file: "replica/connection.rs",
        before: r"the new opening covers it.
            return Ok(());",
        after: "the new opening covers it.",
    },
    Mutant {
        what: "An opening counts though a later one is on its way.",
        file: "replica/connection.rs",
        before: r"            return;
        }
        // Also of a document that was refused",
        after: r"        }
        // Also of a document that was refused",
    },
    Mutant {
        what: "The refusal of an opening does not count as its answer.",
        file: "replica/connection.rs",
        before: r"            self.unanswered = self.unanswered.saturating_sub(1);
            if self.unanswered > 0 {
                return;
            }
        }",
        after: "        }",
    },
    Mutant {
        what: "A cursor is kept while what was offered to the relay is not durable.",
        file: "replica/connection.rs",
        before: "if self.offer == Offer::Settled && !self.holds_received() && !self.is_refused_for_good {",
        after: "if !self.holds_received() && !self.is_refused_for_good {",
    },
    Mutant {
        what: "What was pushed on a lost connection is not pushed again.",
        file: "replica/connection.rs",
        before: r"self.outbox.lost();
        match self.link {",
        after: "match self.link {",
    },
    Mutant {
        what: "What was forbidden is not opened again with another token.",
        file: "replica/connection.rs",
        before: "Link::Refused(Code::Forbidden) => self.open_again(lineage),",
        after: "Link::Refused(Code::Forbidden) => {}",
    },
    Mutant {
        what: "An acknowledgement takes the push after it with it.",
        file: "replica/outbox.rs",
        before: "entry.pushed.is_some_and(|pushed| pushed <= number);",
        after: "entry.pushed.is_some_and(|pushed| pushed <= number + 1);",
    },
    Mutant {
        what: "Every row that waits counts as pushed, though only some fit.",
        file: "replica/outbox.rs",
        before: "waiting.take(count).for_each(|entry| entry.pushed = Some(number));",
        after: "waiting.for_each(|entry| entry.pushed = Some(number));",
    },
    Mutant {
        what: "The answer to the relay's question takes rows along that the document does not have.",
        file: "replica/outbox.rs",
        before: "let here = self.entries.iter_mut().filter(|entry| !entry.is_held);",
        after: "let here = self.entries.iter_mut();",
    },
    Mutant {
        what: "An item is let in though its right neighbour is not there.",
        file: "admission.rs",
        before: "for id in [item.origin, item.right_origin, explicit]",
        after: "for id in [item.origin, explicit]",
    },
    Mutant {
        what: "An item is let in when what comes just before the unit that it names is there.",
        file: "admission.rs",
        before: "if id.clock < section.known => None,",
        after: "if id.clock <= section.known => None,",
    },
    Mutant {
        what: "Deletions of what is not there are left out in silence.",
        file: "admission.rs",
        before: "note(missing, Id { client, clock: known });",
        after: "",
    },
    Mutant {
        what: "An update that is not taken as it is loses its deletions.",
        file: "admission/pieces.rs",
        before: "self.close(deletes);",
        after: "self.close(&DeleteSet::new());",
    },
    Mutant {
        what: "What lies beyond a state vector comes without its delete set.",
        file: "update/diff.rs",
        before: "out.extend_from_slice(update.get(end_of_structs..).unwrap_or(&[]));",
        after: "write_uint(&mut out, 0);",
    },
    Mutant {
        what: "The first clock that is not known is taken for the last one that is.",
        file: "update/diff.rs",
        before: "let from = known.get(section.client);",
        after: "let from = known.get(section.client) + 1;",
    },
    Mutant {
        what: "Merged updates lose their deletions.",
        file: "update/merge.rs",
        before: "deletes.extend_from_slice(&scan.deletes);",
        after: "",
    },
    Mutant {
        what: "What is left of an item that was cut stands behind the item's first unit.",
        file: "update/write.rs",
        before: "Id { client, clock: read.clock + offset - 1 }.write(&mut out);",
        after: "Id { client, clock: read.clock }.write(&mut out);",
    },
    Mutant {
        what: "A row that only deletes what is in a branch does not build on it.",
        file: "branch.rs",
        before: "if self.are_deleted_by(&scan) {",
        after: "if false {",
    },
    Mutant {
        what: "The unit before a row in its maker's clock is none that it builds on.",
        file: "branch.rs",
        before: "self.overlaps(section.client, read.clock.saturating_sub(1)..read.end())",
        after: "self.overlaps(section.client, read.clock..read.end())",
    },
    Mutant {
        what: "The last fragment but one counts as the last.",
        file: "protocol/fragments.rs",
        before: "u64::from(index < last)",
        after: "u64::from(index + 1 < last)",
    },
    Mutant {
        what: "The fragments of a whole message are kept for the next one.",
        file: "protocol/fragments.rs",
        before: "Ok(self.parts.take().map(BytesMut::freeze))",
        after: "Ok(self.parts.clone().map(BytesMut::freeze))",
    },
    Mutant {
        what: "The fragments of a lost connection are joined with those of the next.",
        file: "client.rs",
        before: "self.reassembly = Reassembly::default();",
        after: "",
    },
    Mutant {
        what: "A clock that was set back leaves what was planned by it where it was.",
        file: "client.rs",
        before: "if back_ms > 0 {",
        after: "if false {",
    },
    Mutant {
        what: "A document that was refused for a while is not opened again.",
        file: "client.rs",
        before: "self.reopen_ms.get_or_insert(now_ms + REOPEN_AFTER_MS);",
        after: "",
    },
    Mutant {
        what: "The channel of a refused document is not closed when another replica takes its place.",
        file: "client.rs",
        before: "Link::Opening | Link::Live | Link::Refused(_)",
        after: "Link::Opening | Link::Live",
    },
];
