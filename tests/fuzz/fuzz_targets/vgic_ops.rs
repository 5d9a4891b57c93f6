//! A hostile guest and its devices against the virtual interrupt controller: any access to any register, any line,
//! acknowledgements and ends in any order, processors that come and go. Nothing panics, list registers stay sound, everyone who
//! is told comes to rest, and the timer's physical interrupt is neither lost nor let go of twice.
#![no_main]

use el2_hyp::vgic::list::{decode_v2, decode_v3, encode_v2, encode_v3};
use el2_hyp::vgic::{
    Control, Frame, Intid, ListRegister, ListRegisters, MappedInterrupt, Origin, SgiKind, State,
    VcpuId, VcpuMask, Version, Vgic, Width,
};
use libfuzzer_sys::fuzz_target;

const PHYSICAL: u32 = 27;
/// Rounds of kicks and maintenance after which a machine must have come to rest.
const ROUNDS: usize = 200;

struct Core {
    version: Version,
    slots: Vec<Option<ListRegister>>,
    control: Control,
    ended: u32,
    physical_active: bool,
}

impl Core {
    /// The slot of an interrupt in a state.
    fn find(&self, wanted: impl Fn(&ListRegister) -> bool) -> Option<usize> {
        self.slots
            .iter()
            .position(|slot| slot.as_ref().is_some_and(&wanted))
    }

    fn acknowledge(&mut self) {
        let pending = |entry: &ListRegister| entry.state == State::Pending;
        if let Some(entry) = self
            .find(pending)
            .and_then(|slot| self.slots[slot].as_mut())
        {
            entry.state = State::Active;
        }
    }

    fn end(&mut self, number: u32) {
        let active =
            |entry: &ListRegister| entry.intid.number() == number && entry.state.is_active();
        let Some(entry) = self.find(active).and_then(|slot| self.slots[slot].as_mut()) else {
            self.ended = (self.ended + 1).min(31);
            return;
        };
        entry.state = State::of(entry.state.is_pending(), false);
        if let Origin::Hardware { .. } = entry.origin {
            self.physical_active = false;
        }
    }

    fn reports_end(slot: &Option<ListRegister>) -> bool {
        slot.is_some_and(|entry| {
            entry.state == State::Invalid
                && matches!(entry.origin, Origin::Software { notify: true, .. })
        })
    }

    fn maintenance(&self) -> bool {
        self.slots.iter().any(Self::reports_end)
            || self.control.no_pending && self.find(|entry| entry.state == State::Pending).is_none()
            || self.control.entry_not_present && self.ended != 0
    }
}

impl ListRegisters for Core {
    fn count(&self) -> usize {
        self.slots.len()
    }

    fn empty(&self) -> u32 {
        let free = |slot: &Option<ListRegister>| {
            slot.is_none_or(|entry| entry.state == State::Invalid) && !Self::reports_end(slot)
        };
        (0..)
            .zip(&self.slots)
            .map(|(place, slot)| u32::from(free(slot)) << place)
            .sum()
    }

    fn state(&self, slot: usize) -> State {
        self.slots[slot].map_or(State::Invalid, |entry| entry.state)
    }

    fn write(&mut self, slot: usize, entry: ListRegister) {
        assert!(entry.state != State::Invalid);
        let hardware = matches!(entry.origin, Origin::Hardware { .. });
        assert!(
            !hardware || entry.state != State::PendingActive && entry.intid == Intid::VIRTUAL_TIMER
        );
        self.slots[slot] = match self.version {
            Version::V2 => decode_v2(encode_v2(entry)),
            Version::V3 => decode_v3(encode_v3(entry)),
        };
        assert!(self.slots[slot] == Some(entry));
    }

    fn clear(&mut self, slot: usize) {
        self.slots[slot] = None;
    }

    fn set_control(&mut self, control: Control) {
        self.control = control;
    }

    fn take_eoi_count(&mut self) -> u32 {
        std::mem::take(&mut self.ended)
    }

    fn deactivate(&mut self, physical: u32) {
        assert!(physical == PHYSICAL && self.physical_active);
        self.physical_active = false;
    }
}

struct Machine {
    vgic: Vgic,
    cores: Vec<Core>,
    loaded: Vec<bool>,
    timer: Vec<bool>,
    due: VcpuMask,
}

fn vcpu(index: usize) -> VcpuId {
    VcpuId::new(index).expect("below eight")
}

impl Machine {
    fn new(shape: u8) -> Self {
        let version = if shape & 1 == 0 {
            Version::V2
        } else {
            Version::V3
        };
        let vcpus = 1 + (shape as usize >> 1 & 3);
        let slots = [1, 2, 4, 16][shape as usize >> 3 & 3];
        let mapped = MappedInterrupt {
            virtual_intid: Intid::VIRTUAL_TIMER,
            physical_intid: PHYSICAL,
        };
        let core = || Core {
            version,
            slots: vec![None; slots],
            control: Control::NONE,
            ended: 0,
            physical_active: false,
        };
        Self {
            vgic: Vgic::new(version, vcpus, mapped).expect("a valid configuration"),
            cores: (0..vcpus).map(|_| core()).collect(),
            loaded: vec![false; vcpus],
            timer: vec![false; vcpus],
            due: VcpuMask::EMPTY,
        }
    }

