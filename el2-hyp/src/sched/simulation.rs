//! A board of vCPUs that spin or sleep, scheduled as the kernel does it: a core looks when its timer comes, when it is kicked, and when its vCPU leaves.

use proptest::prelude::*;

use super::{Cap, Capper, CoreId, EntityId, Scheduler, Weight};

const HZ: u64 = 1_000_000;
const MS: u64 = HZ / 1000;
/// Four guests of four vCPUs.
type Queue = Scheduler<4, 16, 4>;

/// What a vCPU does: so many ticks of work, then a wait of so many. No wait is none, ever.
#[derive(Clone, Copy, Debug)]
struct Habit {
    work: u64,
    wait: u64,
}

const SPINS: Habit = Habit {
    work: u64::MAX,
    wait: 0,
};

struct Board {
    queue: Queue,
    cores: usize,
    now: u64,
    /// When a core looks next.
    looks_at: [u64; 4],
    habits: [Habit; 16],
    /// What is left of the work.
    left: [u64; 16],
    /// What each vCPU has had.
    had: [u64; 16],
}

impl Board {
    /// A board whose guests have these vCPUs each.
    fn new(cores: usize, vcpus: [u16; 4], habit: Habit) -> Self {
        let mut queue = Queue::new();
        queue.configure(cores, HZ);
        for (guest, count) in vcpus.into_iter().enumerate() {
            for vcpu in 0..count {
                queue.turn_on(EntityId(guest as u16 * 4 + vcpu), 0);
            }
        }
        Self {
            queue,
            cores,
            now: 0,
            looks_at: [0; 4],
            habits: [habit; 16],
            left: [habit.work; 16],
            had: [0; 16],
        }
    }

    fn weigh(&mut self, guest: usize, weight: u16) {
        let weight = Weight::new(weight).unwrap();
        let kicks = self.queue.set_weight(guest, weight, self.now);
        self.kick(kicks);
    }

    fn cap(&mut self, guest: usize, by: Capper, percent: u16) {
        let kicks = self.queue.set_cap(guest, by, Cap::new(percent), self.now);
        self.kick(kicks);
    }

    fn kick(&mut self, cores: impl IntoIterator<Item = CoreId>) {
        for core in cores {
            self.looks_at[usize::from(core.0)] = self.now;
        }
    }

    fn running(&self, core: usize) -> Option<usize> {
        self.queue.running[core].map(|id| usize::from(id.0))
    }

    /// Runs for so long; gives each guest's percentage of one core, and each vCPU's.
    fn run(&mut self, ticks: u64) -> ([f64; 4], [f64; 16]) {
        let (end, before) = (self.now + ticks, self.had);
        while self.now < end {
            for core in 0..self.cores {
                self.look(core);
            }
            self.advance(end);
        }
        let percent = |had: u64| had as f64 * 100.0 / ticks as f64;
        let vcpus: [f64; 16] = core::array::from_fn(|n| percent(self.had[n] - before[n]));
        (
            core::array::from_fn(|n| vcpus[n * 4..n * 4 + 4].iter().sum()),
            vcpus,
        )
    }

    fn look(&mut self, index: usize) {
        let (core, now) = (CoreId(index as u8), self.now);
        if let Some(id) = self.running(index)
            && self.left[id] == 0
        {
            let habit = self.habits[id];
            self.left[id] = habit.work;
            self.queue
                .park(EntityId(id as u16), now, Some(now + habit.wait));
        } else if self.looks_at[index] > now {
            return;
        }
        self.looks_at[index] = u64::MAX;
        let kicks = self.queue.expire(core, now);
        self.kick(kicks);
        if self.queue.should_yield(core, now) {
            if let Some(id) = self.queue.running[index] {
                self.queue.preempt(id, now);
            }
            let kicks = self.queue.expire(core, now);
            self.kick(kicks);
            self.queue.pick(core, now);
            let spare = self.queue.spare();
            self.kick(spare);
        }
        let timer = self.queue.next_event(core, now).unwrap_or(u64::MAX);
        self.looks_at[index] = self.looks_at[index].min(timer.max(now + 1));
    }

