//! What a model check explores.

use stateright::{Model, Property};

use super::{Situation, VOTERS};

/// What may go wrong in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Nothing.
    None,
    /// Frames from the first to the second are lost.
    Cut(u8, u8),
    /// A board is cut off.
    Isolate(u8),
    /// A board is stopped; what comes for it waits.
    Stop(u8),
    /// What a board sends arrives in the next step.
    Hold(u8),
    /// A board loses power, at the step's start.
    Crash(u8),
    /// A board gets power, at the step's start.
    Boot(u8),
    /// A board gets power at the step's start, and another is cut off.
    BootWithout(u8, u8),
    /// A board loses power and has it again after so many milliseconds, and frames from another to a third are lost.
    Reboot(u8, u8),
    /// An order is given to a board, while another is cut off.
    Order(u8, u8),
    /// A move of the first guest is ordered at a board.
    Migrate(u8),
    /// A reform is ordered at a board, while another is cut off. Boards without power or a disk are said to be lost, which is true.
    Reform(u8, u8),
    /// Time goes on, and only this board looks at its clock; nothing arrives.
    Only(u8),
    /// What was sent first arrives, and nothing else happens.
    Deliver,
    /// All that a board sent in the last steps comes again, from whatever life.
    Again(u8),
}

/// What is explored.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Whether the third voter is a witness with a journal.
    pub witness: bool,
    /// The length of a step in milliseconds.
    pub step_ms: u64,
    /// A frame's way in milliseconds.
    pub delay_ms: u64,
    /// What has happened, step by step, before the exploration begins.
    pub before: Vec<Fault>,
    /// How many steps.
    pub depth: u8,
    /// How many crashes.
    pub crashes: u8,
    /// The faults to choose from.
    pub faults: Vec<Fault>,
    /// The deliberate fault to make.
    #[cfg(feature = "mutations")]
    pub mutation: Option<cluster_proto::node::Mutation>,
}

impl Scope {
    /// Every fault, with steps of 100 ms.
    #[must_use]
    pub fn whole(witness: bool, depth: u8) -> Self {
        let mut faults = vec![Fault::None, Fault::Migrate(0)];
        for board in 0..VOTERS as u8 {
            faults.extend([
                Fault::Isolate(board),
                Fault::Stop(board),
                Fault::Hold(board),
            ]);
            faults.extend([Fault::Crash(board), Fault::Boot(board), Fault::Again(board)]);
            faults.push(Fault::Reform(board, board));
            faults.extend(
                (0..VOTERS as u8)
                    .filter(|to| *to != board)
                    .map(|to| Fault::Cut(board, to)),
            );
        }
        Self {
            witness,
            step_ms: 100,
            delay_ms: 1,
            before: Vec::new(),
            depth,
            crashes: 2,
            faults,
            #[cfg(feature = "mutations")]
            mutation: None,
        }
    }
}

impl Model for Scope {
    type State = Situation;
    type Action = Fault;

    fn init_states(&self) -> Vec<Self::State> {
        vec![Situation::settled(self)]
    }

    fn actions(&self, state: &Self::State, actions: &mut Vec<Self::Action>) {
        if state.depth >= self.depth || state.violation.is_some() {
            return;
        }
        let on = |board: u8| state.stations[usize::from(board)].on;
        actions.extend(self.faults.iter().filter(|fault| match fault {
            Fault::Crash(board) | Fault::Reboot(board, _) => {
                on(*board) && state.crashes < self.crashes
            }
            Fault::Boot(board) | Fault::BootWithout(board, _) => !on(*board),
            Fault::Isolate(board)
            | Fault::Stop(board)
            | Fault::Hold(board)
            | Fault::Again(board) => on(*board),
            Fault::Order(board, _) | Fault::Reform(board, _) | Fault::Migrate(board) => on(*board),
            Fault::Cut(from, to) => on(*from) && on(*to),
            Fault::Only(board) => on(*board),
            Fault::Deliver => !state.mail.is_empty(),
            Fault::None => true,
        }));
    }

    fn next_state(&self, last: &Self::State, fault: Self::Action) -> Option<Self::State> {
        let mut next = last.clone();
        next.crashes += u8::from(matches!(fault, Fault::Crash(_) | Fault::Reboot(..)));
        next.pass(fault, self);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("safe", |_, state: &Situation| state.violation.is_none()),
            Property::sometimes("a guest runs", |_, state: &Situation| {
                state
                    .stations
                    .iter()
                    .any(|station| station.copies.iter().any(Option::is_some))
            }),
            Property::sometimes("a guest has moved", |_, state: &Situation| {
                state
                    .stations
                    .iter()
                    .flat_map(|station| station.copies)
                    .flatten()
                    .any(|(epoch, _)| epoch.0 & 0xffff_ffff > 1)
            }),
        ]
    }
}
