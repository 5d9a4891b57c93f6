//! Random operations with kicks that arrive late: a guest may see the state of the last flush, and in the end nothing was
//! lost and nothing came twice.

use super::super::{Frame, Intid, Version, Width};
use super::core::Core;
use super::lockstep::{a_version, an_op};
use super::machine::{Machine, Op};
use super::{cases, intid, vcpu};
use proptest::prelude::*;

/// One interrupt's causes that were raised, and how often a guest took one. Two raised while a processor is late
/// may come as one or as two, since whether the first was taken before the second is not known.
#[derive(Clone, Copy, Default)]
struct Ledger {
    /// Raised since the guest last took it.
    owed: bool,
    raised: u32,
    taken: u32,
}

/// What happens: an edge, or a guest's step, or late work of the hypervisor.
#[derive(Clone, Debug)]
enum Step {
    Edge(u32),
    Send { from: usize, to: usize, sgi: u32 },
    Mask(u32, bool),
    Route(u32, u8),
    Guest(usize, bool),
    Exit(usize),
    Move(usize),
    Poll(usize),
}

fn a_step() -> impl Strategy<Value = Step> {
    let cpu = 0..4_usize;
    prop_oneof![
        6 => (40_u32..48).prop_map(Step::Edge),
        6 => (cpu.clone(), cpu.clone(), 0..3_u32).prop_map(|(from, to, sgi)| Step::Send { from, to, sgi }),
        2 => (40_u32..48, any::<bool>()).prop_map(|(i, on)| Step::Mask(i, on)),
        2 => (40_u32..48, 1..16_u8).prop_map(|(i, t)| Step::Route(i, t)),
        16 => (cpu.clone(), any::<bool>()).prop_map(|(c, take)| Step::Guest(c, take)),
        6 => cpu.clone().prop_map(Step::Exit),
        1 => cpu.clone().prop_map(Step::Move),
        1 => cpu.prop_map(Step::Poll),
    ]
}

/// A guest of four processors, edges 40 to 47 and SGIs 0 to 2, and who is owed what.
struct Rehearsal {
    machine: Machine,
    edges: [Ledger; 8],
    /// By receiver, SGI and, for GICv2, sender.
    sgis: [[[Ledger; 4]; 3]; 4],
}

impl Rehearsal {
    fn new(version: Version, registers: usize) -> Self {
        let mut machine = Machine::new(version, 4, registers, false);
        machine.apply(&Op::Enable(true, true));
        for number in 40..48 {
            let spi = intid(number);
            machine.apply(&Op::Trigger(spi, true));
            machine.apply(&Op::Route(spi, 1));
            machine.apply(&Op::Bits {
                by: 0,
                of: 0,
                bits: 1,
                intid: spi,
                also: 0,
            });
            machine.apply(&Op::Priority(0, spi, (number << 3) as u8));
        }
        machine.settle();
        Self {
            machine,
            edges: Default::default(),
            sgis: Default::default(),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Edge(number) => {
                let ledger = &mut self.edges[number as usize - 40];
                ledger.owed = true;
                ledger.raised += 1;
                self.machine.due |= self.machine.vgic.pulse(intid(number), vcpu(0));
            }
            Step::Send { from, to, sgi } => {
                let sender = if self.machine.version == Version::V2 {
                    from
                } else {
                    0
                };
                let ledger = &mut self.sgis[to][sgi as usize][sender];
                ledger.owed = true;
                ledger.raised += 1;
                let told = self.machine.vgic.send_sgi(
                    vcpu(from),
                    super::super::VcpuMask::one(vcpu(to)),
                    sgi,
                );
                self.machine.due |= told;
            }
            Step::Mask(number, on) => {
                let offset = if on { 0x104 } else { 0x184 };
                let place = (Frame::Distributor, offset);
                self.machine
                    .write(vcpu(0), place, Width::Word, 1 << (number - 32));
            }
            Step::Route(number, targets) => {
                self.machine.due |= if self.machine.version == Version::V2 {
                    let offset = 0x800 + number;
                    self.machine.vgic.write(
                        vcpu(1),
                        Frame::Distributor,
                        offset,
                        Width::Byte,
                        targets.into(),
                    )
                } else {
                    let offset = 0x6000 + 8 * number;
                    let route = u64::from(targets.trailing_zeros());
                    self.machine.vgic.write(
                        vcpu(1),
                        Frame::Distributor,
                        offset,
                        Width::Double,
                        route,
                    )
                };
            }
            Step::Guest(of, take) => self.guest(of, take),
            Step::Exit(of) => self.exit(of),
            Step::Move(of) => {
                self.machine.apply(&Op::Load(of, false));
                self.machine.apply(&Op::Load(of, true));
                self.exit(of);
            }
            Step::Poll(of) => {
                let core = &mut self.machine.cores[of];
                let reading =
                    self.machine
                        .vgic
                        .read(vcpu(of), Frame::Distributor, 0x204, Width::Word, core);
                self.machine.due |= reading.told;
                self.exit(of);
            }
        }
        self.check();
    }

