//! The god's eye: sees all boards at once, remembers everything, and says when a property does not hold.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use cluster_proto::ids::{BoardId, Epoch, Era, GuestId, Index, Memory, Term};
use cluster_proto::ledger::types::{Decree, Happening, Operation, Phase, Reason, Seats};
use cluster_proto::node::Counters;
use cluster_proto::wire::message::Role;

use crate::handover::HandOvers;
use crate::machine::{BOARDS, GUESTS, Machine, SimNode};
use crate::stats::Stats;

/// A property that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub property: &'static str,
    /// What was seen.
    pub detail: String,
}

/// Says that a property does not hold.
pub(crate) fn violation<T>(property: &'static str, detail: String) -> Result<T, Violation> {
    Err(Violation { property, detail })
}

/// What was agreed in one era.
#[derive(Debug, Default)]
struct History {
    /// Hash of the entry at each index, from `first` on.
    agreed: HashMap<Index, u64>,
    /// Checksum of the ledger at some indexes.
    ledgers: HashMap<Index, u64>,
    /// The newest applied index, and whose node has it.
    newest: Index,
    /// The configuration there.
    seats: Seats,
    /// Whether a majority of its voters has ever been in it at once. Before that nothing can have been agreed in it.
    rooted: bool,
    /// Each guest's newest ownership epoch and owner, there.
    owners: [(Epoch, Option<BoardId>); GUESTS],
}

/// How far a board's log goes, and whom it names as voters.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    memory: Memory,
    era: Era,
    log_end: (Term, Index),
    seats: Seats,
}

