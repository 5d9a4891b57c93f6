use super::*;
use proptest::prelude::*;

const HZ: u64 = 1_000_000;
const LEAD: u64 = HZ * LEAD_MICROSECONDS / 1_000_000;
type Small = Scheduler<4, 16, 4>;

fn small(cores: usize) -> Small {
    let mut queue = Small::new();
    queue.configure(cores, HZ);
    queue
}

fn id(n: u16) -> EntityId {
    EntityId(n)
}

#[test]
fn an_idle_core_is_kicked_first() {
    let mut s = small(2);
    assert_eq!(s.turn_on(id(0), 0), Some(CoreId(0)));
    assert_eq!(s.pick(CoreId(0), 0), Some(id(0)));
    assert_eq!(s.turn_on(id(1), 0), Some(CoreId(1)));
    assert_eq!(s.turn_on(id(1), 0), None);
    assert!(!s.is_shared());
}

#[test]
fn a_timer_wakes_its_vcpu_though_another_runs() {
    let mut s = small(1);
    s.turn_on(id(0), 0);
    s.turn_on(id(1), 0);
    assert!(s.is_shared());
    let first = s.pick(CoreId(0), 0).unwrap();
    s.park(first, 10, Some(1000));
    assert_eq!(s.pick(CoreId(0), 10), Some(id(1)));
    assert_eq!(s.next_event(CoreId(0), 10), Some(1000));
    assert_eq!(s.expire(CoreId(0), 1000).count(), 0);
    // It waited with less service: the other's turn ends when it is a lead ahead.
    assert_eq!(s.next_event(CoreId(0), 1000), Some(10 + 10 + LEAD));
    assert!(!s.should_yield(CoreId(0), 1000));
    assert!(s.should_yield(CoreId(0), 20 + LEAD));
}

#[test]
fn one_that_comes_back_from_a_wait_runs_at_once() {
    let mut s = small(1);
    s.turn_on(id(0), 0);
    s.turn_on(id(1), 0);
    s.pick(CoreId(0), 0);
    s.park(id(0), 1, None);
    s.pick(CoreId(0), 1);
    let later = 100 * LEAD;
    s.wake(id(0), later);
    assert!(s.should_yield(CoreId(0), later));
}

#[test]
fn a_held_one_leaves_its_core_and_is_not_picked() {
    let mut s = small(2);
    for n in 0..3 {
        s.turn_on(id(n), 0);
    }
    let first = s.pick(CoreId(0), 0).unwrap();
    let second = s.pick(CoreId(1), 0).unwrap();
    assert!(s.is_shared());
    let kicked: Vec<_> = s.hold(first.0..first.0 + 1).collect();
    assert_eq!(kicked, [CoreId(0)]);
    assert!(!s.is_shared() && s.should_yield(CoreId(0), 0) && !s.should_yield(CoreId(1), 0));
    assert!(!s.is_at_rest(first.0..first.0 + 1));
    s.preempt(first, 5);
    assert!(s.is_at_rest(first.0..first.0 + 1));
    assert!(
        s.pick(CoreId(0), 5)
            .is_some_and(|third| third != first && third != second)
    );
    s.off(second, 6);
    assert_eq!(s.pick(CoreId(1), 7), None);
    assert_eq!(s.hold(first.0..first.0 + 1).count(), 0, "once is enough");
    let kicked: Vec<_> = s.release(first.0..first.0 + 1, 8).collect();
    assert_eq!(kicked, [CoreId(1)]);
    assert_eq!(s.pick(CoreId(1), 8), Some(first));
}

#[test]
fn what_wakes_a_held_one_is_not_lost() {
    let mut s = small(1);
    for n in 0..4 {
        s.turn_on(id(n), 0);
        assert_eq!(s.pick(CoreId(0), 0), Some(id(n)));
        let timer = (n == 1).then_some(100);
        s.park(id(n), 0, timer);
    }
    assert_eq!(s.hold(0..6).count(), 0);
    // One is woken, one has a timer, one goes on waiting, and one that was off is turned on.
    assert_eq!(s.wake(id(0), 10), None);
    assert_eq!(s.turn_on(id(4), 10), None);
    assert_eq!(s.next_event(CoreId(0), 50), Some(100));
    assert_eq!(s.expire(CoreId(0), 100).count(), 0);
    assert_eq!(s.pick(CoreId(0), 100), None);
    assert!(!s.should_yield(CoreId(0), 100));
    assert_eq!(s.release(0..6, 200).count(), 1);
    let mut picked = Vec::new();
    while let Some(one) = s.pick(CoreId(0), 200) {
        picked.push(one);
        s.off(one, 200);
    }
    picked.sort();
    assert_eq!(picked, [id(0), id(1), id(4)]);
    assert!(!s.all_off(0..6), "two still wait");
}

