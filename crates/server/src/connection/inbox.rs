//! What has come and is not taken yet.

use bytes::Bytes;
use std::collections::VecDeque;
use tidewell_sync_core::code::Code;

#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// Each holds one or several messages.
    waiting: VecDeque<Bytes>,
    /// Something of the first was taken: it stands in a buffer that is larger than what is left.
    is_begun: bool,
}

impl Inbox {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What is kept for its client.
    pub(super) fn bytes(&self) -> usize {
        self.waiting.iter().map(Bytes::len).sum()
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
                self.is_begun = false;
                continue;
            };
            let message = message?;
            if has_to_wait(&message) {
                // What was taken is not kept with what waits.
                let is_begun = std::mem::take(&mut self.is_begun);
                *first = if is_begun { Bytes::copy_from_slice(&before) } else { before };
                return Ok(None);
            }
            self.is_begun = true;
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
        let whole = Bytes::from(vec![1, 2, 3]);
        inbox.push(whole.clone());
        inbox.push(Bytes::from_static(&[4, 0]));
        assert_eq!(inbox.take(read, |_| false), Ok(Some(1)));
        for _ in 0..2 {
            assert_eq!(inbox.take(read, |message| *message == 2), Ok(None));
            assert_eq!(inbox.bytes(), 4);
        }
        assert!(whole.is_unique(), "what was taken is kept");
        for message in 2..=4 {
            assert_eq!(inbox.take(read, |_| false), Ok(Some(message)));
        }
        assert_eq!(inbox.take(read, |_| false), Err(Code::InvalidFrame));
    }
}
