//! What the guest's writes do.

use super::ids::{Frame, Intid, Priority, VcpuId, VcpuMask, Version, WORDS, Width};
use super::model::{Vgic, bank};
use super::register::{Bits, Register, WAKER_SLEEP, bytes};

impl Vgic {
    /// The guest's write of `width` bytes of `value` at `offset` of `frame`, made by `vcpu`.
    /// Returns who has to flush, `vcpu` perhaps among them.
    pub fn write(
        &mut self,
        vcpu: VcpuId,
        frame: Frame,
        offset: u32,
        width: Width,
        value: u64,
    ) -> VcpuMask {
        let (subject, register) = self.decode(vcpu, frame, offset, width);
        match register {
            Register::Control => self.set_control_register(value),
            Register::Bits(bits, word) => self.write_bits(vcpu, subject, bits, word, value as u32),
            Register::Priority(first) => self.scatter(width, first, value, |vgic, intid, byte| {
                vgic.set_priority(subject, intid, byte)
            }),
            Register::Target(first) => self.scatter(width, first, value, |vgic, intid, byte| {
                if vgic.count == 1 || !intid.is_spi() {
                    return VcpuMask::EMPTY;
                }
                vgic.set_route(intid, u64::from(byte))
            }),
            Register::Trigger(word, upper) => self.set_trigger(subject, word, upper, value as u32),
            Register::Route(intid, upper) => {
                let old = self.route(intid);
                let new = match (width, upper) {
                    (Width::Double, _) => value,
                    (_, false) => old & !0xffff_ffff | value & 0xffff_ffff,
                    (_, true) => old & 0xffff_ffff | value << 32,
                };
                self.set_route(intid, new)
            }
            Register::Send => self.write_send(vcpu, value as u32),
            Register::ClearSource(first) => self.scatter(width, first, value, |vgic, sgi, byte| {
                vgic.clear_sources(subject, sgi, byte)
            }),
            Register::SetSource(first) => self.scatter(width, first, value, |vgic, sgi, byte| {
                vgic.set_sources(subject, sgi, byte)
            }),
            Register::Waker => self.set_waker(subject, value & WAKER_SLEEP != 0),
            Register::Kind
            | Register::Implementer
            | Register::Peripheral
            | Register::RedistributorKind(_)
            | Register::Reserved => VcpuMask::EMPTY,
        }
    }

    fn scatter(
        &mut self,
        width: Width,
        first: Intid,
        value: u64,
        mut set: impl FnMut(&mut Self, Intid, u8) -> VcpuMask,
    ) -> VcpuMask {
        let mut told = VcpuMask::EMPTY;
        for byte in 0..bytes(width) {
            let intid = Intid::wrap(first.number() | byte);
            told |= set(self, intid, (value >> (8 * byte)) as u8);
        }
        told
    }

    fn set_control_register(&mut self, value: u64) -> VcpuMask {
        let on = |bit: u64| if value & bit != 0 { !0 } else { 0 };
        let group_on = [on(1), on(2)];
        if group_on == self.group_on {
            return VcpuMask::EMPTY;
        }
        self.group_on = group_on;
        let mut told = VcpuMask::EMPTY;
        for vcpu in self.everyone() {
            for word in 0..WORDS {
                told |= self.touch(vcpu, word, !0);
            }
        }
        told
    }

    fn write_bits(
        &mut self,
        writer: VcpuId,
        vcpu: VcpuId,
        bits: Bits,
        word: usize,
        value: u32,
    ) -> VcpuMask {
        // The pending state of a GICv2's SGIs belongs to their sources (IHI 0048B section 4.3.7).
        let sgis = if word == 0 && self.version == Version::V2 {
            0xffff
        } else {
            0
        };
        let bank = &mut self.banks[bank(vcpu, word)];
        let before = *bank;
        let changed = match bits {
            Bits::Group => {
                bank.group1 = value;
                before.group1 ^ value
            }
            Bits::SetEnable => {
                bank.enabled |= value;
                value & !before.enabled
            }
            Bits::ClearEnable => {
                bank.enabled &= !value;
                value & before.enabled
            }
            Bits::SetPending => {
                bank.latch |= value & !sgis;
                value & !sgis & !before.latch
            }
            Bits::ClearPending => {
                bank.latch &= !(value & !sgis);
                bank.listed_latch &= !(value & !sgis);
                value & !sgis & (before.latch | before.listed_latch)
            }
            Bits::SetActive => {
                bank.active |= value;
                bank.pinned |= value & before.listed;
                value & (before.listed | !before.active)
            }
            Bits::ClearActive => {
                bank.active &= !value;
                bank.pinned |= value & before.listed;
                value & (before.listed | before.active)
            }
        };
        let mut told = VcpuMask::EMPTY;
        if word == 0 {
            told = self.after_private(writer, vcpu, bits, value, changed & !before.listed);
        } else if bits == Bits::ClearActive {
            told = self.settle_word(word, changed & !before.listed);
        }
        told | self.touch_word(vcpu, word, changed)
    }

