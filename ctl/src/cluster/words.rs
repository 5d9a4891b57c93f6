//! What the protocol says in numbers, in words.

use cluster_proto::ledger::types::{Denied, Happening, Phase, Reason, Wanted};
use cluster_proto::placement::Verdict;

/// How far a guest's owner is.
pub fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Unowned => "without an owner",
        Phase::Starting => "starting",
        Phase::Running => "running",
        Phase::Leaving => "leaving",
    }
}

/// What the operator wants of a guest.
pub fn wanted(wanted: Wanted) -> &'static str {
    match wanted {
        Wanted::Running => "running",
        Wanted::Stopped => "stopped",
    }
}

/// Why something happened.
pub fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::None => "nothing happened yet",
        Reason::Operator => "an operator ordered it",
        Reason::Silent => "too few voters heard the board",
        Reason::Leaseless => "the board said that it had no lease",
        Reason::Rebooted => "the board rebooted and forgot",
        Reason::Reformed => "the cluster was reformed without the board",
        Reason::Placed => "it had no owner, and this was the best board",
        Reason::Drained => "its board is being drained",
        Reason::Displaced => "a guest of higher priority needed the room",
        Reason::StartFailed => "the board could not start it",
        Reason::Crashed => "it ended by itself",
        Reason::Hung => "it hung, and its watchdog ended it",
        Reason::NotConverged => "it wrote to its memory faster than that could be copied",
        Reason::DestinationRefused => "the other board would not take it",
        Reason::DestinationLost => "the other board left the cluster or no longer answered",
        Reason::CannotMove => "its board cannot move guests while they run",
        Reason::Restored => "an operator had it go on from a file",
        Reason::NotRestored => "what was to come from a file did not come whole, or was not taken",
    }
}

/// Why a move was given up.
pub fn stay(why: Reason) -> &'static str {
    match why {
        Reason::None => "its board does not say why",
        Reason::Operator => "an operator called it off",
        other => reason(other),
    }
}

/// What happened.
pub fn happening(what: Happening) -> &'static str {
    match what {
        Happening::Founded => "the cluster was founded",
        Happening::Joined => "was let in",
        Happening::Fenced => "was put out, and its guests are started elsewhere",
        Happening::Vacated => "lost its vote",
        Happening::Seated => "votes",
        Happening::Owned => "was given to",
        Happening::Ran => "runs on",
        Happening::Leaving => "is to leave",
        Happening::Left => "has left",
        Happening::Ordered => "was changed by an operator",
        Happening::Moving => "is to move, while it runs, to",
        Happening::Handed => "was handed over, while it ran, to",
        Happening::Stayed => "was not moved and stays on",
    }
}

/// What keeps a guest from a board, or that nothing does. `board` and `guest` give the names of boards and guests.
pub fn verdict(
    verdict: &Verdict,
    board: &dyn Fn(cluster_proto::ids::BoardId) -> String,
    guest: &dyn Fn(cluster_proto::ids::GuestId) -> String,
) -> String {
    match verdict {
        Verdict::Absent => "there is no such board".into(),
        Verdict::Witness => "is a witness, which runs no guests".into(),
        Verdict::Out => "is out of the cluster: off, cut off, or not let in yet".into(),
        Verdict::Drained => "is drained (`hearth undrain` takes that back)".into(),
        Verdict::NotAllowed => "is not among the boards that the guest is allowed on".into(),
        Verdict::VolumeOn(other) => {
            format!(
                "does not have the guest's local volume, which is on {}",
                board(*other)
            )
        }
        Verdict::Class(class) => format!(
            "is of another class, {class:#x}: its processor or interrupt controller differs"
        ),
        Verdict::Cores { need, has } => format!("has {has} cores, and the guest needs {need}"),
        Verdict::Apart(other) => {
            format!("runs {}, from which the guest is kept apart", guest(*other))
        }
        Verdict::Memory { need, left } => {
            format!("has {left} MiB of memory left, and the guest needs {need}")
        }
        Verdict::Fits { left } => format!("fits, with {left} MiB to spare"),
    }
}

/// Why an order was not carried out, and what to do.
pub fn denied(why: Denied) -> &'static str {
    match why {
        Denied::Unknown => {
            "the cluster knows no such guest, board or volume: `hearth status` shows what there is"
        }
        Denied::Taken => "the name is taken: choose another",
        Denied::Capacity => "the cluster has no room for one more: delete what is not needed",
        Denied::Running => "not while it runs: `hearth guest stop` first",
        Denied::Busy => {
            "the cluster is busy and did not get to it in time: look whether it was done, or try again"
        }
        Denied::NoLeader => {
            "there is no leader, so nothing can be agreed: `hearth status` says who is missing. If a majority of the voters is gone for good, see `hearth reform --help`"
        }
        Denied::Invalid => "a value is out of its range",
        Denied::NotAlone => {
            "a leader speaks, or enough voters remember to elect one: no reform is needed. Wait, or see `hearth status`"
        }
        Denied::Behind => {
            "another board remembers more than this one: a reform around this one would lose what that one knows. Order it for the other"
        }
        Denied::NotRunning => {
            "it does not run, or not yet: only a guest that runs is moved (`hearth guest start` starts it)"
        }
        Denied::LocalVolume => {
            "a local volume keeps it on its board: `hearth why` names the volume's board"
        }
        Denied::NoBoard => {
            "that board cannot run it, or no other one can: `hearth why` says what is in the way"
        }
        Denied::AlreadyThere => "it is on that board",
        Denied::Moving => {
            "it is being moved to another board: wait, or call that move off first (`hearth migrate --cancel`)"
        }
        Denied::NotMoving => "it is not being moved",
        Denied::Unaccounted => {
            "a voter is neither heard nor given as lost, and nobody knows what it remembers: switch it on, or, if it is off and stays so until the reform is done, name it with --lost"
        }
    }
}
