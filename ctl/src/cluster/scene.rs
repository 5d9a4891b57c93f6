//! A cluster for tests, as a tool sees it: three boards, and a guest that runs on the first.

use cluster_proto::ids::{BoardId, BoardSet, Era, GuestId, Incarnation, Index, Tenure, Term};
use cluster_proto::ledger::types::{
    Board, Capacity, Decree, Denied, Entry, Guest, GuestSpec, Observation, Operation, Outcome,
    Reason, RequestId, Wanted,
};

use super::session::Look;
use crate::pack::FullLedger;

/// The guest.
pub const WEB: GuestId = GuestId(0);
/// Where it runs in the beginning.
pub const ALPHA: BoardId = BoardId(0);
/// Another board.
pub const BETA: BoardId = BoardId(1);
/// Another board, with more memory.
pub const GAMMA: BoardId = BoardId(2);

/// What is seen of the cluster, as decrees change it.
pub struct Scene(pub Look);

impl Scene {
    /// Boards of one class, and the guest `web` of 400 MiB on `alpha`.
    pub fn new() -> Self {
        let mut ledger = Box::new(FullLedger::new());
        for (at, (name, memory_mib)) in [("alpha", 1_000), ("beta", 1_000), ("gamma", 2_000)]
            .into_iter()
            .enumerate()
        {
            ledger.boards[at] = Some(Board {
                name: name.try_into().expect("short"),
                votes: true,
                witness: false,
                drained: false,
                downtime: None,
                disarmed: false,
                incarnation: Incarnation(1),
                tenure: Tenure(at as u64 + 1),
                fenced_at: Index(0),
                capacity: Capacity {
                    memory_mib,
                    cores: 4,
                    class: 1,
                },
            });
        }
        let mut scene = Self(Look {
            ledger,
            era: Era {
                generation: 1,
                nonce: 1,
            },
            source: ALPHA,
            leader: None,
            reports: vec![None; 3],
            moves: Vec::new(),
        });
        assert_eq!(scene.create("web", 400), WEB);
        scene.place(WEB, ALPHA);
        scene
    }

    /// A new guest, without an owner.
    pub fn create(&mut self, name: &str, memory_mib: u32) -> GuestId {
        let spec = GuestSpec {
            name: name.try_into().expect("short"),
            memory_mib,
            vcpus: 1,
            class: 0,
            priority: 1,
            apart: 0,
            allowed: BoardSet(0),
            wanted: Wanted::Running,
            mac: [0; 6],
            kernel: [0; 32],
            initrd: [0; 32],
            command_line: Default::default(),
        };
        GuestId(self.0.ledger.create_guest(&spec).expect("room"))
    }

    /// Has a guest run on a board.
    pub fn place(&mut self, guest: GuestId, board: BoardId) {
        self.decree(Decree::Place {
            guest,
            epoch: self.0.ledger.epoch(guest),
            board,
            tenure: self.0.ledger.tenure(board),
            reason: Reason::Placed,
        });
        self.observe(guest, Observation::Running {});
    }

    /// Carries a decree out.
    pub fn decree(&mut self, decree: Decree) -> Option<Outcome> {
        let ledger = &mut self.0.ledger;
        let entry = Entry {
            term: Term(1),
            decree,
        };
        let outcome = ledger.apply(ledger.index.next(), &entry);
        outcome.map(|outcome| outcome.1)
    }

    /// What an owner reports.
    pub fn observe(&mut self, guest: GuestId, seen: Observation) {
        let epoch = self.0.ledger.epoch(guest);
        self.decree(Decree::Observe { guest, epoch, seen });
    }

    /// Gives an order that is carried out.
    pub fn order(&mut self, operation: Operation) {
        assert_eq!(self.refused(operation), None);
    }

    /// Why an order is not carried out, if it is not.
    pub fn refused(&mut self, operation: Operation) -> Option<Denied> {
        let id = RequestId {
            operator: 1,
            request: self.0.ledger.index.0,
        };
        match self.decree(Decree::Operate { id, operation }) {
            Some(Outcome::Refused { why }) => Some(why),
            _ => None,
        }
    }

    /// Has `web` moved.
    pub fn migrate(&mut self, to: BoardId) {
        let to = Some(to);
        self.order(Operation::Migrate {
            guest: WEB,
            to,
            downtime: None,
        });
    }

    /// The owner of `web` gives the move up that is under way.
    pub fn give_up(&mut self, reason: Reason) {
        let id = self.web().moving.as_ref().expect("a move").id;
        self.observe(WEB, Observation::Stays { id, reason });
    }

    /// The owner of `web` asks for the hand-over; with everything at the destination, or to keep it.
    pub fn hand(&mut self, complete: bool, reason: Reason) {
        let order = self.web().moving.as_ref().filter(|_| complete);
        let complete = order.map(|order| order.id);
        self.decree(Decree::Hand {
            guest: WEB,
            epoch: self.0.ledger.epoch(WEB),
            complete,
            reason,
        });
    }

    /// Puts a board out.
    pub fn fence(&mut self, board: BoardId) {
        self.decree(Decree::Fence {
            board,
            tenure: self.0.ledger.tenure(board),
            reason: Reason::Silent,
        });
    }

    /// The guest.
    pub fn web(&self) -> &Guest {
        self.0.ledger.guest(WEB).expect("nobody deletes it")
    }

    /// The board, to change what is known of it.
    pub fn board(&mut self, board: BoardId) -> &mut Board {
        let place = &mut self.0.ledger.boards[board.at()];
        place.as_mut().expect("one of the three")
    }
}
