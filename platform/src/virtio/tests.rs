//! The way to a running device, and the queue against a device that may do anything at any time.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::fake::Fake;
use super::queue::{Access, Head, Queue, Rings};
use super::*;
use crate::dma::{Memory, Page};

/// A network card's number.
const NETWORK: u32 = 1;

pub(crate) fn pages(count: usize) -> &'static mut [Page] {
    (0..count).map(|_| Page::ZERO).collect::<Vec<_>>().leak()
}

fn begin(fake: Fake) -> Result<Opening<Fake>, OpenError> {
    let device = Device::find(fake)?.expect("a device");
    device.begin(Kind::Network, 1 << 5, feature::EVENT_INDEX)
}

#[test]
fn what_stands_in_a_slot() {
    assert!(Device::find(Fake::new(0, 0, &[])).unwrap().is_none());
    for (id, kind) in [(1, Kind::Network), (2, Kind::Block), (4, Kind::Other(4))] {
        let device = Device::find(Fake::new(id, 0, &[])).unwrap().unwrap();
        assert_eq!(device.kind(), kind);
    }
    let legacy = Device::find(Fake::new(1, 0, &[]).version(1)).map(|_| ());
    assert_eq!(legacy, Err(OpenError::Version(1)));
}

#[test]
fn features_are_agreed_on_or_the_device_is_left() {
    let error = |fake| begin(fake).map(|_| ()).unwrap_err();
    assert_eq!(error(Fake::new(NETWORK, 0, &[])), OpenError::Lacks(5));
    assert_eq!(
        error(Fake::new(2, 1 << 5, &[])),
        OpenError::WrongKind(Kind::Block)
    );
    assert_eq!(
        error(Fake::new(NETWORK, 1 << 5, &[]).stuck()),
        OpenError::Stuck
    );
    assert_eq!(
        error(Fake::new(NETWORK, 1 << 5, &[]).refusing()),
        OpenError::Refused
    );
    // What nobody here knows is not accepted.
    let fake = Fake::new(NETWORK, 1 << 5 | 1 << 7 | 1 << 40, &[]);
    let opening = begin(fake).unwrap();
    assert_eq!(fake.accepted(), 1 << 5 | feature::VERSION_1);
    assert!(!opening.has(feature::EVENT_INDEX));
    assert!(!fake.is_running());
    let registers = opening.finish();
    assert!(fake.is_running() && is_working(&registers));
    reset(&registers);
    assert!(!is_working(&registers));
}

#[test]
fn a_queue_that_is_too_short_and_a_configuration_that_never_rests() {
    let opening = begin(Fake::new(NETWORK, 1 << 5, &[]).most(8)).unwrap();
    let rings: &'static Rings<16> = Memory::new(pages(1)).place().unwrap();
    let short = opening.queue(1, rings).map(|_| ());
    assert_eq!(short, Err(OpenError::ShortQueue { queue: 1, most: 8 }));
    let opening = begin(Fake::new(NETWORK, 1 << 5, &[]).restless()).unwrap();
    assert_eq!(
        opening.configuration(|registers| registers.read8(register::CONFIG)),
        Err(OpenError::Configuration)
    );
}

#[test]
fn an_interrupt_is_acknowledged_once() {
    let fake = Fake::new(NETWORK, 1 << 5, &[]);
    assert_eq!(acknowledge(&fake), Interrupts::default());
    fake.configure(0, 1);
    let configuration = Interrupts {
        queues: false,
        configuration: true,
    };
    assert_eq!(acknowledge(&fake), configuration);
    assert_eq!(acknowledge(&fake), Interrupts::default());
}

/// A queue of eight entries and the device behind it.
struct Pair {
    fake: Fake,
    queue: Queue<8>,
    free: Vec<Head>,
}

fn pair(events: bool) -> Pair {
    let wished = if events { feature::EVENT_INDEX } else { 0 };
    let fake = Fake::new(NETWORK, 1 << 5 | wished, &[]);
    let opening = begin(fake).unwrap();
    let rings: &'static Rings<8> = Memory::new(pages(1)).place().unwrap();
    let (queue, heads) = opening.queue(0, rings).unwrap();
    opening.finish();
    Pair {
        fake,
        queue,
        free: heads.into(),
    }
}

impl Pair {
    fn offer(&mut self, bytes: u32) -> Option<usize> {
        let head = self.free.pop()?;
        let index = head.index();
        let descriptor = self.queue.descriptor(&head);
        descriptor.set(0x1000, bytes, Access::DeviceWrites, None);
        self.queue.offer(head);
        Some(index)
    }
}

#[test]
fn what_the_device_was_not_given_it_cannot_give_back() {
    for wrong in [6, 8, 0x1_0007, u32::MAX] {
        let mut pair = pair(true);
        assert_eq!(pair.offer(1), Some(7));
        assert!(pair.queue.publish());
        pair.fake.push(0, wrong, 0);
        assert_eq!(pair.queue.ready(), Ok(1));
        assert_eq!(
            pair.queue.take(),
            Err(queue::Fault::NotGiven { head: wrong })
        );
    }
    // Given once, given back once.
    let mut pair = pair(true);
    pair.offer(1);
    pair.offer(1);
    assert!(pair.queue.publish());
    pair.fake.push(0, 7, 5);
    pair.fake.push(0, 7, 5);
    assert_eq!(pair.queue.ready(), Ok(2));
    let first = pair.queue.take().map(|(head, bytes)| (head.index(), bytes));
    assert_eq!(first, Ok((7, 5)));
    assert_eq!(pair.queue.take(), Err(queue::Fault::NotGiven { head: 7 }));
}

