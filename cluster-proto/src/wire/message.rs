//! The messages. What repeats within one (peers of a heartbeat, entries of an append) stays bytes that were checked for
//! their length, and is read one by one.

use crate::ids::{
    BoardId, BoardSet, Epoch, Era, GuestId, Incarnation, Index, Memory, Micros, MoveId, Span,
    Tenure, Term,
};
use crate::ledger::page::Cursor;
use crate::ledger::types::{
    Capacity, Entry, Observation, Operation, Outcome, Reason, RequestId, Seats,
};
use crate::wire::codec::{Full, Malformed, Reader, Wire, Writer, choice, record, tagged};

record! {
    /// Asks the receiver to prove that it lives now, or proves it.
    Hello {
        /// To be returned; zero: nothing is asked.
        challenge: u64,
        /// The receiver's challenge; zero: none.
        answer: u64,
    }
}

choice! {
    /// A voter's part in its term.
    Role {
        /// Follows a leader, or waits for one.
        Follower = 0,
        /// Asks whether an election would succeed.
        Asking = 1,
        /// Stands for election.
        Candidate = 2,
        /// Leads.
        Leader = 3,
    }
}

record! {
    /// What a board says about itself at every interval.
    Status {
        /// The newest version of the protocol that it could speak; it speaks the one of its frames. So a cluster in the middle of an update is seen.
        speaks: u8,
        /// Its era.
        era: Era,
        /// Its memory.
        memory: Memory,
        /// Its term.
        term: Term,
        /// Its part in it.
        role: Role,
        /// Whom it follows.
        leader: Option<BoardId>,
        /// How far it knows decrees to be agreed.
        commit: Index,
        /// How far its log goes.
        last: Index,
        /// In which term the end of its log was proposed.
        last_term: Term,
        /// Whether it has a seat, by the newest configuration in its log.
        votes: bool,
        /// Whether a reform around it was ordered and is still to come.
        reforming: bool,
        /// The tenure under which it asks for promises; zero for none.
        tenure: Tenure,
        /// Its clock when it sent this.
        stamp: Micros,
        /// For how long it has had no lease, in milliseconds; zero while it has one.
        leaseless_ms: u16,
        /// Where the newest configuration in its log stands; its promises count under it.
        config_at: Index,
        /// Whom a leader wants fenced.
        unwanted: BoardSet,
        /// A digest of the package's manifest.
        manifest: u64,
    }
}

/// Bytes of an [`Echo`].
pub const ECHO: usize = 18;

/// What a board says about one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Echo {
    /// Whom.
    pub board: BoardId,
    /// Whether heartbeats of it arrive as they should.
    pub heard: bool,
    /// Whether `stamp` is backed by a promise.
    pub promised: bool,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// The stamp of its newest heartbeat.
    pub stamp: Micros,
}

impl Wire for Echo {
    fn put(&self, to: &mut Writer<'_>) -> Result<(), Full> {
        self.board.put(to)?;
        (u8::from(self.heard) | u8::from(self.promised) << 1).put(to)?;
        self.incarnation.put(to)?;
        self.stamp.put(to)
    }

    #[inline]
    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let board = BoardId::get(from)?;
        let flags = u8::get(from)?;
        if flags > 3 {
            return Err(Malformed::Range);
        }
        Ok(Self {
            board,
            heard: flags & 1 != 0,
            promised: flags & 2 != 0,
            incarnation: Wire::get(from)?,
            stamp: Wire::get(from)?,
        })
    }
}

record! {
    /// Asks for a vote.
    Ask {
        /// In which history.
        era: Era,
        /// For which term.
        term: Term,
        /// Only whether it would be given.
        before: bool,
        /// Where its log ends.
        last: Index,
        /// In which term that was proposed.
        last_term: Term,
    }
}

record! {
    /// Answers [`Ask`].
    Vote {
        /// In which history.
        era: Era,
        /// The term that was asked for, or a newer one that the voter knows.
        term: Term,
        /// Whether it was only asked whether it would be given.
        before: bool,
        /// Whether it is given.
        granted: bool,
        /// The voter's memory.
        memory: Memory,
    }
}

record! {
    /// The head of an append; the entries follow it.
    AppendHead {
        /// In which history.
        era: Era,
        /// The leader's term.
        term: Term,
        /// The entry before the first one here.
        previous: Index,
        /// Its term.
        previous_term: Term,
        /// How far the leader knows decrees to be agreed.
        commit: Index,
        /// How many entries follow.
        count: u8,
    }
}

