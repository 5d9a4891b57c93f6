//! The controller and the reference in lockstep, each with the same operations, and the cores between.

use super::super::register::Bits;
use super::super::{Frame, INTIDS, Intid, SgiKind, VcpuId, VcpuMask, Version, Vgic, Width};
use super::core::{Acknowledged, Core};
use super::reference::Reference;
use super::{intid, vcpu, vgic};

/// The registers of one bit for each interrupt, by their base.
pub(super) const BITS: [(Bits, u32); 7] = [
    (Bits::Group, 0x080),
    (Bits::SetEnable, 0x100),
    (Bits::ClearEnable, 0x180),
    (Bits::SetPending, 0x200),
    (Bits::ClearPending, 0x280),
    (Bits::SetActive, 0x300),
    (Bits::ClearActive, 0x380),
];

/// What happens to a machine; processors are taken modulo their number.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Line(usize, Intid, bool),
    Pulse(Intid),
    TimerLine(usize, bool),
    Send {
        from: usize,
        targets: u8,
        all_but_self: bool,
        sgi: u32,
        kind: u8,
    },
    Bits {
        by: usize,
        of: usize,
        bits: usize,
        intid: Intid,
        also: u32,
    },
    Priority(usize, Intid, u8),
    Trigger(Intid, bool),
    Route(Intid, u64),
    Sources {
        of: usize,
        set: bool,
        sgi: u32,
        byte: u8,
    },
    Awake(usize, bool),
    Enable(bool, bool),
    Acknowledge(usize),
    End(usize),
    Deactivate(usize, usize),
    Load(usize, bool),
    Fold(usize),
    Read {
        by: usize,
        of: usize,
        bits: usize,
        word: u32,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub version: Version,
    pub vgic: Vgic,
    pub reference: Reference,
    pub cores: Vec<Core>,
    pub loaded: Vec<bool>,
    pub timer_line: Vec<bool>,
    /// Acknowledged and not deactivated (EOImode 1).
    pub undone: Vec<Vec<Acknowledged>>,
    /// Who was told and has not flushed.
    pub due: VcpuMask,
}

impl Machine {
    pub(super) fn new(version: Version, vcpus: usize, registers: usize, split: bool) -> Self {
        let mut machine = Self {
            version,
            vgic: vgic(version, vcpus),
            reference: Reference::new(version, vcpus),
            cores: vec![Core::new(version, registers, split); vcpus],
            loaded: vec![false; vcpus],
            timer_line: vec![false; vcpus],
            undone: vec![Vec::new(); vcpus],
            due: VcpuMask::EMPTY,
        };
        for index in 0..vcpus {
            machine.apply(&Op::Load(index, true));
        }
        machine
    }

    pub(super) fn vcpu(&self, number: usize) -> VcpuId {
        vcpu(number % self.cores.len())
    }

    /// The frame, offset and view of an interrupt's byte or bit register.
    pub(super) fn place(&self, of: VcpuId, private: bool, offset: u32) -> (Frame, u32) {
        match self.version {
            Version::V3 if private => (Frame::Redistributor(of), 0x1_0000 + offset),
            _ => (Frame::Distributor, offset),
        }
    }

    /// Whose private registers `by` reaches when it means those of `of`.
    fn view(&self, by: VcpuId, of: VcpuId) -> VcpuId {
        if self.version == Version::V2 { by } else { of }
    }

    pub(super) fn write(&mut self, by: VcpuId, place: (Frame, u32), width: Width, value: u64) {
        self.due |= self.vgic.write(by, place.0, place.1, width, value);
    }

    /// A read as a guest's poll does it: what was asked for is done, then it reads again.
    pub(super) fn read(&mut self, by: VcpuId, place: (Frame, u32), width: Width) -> u64 {
        for _ in 0..2 {
            let core = &mut self.cores[by.index()];
            let reading = self.vgic.read(by, place.0, place.1, width, core);
            self.due |= reading.told;
            if reading.told.is_empty() {
                return reading.value;
            }
            self.settle();
        }
        let core = &mut self.cores[by.index()];
        let reading = self.vgic.read(by, place.0, place.1, width, core);
        self.due |= reading.told;
        self.settle();
        reading.value
    }

