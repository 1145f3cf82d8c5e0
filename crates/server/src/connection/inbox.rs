//! What has come and is not taken yet.

use bytes::Bytes;
use std::collections::VecDeque;
use tidewell_sync_core::code::Code;

#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// Each holds one or several messages.
    waiting: VecDeque<Bytes>,
    /// The buffer in which the rest of the first stands; 0 while nothing of it was taken.
    begun_bytes: usize,
}

impl Inbox {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What is kept for its client.
    pub(super) fn bytes(&self) -> usize {
        let first = self.waiting.front().map_or(0, Bytes::len);
        self.waiting.iter().map(Bytes::len).sum::<usize>() - first + first.max(self.begun_bytes)
    }

    pub(super) fn push(&mut self, messages: Bytes) {
        self.waiting.push_back(messages);
    }

    /// Takes the first message, read from the front by `read`; `None` when there is none, or when it has to wait.
    pub(super) fn take<M>(
        &mut self,
        read: impl Fn(&mut Bytes) -> Option<Result<M, Code>>,
        has_to_wait: impl FnOnce(&M) -> bool,
    ) -> Result<Option<M>, Code> {
        while let Some(first) = self.waiting.front_mut() {
            let before = first.clone();
            let Some(message) = read(first) else {
                self.waiting.pop_front();
                self.begun_bytes = 0;
                continue;
            };
            let message = message?;
            if has_to_wait(&message) {
                *first = before;
                return Ok(None);
            }
            self.begun_bytes = self.begun_bytes.max(before.len());
            // What was taken is not kept for as long as what is left. All copies together are no longer than the first was.
            if first.len() <= self.begun_bytes / 2 {
                *first = Bytes::copy_from_slice(first);
                self.begun_bytes = first.len();
            }
            return Ok(Some(message));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message is a byte; 0 is none.
    fn read(messages: &mut Bytes) -> Option<Result<u8, Code>> {
        let first = (!messages.is_empty()).then(|| messages.split_to(1)[0])?;
        Some(if first == 0 { Err(Code::InvalidFrame) } else { Ok(first) })
    }

    #[test]
    fn messages_are_taken_in_their_order_up_to_one_that_waits() {
        let mut inbox = Inbox::default();
        inbox.push(Bytes::from(vec![1, 2, 3]));
        inbox.push(Bytes::from_static(&[4, 0]));
        assert_eq!(inbox.take(read, |_| false), Ok(Some(1)));
        for _ in 0..2 {
            assert_eq!(inbox.take(read, |message| *message == 2), Ok(None));
        }
        for message in 2..=4 {
            assert_eq!(inbox.take(read, |_| false), Ok(Some(message)));
        }
        assert_eq!(inbox.take(read, |_| false), Err(Code::InvalidFrame));
    }

    #[test]
    fn of_what_was_taken_no_more_is_kept_than_waits_and_all_that_is_kept_counts() {
        let mut inbox = Inbox::default();
        inbox.push(Bytes::from(vec![1; 100]));
        inbox.push(Bytes::from(vec![2; 10]));
        let (mut kept, mut left) = (100, 100);
        while left > 0 {
            assert_eq!(inbox.take(read, |_| false), Ok(Some(1)));
            left -= 1;
            kept = if left <= kept / 2 { left } else { kept };
            assert_eq!(inbox.bytes(), kept + 10);
        }
        assert_eq!(inbox.take(read, |_| false), Ok(Some(2)));
        assert_eq!(inbox.bytes(), 10);

        let whole = Bytes::from(vec![1; 4]);
        let mut inbox = Inbox::default();
        inbox.push(whole.clone());
        for is_kept in [true, false] {
            assert_eq!(inbox.take(read, |_| false), Ok(Some(1)));
            assert_eq!(!whole.is_unique(), is_kept);
        }
    }
}
