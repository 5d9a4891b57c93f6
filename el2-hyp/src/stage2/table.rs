//! The stage 2 translation table: 39 bits of IPA from level 1, 4 KiB granule, blocks of 1 GiB and 2 MiB
//! (Arm ARM DDI 0487 D8.3, VMSAv8-64 stage 2 descriptors).
//!
//! A valid descriptor never becomes another valid descriptor of a different output, type or size without
//! being invalid, and invalidated in every TLB, in between (break-before-make, D8.17.1).

use core::sync::atomic::{AtomicU64, Ordering};

use crate::addr::{BLOCK_1G, BLOCK_2M, Ipa, PAGE_SIZE, Pa};

/// Descriptors in a table.
pub const ENTRIES: usize = 512;
/// One past the highest IPA that can be mapped.
pub const IPA_END: Ipa = Ipa(1 << 39);

pub(super) const LEVELS: [Level; 3] = [
    Level {
        number: 1,
        shift: 30,
    },
    Level {
        number: 2,
        shift: 21,
    },
    Level {
        number: 3,
        shift: 12,
    },
];

#[derive(Clone, Copy)]
pub(super) struct Level {
    pub(super) number: u8,
    shift: u32,
}

impl Level {
    pub(super) const fn size(self) -> u64 {
        1 << self.shift
    }
    pub(super) const fn index(self, ipa: Ipa) -> usize {
        (ipa.0 >> self.shift) as usize % ENTRIES
    }
    pub(super) const fn is_last(self) -> bool {
        self.number == 3
    }
}

/// One table, as the walker sees it.
#[repr(C, align(4096))]
pub struct Table(pub [AtomicU64; ENTRIES]);

impl Table {
    /// A table that maps nothing.
    pub const fn empty() -> Self {
        Self([const { AtomicU64::new(0) }; ENTRIES])
    }
}

/// Where tables live.
///
/// # Safety
/// `table` returns a live [`Table`] for every address that `allocate` returned and that was not given to `free` since, and
/// nobody else writes to it.
pub unsafe trait Tables {
    /// An empty table; `None` when no frame is left.
    fn allocate(&mut self) -> Option<Pa>;
    /// Takes a table back.
    fn free(&mut self, table: Pa);
    /// The table at an address.
    fn table(&self, at: Pa) -> &Table;
}

/// A fault that a guest met at stage 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub ipa: Ipa,
    /// The virtual address, if the access itself faulted; none if the guest's own table walk did.
    pub va: Option<u64>,
}

/// The TLB, as far as stage 2 needs it. Every call returns when no core can use the old translation.
pub trait Invalidate {
    /// What is cached of the page or block at `ipa`.
    fn ipa(&mut self, ipa: Ipa);
    /// What is cached of each of these pages or blocks.
    fn each(&mut self, ipas: &[Ipa]) {
        ipas.iter().for_each(|ipa| self.ipa(*ipa));
    }
    /// On this core alone, on which the guest's vCPU has just met `fault`: what is cached of that page, which may be written now. Another core
    /// that still has it as it was meets the same fault, and then does the same.
    fn widened(&mut self, fault: Fault) {
        self.ipa(fault.ipa);
    }
    /// Everything of this guest.
    fn all(&mut self);
    /// New entries, made where there were none, are seen by walkers from now on.
    fn publish(&mut self);
}

/// What a mapping allows, and how it is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attributes {
    /// Normal memory, inner and outer write-back, inner shareable; the guest may read, write and execute.
    Memory,
    /// Device-nGnRE; read and write.
    Device,
}

pub(super) const VALID: u64 = 1 << 0;
/// Of a valid descriptor: a table at levels 1 and 2, a page at level 3.
pub(super) const TABLE_OR_PAGE: u64 = 1 << 1;
const ACCESSED: u64 = 1 << 10;
const EXECUTE_NEVER: u64 = 1 << 54;
pub(super) const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

impl Attributes {
    const fn bits(self) -> u64 {
        // MemAttr[5:2], S2AP[7:6], SH[9:8], AF[10], XN[54:53].
        match self {
            Self::Memory => 0b1111 << 2 | 0b11 << 6 | 0b11 << 8 | ACCESSED,
            Self::Device => 0b0001 << 2 | 0b11 << 6 | 0b10 << 8 | ACCESSED | EXECUTE_NEVER,
        }
    }
}