record! {
    /// Answers an append or a snapshot's last page.
    Appended {
        /// In which history.
        era: Era,
        /// The follower's term.
        term: Term,
        /// The follower's memory.
        memory: Memory,
        /// How far its log is that leader's; when `fits` is false, how far it could be at most.
        matched: Index,
        /// Whether the entry before the first one was there.
        fits: bool,
        /// How long until it may take the next entry, a fence; zero: nothing holds it.
        hold: Span,
    }
}

record! {
    /// The head of a snapshot's page; the page follows it.
    PageHead {
        /// In which history.
        era: Era,
        /// The leader's term.
        term: Term,
        /// The ledger's newest decree.
        index: Index,
        /// Which items.
        from: Cursor,
        /// Where the next page begins.
        next: Cursor,
        /// The checksum of the whole ledger.
        checksum: u64,
    }
}

record! {
    /// Asks for a snapshot's next page.
    PageAck {
        /// In which history.
        era: Era,
        /// The follower's term.
        term: Term,
        /// Of the snapshot at this decree.
        index: Index,
        /// From here on.
        next: Cursor,
    }
}

record! {
    /// Proposes a new history to blank voters.
    Found {
        /// Its name.
        era: Era,
        /// Who votes.
        seats: Seats,
        /// The digest of the manifest that its first ledger is made from.
        manifest: u64,
    }
}

record! {
    /// Answers [`Found`]: noted.
    Noted {
        /// Which.
        era: Era,
        /// The voter's memory.
        memory: Memory,
    }
}

record! {
    /// Asks the leader to be let in.
    JoinMe {
        /// In which history.
        era: Era,
        /// How far this board knows the ledger.
        after: Index,
        /// What it has.
        capacity: Capacity,
    }
}

record! {
    /// Tells the leader what became of a copy.
    Report {
        /// In which history.
        era: Era,
        /// Which guest.
        guest: GuestId,
        /// In which epoch.
        epoch: Epoch,
        /// What was seen.
        seen: Observation,
    }
}

record! {
    /// Asks the leader which of two copies is the guest from here on. The sender's own copy is stopped until the ledger has answered.
    HandOver {
        /// In which history.
        era: Era,
        /// Which guest.
        guest: GuestId,
        /// In which epoch.
        epoch: Epoch,
        /// The move of which the destination has all; none: the sender wants to keep the guest.
        complete: Option<MoveId>,
        /// Why it wants to keep it.
        reason: Reason,
    }
}

tagged! {
    /// What an operator asks of a board.
    Request {
        /// To have something agreed.
        0 => Order {
            /// Which command.
            id: RequestId,
            /// What.
            operation: Operation,
        },
        /// To found anew around that board. For when the memory of a majority is gone.
        1 => Reform {
            /// Which command.
            id: RequestId,
            /// Voters that are off and of whose memory nothing is left: the operator vouches for it.
            lost: BoardSet,
        },
        /// To show its ledger, from a cursor on.
        2 => Show {
            /// From here.
            from: Cursor,
        },
        /// To show its peers.
        3 => ShowPeers {},
    }
}

record! {
    /// A command on its way from a board to the leader.
    Forward {
        /// Which command.
        id: RequestId,
        /// What.
        operation: Operation,
    }
}

record! {
    /// What became of a command.
    Answer {
        /// Which.
        id: RequestId,
        /// What.
        outcome: Outcome,
    }
}

