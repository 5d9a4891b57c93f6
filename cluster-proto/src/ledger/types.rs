//! What the ledger is made of.

use heapless::String;

pub use super::decree::{Decree, Entry, Observation};
pub use super::seats::Seats;
use crate::ids::{BoardId, BoardSet, Epoch, GuestId, Incarnation, Index, MoveId, Tenure, VolumeId};
use crate::wire::codec::{choice, record, tagged};

/// A name of a board, guest or volume: at most 63 bytes of UTF-8, as in a manifest.
pub type Name = String<{ crate::manifest::Name::MAX_BYTES }>;
/// A guest's kernel command line: at most 1,024 bytes of UTF-8, as in a manifest.
pub type CommandLine = String<{ crate::manifest::CommandLine::MAX_BYTES }>;
/// The SHA-256 of an image. The ledger only compares it.
pub type Digest = [u8; 32];

record! {
    /// What a board has for guests.
    Capacity {
        /// Memory in MiB.
        memory_mib: u32,
        /// Cores.
        cores: u16,
        /// Its compatibility class: CPU features, interrupt controller, timer frequency. Guests move within a class.
        class: u32,
    }
}

record! {
    /// A board as the package describes it and the cluster knows it.
    Board {
        /// Its name.
        name: Name,
        /// Whether it takes part in votes.
        votes: bool,
        /// Whether it only votes, and runs no guest.
        witness: bool,
        /// Whether guests are to leave it.
        drained: bool,
        /// How long a guest may be still that leaves it because it is drained, milliseconds; none: as boards see fit.
        downtime: Option<u16>,
        /// Whether nobody takes its guests over while it is away (maintenance).
        disarmed: bool,
        /// Its life, the last that was let in.
        incarnation: Incarnation,
        /// Its present tenure; zero while it is out.
        tenure: Tenure,
        /// Where its last tenure was ended.
        fenced_at: Index,
        /// What it said that it has, when it was let in.
        capacity: Capacity,
    }
}

choice! {
    /// What the operator wants of a guest.
    Wanted {
        /// To run.
        Running = 0,
        /// Not to run.
        Stopped = 1,
    }
}

choice! {
    /// How far a guest's present owner is.
    Phase {
        /// It has no owner.
        Unowned = 0,
        /// Its owner was told to start it.
        Starting = 1,
        /// Its owner says that it runs.
        Running = 2,
        /// Its owner is to destroy it and report.
        Leaving = 3,
    }
}

record! {
    /// A guest as the operator describes it.
    GuestSpec {
        /// Its name, unique in the cluster.
        name: Name,
        /// The memory that it takes of a board, in MiB.
        memory_mib: u32,
        /// Its vCPUs.
        vcpus: u16,
        /// The class of boards that it needs; zero for any.
        class: u32,
        /// Higher goes first, and may displace lower.
        priority: u8,
        /// Guests of one group other than zero never share a board.
        apart: u8,
        /// The boards that it may run on; empty for all.
        allowed: BoardSet,
        /// Whether it is started in the beginning.
        wanted: Wanted,
        /// The MAC address of its first network card; zeros for none.
        mac: [u8; 6],
        /// Its kernel.
        kernel: Digest,
        /// Its initial RAM disk; zeros for none.
        initrd: Digest,
        /// Its kernel's command line.
        command_line: CommandLine,
    }
}

tagged! {
    /// How the present owner came by its copy in the present epoch.
    Origin {
        /// It starts the guest from its images.
        0 => Fresh {},
        /// The owner before handed it over; it goes on from the copy that this move brought.
        1 => Arrived {
            /// Which move.
            id: MoveId,
        },
        /// The same owner had it in the epoch before, asked for a hand-over, and was told to keep it.
        2 => Kept {},
        /// An operator's tool brings it from a file, once this board is the owner; it goes on from that. Until it runs it is wanted stopped, so that whatever
        /// fails leaves it stopped.
        3 => Restored {
            /// Under which name the file comes.
            id: MoveId,
        },
    }
}

record! {
    /// A move under way: the guest's owner copies it to another board while it runs.
    Move {
        /// Which move.
        id: MoveId,
        /// The destination.
        to: BoardId,
        /// In which tenure of the destination.
        tenure: Tenure,
        /// Why.
        reason: Reason,
        /// How long the guest may be still for it, milliseconds; none: as its board sees fit.
        downtime: Option<u16>,
    }
}

record! {
    /// What a guest may have of its board's cores.
    Share {
        /// How much each of its vCPUs counts beside others that want a core: 1 to [`WEIGHT_MAX`](crate::limits::WEIGHT_MAX).
        weight: u16,
        /// Percent of one core that it has at the most, all its vCPUs together; zero for as much as there is.
        cap: u16,
    }
}

