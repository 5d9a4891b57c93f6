//! Every capacity and every interval of the protocol, with the relations between them checked when the crate is compiled.

use crate::ids::Span;

/// Boards that the largest supported cluster may have (board numbers are below this).
pub const BOARDS_MAX: usize = 64;
/// Boards of a cluster, by default.
pub const BOARDS: usize = 16;
/// Seats of voters.
pub const SEATS: usize = 7;
/// Guests of a cluster, by default.
pub const GUESTS: usize = 64;
/// Volumes of a cluster, by default.
pub const VOLUMES: usize = 128;
/// Images for each guest: a kernel, an initial RAM disk, and one for each disk.
pub const IMAGES_PER_GUEST: usize = 2 + crate::manifest::MAX_DISKS;
/// Entries of the log, by default.
pub const LOG: usize = 128;
/// Entries that one `Append` frame carries at most.
pub const APPEND_ENTRIES: usize = 16;
/// Operators that may have a session with one board at once.
pub const OPERATORS: usize = 4;
/// Outcomes of operator commands that the ledger remembers, so that a repeated one is not carried out twice.
pub const ANSWERS: usize = 64;
/// Events that the ledger remembers.
pub const EVENTS: usize = 128;
/// The largest frame in bytes, so that it fits an Ethernet frame with its UDP and IP headers.
pub const MAX_FRAME: usize = 1_400;
/// The largest encoded decree in bytes: a guest's description with its command line.
pub const MAX_DECREE: usize = 1_264;
/// Bytes of a frame or a record that are left beside the longest head of a message.
pub const PAYLOAD: usize = MAX_FRAME - 108;
/// The largest journal record in bytes.
pub const MAX_RECORD: usize = MAX_FRAME;
/// Commands that a board that is not the leader keeps on their way at once.
pub const FORWARDS: usize = 8;

/// Between two heartbeats.
pub const HEARTBEAT: Span = Span::millis(50);
/// How long a lease runs from the sending of a promised heartbeat.
pub const LEASE: Span = Span::millis(250);
/// The bound on the drift of a clock against true time, in parts per million.
pub const DRIFT_PPM: u32 = 200;
/// The detector suspects nobody earlier.
pub const DETECT_MIN: Span = Span::millis(170);
/// The detector suspects everybody later.
pub const DETECT_MAX: Span = Span::millis(2_000);
/// So rarely loss alone may look like the end of a peer: once in two to the power of this many heartbeats, which is more than a month.
pub const FALSE_ALARM_BITS: u32 = 26;
/// The random part of an election timeout.
pub const ELECTION_SPREAD: Span = Span::millis(60);
/// How long a candidate waits for votes before it asks again, before the random part.
pub const ELECTION_ROUND: Span = Span::millis(40);
/// A leader whom no majority echoed for this long steps down.
pub const QUORUM_PATIENCE: Span = Span::millis(400);
/// A board that says for this long that it has no lease is fenced.
pub const LEASELESS_PATIENCE: Span = Span::millis(600);
/// Between two `Hello`s to one sender.
pub const HELLO_GAP: Span = Span::millis(20);
/// Between two appends of the same entries to one follower without an answer.
pub const APPEND_RETRY: Span = Span::millis(30);
/// Between two orders of the same kind for one guest by the leader, and two reports of one guest by its owner.
pub const REPORT_GAP: Span = Span::millis(50);
/// The first pause before a guest that failed is started again; it doubles with each failure up to `BACKOFF_MAX`.
pub const BACKOFF_MIN: Span = Span::millis(200);
/// The longest pause before a guest that failed is started again.
pub const BACKOFF_MAX: Span = Span::millis(20_000);
/// A board that does not vote leaves an era whose leader it has not heard for this long, when another calls it.
pub const ERA_PATIENCE: Span = Span::millis(2_000);

const _: () = {
    assert!(
        BOARDS <= BOARDS_MAX && BOARDS_MAX <= u64::BITS as usize,
        "sets of boards are 64-bit masks"
    );
    assert!(SEATS <= BOARDS);
    assert!(
        LEASE.0 >= 3 * HEARTBEAT.0,
        "a lease survives two lost heartbeats"
    );
    assert!(
        DETECT_MIN.0 >= 3 * HEARTBEAT.0,
        "two lost heartbeats are no suspicion"
    );
    assert!(
        DETECT_MIN.0 < LEASE.0,
        "silence is noticed before promises run out, so that a fence waits for nothing else"
    );
    assert!(DETECT_MIN.0 < QUORUM_PATIENCE.0 && DETECT_MAX.0 > DETECT_MIN.0);
    assert!(
        LEASELESS_PATIENCE.0 > 2 * LEASE.0,
        "a lease that is on its way back is not taken for a lost one"
    );
    assert!(
        MAX_DECREE + 16 <= PAYLOAD,
        "every decree fits a frame and a journal's record, and every guest a snapshot's page"
    );
    assert!(GUESTS >= crate::manifest::MAX_GUESTS && BOARDS >= crate::manifest::MAX_BOARDS);
    assert!(GUESTS * IMAGES_PER_GUEST >= crate::manifest::MAX_IMAGES);
    assert!(LOG >= 2 * APPEND_ENTRIES);
};

/// The least and the most that an operator may allow a guest to be still for a move, milliseconds: below, it could not be stopped and begin elsewhere.
pub const DOWNTIME_MS_MIN: u16 = 2;
/// See [`DOWNTIME_MS_MIN`].
pub const DOWNTIME_MS_MAX: u16 = 10_000;

/// The most that a guest's vCPUs may count beside others; 100 is what they do.
pub const WEIGHT_MAX: u16 = 10_000;
