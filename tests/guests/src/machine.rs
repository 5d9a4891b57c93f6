//! What the device tree says of this guest: vCPUs, memory, interrupt controller, parameters.

use fdt::Fdt;
use spin::Once;

use crate::start::MAX_CPUS;

/// Regions of redistributors that a tree may name.
pub const MAX_REDISTRIBUTOR_REGIONS: usize = 4;
/// Virtio slots that a tree may name.
pub const MAX_SLOTS: usize = 32;

/// A virtio-mmio slot, whatever stands in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Its registers.
    pub base: usize,
    /// Their size, bytes.
    pub bytes: usize,
    /// Its interrupt, as the GIC counts.
    pub interrupt: u32,
}

/// The interrupt controller's frames, as physical addresses.
#[derive(Clone, Copy, Debug)]
pub enum GicFrames {
    /// GICv2: distributor and CPU interface.
    V2 {
        /// Distributor.
        distributor: usize,
        /// CPU interface.
        cpu: usize,
    },
    /// GICv3: distributor and regions of redistributors, unused ones with size zero.
    V3 {
        /// Distributor.
        distributor: usize,
        /// Base and bytes of each region.
        redistributors: [(usize, usize); MAX_REDISTRIBUTOR_REGIONS],
    },
}

/// A half-open range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: usize,
    /// First byte after.
    pub end: usize,
}

impl Range {
    /// Whether the two have a byte in common.
    pub fn overlaps(&self, other: &Range) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// The machine, read once from the device tree.
pub struct Machine {
    /// MPIDR affinity of each vCPU, in the order of the tree.
    cpus: [u64; MAX_CPUS],
    cpu_count: usize,
    /// RAM.
    pub memory: Range,
    /// The device tree itself.
    pub tree: Range,
    /// The interrupt controller.
    pub gic: GicFrames,
    /// The command line.
    pub bootargs: &'static str,
    seed: Option<u64>,
    slots: [Slot; MAX_SLOTS],
    slot_count: usize,
}

static MACHINE: Once<Machine> = Once::new();

// SAFETY: the linker script defines them; their addresses alone are taken.
unsafe extern "C" {
    static __image_start: u8;
    static __image_end: u8;
}

impl Machine {
    /// MPIDR affinities of the vCPUs; the first is the one that the guest starts on.
    pub fn cpus(&self) -> &[u64] {
        &self.cpus[..self.cpu_count]
    }

    /// The virtio-mmio slots, by address.
    pub fn slots(&self) -> &[Slot] {
        &self.slots[..self.slot_count]
    }

    /// A number that is another at each start, if the tree has one.
    pub fn seed(&self) -> Option<u64> {
        self.seed
    }

    /// All memory that nothing uses: below the device tree, and above it.
    pub fn all_spare(&self) -> [Range; 2] {
        let above = |address: usize| address.next_multiple_of(64 << 10);
        let (start, end) = (above(self.image().end), self.memory.end);
        let below = start..self.tree.start.clamp(start, end);
        let behind = above(self.tree.end).clamp(start, end)..end;
        [below, behind].map(|core::ops::Range { start, end }| Range { start, end })
    }

    /// The text after `key=` among the parameters.
    pub fn text(&self, key: &str) -> Option<&'static str> {
        let mut words = self.bootargs.split_ascii_whitespace();
        words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    /// The parameter `key` as a decimal number, or `default` when it is absent or no number.
    pub fn number(&self, key: &str, default: u64) -> u64 {
        self.text(key)
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    }

    /// Whether the guest runs directly on QEMU.
    pub fn is_bare(&self) -> bool {
        self.number("bare", 0) != 0
    }

    /// The image with its zeroed data and stacks.
    pub fn image(&self) -> Range {
        Range {
            start: &raw const __image_start as usize,
            end: &raw const __image_end as usize,
        }
    }

    /// RAM that nothing uses: `bytes` (a multiple of 4 KiB) above the image, from a 64 KiB boundary, `None` when there is no room.
    ///
    /// Every call gives the same memory, so one part of a program owns it.
    pub fn spare(&self, bytes: usize) -> Option<Range> {
        let above = |address: usize| address.next_multiple_of(64 << 10);
        let start = above(self.image().end);
        let mut range = Range {
            start,
            end: start + bytes,
        };
        if range.overlaps(&self.tree) {
            let start = above(self.tree.end);
            range = Range {
                start,
                end: start + bytes,
            };
        }
        (range.end <= self.memory.end).then_some(range)
    }
}

/// The machine, once [`init`] has read it.
pub fn get() -> Option<&'static Machine> {
    MACHINE.get()
}