    fn load(&mut self, index: usize, load: bool) {
        if self.loaded[index] == load {
            return;
        }
        self.loaded[index] = load;
        let core = &mut self.cores[index];
        if load {
            core.physical_active = self.vgic.load(vcpu(index));
            self.due |= VcpuMask::one(vcpu(index));
        } else {
            let unloaded = self.vgic.unload(vcpu(index), core);
            self.due |= unloaded.told;
            assert!(unloaded.mapped_active == core.physical_active);
            assert!(core.empty().count_ones() as usize == core.slots.len());
            assert!(core.control == Control::NONE);
            core.physical_active = false;
            core.ended = 0;
        }
    }

    fn settle(&mut self) {
        for _ in 0..ROUNDS {
            let mut busy = !self.due.is_empty();
            for of in std::mem::take(&mut self.due) {
                if self.loaded.get(of.index()) == Some(&true) {
                    self.due |= self.vgic.flush(of, &mut self.cores[of.index()]);
                }
            }
            for (index, core) in self.cores.iter_mut().enumerate() {
                if !self.loaded[index] {
                    continue;
                }
                if core.maintenance() {
                    self.due |= self.vgic.fold(vcpu(index), core);
                    self.due |= VcpuMask::one(vcpu(index));
                    busy = true;
                }
                if self.timer[index] && !core.physical_active {
                    core.physical_active = true;
                    self.due |= self.vgic.deliver_mapped(vcpu(index), core);
                    busy = true;
                }
            }
            if !busy {
                return;
            }
        }
        panic!("never comes to rest");
    }

    fn check(&self) {
        let mut shared = 0_u128;
        for core in &self.cores {
            let mut own = 0_u128;
            for entry in core
                .slots
                .iter()
                .flatten()
                .filter(|entry| entry.state != State::Invalid)
            {
                let bit = 1 << entry.intid.number();
                assert!(own & bit == 0, "twice on a core");
                own |= bit;
                if entry.intid.is_spi() {
                    assert!(shared & bit == 0, "on two cores");
                    shared |= bit;
                }
            }
        }
    }

    /// What has folded a processor's own list registers is followed by a flush before its guest runs on.
    fn enter(&mut self, index: usize) {
        if self.loaded[index] {
            self.due |= self.vgic.flush(vcpu(index), &mut self.cores[index]);
        }
    }

    /// One operation of eight bytes.
    fn step(&mut self, op: &[u8; 8]) {
        let [kind, who, a, b, rest @ ..] = *op;
        let index = who as usize % self.cores.len();
        let other = who as usize / 8 % 8;
        let value = u64::from(u32::from_le_bytes(rest));
        let wide = value | value << 32;
        let intid = Intid::new(u32::from(a) % 128).expect("below 128");
        let width = Width::from_bytes(1 << (b >> 6)).expect("a power of two");
        let offset = u32::from(a) | u32::from(b & 0x3f) << 8;
        let frame = match kind >> 4 & 3 {
            0 | 1 => (Frame::Distributor, offset),
            2 => (Frame::Redistributor(vcpu(other)), offset),
            _ => (Frame::Redistributor(vcpu(other)), 0x1_0000 | offset),
        };
        match kind & 0xf {
            0..=3 => self.due |= self.vgic.write(vcpu(index), frame.0, frame.1, width, wide),
            4 => {
                let reading =
                    self.vgic
                        .read(vcpu(index), frame.0, frame.1, width, &mut self.cores[index]);
                assert!(width != Width::Byte || reading.value < 0x100);
                assert!(width == Width::Double || reading.value < 1 << 32);
                self.due |= reading.told;
                self.enter(index);
            }
            5 => self.due |= self.vgic.set_line(intid, vcpu(index), b & 1 != 0),
            6 => self.due |= self.vgic.pulse(intid, vcpu(index)),
            7 => {
                let kind = [SgiKind::Group0, SgiKind::Group1, SgiKind::Alias1][b as usize % 3];
                self.due |= self.vgic.sgi1r(vcpu(index), wide, kind);
            }
            8 => self.due |= self.vgic.send_sgi(vcpu(index), VcpuMask(b), u32::from(a)),
            9 => self.timer[index] = b & 1 != 0,
            10 if self.loaded[index] => self.cores[index].acknowledge(),
            11 if self.loaded[index] => self.cores[index].end(u32::from(a)),
            12 if self.loaded[index] => {
                let core = &mut self.cores[index];
                self.due |=
                    self.vgic.deactivate(vcpu(index), intid, core) | VcpuMask::one(vcpu(index));
                self.enter(index);
            }
            13 => self.load(index, b & 3 != 0),
            14 if b & 1 != 0 && self.loaded[index] && !self.timer[index] => {
                let core = &mut self.cores[index];
                self.due |= self.vgic.lower_mapped(vcpu(index), core);
                self.enter(index);
            }
            14 if b == 0 => {
                (0..self.cores.len()).for_each(|index| self.load(index, false));
                self.vgic.reset();
            }
            _ => self.settle(),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((shape, data)) = data.split_first() else {
        return;
    };
    let mut machine = Machine::new(*shape);
    for index in 0..machine.cores.len() {
        machine.load(index, true);
    }
    machine.settle();
    for op in data.as_chunks().0 {
        machine.step(op);
        // Half of the shapes keep kicks waiting.
        if shape & 0x80 == 0 {
            machine.settle();
        }
        machine.check();
    }
    machine.settle();
    for (index, core) in machine.cores.iter().enumerate() {
        assert!(
            !machine.timer[index] || !machine.loaded[index] || core.physical_active,
            "a timer that never fires"
        );
    }
});