    /// To the next time at which a core has something to look at.
    fn advance(&mut self, end: u64) {
        let seats = || (0..self.cores).map(|core| (core, self.running(core)));
        let due = seats().map(|(core, id)| {
            let leaves = id.map_or(u64::MAX, |id| self.now.saturating_add(self.left[id]));
            self.looks_at[core].min(leaves)
        });
        let next = due.min().unwrap_or(end).clamp(self.now, end);
        assert!(
            next == self.now || self.queue.spare().is_none(),
            "a core is idle while somebody waits"
        );
        for id in seats().filter_map(|(_, id)| id).collect::<Vec<_>>() {
            let ticks = next - self.now;
            self.had[id] += ticks;
            if self.left[id] != u64::MAX {
                self.left[id] -= ticks;
            }
        }
        self.now = next;
    }
}

fn near(had: f64, wanted: f64) -> bool {
    (had - wanted).abs() <= 2.0
}

#[test]
fn weights_are_shares_of_one_core() {
    let mut board = Board::new(1, [1, 1, 0, 0], SPINS);
    board.weigh(1, 300);
    let (guests, _) = board.run(10 * HZ);
    assert!(near(guests[0], 25.0) && near(guests[1], 75.0), "{guests:?}");
}

#[test]
fn weights_are_shares_of_two_cores() {
    let mut board = Board::new(2, [2, 2, 0, 0], SPINS);
    board.weigh(1, 300);
    let (guests, vcpus) = board.run(10 * HZ);
    assert!(
        near(guests[0], 50.0) && near(guests[1], 150.0),
        "{guests:?}"
    );
    for (id, wanted) in [(0, 25.0), (1, 25.0), (4, 75.0), (5, 75.0)] {
        assert!(near(vcpus[id], wanted), "{vcpus:?}");
    }
}

#[test]
fn a_weight_takes_effect_at_once() {
    let mut board = Board::new(1, [1, 1, 0, 0], SPINS);
    let (guests, _) = board.run(HZ);
    assert!(near(guests[0], 50.0), "{guests:?}");
    board.weigh(0, 300);
    let (guests, _) = board.run(HZ);
    assert!(near(guests[0], 75.0), "{guests:?}");
    board.weigh(0, 100);
    let (guests, _) = board.run(HZ);
    assert!(near(guests[0], 50.0), "{guests:?}");
}

#[test]
fn the_heaviest_leave_one_another_turns_as_long_as_ever() {
    let mut board = Board::new(1, [1, 1, 0, 0], SPINS);
    board.weigh(0, Weight::MAX);
    board.weigh(1, Weight::MAX);
    board.run(HZ);
    for _ in 0..20 {
        let (guests, _) = board.run(20 * MS);
        assert!((guests[0] - 50.0).abs() <= 26.0, "{guests:?}");
    }
}

#[test]
fn a_capped_guest_has_no_more_of_an_idle_board() {
    for cores in 1..=4 {
        for vcpus in 1..=4 {
            let mut board = Board::new(cores, [vcpus, 0, 0, 0], SPINS);
            board.cap(0, Capper::Operator, 30);
            let (guests, _) = board.run(10 * HZ);
            assert!(near(guests[0], 30.0), "{cores} {vcpus} {guests:?}");
        }
    }
}

#[test]
fn nobody_else_loses_by_a_cap() {
    let mut board = Board::new(2, [2, 1, 1, 0], SPINS);
    board.cap(0, Capper::Operator, 30);
    let (guests, _) = board.run(10 * HZ);
    assert!(near(guests[0], 30.0), "{guests:?}");
    assert!(near(guests[1], 85.0) && near(guests[2], 85.0), "{guests:?}");
}

#[test]
fn a_guest_that_sleeps_in_between_comes_to_its_cap() {
    for wait in [MS / 2, 3 * MS, 8 * MS, 25 * MS] {
        let habit = Habit { work: wait, wait };
        let mut board = Board::new(2, [3, 0, 0, 0], habit);
        board.cap(0, Capper::Operator, 30);
        let (guests, _) = board.run(10 * HZ);
        assert!(near(guests[0], 30.0), "{wait} {guests:?}");
    }
}

