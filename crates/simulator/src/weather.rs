//! Which faults a run has, and how often: each seed has a few of them, so that they meet in all combinations.

use fastrand::Rng;

/// One kind of thing that can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Edit,
    DeliverUp,
    DeliverDown,
    RelayDisk,
    RelaySpeaks,
    DeviceDisk,
    Connect,
    Hear,
    Adopt,
    PutAside,
    Token,
    Tick,
    OpenTab,
    Merge,
    CompactDevice,
    CompactRelay,
    EvictRooms,
    BackUp,
    CloseWire,
    HalfOpen,
    CrashTab,
    CrashDevice,
    CrashRelay,
    StopRelay,
    CommitFails,
    RelayDiskFull,
    ReadFails,
    DeviceWriteFails,
    Restore,
    ReplaceDevice,
    Grant,
    Revoke,
    DeviceClock,
    RelayClock,
    Sleep,
}

/// What happens without any fault, in thousandths, about.
const CALM: [(Event, u32); 18] = [
    (Event::Edit, 170),
    (Event::DeliverUp, 180),
    (Event::DeliverDown, 180),
    (Event::RelayDisk, 130),
    (Event::RelaySpeaks, 120),
    (Event::DeviceDisk, 120),
    (Event::Connect, 70),
    (Event::Hear, 60),
    (Event::Adopt, 20),
    (Event::PutAside, 30),
    (Event::Token, 20),
    (Event::Tick, 60),
    (Event::OpenTab, 8),
    (Event::Merge, 12),
    (Event::CompactDevice, 6),
    (Event::CompactRelay, 6),
    (Event::EvictRooms, 5),
    (Event::BackUp, 3),
];

/// Faults, each with its usual weight. A seed has about half of them.
const FAULTS: [(Event, u32); 17] = [
    (Event::CloseWire, 15),
    (Event::HalfOpen, 10),
    (Event::CrashTab, 8),
    (Event::CrashDevice, 4),
    (Event::CrashRelay, 6),
    (Event::StopRelay, 3),
    (Event::CommitFails, 8),
    (Event::RelayDiskFull, 3),
    (Event::ReadFails, 6),
    (Event::DeviceWriteFails, 10),
    (Event::Restore, 3),
    (Event::ReplaceDevice, 2),
    (Event::Grant, 10),
    (Event::Revoke, 3),
    (Event::DeviceClock, 4),
    (Event::RelayClock, 3),
    (Event::Sleep, 6),
];

/// How things are for one seed.
#[derive(Debug)]
pub(crate) struct Weather {
    weights: Vec<(Event, u32)>,
    total: u32,
    /// The largest frame that the relay takes, and sends, in bytes.
    pub(crate) frame_bytes_max: usize,
    /// Turns of the relay that a reader may leave unread before it is told no more.
    pub(crate) unread_turns_max: u64,
    /// Some values are so large that pushes and recent commits reach their limits.
    pub(crate) has_large_values: bool,
    /// Tokens end.
    pub(crate) has_short_tokens: bool,
    /// How many times as long as others this run is.
    pub(crate) lengths: usize,
}

impl Weather {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let mut weights = CALM.to_vec();
        for (event, weight) in FAULTS {
            match rng.u32(0..6) {
                0..3 => {}
                3..5 => weights.push((event, weight)),
                _ => weights.push((event, weight * 4)),
            }
        }
        // What leads to branches, to more than one of them and to their end is rare where everything happens, and slow.
        let has_branches = rng.u32(0..3) == 0;
        if has_branches {
            let often = [
                (Event::Grant, 40),
                (Event::Token, 60),
                (Event::PutAside, 60),
                (Event::Merge, 60),
                (Event::Adopt, 60),
                (Event::CrashTab, 15),
                (Event::OpenTab, 40),
                (Event::DeviceWriteFails, 5),
                (Event::DeviceDisk, 250),
                (Event::DeliverUp, 250),
                (Event::DeliverDown, 250),
                (Event::RelayDisk, 100),
                (Event::RelaySpeaks, 100),
                (Event::Connect, 100),
            ];
            weights.extend(often);
        }
        let has_large_values = rng.u32(0..64) == 0;
        Weather {
            total: weights.iter().map(|(_, weight)| weight).sum(),
            weights,
            frame_bytes_max: if rng.u32(0..4) == 0 && !has_large_values { 64 } else { 1 << 16 },
            unread_turns_max: rng.u64(1..6),
            has_large_values,
            has_short_tokens: rng.bool(),
            lengths: if has_branches { 3 } else { 1 },
        }
    }

    pub(crate) fn next(&self, rng: &mut Rng) -> Event {
        let mut left = rng.u32(0..self.total);
        for (event, weight) in &self.weights {
            match left.checked_sub(*weight) {
                Some(rest) => left = rest,
                None => return *event,
            }
        }
        Event::Tick
    }
}