    /// Lets everyone who was told flush, and serves maintenance interrupts and timers, until all is quiet.
    pub(super) fn settle(&mut self) {
        for _ in 0..1000 {
            let quiet = self.due.is_empty();
            for vcpu in std::mem::take(&mut self.due) {
                self.enter(vcpu);
            }
            let mut served = false;
            for index in 0..self.cores.len() {
                served |= self.serve(vcpu(index));
            }
            if quiet && !served {
                return;
            }
        }
        panic!("never quiet");
    }

    /// The processor exits and enters again, if it is loaded.
    pub(super) fn enter(&mut self, vcpu: VcpuId) {
        if self.loaded[vcpu.index()] {
            self.due |= self.vgic.flush(vcpu, &mut self.cores[vcpu.index()]);
        }
    }

    /// Takes the physical interrupts of the core on which `vcpu` is loaded.
    pub(super) fn serve(&mut self, vcpu: VcpuId) -> bool {
        let index = vcpu.index();
        let core = &mut self.cores[index];
        if !self.loaded[index] {
            return false;
        }
        let maintenance = core.maintenance();
        if maintenance {
            self.due |= self.vgic.fold(vcpu, core);
        }
        let timer = self.timer_line[index] && !core.physical_active;
        if timer {
            core.physical_active = true;
            self.due |= self.vgic.deliver_mapped(vcpu, core);
            self.reference.get_mut(vcpu, Intid::VIRTUAL_TIMER).latch = true;
        }
        if maintenance || timer {
            self.enter(vcpu);
        }
        maintenance || timer
    }

    pub(super) fn apply(&mut self, op: &Op) {
        match *op {
            Op::Line(of, intid, level) => {
                let of = self.vcpu(of);
                self.due |= self.vgic.set_line(intid, of, level);
                self.reference.set_line(of, intid, level);
            }
            Op::Pulse(intid) => {
                self.due |= self.vgic.pulse(intid, vcpu(0));
                self.reference.pulse(vcpu(0), intid);
            }
            Op::TimerLine(of, level) => {
                let of = self.vcpu(of);
                self.timer_line[of.index()] = level;
            }
            Op::Send { .. } | Op::Sources { .. } => self.apply_sgi(op),
            Op::Acknowledge(..) | Op::End(..) | Op::Deactivate(..) => self.apply_guest(op),
            Op::Load(of, load) => self.load(self.vcpu(of), load),
            Op::Fold(of) => {
                let of = self.vcpu(of);
                if self.loaded[of.index()] {
                    self.due |= self.vgic.fold(of, &mut self.cores[of.index()]);
                    self.due |= VcpuMask::one(of);
                }
            }
            Op::Read { by, of, bits, word } => {
                self.settle();
                self.compare_bits(self.vcpu(by), self.vcpu(of), BITS[bits % 7], word % 4);
            }
            _ => self.apply_register(op),
        }
    }

    fn load(&mut self, of: VcpuId, load: bool) {
        let index = of.index();
        if self.loaded[index] == load {
            return;
        }
        self.loaded[index] = load;
        let core = &mut self.cores[index];
        if load {
            assert!(core.idle());
            core.physical_active = self.vgic.load(of);
            self.due |= VcpuMask::one(of);
        } else {
            let unloaded = self.vgic.unload(of, core);
            assert_eq!(unloaded.mapped_active, core.physical_active);
            assert!(core.idle());
            core.physical_active = false;
            self.due |= unloaded.told;
        }
    }

