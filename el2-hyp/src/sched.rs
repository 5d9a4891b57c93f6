//! Which vCPU runs on which core: one queue for the board, the least served first.
//!
//! A vCPU's service is counted in ticks of the counter over its weight; the one with the least runs next, until it is a fixed lead ahead of the
//! least served that waits. So vCPUs that always want to run get shares as their weights, however they are spread, and one that comes back
//! from a wait runs at once, for it is that lead behind at most and at least what it was. Pure logic: the caller holds the lock, tells the time
//! and sends the kicks.
//!
//! vCPUs can be held ([`Scheduler::hold`]): they stay off the cores, whatever wakes them or turns them on, until they are released. What happened to them
//! meanwhile is remembered: one that was woken is ready when it is released, one whose timer ran out too.
//!
//! A guest can be capped: its vCPUs together have so much of a core at most. - [`share`]: weights, caps and budgets as numbers. - [`limits`]: what they do in the queue.

mod limits;
mod share;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use core::ops::Range;

use share::Budget;
pub use share::{Cap, Capper, PERIOD_MICROSECONDS, Weight};

/// How much more service than the least served that waits a running vCPU may have. Two that always want to run take turns of twice this.
pub const LEAD_MICROSECONDS: u64 = 2500;

/// How many leads a vCPU that comes off a core is ahead of the others at most: what it has had beyond that nobody else wanted, so it owes nothing for it.
const MOST_OWED: u64 = 32;
const _: () = assert!(
    MOST_OWED >= 2 * (share::LONGEST_LEAD + 1),
    "taking turns owes less"
);

/// No time that the counter reaches.
const NEVER: u64 = u64::MAX;

/// A vCPU of the board, by its place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntityId(pub u16);

/// A core of the board, by its place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CoreId(pub u8);

/// Off is all zeros, so that the image has no room for a queue in which nobody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum State {
    /// Not there, or turned off.
    Off = 0,
    /// Wants a core.
    Ready,
    /// Has one, since this time.
    Running { core: CoreId, since: u64 },
    /// Waits for an interrupt, at the latest until its timer's. `timer_core` has its own timer set for that.
    Parked {
        until: Option<u64>,
        timer_core: CoreId,
    },
}

#[derive(Clone, Copy, Debug)]
struct Entity {
    state: State,
    /// Ticks of service over weight, raised to the least of all when it comes back from a wait.
    served: u64,
    weight: Weight,
    /// What is left over of the division by the weight.
    rest: u16,
    last_core: CoreId,
    /// Not to have a core, whatever its state.
    held: bool,
    /// Its guest has used its budget: it is not to have a core either.
    out: bool,
}

impl Entity {
    const OFF: Self = Self {
        state: State::Off,
        served: 0,
        weight: Weight::DEFAULT,
        rest: 0,
        last_core: CoreId(0),
        held: false,
        out: false,
    };

    /// Whether it may be picked.
    fn is_waiting(&self) -> bool {
        self.state == State::Ready && !self.is_barred()
    }

    /// Whether it is to have no core, whatever its state.
    fn is_barred(&self) -> bool {
        self.held || self.out
    }
}

/// Cores that should look at the queue.
#[derive(Debug)]
#[must_use]
pub struct Kicks<const CORES: usize>([bool; CORES]);

impl<const CORES: usize> Kicks<CORES> {
    const NONE: Self = Self([false; CORES]);

    fn add(&mut self, core: CoreId) {
        self.0[usize::from(core.0)] = true;
    }
}

impl<const CORES: usize> Iterator for Kicks<CORES> {
    type Item = CoreId;

    fn next(&mut self) -> Option<CoreId> {
        let core = self.0.iter().position(|marked| *marked)?;
        self.0[core] = false;
        Some(CoreId(core as u8))
    }
}

/// The queue, for `CORES` cores and `ENTITIES` vCPUs, as many for each of `GUESTS` guests.
#[derive(Debug)]
pub struct Scheduler<const CORES: usize, const ENTITIES: usize, const GUESTS: usize> {
    entities: [Entity; ENTITIES],
    budgets: [Budget; GUESTS],
    cores: usize,
    running: [Option<EntityId>; CORES],
    lead: u64,
    period: u64,
    /// How many guests have a cap.
    capped: usize,
    /// How many are on and not held.
    live: usize,
    /// One past the last entity that was ever on: the rest of the table is not looked at.
    used: usize,
    /// How many are ready, and neither held nor out, so that a board with nobody waiting looks at no table.
    ready: usize,
    /// The most service of one picked, or of the one of those that ran with the least, when nobody waited: what comes back from a wait starts a lead behind it at most.
    floor: u64,
    /// For each core, no later than the first timer that it keeps for parked vCPUs, or for a guest that is out.
    earliest: [u64; CORES],
}

