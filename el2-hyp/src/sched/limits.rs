//! Guests' weights and caps in the queue: giving them, and keeping the caps.
//!
//! A guest is `ENTITIES / GUESTS` places of the table that follow one another. One that has used its budget is *out*: its vCPUs are off the cores, as if held, until the core that
//! found that finds the budget refilled. A core that runs a vCPU with a cap looks when the budget would end, were nobody to come or go; whoever finds it at an end sends
//! for the cores that run the guest's other vCPUs. What they have too much until then is taken off the next period.

use core::ops::Range;

use super::share::{Cap, Capper, Weight};
use super::{CoreId, EntityId, Kicks, Scheduler, State};

impl<const CORES: usize, const ENTITIES: usize, const GUESTS: usize>
    Scheduler<CORES, ENTITIES, GUESTS>
{
    const PER_GUEST: usize = {
        assert!(GUESTS > 0 && ENTITIES.is_multiple_of(GUESTS));
        ENTITIES / GUESTS
    };

    /// The guest of a vCPU.
    pub(super) fn guest_of(id: EntityId) -> usize {
        usize::from(id.0) / Self::PER_GUEST
    }

    fn places(guest: usize) -> Range<usize> {
        guest * Self::PER_GUEST..(guest + 1) * Self::PER_GUEST
    }

    /// Gives each vCPU of a guest a weight, from now on. Says which cores run one of them and should look at the queue.
    pub fn set_weight(&mut self, guest: usize, weight: Weight, now: u64) -> Kicks<CORES> {
        self.settle(now);
        for entity in &mut self.entities[Self::places(guest)] {
            entity.weight = weight;
            entity.rest = 0;
        }
        self.cores_that_run(guest)
    }

    /// Caps what a guest has of the cores, or takes that away, from now on. Says which cores should look at the queue.
    pub fn set_cap(
        &mut self,
        guest: usize,
        by: Capper,
        cap: Option<Cap>,
        now: u64,
    ) -> Kicks<CORES> {
        self.settle(now);
        let mut kicks = self.cores_that_run(guest);
        let budget = &mut self.budgets[guest];
        self.capped -= usize::from(budget.is_capped());
        let was_out = budget.out.is_some();
        budget.set(by, cap, now, self.period);
        self.capped += usize::from(budget.is_capped());
        if was_out {
            self.let_in(guest, now, &mut kicks);
        }
        kicks
    }

    fn cores_that_run(&self, guest: usize) -> Kicks<CORES> {
        let mut kicks = Kicks::NONE;
        for (core, seat) in self.running.iter().enumerate() {
            if seat.is_some_and(|id| Self::guest_of(id) == guest) {
                kicks.add(CoreId(core as u8));
            }
        }
        kicks
    }

    /// Counts what all running vCPUs have had until now.
    fn settle(&mut self, now: u64) {
        for core in 0..self.cores {
            if let Some(id) = self.running[core] {
                self.charge(id, now);
            }
        }
    }

    /// Counts what a running vCPU has had until now.
    pub(super) fn charge(&mut self, id: EntityId, now: u64) {
        let entity = &mut self.entities[usize::from(id.0)];
        let State::Running { since, .. } = &mut entity.state else {
            panic!("only a running vCPU has something to be counted");
        };
        let ticks = now.saturating_sub(*since);
        *since += ticks;
        let (service, rest) = entity.weight.service(ticks, entity.rest);
        entity.served = entity.served.saturating_add(service);
        entity.rest = rest;
        let budget = &mut self.budgets[Self::guest_of(id)];
        if budget.is_capped() {
            budget.charge(ticks, now, self.period);
        }
    }

    /// Finds whose budget is used, and which cores still run one of theirs.
    pub(super) fn keep_caps(&mut self, core: CoreId, now: u64, kicks: &mut Kicks<CORES>) {
        if self.capped == 0 {
            return;
        }
        self.settle(now);
        for other in 0..self.cores {
            let Some(id) = self.running[other] else {
                continue;
            };
            self.put_out_if_used(Self::guest_of(id), core);
            if self.entities[usize::from(id.0)].out {
                kicks.add(CoreId(other as u8));
            }
        }
    }

    /// Takes a guest's vCPUs out of the queue if its budget is used, until this core finds it refilled.
    pub(super) fn put_out_if_used(&mut self, guest: usize, core: CoreId) {
        let budget = &mut self.budgets[guest];
        if budget.out.is_some() || !budget.is_used() {
            return;
        }
        budget.out = Some(core);
        let earliest = &mut self.earliest[usize::from(core.0)];
        *earliest = budget.refill_at().min(*earliest);
        for entity in &mut self.entities[Self::places(guest)] {
            self.ready -= usize::from(entity.is_waiting());
            entity.out = true;
        }
    }

    /// Lets guests in again whose budget is refilled, of those that wait for this core. Gives the time when the next will be.
    pub(super) fn refill(&mut self, core: CoreId, now: u64, kicks: &mut Kicks<CORES>) -> u64 {
        let mut next = super::NEVER;
        if self.capped == 0 {
            return next;
        }
        for guest in 0..GUESTS {
            let budget = &mut self.budgets[guest];
            if budget.out != Some(core) {
                continue;
            }
            budget.refill(now, self.period);
            if budget.is_used() {
                next = next.min(budget.refill_at());
            } else {
                self.let_in(guest, now, kicks);
            }
        }
        next
    }

    fn let_in(&mut self, guest: usize, now: u64, kicks: &mut Kicks<CORES>) {
        self.budgets[guest].out = None;
        for index in Self::places(guest) {
            let entity = &mut self.entities[index];
            assert!(entity.out, "all of a guest's vCPUs are out, or none");
            entity.out = false;
            if entity.is_waiting()
                // It is no sleeper that has come back: with a lead in each period it would have its budget before anybody else has a turn.
                && let Some(core) = self.enter_queue(EntityId(index as u16), now, 0)
            {
                kicks.add(core);
            }
        }
    }

    /// When the budget of the guest that this core runs will be used, as things are.
    pub(super) fn budget_ends(&self, core: CoreId, now: u64) -> Option<u64> {
        let guest = Self::guest_of(self.running[usize::from(core.0)]?);
        let budget = &self.budgets[guest];
        if !budget.is_capped() {
            return None;
        }
        let (mut runners, mut had) = (0, 0);
        for id in self.running.iter().flatten() {
            if Self::guest_of(*id) == guest
                && let State::Running { since, .. } = self.entities[usize::from(id.0)].state
            {
                runners += 1;
                had += now.saturating_sub(since);
            }
        }
        Some(now + budget.left(had).div_ceil(runners))
    }
}
