//! A connection as the network has it: two queues, and two ends that need not agree on whether it is there.

use bytes::Bytes;
use std::collections::VecDeque;

/// Frames in both directions, in order.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) device: usize,
    pub(crate) tab: u64,
    up: VecDeque<Bytes>,
    /// With the relay's turn that each is of.
    down: VecDeque<(u64, Bytes)>,
    turn: u64,
    /// Half-open: what is sent in this direction is gone, and nobody is told.
    up_vanishes: bool,
    down_vanishes: bool,
    /// The ends that have not closed it.
    device_is_open: bool,
    relay_is_open: bool,
}

/// What an end finds when it looks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    Frame(Bytes),
    /// The other end has closed it, and everything before that has come.
    Closed,
    Nothing,
}

impl Wire {
    pub(crate) fn new(device: usize, tab: u64) -> Self {
        Wire {
            device,
            tab,
            up: VecDeque::new(),
            down: VecDeque::new(),
            turn: 0,
            up_vanishes: false,
            down_vanishes: false,
            device_is_open: true,
            relay_is_open: true,
        }
    }

    pub(crate) fn send_up(&mut self, frames: Vec<Bytes>) {
        if self.device_is_open && !self.up_vanishes {
            self.up.extend(frames);
        }
    }

    /// One turn of the relay.
    pub(crate) fn send_down(&mut self, frames: Vec<Bytes>) {
        if self.relay_is_open && !self.down_vanishes {
            self.turn += 1;
            let turn = self.turn;
            self.down.extend(frames.into_iter().map(|frame| (turn, frame)));
        }
    }

    /// Turns of the relay that the device has not read.
    pub(crate) fn unread_turns(&self) -> u64 {
        self.down.front().map_or(0, |(first, _)| self.turn - first + 1)
    }

    pub(crate) fn arrives_up(&mut self) -> Arrival {
        match self.up.pop_front() {
            Some(frame) if self.relay_is_open => Arrival::Frame(frame),
            None if self.relay_is_open && !self.device_is_open && !self.up_vanishes => Arrival::Closed,
            _ => Arrival::Nothing,
        }
    }

    pub(crate) fn arrives_down(&mut self) -> Arrival {
        match self.down.pop_front() {
            Some((_, frame)) if self.device_is_open => Arrival::Frame(frame),
            None if self.device_is_open && !self.relay_is_open && !self.down_vanishes => Arrival::Closed,
            _ => Arrival::Nothing,
        }
    }

    /// The device's end is closed; what it has sent may still arrive.
    pub(crate) fn close_device(&mut self) {
        self.device_is_open = false;
        self.down.clear();
    }

    /// The relay's end is closed; what it has sent may still arrive.
    pub(crate) fn close_relay(&mut self) {
        self.relay_is_open = false;
        self.up.clear();
    }

    pub(crate) fn vanish_up(&mut self) {
        self.up_vanishes = true;
        self.up.clear();
    }

    pub(crate) fn vanish_down(&mut self) {
        self.down_vanishes = true;
        self.down.clear();
    }

    /// True when what each end sends reaches the other.
    pub(crate) fn is_whole(&self) -> bool {
        self.device_is_open && self.relay_is_open && !self.up_vanishes && !self.down_vanishes
    }

    pub(crate) fn is_gone(&self) -> bool {
        !self.device_is_open && !self.relay_is_open
    }

    /// True when something is on its way.
    pub(crate) fn is_busy(&self) -> bool {
        !self.up.is_empty() || !self.down.is_empty()
    }
}