impl Copy for Share {}

impl Share {
    /// That of a guest of which the operator has said nothing.
    pub const DEFAULT: Self = Self {
        weight: 100,
        cap: 0,
    };
}

record! {
    /// A guest.
    Guest {
        /// What the operator described.
        spec: GuestSpec,
        /// What of its board it may have.
        share: Share,
        /// What the operator wants now.
        wanted: Wanted,
        /// How far its owner is.
        phase: Phase,
        /// On whose board it is; meaningless when `phase` is `Unowned`.
        owner: BoardId,
        /// In which tenure of the owner.
        tenure: Tenure,
        /// How often it failed since it last ran for long, or since the operator touched it.
        failures: u8,
        /// Why it last changed its place.
        reason: Reason,
        /// How its owner came by it.
        origin: Origin,
        /// The move under way, if there is one; only while it runs.
        moving: Option<Move>,
        /// How many moves were given up since it last changed its place, or since the operator touched it.
        stays: u8,
        /// Why the last of them was given up.
        stay: Reason,
    }
}

choice! {
    /// What happens to a volume's contents when its guest starts elsewhere.
    VolumeKind {
        /// They stay on their board, and the guest with them.
        Local = 0,
        /// They are made from the image at every start.
        Ephemeral = 1,
    }
}

record! {
    /// A volume.
    Volume {
        /// Its name.
        name: Name,
        /// Whose it is.
        guest: GuestId,
        /// What becomes of its contents.
        kind: VolumeKind,
        /// Where a local one lies.
        board: BoardId,
        /// Its size in MiB.
        size_mib: u32,
        /// What it starts from; zeros for empty.
        image: Digest,
    }
}

record! {
    /// An image, and who holds it. Its digest is its name.
    Image {
        /// Its contents.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// Which boards have it.
        held: BoardSet,
    }
}

choice! {
    /// Why something happened.
    Reason {
        /// Nothing happened yet.
        None = 0,
        /// The operator said so.
        Operator = 1,
        /// Too few voters hear the board.
        Silent = 2,
        /// The board itself says that it has no lease.
        Leaseless = 3,
        /// The board lives again and has forgotten.
        Rebooted = 4,
        /// The cluster was reformed without it.
        Reformed = 5,
        /// The guest had no owner and this was the best board.
        Placed = 6,
        /// Its board is being drained.
        Drained = 7,
        /// A guest of higher priority needs the room.
        Displaced = 8,
        /// The owner could not start it.
        StartFailed = 9,
        /// It ended by itself against its wanted state.
        Crashed = 10,
        /// It showed no sign of life: its watchdog ended it.
        Hung = 11,
        /// It wrote to its memory faster than the memory could be copied.
        NotConverged = 12,
        /// The destination would not take it.
        DestinationRefused = 13,
        /// The destination is no longer in the cluster, or no longer answers.
        DestinationLost = 14,
        /// Its board cannot move guests while they run.
        CannotMove = 15,
        /// An operator has it go on from a file.
        Restored = 16,
        /// What was to come from a file did not come whole, or was not taken.
        NotRestored = 17,
    }
}

choice! {
    /// What happened.
    Happening {
        /// A cluster was founded.
        Founded = 0,
        /// A board was let in.
        Joined = 1,
        /// A board's tenure was ended.
        Fenced = 2,
        /// A seat was emptied.
        Vacated = 3,
        /// A seat was given to a memory.
        Seated = 4,
        /// A guest was given an owner.
        Owned = 5,
        /// A guest runs.
        Ran = 6,
        /// A guest is to leave its owner.
        Leaving = 7,
        /// A guest has left its owner.
        Left = 8,
        /// An operator changed something.
        Ordered = 9,
        /// A guest is to be moved to a board while it runs.
        Moving = 10,
        /// A guest was handed over to a board, which goes on with the copy that arrived.
        Handed = 11,
        /// A move was given up, and the guest stays with its owner.
        Stayed = 12,
    }
}

record! {
    /// One line of the ledger's event log.
    Event {
        /// The decree that made it happen.
        index: Index,
        /// What.
        what: Happening,
        /// Why.
        reason: Reason,
        /// To which board, if to one.
        board: BoardId,
        /// To which guest, if to one.
        guest: Option<GuestId>,
        /// In which ownership epoch.
        epoch: Epoch,
    }
}

