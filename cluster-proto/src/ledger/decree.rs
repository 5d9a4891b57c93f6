//! The steps of the ledger, and what owners report.

use super::types::{Capacity, Operation, Reason, RequestId, Seats};
use crate::ids::{BoardId, Epoch, GuestId, Incarnation, Index, MoveId, Tenure, Term};
use crate::wire::codec::{record, tagged};

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
        /// It gave a move up before it asked for the hand-over, and the copy runs on.
        2 => Stays {
            /// Which move.
            id: MoveId,
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
        /// Has a guest's owner move it to another board while it runs.
        8 => Send {
            /// Which guest.
            guest: GuestId,
            /// In which epoch.
            epoch: Epoch,
            /// Where to.
            to: BoardId,
            /// In which tenure of the destination.
            tenure: Tenure,
            /// Why.
            reason: Reason,
        },
        /// Says which of two copies is the guest from here on: the owner has stopped its own, and asks. Whatever it says, the ownership
        /// epoch grows by one, so that of two questions the first decides.
        9 => Hand {
            /// Which guest.
            guest: GuestId,
            /// The epoch before.
            epoch: Epoch,
            /// The move of which the destination has all; none: the owner wants to keep the guest.
            complete: Option<MoveId>,
            /// Why the owner wants to keep it.
            reason: Reason,
        },
    }
}

record! {
    /// A decree in its place in the log.
    Entry {
        /// The term of the leader who proposed it.
        term: Term,
        /// What.
        decree: Decree,
    }
}