/// Why a range could not be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// An address or the size is no multiple of a page, or the range leaves the address space.
    Range,
    /// Part of the range is mapped already.
    Mapped,
    /// No frame is left for a table.
    NoFrames,
}

/// A guest's stage 2 translation.
pub struct Stage2<T: Tables> {
    pub(super) tables: T,
    pub(super) root: Pa,
}

impl<T: Tables> Stage2<T> {
    /// A translation that maps nothing; `None` when no frame is left.
    pub fn new(mut tables: T) -> Option<Self> {
        let root = tables.allocate()?;
        Some(Self { tables, root })
    }

    /// The table that VTTBR_EL2 names.
    pub fn root(&self) -> Pa {
        self.root
    }

    /// Maps `size` bytes at `ipa` to `pa`, with the largest blocks that both alignments allow. A range that cannot be mapped
    /// whole may be left mapped in part; [`unmap`](Self::unmap) cleans up.
    pub fn map(
        &mut self,
        ipa: Ipa,
        pa: Pa,
        size: u64,
        attributes: Attributes,
        tlb: &mut impl Invalidate,
    ) -> Result<(), MapError> {
        let end = check_range(ipa, size)?;
        if !pa.is_aligned(PAGE_SIZE) {
            return Err(MapError::Range);
        }
        let (mut ipa, mut pa) = (ipa, pa);
        while ipa < end {
            let left = end.0 - ipa.0;
            let step = [BLOCK_1G, BLOCK_2M, PAGE_SIZE]
                .into_iter()
                .find(|&step| ipa.is_aligned(step) && pa.is_aligned(step) && left >= step)
                .unwrap_or(PAGE_SIZE);
            self.map_one(ipa, pa, step, attributes)?;
            ipa = Ipa(ipa.0 + step);
            pa = Pa(pa.0 + step);
        }
        tlb.publish();
        Ok(())
    }

    fn map_one(
        &mut self,
        ipa: Ipa,
        pa: Pa,
        step: u64,
        attributes: Attributes,
    ) -> Result<(), MapError> {
        let mut at = self.root;
        for level in LEVELS {
            let entry = &self.tables.table(at).0[level.index(ipa)];
            let descriptor = entry.load(Ordering::Relaxed);
            if level.size() == step {
                if descriptor & VALID != 0 {
                    return Err(MapError::Mapped);
                }
                entry.store(leaf(level, pa, attributes.bits()), Ordering::Release);
                return Ok(());
            }
            at = match classify(level, descriptor) {
                Descriptor::Table(next) => next,
                Descriptor::Leaf => return Err(MapError::Mapped),
                Descriptor::Invalid => {
                    let next = self.tables.allocate().ok_or(MapError::NoFrames)?;
                    let entry = &self.tables.table(at).0[level.index(ipa)];
                    entry.store(next.0 | VALID | TABLE_OR_PAGE, Ordering::Release);
                    next
                }
            };
        }
        unreachable!("a step is the size of one of the levels")
    }

    /// Takes away whatever of `size` bytes at `ipa` is mapped. Blocks that reach outside are split first.
    pub fn unmap(
        &mut self,
        ipa: Ipa,
        size: u64,
        tlb: &mut impl Invalidate,
    ) -> Result<(), MapError> {
        let end = check_range(ipa, size)?;
        let mut ipa = ipa;
        while ipa < end {
            let (level, at, descriptor) = self.find(ipa);
            let base = ipa.align_down(level.size());
            let next = Ipa(base.0 + level.size());
            if descriptor & VALID == 0 {
                ipa = next;
                continue;
            }
            if base < ipa || next > end {
                self.split(ipa, tlb)?;
                continue;
            }
            self.tables.table(at).0[level.index(ipa)].store(0, Ordering::Release);
            tlb.ipa(base);
            ipa = next;
        }
        Ok(())
    }

