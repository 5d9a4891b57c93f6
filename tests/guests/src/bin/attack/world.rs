//! What the attacker knows of its machine: which addresses are what, and which of them would only hurt itself.

use guest::machine::{GicFrames, Range};
use guest::rng::Rng;
use guest::{Machine, console, exception, mmu};

use crate::features::Features;

/// virtio-mmio slots (guest machine contract).
pub const VIRTIO: usize = 0x0a00_0000;
/// Bytes of a slot, and how many there are.
pub const SLOT_BYTES: usize = 0x200;
/// Slots that exist at most.
pub const SLOTS: usize = 32;
/// Ranges below memory where neither QEMU's `virt` nor the guest machine has anything.
const HOLES: [Range; 3] = [
    Range {
        start: 0x0b00_0000,
        end: 0x0bff_f000,
    },
    Range {
        start: 0x0f00_0000,
        end: 0x0fff_f000,
    },
    Range {
        start: 0x0b80_0000,
        end: 0x0b90_0000,
    },
];
/// QEMU's own devices that move memory or end the machine when written to by chance; without a hypervisor they are left alone: from fw_cfg and the
/// GPIO that powers off to the virtio slots, the platform bus, and all of PCIe.
const QEMU_ONLY: [Range; 3] = [
    Range {
        start: 0x0901_0000,
        end: 0x0a00_0000,
    },
    Range {
        start: 0x0c00_0000,
        end: 0x0f00_0000,
    },
    Range {
        start: 0x1000_0000,
        end: 0x4000_0000,
    },
];
/// Memory that acts may write to.
pub const SCRATCH_BYTES: usize = 64 << 10;
/// Where the identity map ends; the window lies above.
const MAPPED_END: u64 = 511 << 30;
/// Where highmem devices of QEMU may begin.
const HIGH_DEVICES: u64 = 256 << 30;

/// Everything that makes up an act may ask.
pub struct World {
    /// No hypervisor.
    pub bare: bool,
    /// vCPUs.
    pub cpus: usize,
    /// MPIDR of the attacker.
    pub mpidr: u64,
    /// MPIDR of one that exists.
    pub other_mpidr: u64,
    /// RAM.
    pub memory: Range,
    /// RAM that may be written.
    pub scratch: Range,
    /// Where the addresses end that are certainly nothing: QEMU may have devices above, and beyond what the CPU says that it has the
    /// fault is one of its own translation.
    holes_end: u64,
    /// Interrupt controller.
    pub gic: GicFrames,
    /// What the ID registers offer.
    pub features: Features,
    /// Slots that hold a device, a bit each: with queues that it could be told to write anywhere.
    populated: u32,
}

/// A picked address.
#[derive(Clone, Copy)]
pub struct Target {
    /// The address.
    pub address: u64,
    /// Whether there is certainly nothing.
    pub hole: bool,
}

impl World {
    /// Looks around.
    pub fn new(machine: &Machine) -> Self {
        let scratch = machine.spare(SCRATCH_BYTES).unwrap_or(Range {
            start: machine.memory.end,
            end: machine.memory.end,
        });
        let present = |slot: usize| {
            exception::probe_read(VIRTIO + slot * SLOT_BYTES + 8).is_ok_and(|device| device != 0)
        };
        let populated = (0..SLOTS)
            .filter(|slot| present(*slot))
            .fold(0, |mask, slot| mask | 1 << slot);
        Self {
            bare: machine.is_bare(),
            cpus: machine.cpus().len(),
            mpidr: machine.cpus()[0],
            other_mpidr: machine.cpus()[machine.cpus().len() - 1],
            memory: machine.memory,
            scratch,
            holes_end: HIGH_DEVICES.min(1 << mmu::physical_bits()),
            gic: machine.gic,
            features: Features::read(),
            populated,
        }
    }

    /// Nothing is there, for certain: between devices, or above memory.
    pub fn hole(&self, rng: &mut Rng) -> Target {
        let address = if rng.one_in(2) {
            let range = rng.pick(&HOLES);
            range.start as u64 + rng.below((range.end - range.start) as u64)
        } else {
            let start = self.memory.end as u64;
            start + rng.below(self.holes_end - start - 4096)
        };
        Target {
            address,
            hole: true,
        }
    }

