//! What the ledger is made of.

use heapless::String;

pub use super::seats::Seats;
use crate::ids::{BoardId, BoardSet, Epoch, GuestId, Incarnation, Index, Tenure, VolumeId};
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

record! {
    /// A guest.
    Guest {
        /// What the operator described.
        spec: GuestSpec,
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
        /// It no longer answers.
        Hung = 11,
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
    }
}

tagged! {
    /// What an owner saw of its copy.
    Observation {
        /// It runs.
        0 => Running {},
        /// There is no copy any more.
        1 => Gone {
            /// Why.
            reason: Reason,
        },
    }
}

tagged! {
    /// One step of the ledger. Each says what it expects, and does nothing when that does not hold.
    Decree {
        /// The first of a term.
        0 => Begin {},
        /// Who votes from here on.
        1 => Configure {
            /// The seats.
            seats: Seats,
            /// Where the configuration before this one stands, which is committed.
            previous: Index,
            /// Whose seat is vacated or taken.
            board: BoardId,
        },
        /// Lets a board in. Its tenure is this decree's index.
        2 => Join {
            /// Which.
            board: BoardId,
            /// Which life of it.
            incarnation: Incarnation,
            /// How far that life knew the ledger.
            after: Index,
            /// What it has.
            capacity: Capacity,
        },
        /// Ends a tenure.
        3 => Fence {
            /// Whose.
            board: BoardId,
            /// Which.
            tenure: Tenure,
            /// Why.
            reason: Reason,
        },
        /// Names an owner; the ownership epoch grows by one.
        4 => Place {
            /// Which guest.
            guest: GuestId,
            /// The epoch before.
            epoch: Epoch,
            /// The owner.
            board: BoardId,
            /// In which of its tenures.
            tenure: Tenure,
            /// Why.
            reason: Reason,
        },
        /// Asks the owner to destroy its copy, so that the guest may go elsewhere.
        5 => Retire {
            /// Which guest.
            guest: GuestId,
            /// In which epoch.
            epoch: Epoch,
            /// Why.
            reason: Reason,
        },
        /// What the owner saw.
        6 => Observe {
            /// Which guest.
            guest: GuestId,
            /// In which epoch.
            epoch: Epoch,
            /// What.
            seen: Observation,
        },
        /// What an operator ordered.
        7 => Operate {
            /// Which command.
            id: RequestId,
            /// What.
            operation: Operation,
        },
    }
}

record! {
    /// A decree in its place in the log.
    Entry {
        /// The term of the leader who proposed it.
        term: crate::ids::Term,
        /// What.
        decree: Decree,
    }
}