    /// Splits the block that maps `ipa` into 512 of the next smaller size. Nothing to do where it is a page or unmapped.
    ///
    /// Between break and make another vCPU may fault on the block; the fault finds the new entries when it looks.
    pub fn split(&mut self, ipa: Ipa, tlb: &mut impl Invalidate) -> Result<(), MapError> {
        let (level, at, descriptor) = self.find(ipa);
        if descriptor & VALID == 0 || level.is_last() {
            return Ok(());
        }
        let smaller = LEVELS[usize::from(level.number)];
        let fresh = self.tables.allocate().ok_or(MapError::NoFrames)?;
        let output = descriptor & ADDRESS;
        let attributes = descriptor & !ADDRESS & !TABLE_OR_PAGE & !VALID;
        for (index, entry) in self.tables.table(fresh).0.iter().enumerate() {
            let pa = Pa(output + index as u64 * smaller.size());
            entry.store(leaf(smaller, pa, attributes), Ordering::Relaxed);
        }
        let entry = &self.tables.table(at).0[level.index(ipa)];
        entry.store(0, Ordering::Release);
        tlb.ipa(ipa.align_down(level.size()));
        entry.store(fresh.0 | VALID | TABLE_OR_PAGE, Ordering::Release);
        tlb.publish();
        Ok(())
    }

    /// Where `ipa` leads, and the size of the block or page that maps it.
    pub fn translate(&self, ipa: Ipa) -> Option<(Pa, u64)> {
        if ipa >= IPA_END {
            return None;
        }
        let (level, _, descriptor) = self.find(ipa);
        (descriptor & VALID != 0).then(|| {
            let within = ipa.0 & (level.size() - 1);
            (Pa((descriptor & ADDRESS) + within), level.size())
        })
    }

    /// The level at which the walk for `ipa` ends, the table it ends in, and the descriptor there.
    pub(super) fn find(&self, ipa: Ipa) -> (Level, Pa, u64) {
        let mut at = self.root;
        for level in LEVELS {
            let descriptor = self.tables.table(at).0[level.index(ipa)].load(Ordering::Relaxed);
            match classify(level, descriptor) {
                Descriptor::Table(next) => at = next,
                _ => return (level, at, descriptor),
            }
        }
        unreachable!("level 3 holds no tables")
    }

    /// Frees every table. The guest must not run again, and `tlb` forgets it.
    pub fn destroy(mut self, tlb: &mut impl Invalidate) {
        tlb.all();
        for gigabyte in 0..ENTRIES {
            let Descriptor::Table(second) = self.descriptor(self.root, LEVELS[0], gigabyte) else {
                continue;
            };
            for block in 0..ENTRIES {
                if let Descriptor::Table(third) = self.descriptor(second, LEVELS[1], block) {
                    self.tables.free(third);
                }
            }
            self.tables.free(second);
        }
        self.tables.free(self.root);
    }

    fn descriptor(&self, table: Pa, level: Level, index: usize) -> Descriptor {
        classify(
            level,
            self.tables.table(table).0[index].load(Ordering::Relaxed),
        )
    }
}

fn check_range(ipa: Ipa, size: u64) -> Result<Ipa, MapError> {
    let end = ipa.checked_add(size).ok_or(MapError::Range)?;
    let aligned = ipa.is_aligned(PAGE_SIZE) && end.is_aligned(PAGE_SIZE);
    if aligned && end <= IPA_END {
        Ok(end)
    } else {
        Err(MapError::Range)
    }
}

pub(super) fn leaf(level: Level, pa: Pa, attributes: u64) -> u64 {
    let kind = if level.is_last() { TABLE_OR_PAGE } else { 0 };
    pa.0 | attributes | VALID | kind
}

enum Descriptor {
    Invalid,
    Table(Pa),
    Leaf,
}

fn classify(level: Level, descriptor: u64) -> Descriptor {
    if descriptor & VALID == 0 {
        Descriptor::Invalid
    } else if descriptor & TABLE_OR_PAGE != 0 && !level.is_last() {
        Descriptor::Table(Pa(descriptor & ADDRESS))
    } else {
        Descriptor::Leaf
    }
}

#[cfg(test)]
mod tests;