    fn apply_sgi(&mut self, op: &Op) {
        match *op {
            Op::Send {
                from,
                targets,
                all_but_self,
                sgi,
                kind,
            } => {
                let from = self.vcpu(from);
                let kind = [SgiKind::Group1, SgiKind::Group0, SgiKind::Alias1][kind as usize % 3];
                let (kind, told) = if self.version == Version::V2 {
                    let value = sgi | u32::from(targets) << 16 | u32::from(all_but_self) << 24;
                    let place = (Frame::Distributor, 0xf00);
                    let told = self
                        .vgic
                        .write(from, place.0, place.1, Width::Word, value.into());
                    (SgiKind::Group1, told)
                } else {
                    let value =
                        u64::from(sgi) << 24 | u64::from(targets) | u64::from(all_but_self) << 40;
                    (kind, self.vgic.sgi1r(from, value, kind))
                };
                self.due |= told;
                let targets = if all_but_self {
                    !VcpuMask::one(from).0
                } else {
                    targets
                };
                self.reference.send(from, targets, intid(sgi), kind);
            }
            Op::Sources { of, set, sgi, byte } if self.version == Version::V2 => {
                let of = self.vcpu(of);
                let offset = if set { 0xf20 } else { 0xf10 } + sgi;
                self.write(of, (Frame::Distributor, offset), Width::Byte, byte.into());
                let exist = VcpuMask::first(self.cores.len()).0;
                let it = self.reference.get_mut(of, intid(sgi));
                if set {
                    it.sources |= byte & exist;
                } else {
                    it.sources &= !byte;
                }
            }
            _ => {}
        }
    }

    fn apply_register(&mut self, op: &Op) {
        match *op {
            Op::Bits {
                by,
                of,
                bits,
                intid,
                also,
            } => {
                let by = self.vcpu(by);
                let of = self.view(by, self.vcpu(of));
                self.write_bits(by, of, BITS[bits % 7], intid, also);
            }
            Op::Priority(of, intid, byte) => {
                let of = self.vcpu(of);
                if self.reference.get(of, intid).active {
                    // The running priority is the old one; which of several unlisted ends first is then anyone's guess.
                    return;
                }
                let place = self.place(of, !intid.is_spi(), 0x400 + intid.number());
                self.write(of, place, Width::Byte, byte.into());
                self.reference.get_mut(of, intid).priority = byte & 0xf8;
            }
            Op::Trigger(spi, edge) if spi.is_spi() => self.write_trigger(spi, edge),
            Op::Route(spi, route) if spi.is_spi() => self.write_route(spi, route),
            Op::Awake(of, awake) if self.version == Version::V3 => {
                let of = self.vcpu(of);
                let value = if awake { 0 } else { 2 };
                self.write(of, (Frame::Redistributor(of), 0x14), Width::Word, value);
                self.reference.awake[of.index()] = awake;
            }
            Op::Enable(group0, group1) => {
                let value = u64::from(group0) | u64::from(group1) << 1;
                self.write(vcpu(0), (Frame::Distributor, 0), Width::Word, value);
                self.reference.group_on = [group0, group1];
            }
            _ => {}
        }
    }

    fn write_bits(
        &mut self,
        by: VcpuId,
        of: VcpuId,
        (bits, base): (Bits, u32),
        it: Intid,
        also: u32,
    ) {
        let word = it.number() / 32;
        let mut value = 1 << (it.number() % 32) | also;
        if matches!(bits, Bits::SetActive | Bits::ClearActive) {
            // What a processor runs it ends itself; with a count of ends alone nothing could tell whose end it was.
            for number in 0..32 {
                let it = intid(32 * word + number);
                let held = self
                    .cores
                    .iter()
                    .any(|core| core.running.iter().any(|running| running.intid == it))
                    || self
                        .undone
                        .iter()
                        .flatten()
                        .any(|undone| undone.intid == it);
                if held || !self.cores[0].split && bits == Bits::SetActive {
                    value &= !(1 << number);
                }
            }
        }
        let place = self.place(of, word == 0, base + 4 * word);
        self.write(by, place, Width::Word, value.into());
        for number in 0..32 {
            let bit = value >> number & 1 != 0;
            self.reference
                .write_bit(of, intid(32 * word + number), bits, bit);
        }
    }