choice! {
    /// Why an operator's command was not carried out.
    Denied {
        /// There is no such guest, board or volume.
        Unknown = 0,
        /// The name is taken.
        Taken = 1,
        /// The table is full.
        Capacity = 2,
        /// Not while it runs.
        Running = 3,
        /// The cluster's log is full; again later.
        Busy = 4,
        /// There is no leader; again later.
        NoLeader = 5,
        /// A value is out of its range.
        Invalid = 6,
        /// A majority remembers, or a leader speaks: a reform is not needed.
        NotAlone = 7,
        /// Another board remembers more: a reform belongs there.
        Behind = 8,
        /// A voter is neither heard nor said to be lost: nobody knows what it remembers.
        Unaccounted = 9,
        /// It does not run, or not yet.
        NotRunning = 10,
        /// A local volume keeps it on its board.
        LocalVolume = 11,
        /// That board cannot run it, or no other board can.
        NoBoard = 12,
        /// It is on that board.
        AlreadyThere = 13,
        /// It is being moved to another board.
        Moving = 14,
        /// It is not being moved.
        NotMoving = 15,
    }
}

tagged! {
    /// What became of an operator's command.
    Outcome {
        /// It is agreed, and concerns this guest or volume.
        0 => Done {
            /// The place of the guest or volume; 0xFFFF for none.
            number: u16,
        },
        /// It changed nothing.
        1 => Refused {
            /// Why.
            why: Denied,
        },
    }
}

record! {
    /// Which command of which operator. An operator never uses a number twice for different commands.
    RequestId {
        /// 64 random bits that the operator's tool chose.
        operator: u64,
        /// Its own number for the command.
        request: u64,
    }
}

record! {
    /// A command that was carried out, kept so that repeating it changes nothing.
    Answered {
        /// Which.
        id: RequestId,
        /// What became of it.
        outcome: Outcome,
    }
}

tagged! {
    /// What an operator may order.
    Operation {
        /// A new guest.
        0 => CreateGuest {
            /// Its description.
            spec: GuestSpec,
        },
        /// Removes a guest that does not run, and its volumes.
        1 => DeleteGuest {
            /// Which.
            guest: GuestId,
        },
        /// To run or not to run.
        2 => Want {
            /// Which guest.
            guest: GuestId,
            /// What.
            wanted: Wanted,
        },
        /// Destroys the guest's copy and starts it afresh.
        3 => Restart {
            /// Which guest.
            guest: GuestId,
        },
        /// Guests are to leave a board, or may come back.
        4 => Drain {
            /// Which board.
            board: BoardId,
            /// Leave or come back.
            on: bool,
            /// How long each may be still for it, milliseconds, in the range of an order to move one; none: as boards see fit.
            downtime: Option<u16>,
        },
        /// No failover from this board, or again.
        5 => Disarm {
            /// Which board.
            board: BoardId,
            /// No failover, or again.
            on: bool,
        },
        /// No failover at all, or again.
        6 => DisarmAll {
            /// No failover, or again.
            on: bool,
        },
        /// A new volume for a guest that does not run.
        7 => CreateVolume {
            /// Its description.
            volume: Volume,
        },
        /// Removes a volume of a guest that does not run.
        8 => DeleteVolume {
            /// Which.
            volume: VolumeId,
        },
        /// A board has an image now, or no longer.
        9 => HoldImage {
            /// Which.
            image: Image,
        },
        /// Moves a running guest to another board while it runs.
        10 => Migrate {
            /// Which guest.
            guest: GuestId,
            /// Where to; none: to the board that suits it best.
            to: Option<BoardId>,
            /// How long it may be still for that, milliseconds ([`DOWNTIME_MS_MIN`](crate::limits::DOWNTIME_MS_MIN) to
            /// [`DOWNTIME_MS_MAX`](crate::limits::DOWNTIME_MS_MAX)); none: as its board sees fit.
            downtime: Option<u16>,
        },
        /// Ends a guest's move; the guest stays.
        11 => CancelMove {
            /// Which guest.
            guest: GuestId,
        },
        /// Gives a guest more or less of its board; what is none stays as it is.
        12 => Scale {
            /// Which guest.
            guest: GuestId,
            /// Its vCPUs' weight.
            weight: Option<u16>,
            /// Percent of one core at the most; zero for as much as there is.
            cap: Option<u16>,
        },
        /// Has a stopped guest go on from a file, which the operator's tool brings to its new owner.
        13 => Restore {
            /// Which guest.
            guest: GuestId,
            /// The name under which the file comes ([`MoveId::of_file`]).
            id: MoveId,
            /// The class of the board from which it was saved: it goes on on no other.
            class: u32,
            /// Where; none: on the board that suits it best.
            to: Option<BoardId>,
        },
    }
}