#[test]
fn one_that_is_turned_off_while_held_can_be_turned_on_again() {
    let mut s = small(1);
    s.turn_on(id(0), 0);
    s.pick(CoreId(0), 0);
    assert_eq!(s.hold(0..1).count(), 1);
    s.off(id(0), 1);
    assert!(s.all_off(0..1) && !s.is_shared());
    assert_eq!(s.turn_on(id(0), 2), None);
    assert_eq!(s.pick(CoreId(0), 2), None);
    assert_eq!(s.release(0..1, 3).count(), 1);
    assert_eq!(s.pick(CoreId(0), 3), Some(id(0)));
}

/// Runs every core for so many steps of 100 µs as the kernel does; gives each vCPU's service.
fn spin(s: &mut Small, cores: u8, steps: u64) -> [u64; 16] {
    const STEP: u64 = HZ / 10_000;
    let mut time = [0; 16];
    for now in (0..steps).map(|n| n * STEP) {
        for core in (0..cores).map(CoreId) {
            if s.should_yield(core, now) {
                if let Some(running) = s.running[usize::from(core.0)] {
                    s.preempt(running, now);
                }
                s.pick(core, now);
            }
            if let Some(running) = s.running[usize::from(core.0)] {
                time[usize::from(running.0)] += STEP;
            }
        }
    }
    time
}

proptest! {
    /// vCPUs that always want to run get the same share to within a few turns.
    #[test]
    fn shares_are_equal(cores in 1u8..=4, vcpus in 1u16..=16) {
        let mut s = small(cores.into());
        for n in 0..vcpus {
            s.turn_on(id(n), 0);
        }
        let time = spin(&mut s, cores, 5000);
        let served = &time[..vcpus.into()];
        let (least, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
        prop_assert!(vcpus <= u16::from(cores) || most - least <= 3 * LEAD, "{served:?}");
    }

    /// Whatever happens, a core runs at most one vCPU, a vCPU runs on at most one core, and nobody who wants to run is forgotten
    /// while a core is idle; and who is held or out gets no core.
    #[test]
    fn nobody_is_lost(ops in prop::collection::vec(any::<(u8, u8, u16)>(), 0..400)) {
        let mut s = small(3);
        for (step, (op, core, n)) in ops.into_iter().enumerate() {
            let now = step as u64 * 500;
            let core = CoreId(core % 3);
            let running = s.running[usize::from(core.0)];
            match (op % 10, running) {
                (0, _) if n % 2 == 0 => drop(s.turn_on(id(n % 16), now)),
                (0, _) => drop(s.wake(id(n % 16), now)),
                (1, None) => {
                    let picked = s.pick(core, now);
                    prop_assert!(picked.is_none_or(|picked| !s.entities[usize::from(picked.0)].is_barred()));
                }
                (2, Some(running)) => s.preempt(running, now),
                (3, Some(running)) => s.park(running, now, (n % 2 == 0).then_some(now + u64::from(n))),
                (4, Some(running)) => s.off(running, now),
                (5, _) => drop(s.expire(core, now)),
                (6, _) => drop(s.hold(n % 16..n % 16 + 1)),
                (7, _) => drop(s.release(n % 16..n % 16 + 1, now)),
                (8, _) => drop(s.set_cap(usize::from(n % 4), Capper::Move, Cap::new(n / 4 % 40), now)),
                (9, _) => drop(s.set_weight(usize::from(n % 4), Weight::new(n % 10_000 + 1).unwrap(), now)),
                _ => {}
            }
            let on = s.entities.iter().filter(|e| e.state != State::Off && !e.held).count();
            prop_assert_eq!(on, s.live);
            prop_assert_eq!(s.budgets.iter().filter(|budget| budget.is_capped()).count(), s.capped);
            for (index, entity) in s.entities.iter().enumerate() {
                let budget = &s.budgets[Small::guest_of(id(index as u16))];
                prop_assert_eq!(entity.out, budget.out.is_some());
                prop_assert!(budget.out.is_none_or(|core| s.earliest[usize::from(core.0)] <= budget.refill_at()));
            }
            let ready = s.entities.iter().filter(|e| e.is_waiting()).count();
            prop_assert_eq!(ready, s.ready);
            for (index, entity) in s.entities.iter().enumerate() {
                let seats = s.running.iter().filter(|seat| **seat == Some(id(index as u16))).count();
                prop_assert_eq!(seats, usize::from(matches!(entity.state, State::Running { .. })));
            }
            for entity in s.entities.iter().filter(|e| e.is_waiting()) {
                prop_assert!(s.least_waiting().is_some());
                prop_assert!(entity.served < u64::MAX / 2);
            }
        }
    }
}

#[test]
fn one_that_had_the_board_for_itself_owes_nothing_for_it() {
    let mut s = small(1);
    s.turn_on(id(0), 0);
    s.pick(CoreId(0), 0);
    let long = 3600 * HZ;
    s.turn_on(id(1), long);
    let mut time = [0; 2];
    for now in (0..10_000).map(|n| long + n * 100) {
        if s.should_yield(CoreId(0), now) {
            s.preempt(s.running[0].unwrap(), now);
            s.pick(CoreId(0), now);
        }
        time[usize::from(s.running[0].unwrap().0)] += 100;
    }
    let first = time[0];
    assert!(first > HZ * 45 / 100 && first < HZ * 55 / 100, "{time:?}");
}