    /// What a write to a private word does beyond the bitmaps. `changed` are those that are not listed.
    fn after_private(
        &mut self,
        writer: VcpuId,
        vcpu: VcpuId,
        bits: Bits,
        value: u32,
        changed: u32,
    ) -> VcpuMask {
        if bits == Bits::SetActive && self.version == Version::V2 {
            for place in 0..16 {
                if changed >> place & 1 != 0 {
                    self.cpus[vcpu.index()].in_service[place] = writer;
                }
            }
        }
        let mapped = value & self.mapped.virtual_intid.bit() != 0;
        match bits {
            Bits::ClearPending if mapped => self.withdraw_mapped(vcpu, true, false),
            Bits::ClearActive if mapped => self.withdraw_mapped(vcpu, false, true),
            _ => VcpuMask::EMPTY,
        }
    }

    fn settle_word(&mut self, word: usize, mut bits: u32) -> VcpuMask {
        let mut told = VcpuMask::EMPTY;
        while bits != 0 {
            told |= self.settle(Intid::of(word, bits.trailing_zeros()));
            bits &= bits.wrapping_sub(1);
        }
        told
    }

    fn set_priority(&mut self, vcpu: VcpuId, intid: Intid, byte: u8) -> VcpuMask {
        let slot = &mut self.bank_of(vcpu, intid).priority[intid.place()];
        let priority = Priority::from_byte(byte).byte();
        if *slot == priority {
            return VcpuMask::EMPTY;
        }
        *slot = priority;
        self.touch_one(vcpu, intid)
    }

    /// Only SPIs have a trigger to choose.
    fn set_trigger(&mut self, vcpu: VcpuId, word: usize, upper: bool, value: u32) -> VcpuMask {
        if word == 0 {
            return VcpuMask::EMPTY;
        }
        let bank = &mut self.banks[bank(vcpu, word)];
        let before = bank.edge;
        bank.edge = if upper {
            before & 0xffff | compress(value) << 16
        } else {
            before & 0xffff_0000 | compress(value)
        };
        let changed = before ^ bank.edge;
        self.touch_word(vcpu, word, changed)
    }

    fn set_sources(&mut self, vcpu: VcpuId, sgi: Intid, byte: u8) -> VcpuMask {
        let senders = byte & VcpuMask::first(self.vcpus()).0;
        if senders == 0 {
            return VcpuMask::EMPTY;
        }
        self.add_sources(vcpu, sgi, senders)
    }

    fn clear_sources(&mut self, vcpu: VcpuId, sgi: Intid, byte: u8) -> VcpuMask {
        let cpu = &mut self.cpus[vcpu.index()];
        let bank = &mut self.banks[vcpu.index()];
        let place = sgi.place() % 16;
        cpu.sources[place] &= !byte;
        let mut changed = 0;
        if cpu.sources[place] == 0 {
            changed = bank.latch & sgi.bit();
            bank.latch &= !sgi.bit();
        }
        if VcpuMask(byte).contains(cpu.in_service[place]) {
            changed |= bank.listed_latch & sgi.bit();
            bank.listed_latch &= !sgi.bit();
        }
        if changed == 0 {
            return VcpuMask::EMPTY;
        }
        self.touch(vcpu, 0, changed)
    }

    fn set_waker(&mut self, vcpu: VcpuId, asleep: bool) -> VcpuMask {
        if self.cpus[vcpu.index()].asleep == asleep {
            return VcpuMask::EMPTY;
        }
        self.cpus[vcpu.index()].asleep = asleep;
        self.settle_all()
    }
}

/// The upper bits of 16 pairs as 16 bits.
fn compress(pairs: u32) -> u32 {
    let mut edge = 0;
    for place in 0..16 {
        edge |= (pairs >> (2 * place + 1) & 1) << place;
    }
    edge
}