#[test]
fn a_guest_that_needs_less_than_its_cap_is_not_kept_from_it() {
    let habit = Habit {
        work: MS,
        wait: 9 * MS,
    };
    let mut board = Board::new(1, [1, 1, 0, 0], habit);
    board.habits[4] = SPINS;
    board.left[4] = u64::MAX;
    let (before, _) = board.run(10 * HZ);
    board.cap(0, Capper::Operator, 30);
    let (guests, _) = board.run(10 * HZ);
    assert!(near(guests[0], before[0]), "{before:?} {guests:?}");
}

#[test]
fn caps_take_effect_at_once_and_the_lowest_counts() {
    let mut board = Board::new(2, [2, 0, 0, 0], SPINS);
    let mut has = |by, percent, wanted| {
        board.cap(0, by, percent);
        let (guests, _) = board.run(HZ);
        assert!(near(guests[0], wanted), "{by:?} {percent}: {guests:?}");
    };
    has(Capper::Operator, 150, 150.0);
    has(Capper::Move, 60, 60.0);
    has(Capper::Operator, 30, 30.0);
    has(Capper::Move, 20, 20.0);
    has(Capper::Move, 0, 30.0);
    has(Capper::Operator, 0, 200.0);
}

#[test]
fn a_board_that_stood_still_does_not_hold_it_against_a_guest() {
    let mut board = Board::new(1, [1, 0, 0, 0], SPINS);
    board.cap(0, Capper::Operator, 20);
    board.run(HZ + MS);
    assert!(board.running(0).is_some());
    board.now += 60 * HZ;
    let (guests, _) = board.run(2 * HZ);
    assert!(near(guests[0], 20.0), "{guests:?}");
}

#[test]
fn waits_are_given_away_while_anybody_has_a_cap() {
    let mut queue = Queue::new();
    queue.configure(2, HZ);
    queue.turn_on(EntityId(0), 0);
    assert!(!queue.is_shared());
    let _ = queue.set_cap(0, Capper::Move, Cap::new(50), 0);
    assert!(queue.is_shared());
    let _ = queue.set_cap(0, Capper::Move, None, 0);
    assert!(!queue.is_shared());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// vCPUs that always want one core share it as their weights say, if each of them may have a turn within the time.
    #[test]
    fn shares_are_as_weights(weights in prop::array::uniform4(10..=1000_u16)) {
        let mut board = Board::new(1, [1; 4], SPINS);
        for (guest, weight) in weights.into_iter().enumerate() {
            board.weigh(guest, weight);
        }
        let (guests, _) = board.run(10 * HZ);
        let all: u16 = weights.iter().sum();
        for (had, weight) in guests.into_iter().zip(weights) {
            prop_assert!(near(had, 100.0 * f64::from(weight) / f64::from(all)), "{weights:?} {guests:?}");
        }
    }

    /// No guest has more than its cap, and none has clearly less than its cap and an equal share would give it.
    #[test]
    fn caps_are_kept(cores in 1..=4_usize, vcpus in prop::array::uniform4(0..=4_u16), caps in prop::array::uniform4(0..=200_u16)) {
        let mut board = Board::new(cores, vcpus, SPINS);
        for (guest, cap) in caps.into_iter().enumerate() {
            board.cap(guest, Capper::Operator, cap);
        }
        let (guests, _) = board.run(4 * HZ);
        let vcpus = vcpus.map(f64::from);
        let all: f64 = vcpus.iter().sum();
        for guest in 0..4 {
            let most = 100.0 * vcpus[guest];
            let cap = if caps[guest] == 0 { most } else { most.min(caps[guest].into()) };
            prop_assert!(guests[guest] <= cap + 1.0, "{guests:?}");
            let share = most * (cores as f64 / all).min(1.0);
            prop_assert!(guests[guest] >= 0.75 * cap.min(share), "{share} {guests:?}");
        }
    }
}

/// One that wants to run all the time is not made to wait for what it had while a capped guest was out.
#[test]
fn what_nobody_else_could_have_is_not_owed() {
    let mut board = Board::new(4, [0, 1, 0, 4], SPINS);
    board.cap(1, Capper::Operator, 69);
    board.cap(3, Capper::Operator, 194);
    let (guests, _) = board.run(4 * HZ);
    assert!(guests[1] > 65.0 && guests[3] > 193.0, "{guests:?}");
}