    /// A register of the interrupt controller, or close to one.
    pub fn gic(&self, rng: &mut Rng) -> Target {
        let (base, bytes) = match self.gic {
            GicFrames::V2 { distributor, cpu } => {
                if rng.one_in(2) {
                    (distributor, 0x1_0000)
                } else {
                    (cpu, 0x1_0000)
                }
            }
            GicFrames::V3 {
                distributor,
                redistributors,
            } => {
                if rng.one_in(2) {
                    (distributor, 0x1_0000)
                } else {
                    (redistributors[0].0, redistributors[0].1)
                }
            }
        };
        // Most registers are in the first frames.
        let span = if rng.one_in(4) {
            bytes
        } else {
            bytes.min(0x1000 << rng.below(6))
        };
        Target {
            address: (base as u64) + rng.below(span as u64),
            hole: false,
        }
    }

    /// A register of the UART.
    pub fn uart(&self, rng: &mut Rng) -> Target {
        let span = if rng.one_in(4) { 0x1000 } else { 0x60 };
        Target {
            address: console::UART as u64 + rng.below(span),
            hole: false,
        }
    }

    /// A register of a virtio slot, or its configuration.
    pub fn virtio(&self, rng: &mut Rng) -> Target {
        let slot = rng.below(SLOTS as u64) as usize;
        let populated = self.populated >> slot & 1 != 0;
        // With a device behind it, only what sets up no queue.
        let offset = if populated {
            rng.below(0x34)
        } else {
            rng.below(SLOT_BYTES as u64)
        };
        Target {
            address: (VIRTIO + slot * SLOT_BYTES) as u64 + offset,
            hole: false,
        }
    }

    /// Any address that the identity map has but one's own memory; powers of two and the ends of memory more often.
    pub fn anywhere(&self, rng: &mut Rng) -> Target {
        loop {
            let address = match rng.below(4) {
                0 => rng.draw() % MAPPED_END,
                1 => (1 << rng.below(39)) + rng.below(64),
                2 => self.memory.end as u64 + rng.below(1 << 20),
                _ => rng.below(self.memory.start as u64),
            };
            if address < MAPPED_END && !self.is_own(address) && !self.is_forbidden(address) {
                return Target {
                    address,
                    hole: false,
                };
            }
        }
    }

    /// A physical address that only the window reaches: up to and beyond what the CPU says that it has.
    pub fn high(&self, rng: &mut Rng) -> u64 {
        let bits = 39 + rng.below(9);
        (1 << bits) + rng.draw() % (1 << bits)
    }

    /// Memory that may be written, down to the last byte before its neighbours.
    pub fn scratch(&self, rng: &mut Rng) -> Target {
        let span = (self.scratch.end - self.scratch.start) as u64;
        Target {
            address: self.scratch.start as u64 + 64 + rng.below(span - 256),
            hole: false,
        }
    }

    /// One of all these.
    pub fn any(&self, rng: &mut Rng) -> Target {
        match rng.below(6) {
            0 => self.hole(rng),
            1 => self.gic(rng),
            2 => self.uart(rng),
            3 => self.virtio(rng),
            4 => self.scratch(rng),
            _ => self.anywhere(rng),
        }
    }

    fn is_own(&self, address: u64) -> bool {
        let near = Range {
            start: (address as usize).saturating_sub(512),
            end: address as usize + 512,
        };
        near.overlaps(&self.memory) || self.is_populated(&near)
    }

    fn is_populated(&self, near: &Range) -> bool {
        (0..SLOTS).any(|slot| {
            let start = VIRTIO + slot * SLOT_BYTES;
            self.populated >> slot & 1 != 0
                && near.overlaps(&Range {
                    start,
                    end: start + SLOT_BYTES,
                })
        })
    }

    fn is_forbidden(&self, address: u64) -> bool {
        self.bare
            && (address >= HIGH_DEVICES
                || QEMU_ONLY
                    .iter()
                    .any(|range| (range.start..range.end).contains(&(address as usize))))
    }

    /// What a store to `address` puts there: to the UART something that one can read, elsewhere anything.
    pub fn data(&self, rng: &mut Rng, address: u64) -> u64 {
        let near_data = (address as usize).wrapping_sub(console::UART - 64) < 128;
        if near_data {
            0x2e2e_2e2e_2e2e_2e2e
        } else {
            rng.draw() >> rng.below(64)
        }
    }
}