    /// The processor leaves its guest and comes back, whoever else is due.
    fn exit(&mut self, of: usize) {
        let of = vcpu(of);
        let serve = self.machine.due.contains(of);
        self.machine.due = self.machine.due.without(of);
        self.machine.serve(of);
        if serve {
            self.machine.enter(of);
        }
    }

    fn guest(&mut self, of: usize, take: bool) {
        if take {
            if let Some(taken) = self.machine.cores[of].acknowledge() {
                self.take(of, taken.intid, taken.source.index());
            }
        } else {
            self.machine.cores[of].end();
        }
        self.machine.serve(vcpu(of));
    }

    fn take(&mut self, of: usize, taken: Intid, source: usize) {
        let number = taken.number() as usize;
        let ledger = if number < 16 {
            &mut self.sgis[of][number][source]
        } else {
            &mut self.edges[number - 40]
        };
        ledger.taken += 1;
        assert!(
            ledger.taken <= ledger.raised,
            "{taken:?} came more often than it was raised"
        );
        ledger.owed = false;
    }

    fn check(&self) {
        let mut spis = Vec::new();
        for core in &self.machine.cores {
            core.check();
            spis.extend(
                core.entries()
                    .into_iter()
                    .map(|entry| entry.intid)
                    .filter(|it| it.is_spi()),
            );
        }
        let listed = spis.len();
        spis.sort_unstable();
        spis.dedup();
        assert_eq!(spis.len(), listed, "an SPI in two cores' list registers");
    }

    /// Everyone becomes prompt, and the guests take and end whatever is offered.
    fn drain(&mut self) {
        let place = (Frame::Distributor, 0x104);
        self.machine.write(vcpu(0), place, Width::Word, 0xff00);
        for _ in 0..1000 {
            self.machine.settle();
            let mut idle = true;
            for of in 0..4 {
                if let Some(taken) = self.machine.cores[of].acknowledge() {
                    self.take(of, taken.intid, taken.source.index());
                    idle = false;
                } else if self.machine.cores[of].end().is_some() {
                    idle = false;
                }
            }
            if idle {
                return;
            }
        }
        panic!("never drained");
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn nothing_is_lost_and_nothing_comes_twice(
        version in a_version(),
        registers in 1..=4_usize,
        steps in prop::collection::vec(a_step(), 1..300),
    ) {
        let mut rehearsal = Rehearsal::new(version, registers);
        for step in &steps {
            rehearsal.step(step);
        }
        rehearsal.drain();
        let sgis = rehearsal.sgis.iter().flatten().flatten();
        for ledger in rehearsal.edges.iter().chain(sgis) {
            prop_assert!(!ledger.owed, "raised and never taken");
        }
    }

    /// Whatever happens while kicks are late, the list registers stay sound, and in the end all comes to rest.
    #[test]
    fn late_kicks_keep_list_registers_sound(
        version in a_version(),
        registers in 1..=4_usize,
        split in any::<bool>(),
        ops in prop::collection::vec(an_op(), 1..200),
    ) {
        let mut machine = Machine::new(version, 4, registers, split);
        machine.apply(&Op::Enable(true, true));
        for op in &ops {
            match op {
                // The reference does not know what a guest may still take.
                Op::Acknowledge(of) => drop(machine.cores[of % 4].acknowledge()),
                Op::Read { .. } | Op::Trigger(..) => {}
                _ => machine.apply(op),
            }
            machine.cores.iter().for_each(Core::check);
        }
        machine.settle();
        prop_assert!(machine.cores.iter().all(|core| !core.maintenance()));
    }
}
