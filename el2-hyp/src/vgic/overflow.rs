//! More interrupts than list registers: which are listed, and how the others are watched.

use super::ids::{FIRST_SPI, INTIDS, Intid, Priority, VcpuId, VcpuMask, WORDS};
use super::list::{Control, ListRegisters, MAX_LIST_REGISTERS};
use super::model::{Vgic, bank};
use super::resident::Room;

impl Vgic {
    /// Nothing is listed and not everything fits: lists the best and says what has to be watched for the rest.
    #[cold]
    #[inline(never)]
    pub(super) fn select<L: ListRegisters>(&mut self, vcpu: VcpuId, lists: &mut L) -> Control {
        let count = lists.count().min(MAX_LIST_REGISTERS);
        let (ranking, length) = self.rank(vcpu, count);
        for key in ranking.into_iter().take(length) {
            let free = !u32::from(self.cpus[vcpu.index()].used);
            self.list(vcpu, key.intid(), free, Room::Short, lists);
        }
        let mut control = Control::NONE;
        for word in 0..WORDS {
            let active = self.banks[bank(vcpu, word)].active;
            let cpu = &mut self.cpus[vcpu.index()];
            cpu.spilled[word] = cpu.ready[word] & active;
            control.no_pending |= cpu.ready[word] & !active != 0;
            control.entry_not_present |= cpu.spilled[word] != 0;
        }
        control.trap_deactivate = control.entry_not_present;
        // What the guest ended before, unwatched, is none of these.
        lists.take_eoi_count();
        control
    }

    /// The ready interrupts in the order in which they are to be listed, at most `limit` of them, and their number.
    fn rank(&self, vcpu: VcpuId, limit: usize) -> ([Key; MAX_LIST_REGISTERS], usize) {
        let mut ranking = [Key::LAST; MAX_LIST_REGISTERS];
        let mut first = Key::LAST;
        self.for_each_ready(vcpu, |key| {
            if !key.is_active() {
                first = first.min(key);
            }
        });
        let mut length = 0_usize;
        self.for_each_ready(vcpu, |key| {
            insert(&mut ranking, if key == first { key.leading() } else { key });
            length = usize::min(length.saturating_add(1), limit);
        });
        (ranking, length)
    }

    fn for_each_ready(&self, vcpu: VcpuId, mut visit: impl FnMut(Key)) {
        for word in 0..WORDS {
            let active = self.banks[bank(vcpu, word)].active;
            let mut ready = self.cpus[vcpu.index()].ready[word];
            while ready != 0 {
                let intid = Intid::of(word, ready.trailing_zeros());
                ready &= ready.wrapping_sub(1);
                visit(Key::new(
                    active & intid.bit() != 0,
                    self.priority(vcpu, intid),
                    intid,
                ));
            }
        }
    }

    /// The guest ended `count` interrupts that were active and in no list register.
    #[cold]
    pub(super) fn end_spilled(&mut self, vcpu: VcpuId, count: u32) -> VcpuMask {
        let mut told = VcpuMask::EMPTY;
        for _ in 0..count.min(INTIDS as u32) {
            let mut best = Key::LAST;
            for word in 0..WORDS {
                let active = self.banks[bank(vcpu, word)].active;
                let mut spilled = self.cpus[vcpu.index()].spilled[word] & active;
                while spilled != 0 {
                    let intid = Intid::of(word, spilled.trailing_zeros());
                    spilled &= spilled.wrapping_sub(1);
                    best = best.min(Key::new(true, self.priority(vcpu, intid), intid));
                }
            }
            if best == Key::LAST {
                break;
            }
            told |= self.end(vcpu, best.intid());
        }
        self.cpus[vcpu.index()].spilled = [0; WORDS];
        told
    }

    /// An interrupt is no longer active. Of one that another virtual processor has listed it is not known whether it was.
    pub(super) fn end(&mut self, vcpu: VcpuId, intid: Intid) -> VcpuMask {
        let bit = intid.bit();
        let bank = self.bank_of(vcpu, intid);
        if (bank.active | bank.listed) & bit == 0 {
            return VcpuMask::EMPTY;
        }
        if bank.listed & bit != 0 {
            bank.pinned |= bit;
        }
        bank.active &= !bit;
        let owner = self.owner(vcpu, intid).unwrap_or(vcpu);
        self.cpus[owner.index()].spilled[intid.word()] &= !bit;
        if intid == self.mapped.virtual_intid {
            self.withdraw_mapped(vcpu, false, true);
        }
        let told = self.touch_one(vcpu, intid);
        if intid.number() >= FIRST_SPI {
            told | self.settle(intid)
        } else {
            told
        }
    }
}

/// An interrupt's place in the order of listing, the smaller the earlier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key(u32);

impl Key {
    /// After every interrupt.
    const LAST: Self = Self(u32::MAX);
    const PENDING: u32 = 1 << 16;

    fn new(active: bool, priority: Priority, intid: Intid) -> Self {
        let class = if active { 0 } else { Self::PENDING };
        Self(1 << 17 | class | u32::from(priority.byte()) << 8 | intid.number())
    }

    /// The same interrupt before all others.
    fn leading(self) -> Self {
        Self(self.0 & 0xffff)
    }

    fn is_active(self) -> bool {
        self.0 & Self::PENDING == 0
    }

    fn intid(self) -> Intid {
        Intid::wrap(self.0)
    }
}

/// Puts a key into its place, and pushes the last one out.
fn insert(ranking: &mut [Key; MAX_LIST_REGISTERS], key: Key) {
    let mut carried = key;
    for place in ranking {
        if carried < *place {
            core::mem::swap(place, &mut carried);
        }
    }
}