    fn write_trigger(&mut self, spi: Intid, edge: bool) {
        let offset = 0xc00 + 4 * (spi.number() / 16);
        let place = (Frame::Distributor, offset);
        let shift = 2 * (spi.number() % 16) + 1;
        let old = self.read(vcpu(0), place, Width::Word);
        let new = old & !(1 << shift) | u64::from(edge) << shift;
        self.write(vcpu(0), place, Width::Word, new);
        self.reference.get_mut(vcpu(0), spi).edge = edge;
    }

    fn write_route(&mut self, spi: Intid, route: u64) {
        let number = spi.number();
        let masked = if self.version == Version::V2 {
            self.write(
                vcpu(0),
                (Frame::Distributor, 0x800 + number),
                Width::Byte,
                route,
            );
            let exist = VcpuMask::first(self.cores.len()).0;
            if self.cores.len() == 1 {
                0
            } else {
                route & u64::from(exist)
            }
        } else {
            self.write(
                vcpu(0),
                (Frame::Distributor, 0x6000 + 8 * number),
                Width::Double,
                route,
            );
            route & 0xff_80ff_ffff
        };
        self.reference.route[number as usize] = masked;
    }

    /// What a guest reads must be what the reference says.
    fn compare_bits(&mut self, by: VcpuId, of: VcpuId, (bits, base): (Bits, u32), word: u32) {
        let of = self.view(by, of);
        let place = self.place(of, word == 0, base + 4 * word);
        if !self.loaded[by.index()] {
            return;
        }
        let value = self.read(by, place, Width::Word);
        for number in 0..32 {
            let it = intid(32 * word + number);
            let expected = self.reference.read_bit(of, it, bits);
            assert_eq!(
                value >> number & 1 != 0,
                expected,
                "{bits:?} of {it:?}, {of:?} by {by:?}"
            );
        }
    }

    /// Everything that a guest may see when all is quiet.
    pub(super) fn check(&self) {
        for (index, core) in self.cores.iter().enumerate() {
            let of = vcpu(index);
            core.check();
            let best = self.reference.best(of);
            let priority = best
                .first()
                .map(|intid| self.reference.get(of, *intid).priority);
            if !self.loaded[index] {
                assert!(core.idle());
                assert_eq!(self.vgic.deliverable(of), priority.is_some());
                assert_eq!(self.vgic.most_urgent(of).map(|it| it.byte()), priority);
                continue;
            }
            let limit = core
                .running
                .last()
                .map_or(0x100, |top| u32::from(top.priority));
            let expected = priority.is_some_and(|priority| u32::from(priority) < limit);
            match core.offered() {
                None => assert!(!expected, "{of:?} is not offered one of {best:?}"),
                Some(offered) => {
                    assert!(
                        expected && best.contains(&offered.intid),
                        "{offered:?} of {best:?}"
                    );
                    assert_eq!(Some(offered.priority), priority);
                }
            }
            self.check_timer(of);
        }
        let mut spis: Vec<u32> = (self.cores.iter().flat_map(Core::entries))
            .map(|entry| entry.intid.number())
            .filter(|number| *number >= 32)
            .collect();
        let listed = spis.len();
        spis.sort_unstable();
        spis.dedup();
        assert_eq!(spis.len(), listed, "an SPI in two cores' list registers");
        assert!(spis.iter().all(|number| (*number as usize) < INTIDS));
    }

    /// The physical timer interrupt is active if and only if its line is served or the virtual one is in flight.
    fn check_timer(&self, of: VcpuId) {
        let it = self.reference.get(of, Intid::VIRTUAL_TIMER);
        let active = self.cores[of.index()].physical_active;
        assert!(!active || it.latch || it.active, "held without a reason");
        assert!(
            active || !self.timer_line[of.index()],
            "a timer that never fires"
        );
    }
}