impl<const CORES: usize, const ENTITIES: usize, const GUESTS: usize> Default
    for Scheduler<CORES, ENTITIES, GUESTS>
{
    fn default() -> Self {
        Self::new()
    }
}

impl<const CORES: usize, const ENTITIES: usize, const GUESTS: usize>
    Scheduler<CORES, ENTITIES, GUESTS>
{
    /// An empty queue for no core yet.
    pub const fn new() -> Self {
        Self {
            entities: [Entity::OFF; ENTITIES],
            budgets: [Budget::NONE; GUESTS],
            cores: 0,
            running: [None; CORES],
            lead: 0,
            period: 0,
            capped: 0,
            live: 0,
            used: 0,
            ready: 0,
            floor: 0,
            earliest: [0; CORES],
        }
    }

    /// Lets the queue serve `cores` cores by a counter of `frequency` ticks per second. Before that nobody looks at it.
    ///
    /// # Panics
    /// If `cores` is zero or more than `CORES`.
    pub fn configure(&mut self, cores: usize, frequency: u64) {
        assert!((1..=CORES).contains(&cores));
        self.earliest = [NEVER; CORES];
        self.cores = cores;
        self.lead = frequency * LEAD_MICROSECONDS / 1_000_000;
        self.period = frequency * PERIOD_MICROSECONDS / 1_000_000;
    }

    /// Whether one that waits should give its core away: another may want it, or the wait would be on account of a cap.
    pub fn is_shared(&self) -> bool {
        self.is_crowded() || self.capped > 0
    }

    /// Whether vCPUs that are on and not held outnumber the cores.
    fn is_crowded(&self) -> bool {
        self.live > self.cores
    }

    /// A vCPU that was off wants a core. Says which core should look at the queue, if any. One that is on stays as it is.
    pub fn turn_on(&mut self, id: EntityId, now: u64) -> Option<CoreId> {
        let entity = &self.entities[usize::from(id.0)];
        if entity.state != State::Off {
            return None;
        }
        self.live += usize::from(!entity.held);
        self.used = self.used.max(usize::from(id.0) + 1);
        self.make_ready(id, now)
    }

    /// What a parked vCPU waited for has come. Says which core should look at the queue, if any. One that is not parked stays as it is.
    pub fn wake(&mut self, id: EntityId, now: u64) -> Option<CoreId> {
        if !matches!(self.entities[usize::from(id.0)].state, State::Parked { .. }) {
            return None;
        }
        self.make_ready(id, now)
    }

    fn make_ready(&mut self, id: EntityId, now: u64) -> Option<CoreId> {
        let entity = &mut self.entities[usize::from(id.0)];
        entity.state = State::Ready;
        if entity.is_barred() {
            return None;
        }
        self.enter_queue(id, now, self.lead)
    }

    /// One that is ready, and neither held nor out, may be picked from here on. It is `behind` those that run by so much at most.
    fn enter_queue(&mut self, id: EntityId, now: u64, behind: u64) -> Option<CoreId> {
        if self.ready == 0 {
            self.raise_floor(now);
        }
        self.ready += 1;
        let entity = &mut self.entities[usize::from(id.0)];
        entity.served = entity.served.max(self.floor.saturating_sub(behind));
        let last = entity.last_core;
        self.core_for(last, now)
    }

    /// Keeps a range of the table off the cores until it is released. Says which cores run one of them and should look at the queue.
    pub fn hold(&mut self, ids: Range<u16>) -> Kicks<CORES> {
        let mut kicks = Kicks::NONE;
        for entity in &mut self.entities[usize::from(ids.start)..usize::from(ids.end)] {
            if core::mem::replace(&mut entity.held, true) || entity.state == State::Off {
                continue;
            }
            self.live -= 1;
            match entity.state {
                State::Ready => self.ready -= usize::from(!entity.out),
                State::Running { core, .. } => kicks.add(core),
                State::Parked { .. } | State::Off => {}
            }
        }
        kicks
    }

    /// Lets a range of the table have cores again. Says which cores should look at the queue.
    pub fn release(&mut self, ids: Range<u16>, now: u64) -> Kicks<CORES> {
        let mut kicks = Kicks::NONE;
        for id in ids.map(EntityId) {
            let entity = &mut self.entities[usize::from(id.0)];
            if !core::mem::replace(&mut entity.held, false) || entity.state == State::Off {
                continue;
            }
            let waits = entity.is_waiting();
            self.live += 1;
            if waits && let Some(core) = self.enter_queue(id, now, self.lead) {
                kicks.add(core);
            }
        }
        kicks
    }

    /// Whether no core runs one of a range of the table.
    pub fn is_at_rest(&self, ids: Range<u16>) -> bool {
        self.entities[usize::from(ids.start)..usize::from(ids.end)]
            .iter()
            .all(|entity| !matches!(entity.state, State::Running { .. }))
    }

    fn used(&self) -> &[Entity] {
        &self.entities[..self.used]
    }

    /// Whether every vCPU of a range of the table is off.
    pub fn all_off(&self, ids: Range<u16>) -> bool {
        self.entities[usize::from(ids.start)..usize::from(ids.end)]
            .iter()
            .all(|entity| entity.state == State::Off)
    }

    /// An idle core, best the last one; else the core whose vCPU has had the most.
    fn core_for(&self, last: CoreId, now: u64) -> Option<CoreId> {
        if self.running[usize::from(last.0)].is_none() {
            return Some(last);
        }
        let cores = || (0..self.cores as u8).map(CoreId);
        cores()
            .find(|core| self.running[usize::from(core.0)].is_none())
            .or_else(|| {
                cores().max_by_key(|core| {
                    self.running[usize::from(core.0)].map(|id| self.service(id, now))
                })
            })
    }

    /// Nobody waits: what those that run have had until now nobody else wanted.
    fn raise_floor(&mut self, now: u64) {
        let running = self.running.iter().flatten();
        if let Some(least) = running.map(|id| self.service(*id, now)).min() {
            self.floor = self.floor.max(least);
        }
    }

    fn service(&self, id: EntityId, now: u64) -> u64 {
        let entity = &self.entities[usize::from(id.0)];
        match entity.state {
            State::Running { since, .. } => {
                let (more, _) = entity
                    .weight
                    .service(now.saturating_sub(since), entity.rest);
                entity.served.saturating_add(more)
            }
            _ => entity.served,
        }
    }

    /// The vCPU that `core` should run now; it counts as running from here on. The core runs nothing when it asks.
    ///
    /// Of those that are within a lead of the least served, one that last ran elsewhere is first: so pairs that share a core do not stay
    /// together, and nobody is tied to a slower core than others.
    pub fn pick(&mut self, core: CoreId, now: u64) -> Option<EntityId> {
        assert_eq!(
            self.running[usize::from(core.0)],
            None,
            "a core runs one vCPU"
        );
        let near = self.least_waiting()? + self.lead;
        let best = self
            .used()
            .iter()
            .enumerate()
            .filter(|(_, entity)| entity.is_waiting() && entity.served <= near)
            .min_by_key(|(_, entity)| (entity.last_core == core, entity.served))
            .map(|(index, _)| EntityId(index as u16))?;
        let entity = &mut self.entities[usize::from(best.0)];
        entity.state = State::Running { core, since: now };
        entity.last_core = core;
        self.floor = self.floor.max(entity.served);
        self.ready -= 1;
        self.running[usize::from(core.0)] = Some(best);
        Some(best)
    }

    /// A core that runs nothing while a vCPU waits: it should look at the queue. Several that came to wait at once may have been told to the same one.
    pub fn spare(&self) -> Option<CoreId> {
        let idle = |core: &u8| self.running[usize::from(*core)].is_none();
        let waits = self.ready > 0;
        waits.then(|| (0..self.cores as u8).find(idle).map(CoreId))?
    }

    /// The running vCPU goes back to the queue.
    pub fn preempt(&mut self, id: EntityId, now: u64) {
        self.leave(id, now, State::Ready);
        self.ready += usize::from(self.entities[usize::from(id.0)].is_waiting());
    }

    /// The running vCPU waits for an interrupt, at the latest until `until` (physical counter).
    pub fn park(&mut self, id: EntityId, now: u64, until: Option<u64>) {
        let timer_core = self.entities[usize::from(id.0)].last_core;
        let earliest = &mut self.earliest[usize::from(timer_core.0)];
        *earliest = until.unwrap_or(NEVER).min(*earliest);
        self.leave(id, now, State::Parked { until, timer_core });
    }

    /// The running vCPU is off.
    pub fn off(&mut self, id: EntityId, now: u64) {
        self.leave(id, now, State::Off);
        self.live -= usize::from(!self.entities[usize::from(id.0)].held);
    }

    fn leave(&mut self, id: EntityId, now: u64, next: State) {
        self.charge(id, now);
        let core = self.entities[usize::from(id.0)].last_core;
        self.put_out_if_used(Self::guest_of(id), core);
        let most = self.floor.saturating_add(MOST_OWED * self.lead);
        let entity = &mut self.entities[usize::from(id.0)];
        entity.state = next;
        entity.served = entity.served.min(most);
        assert_eq!(
            self.running[usize::from(core.0)],
            Some(id),
            "it has a core to leave"
        );
        self.running[usize::from(core.0)] = None;
    }

    /// Makes ready what waited on this core's timer until `now` or before, and keeps the caps. Says which other cores should look at the queue.
    pub fn expire(&mut self, core: CoreId, now: u64) -> Kicks<CORES> {
        let mut kicks = Kicks::NONE;
        if self.earliest[usize::from(core.0)] <= now {
            let refill = self.refill(core, now, &mut kicks);
            let timer = self.wake_expired(core, now, &mut kicks);
            self.earliest[usize::from(core.0)] = refill.min(timer);
        }
        self.keep_caps(core, now, &mut kicks);
        kicks.0[usize::from(core.0)] = false;
        kicks
    }

    /// Wakes what is parked until `now` or before with its timer on this core. Gives the time of the next.
    fn wake_expired(&mut self, core: CoreId, now: u64, kicks: &mut Kicks<CORES>) -> u64 {
        let mut earliest = NEVER;
        for index in 0..self.used {
            let State::Parked {
                until: Some(until),
                timer_core,
            } = self.entities[index].state
            else {
                continue;
            };
            if timer_core != core {
                continue;
            }
            if until > now {
                earliest = earliest.min(until);
            } else if let Some(other) = self.wake(EntityId(index as u16), now) {
                kicks.add(other);
            }
        }
        earliest
    }

    /// Whether this core should look at the queue: it runs nothing, or what it runs has had its turn, and another waits; or what it runs is held or out.
    pub fn should_yield(&self, core: CoreId, now: u64) -> bool {
        match self.running[usize::from(core.0)] {
            None => self.least_waiting().is_some(),
            Some(running) if self.entities[usize::from(running.0)].is_barred() => true,
            Some(_) => self.turn_ends(core).is_some_and(|end| end <= now),
        }
    }

    /// The least service of those that wait.
    fn least_waiting(&self) -> Option<u64> {
        if self.ready == 0 {
            return None;
        }
        self.used()
            .iter()
            .filter(|entity| entity.is_waiting())
            .map(|entity| entity.served)
            .min()
    }

    /// When what runs on this core will be a lead ahead of the least served that waits.
    fn turn_ends(&self, core: CoreId) -> Option<u64> {
        let running = self.running[usize::from(core.0)]?;
        let least = self.least_waiting()?;
        let Entity {
            state: State::Running { since, .. },
            served,
            weight,
            ..
        } = self.entities[usize::from(running.0)]
        else {
            unreachable!("`running` names a running vCPU");
        };
        let end = least.saturating_add(weight.lead(self.lead));
        Some(since.saturating_add(weight.ticks(end.saturating_sub(served))))
    }

    /// When this core must look again: at the end of the turn if another waits, else a lead from now if another may come to wait that no
    /// other core has room for; or at the first timer that it keeps for parked vCPUs, or at the
    /// refill of a budget; or when the budget of what it runs ends.
    pub fn next_event(&self, core: CoreId, now: u64) -> Option<u64> {
        let running = self.running[usize::from(core.0)].is_some();
        let tick = (running && self.is_crowded()).then_some(now + self.lead);
        let parked = self.earliest[usize::from(core.0)];
        let parked = (parked != NEVER).then_some(parked);
        parked
            .into_iter()
            .chain(self.turn_ends(core).or(tick))
            .chain(self.budget_ends(core, now))
            .min()
    }
}