/// Every message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant's type says what it is")]
pub enum Message<'a> {
    Hello(Hello),
    /// Status, and the echoes' bytes.
    Heartbeat(Status, &'a [u8]),
    Ask(Ask),
    Vote(Vote),
    /// Head, and the entries' bytes.
    Append(AppendHead, &'a [u8]),
    Appended(Appended),
    /// Head, and the page's bytes.
    Page(PageHead, &'a [u8]),
    PageAck(PageAck),
    Found(Found),
    Noted(Noted),
    JoinMe(JoinMe),
    Report(Report),
    HandOver(HandOver),
    Forward(Forward),
    Answer(Answer),
    /// From an operator.
    Request(Request),
    /// To an operator: head, and the page's bytes.
    Shown(PageHead, &'a [u8]),
    /// To an operator: the board's status, and the echoes' bytes.
    Peers(Status, &'a [u8]),
    /// Bytes that the node carries and does not look into: what boards and tools tell one another beside the protocol ([`crate::service`]).
    Parcel(&'a [u8]),
}

/// The kind of [`Hello`], the only message that is looked at without a session.
pub const KIND_HELLO: u8 = 1;

impl<'a> Message<'a> {
    /// The message's kind, as in a frame's header.
    #[must_use]
    pub fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => KIND_HELLO,
            Self::Heartbeat(..) => 2,
            Self::Ask(_) => 3,
            Self::Vote(_) => 4,
            Self::Append(..) => 5,
            Self::Appended(_) => 6,
            Self::Page(..) => 7,
            Self::PageAck(_) => 8,
            Self::Found(_) => 9,
            Self::Noted(_) => 10,
            Self::JoinMe(_) => 11,
            Self::Report(_) => 12,
            Self::Forward(_) => 13,
            Self::Answer(_) => 14,
            Self::Request(_) => 15,
            Self::Shown(..) => 16,
            Self::Peers(..) => 17,
            Self::Parcel(_) => 18,
            Self::HandOver(_) => 19,
        }
    }

    /// Writes the body.
    ///
    /// # Errors
    /// [`Full`] when it does not fit.
    pub fn put(&self, to: &mut Writer<'_>) -> Result<(), Full> {
        match self {
            Self::Hello(message) => message.put(to),
            Self::Heartbeat(status, rest) | Self::Peers(status, rest) => {
                status.put(to)?;
                to.put(rest)
            }
            Self::Ask(message) => message.put(to),
            Self::Vote(message) => message.put(to),
            Self::Append(head, rest) => {
                head.put(to)?;
                to.put(rest)
            }
            Self::Appended(message) => message.put(to),
            Self::Page(head, rest) | Self::Shown(head, rest) => {
                head.put(to)?;
                to.put(rest)
            }
            Self::PageAck(message) => message.put(to),
            Self::Found(message) => message.put(to),
            Self::Noted(message) => message.put(to),
            Self::JoinMe(message) => message.put(to),
            Self::Report(message) => message.put(to),
            Self::HandOver(message) => message.put(to),
            Self::Forward(message) => message.put(to),
            Self::Answer(message) => message.put(to),
            Self::Request(message) => message.put(to),
            Self::Parcel(bytes) => to.put(bytes),
        }
    }

    /// Reads a body of kind `kind`.
    ///
    /// # Errors
    /// [`Malformed`] when the kind is unknown or the bytes are no such message.
    pub fn get(kind: u8, body: &'a [u8]) -> Result<Self, Malformed> {
        let mut from = Reader::new(body);
        let from = &mut from;
        let message = match kind {
            KIND_HELLO => Self::Hello(Wire::get(from)?),
            2 => Self::Heartbeat(Wire::get(from)?, echoes(from)?),
            3 => Self::Ask(Wire::get(from)?),
            4 => Self::Vote(Wire::get(from)?),
            5 => Self::Append(Wire::get(from)?, from.rest()),
            6 => Self::Appended(Wire::get(from)?),
            7 => Self::Page(Wire::get(from)?, from.rest()),
            8 => Self::PageAck(Wire::get(from)?),
            9 => Self::Found(Wire::get(from)?),
            10 => Self::Noted(Wire::get(from)?),
            11 => Self::JoinMe(Wire::get(from)?),
            12 => Self::Report(Wire::get(from)?),
            13 => Self::Forward(Wire::get(from)?),
            14 => Self::Answer(Wire::get(from)?),
            15 => Self::Request(Wire::get(from)?),
            16 => Self::Shown(Wire::get(from)?, from.rest()),
            17 => Self::Peers(Wire::get(from)?, echoes(from)?),
            18 => Self::Parcel(from.rest()),
            19 => Self::HandOver(Wire::get(from)?),
            _ => return Err(Malformed::Range),
        };
        from.end()?;
        Ok(message)
    }
}

fn echoes<'a>(from: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    if from.left().is_multiple_of(ECHO) {
        Ok(from.rest())
    } else {
        Err(Malformed::Long)
    }
}

/// The echoes of a heartbeat, up to the first that is none.
pub fn read_echoes(bytes: &[u8]) -> impl Iterator<Item = Echo> + '_ {
    bytes
        .chunks_exact(ECHO)
        .map_while(|echo| Echo::get(&mut Reader::new(echo)).ok())
}

/// The entries of an append, up to the first that is none.
pub fn read_entries(bytes: &[u8]) -> impl Iterator<Item = Entry> + '_ {
    let mut from = Reader::new(bytes);
    core::iter::from_fn(move || {
        if from.left() == 0 {
            None
        } else {
            Entry::get(&mut from).ok()
        }
    })
}