#[test]
fn an_index_that_jumps_is_found() {
    for jump in [3, 8, 100, 0x8000, 0xffff] {
        let mut pair = pair(false);
        pair.offer(1);
        pair.offer(1);
        assert!(pair.queue.publish());
        pair.fake.set_used(0, jump);
        let fault = queue::Fault::TooMany {
            claimed: jump,
            given: 2,
        };
        assert_eq!(pair.queue.ready(), Err(fault));
        assert_eq!(pair.queue.listen(1), Err(fault));
    }
}

/// What can happen to a queue.
#[derive(Clone, Copy, Debug)]
enum Step {
    Offer,
    Publish,
    /// The device takes one request, after its index if it sleeps.
    Pop,
    /// The device gives back the one at this place of those that it has.
    Push(usize),
    Sleep,
    Wake,
    Take,
    Listen(u16),
    Suppress,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Offer),
        2 => Just(Step::Publish),
        4 => Just(Step::Pop),
        4 => (0usize..8).prop_map(Step::Push),
        1 => Just(Step::Sleep),
        1 => Just(Step::Wake),
        4 => Just(Step::Take),
        1 => (0u16..9).prop_map(Step::Listen),
        1 => Just(Step::Suppress),
    ]
}

/// Where everything should be.
#[derive(Default)]
struct Model {
    offered: VecDeque<usize>,
    visible: VecDeque<usize>,
    held: Vec<usize>,
    done: VecDeque<usize>,
    asleep: bool,
    /// The driver wants an interrupt when so many are done.
    wanted: Option<usize>,
}

/// Runs the steps and checks that nothing is lost, made up, or slept through.
fn run(pair: &mut Pair, model: &mut Model, events: bool, steps: impl IntoIterator<Item = Step>) {
    for step in steps {
        let (notified, interrupts) = (pair.fake.notified(0), pair.fake.interrupts());
        match step {
            Step::Offer => model.offered.extend(pair.offer(1)),
            Step::Publish => {
                let notify = pair.queue.publish();
                let news = !model.offered.is_empty();
                model.visible.append(&mut model.offered);
                assert!(!(news && model.asleep) || notify, "the device sleeps on");
                model.asleep &= !notify;
            }
            Step::Pop => {
                let head = pair.fake.pop(0).map(|(head, _)| usize::from(head));
                assert_eq!(head, model.visible.pop_front());
                model.held.extend(head);
            }
            Step::Push(at) if !model.held.is_empty() => {
                let head = model.held.remove(at % model.held.len());
                pair.fake.push(0, head as u32, 1);
                model.done.push_back(head);
                let due = model
                    .wanted
                    .is_some_and(|wanted| model.done.len() >= wanted);
                assert!(
                    !due || pair.fake.interrupts() > interrupts,
                    "the driver sleeps on"
                );
                model.wanted = model.wanted.filter(|_| !due);
            }
            Step::Push(_) => {}
            Step::Sleep => model.asleep = !pair.fake.sleep(0),
            Step::Wake => {
                pair.fake.wake(0);
                model.asleep = false;
            }
            Step::Take => {
                assert_eq!(pair.queue.ready(), Ok(model.done.len() as u16));
                if let Some(head) = model.done.pop_front() {
                    let (taken, bytes) = pair.queue.take().unwrap();
                    assert_eq!((taken.index(), bytes), (head, 1));
                    pair.free.push(taken);
                    // The point stays where it is, and one is taken away before it.
                    model.wanted = None;
                }
            }
            Step::Listen(entries) => {
                let least = if events {
                    usize::from(entries.max(1))
                } else {
                    1
                };
                let ready = pair.queue.listen(entries).unwrap();
                assert_eq!(ready, model.done.len() >= least);
                model.wanted = (!ready).then_some(least);
            }
            Step::Suppress => {
                pair.queue.suppress();
                model.wanted = None;
            }
        }
        assert_eq!(pair.fake.notified(0), notified, "the caller notifies");
    }
}

/// Takes everything back, and lets many entries pass, so that all indices come around.
fn settle(pair: &mut Pair, model: &mut Model, events: bool, entries: usize) {
    for n in 0..entries {
        let steps = [
            Step::Offer,
            Step::Publish,
            Step::Pop,
            Step::Push(n),
            Step::Take,
        ];
        run(pair, model, events, steps);
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_or_slept_through(
        events in any::<bool>(),
        around in prop_oneof![15 => Just(0usize), 1 => 65_520usize..65_545],
        steps in proptest::collection::vec(step(), 0..200),
    ) {
        let (mut pair, mut model) = (pair(events), Model::default());
        pair.queue.suppress();
        settle(&mut pair, &mut model, events, around);
        run(&mut pair, &mut model, events, steps);
        settle(&mut pair, &mut model, events, 40);
        let everywhere = model.offered.len() + model.visible.len() + model.held.len() + model.done.len();
        prop_assert_eq!(pair.free.len() + everywhere, 8);
    }
}

#[test]
fn suppressed_means_quiet() {
    let (mut pair, mut model) = (pair(true), Model::default());
    pair.queue.suppress();
    settle(&mut pair, &mut model, true, 60_000);
    assert_eq!(pair.fake.interrupts(), 0);
}