/// What the oracle remembers.
#[derive(Debug, Default)]
pub struct Oracle {
    histories: HashMap<Era, History>,
    /// The era that was founded last.
    newest_era: Era,
    /// Who led which term of which era.
    leaders: HashMap<(Era, Term), (usize, u64)>,
    /// Who was told to start which epoch of which guest.
    starts: HashMap<(Era, GuestId, Epoch), (usize, u64)>,
    /// The newest life of the second that the first has accepted, in its own life.
    lives: HashMap<(usize, u64, usize), u64>,
    /// How far each board has been looked at.
    looked: [(u64, Era, Index, Index); BOARDS],
    counters: [Counters; BOARDS],
    /// Which memories of some history still exist.
    alive: HashMap<Memory, ()>,
    known: [Known; BOARDS],
    /// What it knows of guests that move.
    pub moves: HandOvers,
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl Oracle {
    /// A board has booted.
    pub fn booted(&mut self, board: usize, machines: &[Machine]) {
        self.counters[board] = Counters::default();
        let node = &machines[board].node;
        self.looked[board] = (
            machines[board].life,
            node.era(),
            node.ledger().index,
            node.ledger().index,
        );
        if !node.era().is_blank() {
            self.alive.insert(node.memory(), ());
        }
    }

    /// A board has died.
    pub fn died(&mut self, board: usize, machines: &[Machine]) {
        let disk = machines[board].disk.as_ref();
        if disk.is_none_or(|disk| disk.records.is_empty()) {
            self.alive.remove(&machines[board].node.memory());
        }
    }

    /// A memory could not be read back.
    pub fn forgot(&mut self, memory: Memory) {
        self.alive.remove(&memory);
    }

    /// Whether a majority of the voters of the newest era has lost its memory.
    #[must_use]
    pub fn majority_lost(&self) -> bool {
        let Some(history) = self.histories.get(&self.newest_era) else {
            return false;
        };
        let alive = history
            .seats
            .members()
            .filter(|seat| self.alive.contains_key(&seat.2))
            .count();
        alive < history.seats.majority()
    }

    /// Whether the boards that remember cannot agree any more: too few are left of the agreed voters, or of those that the newest log
    /// among them names (a seat that was just given counts from the moment that it stands in a log).
    #[must_use]
    pub fn cannot_agree(&self) -> bool {
        if self.majority_lost() {
            return true;
        }
        let remembers =
            |known: &&Known| known.era == self.newest_era && self.alive.contains_key(&known.memory);
        let newest = self
            .known
            .iter()
            .filter(remembers)
            .max_by_key(|known| known.log_end);
        newest.is_some_and(|known| {
            let alive = known
                .seats
                .members()
                .filter(|seat| self.alive.contains_key(&seat.2));
            alive.count() < known.seats.majority()
        })
    }

    /// Whether the history `era` may begin: the newest cannot agree to anything any more; or never could, and nobody is left in it (its founder
    /// was the only one, and has forgotten it or left it for the new one).
    fn may_found(&self, era: Era, machines: &[Machine]) -> bool {
        match self.histories.get(&self.newest_era) {
            None => true,
            Some(history) if history.rooted => self.cannot_agree(),
            Some(history) => {
                let left = |memory: Memory| {
                    let own = |machine: &Machine| machine.node.memory() == memory;
                    let machine = machines.iter().find(|machine| own(machine));
                    machine.is_some_and(|machine| machine.node.era() == era)
                };
                let mut members = history.seats.members();
                !members.any(|seat| self.alive.contains_key(&seat.2) && !left(seat.2))
            }
        }
    }

    /// The newest era.
    #[must_use]
    pub fn era(&self) -> Era {
        self.newest_era
    }

    /// A frame was accepted by `to` that `from` sent in its life `life`.
    pub fn accepted(
        &mut self,
        to: usize,
        from: usize,
        life: u64,
        touched: bool,
        machines: &[Machine],
    ) -> Result<(), Violation> {
        if touched {
            return violation(
                "authenticity",
                format!("board {to} accepted a corrupt frame"),
            );
        }
        let newest = self.lives.entry((to, machines[to].life, from)).or_default();
        if life < *newest {
            return violation(
                "freshness",
                format!("board {to} accepted life {life} of {from} after life {newest}"),
            );
        }
        *newest = life;
        Ok(())
    }

    /// A board is told to start a copy.
    pub fn start(
        &mut self,
        board: usize,
        guest: GuestId,
        epoch: Epoch,
        machines: &[Machine],
    ) -> Result<(), Violation> {
        let who = (board, machines[board].life);
        let first = *self
            .starts
            .entry((machines[board].node.era(), guest, epoch))
            .or_insert(who);
        if first == who {
            return Ok(());
        }
        violation(
            "one epoch, one copy",
            format!("guest {guest} epoch {epoch} started by {first:?} and {who:?}"),
        )
    }

    /// Looks at `board`, which has just done something, and at all others.
    pub fn look(
        &mut self,
        board: usize,
        now: u64,
        machines: &[Machine],
        stats: &mut Stats,
    ) -> Result<(), Violation> {
        let machine = &machines[board];
        let node = &*machine.node;
        if !machine.outbox.is_empty() {
            // What it decides is not said before its disk has it. Its copies are another matter.
            return self.one_copy(board, now, machines);
        }
        self.one_leader(board, machine)?;
        let era = node.era();
        let (_, seen_era, seen_commit, seen_applied) = self.looked[board];
        let moved =
            era != seen_era || node.commit() != seen_commit || node.ledger().index != seen_applied;
        if moved && !era.is_blank() {
            self.history(board, machines, seen_era == era, seen_commit, stats)?;
        }
        self.looked[board] = (machine.life, era, node.commit(), node.ledger().index);
        let known = &mut self.known[board];
        if (known.memory, known.era, known.log_end) != (node.memory(), era, node.log_end()) {
            *known = Known {
                memory: node.memory(),
                era,
                log_end: node.log_end(),
                seats: *node.config(),
            };
        }
        self.count(board, node, stats);
        if node.counters().contradictions > 0 {
            return violation(
                "agreement",
                format!("board {board} was told what contradicts what is agreed"),
            );
        }
        self.moves.look(board, machine, now)?;
        self.one_copy(board, now, machines)
    }

    fn one_leader(&mut self, board: usize, machine: &Machine) -> Result<(), Violation> {
        let node = &*machine.node;
        if node.role() != Role::Leader {
            return Ok(());
        }
        let who = (board, machine.life);
        let first = *self.leaders.entry((node.era(), node.term())).or_insert(who);
        if first == who {
            return Ok(());
        }
        violation(
            "one leader a term",
            format!(
                "term {} of {:?}: {first:?} and {who:?}",
                node.term(),
                node.era()
            ),
        )
    }

    fn history(
        &mut self,
        board: usize,
        machines: &[Machine],
        same_era: bool,
        seen_commit: Index,
        stats: &mut Stats,
    ) -> Result<(), Violation> {
        let node = &*machines[board].node;
        let era = node.era();
        self.alive.insert(node.memory(), ());
        if !self.histories.contains_key(&era) {
            self.founded(era, machines, stats)?;
        }
        let Some(history) = self.histories.get_mut(&era) else {
            return Ok(());
        };
        let from = if same_era { seen_commit } else { Index(0) };
        let mut index = node.commit();
        while index > from {
            let Some(entry) = node.entry(index) else {
                break;
            };
            let sum = hash(entry);
            let agreed = *history.agreed.entry(index).or_insert_with(|| {
                note(&entry.decree, stats);
                sum
            });
            if agreed != sum {
                return violation(
                    "agreement",
                    format!("board {board} has another entry at {index} of {era:?}: {entry:?}"),
                );
            }
            index = index.previous();
        }
        let ledger = node.ledger();
        if ledger.index.0.is_multiple_of(16) || !same_era {
            let sum = ledger.checksum();
            if *history.ledgers.entry(ledger.index).or_insert(sum) != sum {
                return violation(
                    "agreement",
                    format!(
                        "board {board} has another ledger at {} of {era:?}",
                        ledger.index
                    ),
                );
            }
        }
        if ledger.index >= history.newest {
            history.newest = ledger.index;
            history.seats = ledger.seats;
            let remember = history.seats.members();
            let remember = remember.filter(|seat| self.alive.contains_key(&seat.2));
            history.rooted |= remember.count() >= history.seats.majority();
            for (at, owner) in history.owners.iter_mut().enumerate() {
                let id = GuestId(at as u16);
                let epoch = ledger.epoch(id);
                if epoch < owner.0 {
                    return violation(
                        "epochs grow",
                        format!("guest {id} went from {} to {epoch}", owner.0),
                    );
                }
                let owned = ledger
                    .guest(id)
                    .filter(|guest| guest.phase != Phase::Unowned);
                *owner = (epoch, owned.map(|guest| guest.owner));
            }
        }
        Ok(())
    }

    /// A node is in an era that was not seen before.
    fn founded(
        &mut self,
        era: Era,
        machines: &[Machine],
        stats: &mut Stats,
    ) -> Result<(), Violation> {
        stats.see("founded");
        if !self.may_found(era, machines) {
            return violation(
                "memory",
                format!(
                    "{era:?} was founded while a majority of {:?} remembered",
                    self.newest_era
                ),
            );
        }
        self.newest_era = era;
        self.histories.insert(era, History::default());
        Ok(())
    }

    /// No two copies of a guest may have effects, and none in an epoch that is over.
    fn one_copy(&self, board: usize, now: u64, machines: &[Machine]) -> Result<(), Violation> {
        let node = &*machines[board].node;
        for guest in 0..GUESTS {
            let id = GuestId(guest as u16);
            let Some(epoch) = effective(&machines[board], guest, now) else {
                continue;
            };
            for (other, machine) in machines
                .iter()
                .enumerate()
                .filter(|&(other, _)| other != board)
            {
                if machine.on && effective(machine, guest, now).is_some() {
                    return violation(
                        "one copy",
                        format!("guest {guest} has effects on boards {board} and {other} at {now}"),
                    );
                }
            }
            if let Some(history) = self.histories.get(&node.era()) {
                let (newest, owner) = history.owners[guest];
                // A newer epoch than was looked at is one whose agreement still waits for a disk to be seen.
                if epoch < newest || (epoch == newest && owner != Some(node.board())) {
                    return violation(
                        "ownership",
                        format!(
                            "guest {id} has effects on board {board} in epoch {epoch}; agreed: {newest}, {owner:?}"
                        ),
                    );
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, board: usize, node: &SimNode, stats: &mut Stats) {
        let new = *node.counters();
        let old = std::mem::replace(&mut self.counters[board], new);
        if new == old {
            return;
        }
        stats.see_many("forged", new.forged - old.forged);
        stats.see_many("unknown_life", new.unknown_life - old.unknown_life);
        stats.see_many("replay_refused", new.replayed - old.replayed);
        stats.see_many("leader_stepped_down", new.stepped_down - old.stepped_down);
        stats.see_many("snapshot_taken", new.snapshots - old.snapshots);
        stats.see_many("fence_held", new.fence_held - old.fence_held);
        stats.see_many("log_full", new.log_full - old.log_full);
        stats.see_many("era_left", new.eras_left - old.eras_left);
        stats.see_many("entries_replaced", new.truncated - old.truncated);
    }
}

/// The epoch in which a board's copy of a guest may have effects now, by its own clock and whether or not it is awake.
pub(crate) fn effective(machine: &Machine, guest: usize, now: u64) -> Option<Epoch> {
    let copy = machine.copies[guest].filter(|copy| !copy.frozen && !copy.stopped)?;
    let permit = machine
        .node
        .permit(GuestId(guest as u16), machine.clock.local(now))?;
    (permit.epoch() == copy.epoch).then_some(copy.epoch)
}

fn note(decree: &Decree, stats: &mut Stats) {
    match decree {
        Decree::Configure { seats, board, .. } => {
            let given = seats.memory(*board).is_some_and(|memory| memory.0 != 0);
            stats.see(if given { "seat_given" } else { "seat_vacated" });
        }
        Decree::Join { .. } => stats.see("board_joined"),
        Decree::Fence { .. } => stats.see("fenced"),
        Decree::Retire {
            reason: Reason::Displaced,
            ..
        } => stats.see("guest_displaced"),
        Decree::Retire {
            reason: Reason::Drained,
            ..
        } => stats.see("guest_drained"),
        Decree::Send { .. } => stats.see("drained_live"),
        Decree::Hand { .. } => stats.see("hand_over"),
        Decree::Operate {
            operation: Operation::CreateGuest { .. },
            ..
        } => stats.see("guest_created"),
        _ => {}
    }
}

/// What a happening of the ledger is called, for traces.
#[must_use]
pub fn name(what: Happening) -> &'static str {
    match what {
        Happening::Founded => "founded",
        Happening::Joined => "joined",
        Happening::Fenced => "fenced",
        Happening::Vacated => "vacated",
        Happening::Seated => "seated",
        Happening::Owned => "owned",
        Happening::Ran => "ran",
        Happening::Leaving => "leaving",
        Happening::Left => "left",
        Happening::Ordered => "ordered",
        Happening::Moving => "moving",
        Happening::Handed => "handed",
        Happening::Stayed => "stayed",
    }
}