/// Reads the device tree at `address`.
///
/// # Errors
/// What the tree lacks.
pub fn init(address: usize) -> Result<&'static Machine, &'static str> {
    if address == 0 || !address.is_multiple_of(8) {
        return Err("no device tree in x0");
    }
    // SAFETY: whoever started the guest put a device tree there, and nothing writes to it later.
    let tree = unsafe { Fdt::from_ptr(address as *const u8) }
        .map_err(|_| "x0 points to no device tree")?;
    let machine = read(&tree, address)?;
    Ok(MACHINE.call_once(|| machine))
}

fn read(tree: &Fdt<'static>, address: usize) -> Result<Machine, &'static str> {
    let mut cpus = [0; MAX_CPUS];
    let mut cpu_count = 0;
    for cpu in tree.cpus().take(MAX_CPUS) {
        cpus[cpu_count] = cpu.ids().first() as u64;
        cpu_count += 1;
    }
    let (slots, slot_count) = slots(tree)?;
    let region = tree.memory().regions().next().ok_or("no memory")?;
    let start = region.starting_address as usize;
    let end = start + region.size.ok_or("memory without a size")?;
    Ok(Machine {
        cpus,
        cpu_count,
        memory: Range { start, end },
        tree: Range {
            start: address,
            end: address + tree.total_size(),
        },
        gic: gic(tree)?,
        bootargs: tree.chosen().bootargs().unwrap_or(""),
        seed: seed(tree),
        slots,
        slot_count,
    })
}

/// The first bytes of `rng-seed`, which is drawn for each start.
fn seed(tree: &Fdt<'static>) -> Option<u64> {
    let seed = tree.find_node("/chosen")?.property("rng-seed")?;
    seed.value
        .first_chunk()
        .map(|bytes| u64::from_le_bytes(*bytes))
}

fn slots(tree: &Fdt<'static>) -> Result<([Slot; MAX_SLOTS], usize), &'static str> {
    let mut slots = [Slot::default(); MAX_SLOTS];
    let mut count = 0;
    let nodes = tree.all_nodes().filter(|node| {
        node.compatible()
            .is_some_and(|names| names.all().any(|name| name == "virtio,mmio"))
    });
    for node in nodes.take(MAX_SLOTS) {
        let mut regions = node.reg().ok_or("virtio slot without reg")?;
        let region = regions.next().ok_or("virtio slot without registers")?;
        let interrupts = node.property("interrupts").map_or(&[][..], |p| p.value);
        // Shared, its number, how it is signalled.
        let &[0, 0, 0, 0, a, b, c, d, ..] = interrupts else {
            return Err("virtio slot without a shared interrupt");
        };
        slots[count] = Slot {
            base: region.starting_address as usize,
            bytes: region.size.unwrap_or(0),
            interrupt: 32 + u32::from_be_bytes([a, b, c, d]),
        };
        count += 1;
    }
    slots[..count].sort_unstable_by_key(|slot| slot.base);
    Ok((slots, count))
}

fn gic(tree: &Fdt<'static>) -> Result<GicFrames, &'static str> {
    if let Some(node) = tree.find_compatible(&["arm,gic-v3"]) {
        let mut regions = node.reg().ok_or("GIC without reg")?;
        let distributor = regions
            .next()
            .ok_or("GIC without distributor")?
            .starting_address as usize;
        let count = node
            .property("#redistributor-regions")
            .and_then(|count| count.as_usize())
            .unwrap_or(1);
        let mut redistributors = [(0, 0); MAX_REDISTRIBUTOR_REGIONS];
        for (slot, region) in redistributors.iter_mut().zip(regions.take(count)) {
            *slot = (region.starting_address as usize, region.size.unwrap_or(0));
        }
        return Ok(GicFrames::V3 {
            distributor,
            redistributors,
        });
    }
    let node = tree
        .find_compatible(&["arm,cortex-a15-gic", "arm,gic-400"])
        .ok_or("no GIC")?;
    let mut regions = node.reg().ok_or("GIC without reg")?;
    let distributor = regions
        .next()
        .ok_or("GIC without distributor")?
        .starting_address as usize;
    let cpu = regions
        .next()
        .ok_or("GIC without CPU interface")?
        .starting_address as usize;
    Ok(GicFrames::V2 { distributor, cpu })
}
