//! Tickets: what a stock client, which can bring nothing but an address, shows in place of a token.
//!
//! An address ends up in logs and histories. So a ticket is for one document, for one connection, and for some seconds.

use crate::authority::Pass;
use crate::limits::{TICKET_VALID, TICKETS_MAX, TICKETS_PER_SUBJECT};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use rand::Rng;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::time::Instant;
use tidewell_sync_core::document_name::DocumentName;
use tidewell_sync_core::protocol::Access;

/// The tickets that nobody has used yet. They are lost with the process, and clients get new ones.
#[derive(Default)]
pub(crate) struct Tickets(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    tickets: FxHashMap<String, Ticket>,
    /// In the order in which they end; some of them may have been used.
    ends: VecDeque<(Instant, String)>,
    /// How many each subject has.
    counts: FxHashMap<String, usize>,
}

/// What a ticket is good for.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) document: DocumentName,
    pub(crate) access: Access,
    pub(crate) pass: Pass,
}

impl Tickets {
    /// A new ticket; `None` when there are too many, of all or of its subject.
    pub(crate) fn issue(&self, ticket: Ticket, now: Instant) -> Option<String> {
        let name = URL_SAFE_NO_PAD.encode(rand::rng().random::<[u8; 24]>());
        let mut inner = self.0.lock();
        inner.drop_ended(now);
        if inner.tickets.len() >= TICKETS_MAX {
            return None;
        }
        if let Some(subject) = ticket.pass.subject() {
            let count = inner.counts.entry(subject.to_owned()).or_default();
            if *count >= TICKETS_PER_SUBJECT {
                return None;
            }
            *count += 1;
        }
        inner.ends.push_back((now + TICKET_VALID, name.clone()));
        inner.tickets.insert(name.clone(), ticket);
        inner.forget_used();
        Some(name)
    }

    /// Uses a ticket up.
    pub(crate) fn redeem(&self, name: &str, now: Instant) -> Option<Ticket> {
        let mut inner = self.0.lock();
        inner.drop_ended(now);
        inner.remove(name)
    }
}

impl Inner {
    fn drop_ended(&mut self, now: Instant) {
        while let Some((_, name)) = self.ends.pop_front_if(|(end, _)| *end <= now) {
            self.remove(&name);
        }
    }

    /// Those who use tickets as fast as they get them take no more memory than those who keep them.
    fn forget_used(&mut self) {
        if self.ends.len() > 2 * TICKETS_MAX {
            let tickets = &self.tickets;
            self.ends.retain(|(_, name)| tickets.contains_key(name));
        }
    }

    fn remove(&mut self, name: &str) -> Option<Ticket> {
        let ticket = self.tickets.remove(name)?;
        if let Some(subject) = ticket.pass.subject()
            && let Some(count) = self.counts.get_mut(subject)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(subject);
            }
        }
        Some(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        let document = DocumentName::parse("acme/list").unwrap();
        Ticket { document, access: Access::Read, pass: Pass::default() }
    }

    #[test]
    fn a_ticket_is_good_once_and_for_a_while() {
        let (tickets, start) = (Tickets::default(), Instant::now());
        let [first, second] = [(), ()].map(|()| tickets.issue(ticket(), start).unwrap());
        assert_ne!(first, second);
        let just_before = start + TICKET_VALID - std::time::Duration::from_millis(1);
        assert_eq!(tickets.redeem(&first, just_before).unwrap().access, Access::Read);
        assert!(tickets.redeem(&first, just_before).is_none(), "it was used");
        assert!(tickets.redeem(&second, start + TICKET_VALID).is_none(), "it has ended");
        assert!(tickets.redeem("guessed", start).is_none());
    }

    #[test]
    fn tickets_take_a_bounded_place_and_those_that_end_make_room() {
        let (tickets, start) = (Tickets::default(), Instant::now());
        (0..TICKETS_MAX).for_each(|_| drop(tickets.issue(ticket(), start).unwrap()));
        assert!(tickets.issue(ticket(), start).is_none());
        assert!(tickets.issue(ticket(), start + TICKET_VALID).is_some());
        assert_eq!(tickets.0.lock().tickets.len(), 1);
    }

    #[test]
    fn a_ticket_that_was_used_takes_no_place() {
        let (tickets, start) = (Tickets::default(), Instant::now());
        let kept = tickets.issue(ticket(), start).unwrap();
        for number in 1..=5 * TICKETS_MAX {
            let name = tickets.issue(ticket(), start).unwrap_or_else(|| panic!("ticket {number}"));
            assert!(tickets.redeem(&name, start).is_some());
        }
        assert!(tickets.0.lock().ends.len() <= 2 * TICKETS_MAX);
        assert!(tickets.redeem(&kept, start).is_some());
        assert!(tickets.issue(ticket(), start).is_some());
        assert_eq!(tickets.0.lock().tickets.len(), 1);
        drop(tickets.redeem("", start + TICKET_VALID));
        let inner = tickets.0.lock();
        assert!(inner.tickets.is_empty() && inner.ends.is_empty());
    }
}
