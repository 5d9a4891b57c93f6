//! What passed a port, and what did not and why.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::frame::Malformed;

/// Why a frame was lost. Those before [`NoBuffers`](Loss::NoBuffers) are counted at the port that it came from, the others at the one
/// that it was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Loss {
    /// Shorter than its headers.
    Short,
    /// Longer than what the network carries.
    Long,
    /// It asks for a checksum that it cannot have.
    Checksum,
    /// It asks for a segmentation that it cannot have.
    Segmentation,
    /// Its source is not the sender's own address; or, from the wire, no station's.
    Source,
    /// From the wire, with the address of a station of this board: an echo, or a forgery.
    Echo,
    /// A guest's frame that could be the cluster's.
    Reserved,
    /// A guest's IP packet whose headers could not be followed.
    Hidden,
    /// To an address that a bridge keeps to one link.
    LinkLocal,
    /// Beyond the limit for what goes to everyone.
    Storm,
    /// From the wire to the wire, or from a guest to itself.
    Back,
    /// From the wire, to no station of this board.
    Stranger,
    /// The receiver has no buffers, or the board no room.
    NoBuffers,
    /// The receiver's buffers are too small.
    TooSmall,
    /// There is no receiver.
    Down,
    /// The gate is shut: the permit has ended.
    Gate,
    /// It makes more finished frames than the uplink has room for at all.
    TooManyParts,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "too short",
            Self::Long => "too long",
            Self::Checksum => "a checksum that cannot be filled in",
            Self::Segmentation => "a segmentation that cannot be done",
            Self::Source => "a source that is not its own",
            Self::Echo => "from the wire with an address of this board",
            Self::Reserved => "what could be the cluster's",
            Self::Hidden => "headers that could not be followed",
            Self::LinkLocal => "to a bridge's own address",
            Self::Storm => "more to everyone than is allowed",
            Self::Back => "to where it came from",
            Self::Stranger => "to no station of this board",
            Self::NoBuffers => "no buffers",
            Self::TooSmall => "buffers that are too small",
            Self::Down => "no driver",
            Self::Gate => "the gate was shut",
            Self::TooManyParts => "more parts than there can be room for",
        })
    }
}

/// How many reasons there are.
pub const LOSSES: usize = Loss::TooManyParts as usize + 1;

impl Loss {
    /// All reasons, in order.
    pub const ALL: [Self; LOSSES] = [
        Self::Short,
        Self::Long,
        Self::Checksum,
        Self::Segmentation,
        Self::Source,
        Self::Echo,
        Self::Reserved,
        Self::Hidden,
        Self::LinkLocal,
        Self::Storm,
        Self::Back,
        Self::Stranger,
        Self::NoBuffers,
        Self::TooSmall,
        Self::Down,
        Self::Gate,
        Self::TooManyParts,
    ];
}

impl From<Malformed> for Loss {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::Short => Self::Short,
            Malformed::Long => Self::Long,
            Malformed::Checksum => Self::Checksum,
            Malformed::Segmentation => Self::Segmentation,
        }
    }
}

/// The counters of one port. A frame that is still to be cut counts as one.
pub struct Counters {
    from: [AtomicU64; 2],
    to: [AtomicU64; 2],
    lost: [AtomicU64; LOSSES],
}

/// Counters as they were at a moment; each by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Frames that came from the port, those that were lost included, and their bytes.
    pub from: (u64, u64),
    /// Frames that went to the port, and their bytes.
    pub to: (u64, u64),
    /// What was lost, by reason.
    pub lost: [u64; LOSSES],
}

impl Snapshot {
    /// What was lost for a reason.
    pub fn lost(&self, reason: Loss) -> u64 {
        self.lost[reason as usize]
    }
}

fn count(pair: &[AtomicU64; 2], bytes: usize) {
    pair[0].fetch_add(1, Ordering::Relaxed);
    pair[1].fetch_add(bytes as u64, Ordering::Relaxed);
}

impl Counters {
    pub(super) const fn new() -> Self {
        Self {
            from: [const { AtomicU64::new(0) }; 2],
            to: [const { AtomicU64::new(0) }; 2],
            lost: [const { AtomicU64::new(0) }; LOSSES],
        }
    }

    #[inline]
    pub(super) fn count_from(&self, bytes: usize) {
        count(&self.from, bytes);
    }

    #[inline]
    pub(super) fn count_to(&self, bytes: usize) {
        count(&self.to, bytes);
    }

    #[inline]
    pub(super) fn count_loss(&self, reason: Loss) {
        self.lost[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn reset(&self) {
        let all = self.from.iter().chain(&self.to).chain(&self.lost);
        all.for_each(|counter| counter.store(0, Ordering::Relaxed));
    }

    /// The counters now.
    pub fn snapshot(&self) -> Snapshot {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Snapshot {
            from: (load(&self.from[0]), load(&self.from[1])),
            to: (load(&self.to[0]), load(&self.to[1])),
            lost: core::array::from_fn(|n| load(&self.lost[n])),
        }
    }
}
