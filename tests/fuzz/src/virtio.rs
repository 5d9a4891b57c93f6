//! What the fuzz targets of virtio share: a guest's RAM, and what a hostile driver puts into it.

use std::collections::BTreeSet;

use el2_hyp::addr::{BLOCK_2M, Ipa, PAGE_SIZE};
use el2_hyp::device::virtio::queue::Layout;
use el2_hyp::device::virtio::testing::{Driver, Ram};
use el2_hyp::machine::RAM_BASE;
use libfuzzer_sys::arbitrary::{Result, Unstructured};

const BLOCKS: usize = 2;
/// The end of RAM.
pub const END: u64 = RAM_BASE + BLOCKS as u64 * BLOCK_2M;
/// Where rings lie and most addresses point: around the border of two blocks.
const WINDOW: u64 = RAM_BASE + BLOCK_2M - 0x2000;
const WINDOW_BYTES: u64 = 0x4000;

thread_local! {
    static RAM: Ram = {
        let ram = Ram::new(BLOCKS);
        ram.dirty().set_on(true);
        ram
    };
}

/// Calls `body` with RAM that is all zero, and sees that nothing around it was touched.
pub fn with_ram(body: impl FnOnce(&Ram)) {
    RAM.with(|ram| {
        body(ram);
        ram.check_guards();
        let touched: Vec<u64> = dirty_pages(ram).collect();
        clean(ram, touched);
    });
}

/// Zeroes pages.
pub fn clean(ram: &Ram, pages: impl IntoIterator<Item = u64>) {
    for page in pages {
        let at = Ipa(RAM_BASE + page * PAGE_SIZE);
        ram.write(at, &[0; PAGE_SIZE as usize]).expect("RAM");
    }
    ram.dirty().clear();
}

/// Takes the numbers of the pages that were written.
pub fn dirty_pages(ram: &Ram) -> impl Iterator<Item = u64> {
    let words = ram.dirty().take(0..ram.dirty().words());
    words.flat_map(|(word, bits)| {
        (0..64)
            .filter(move |bit| bits >> bit & 1 != 0)
            .map(move |bit| word as u64 * 64 + bit)
    })
}

/// The pages of a range, as far as it is RAM.
pub fn pages(at: u64, bytes: u64) -> BTreeSet<u64> {
    let end = at.saturating_add(bytes).min(END);
    let first = at.max(RAM_BASE);
    if first >= end {
        return BTreeSet::new();
    }
    ((first - RAM_BASE) / PAGE_SIZE..=(end - 1 - RAM_BASE) / PAGE_SIZE).collect()
}

/// An address: most often one that leads somewhere.
pub fn address(u: &mut Unstructured<'_>) -> Result<u64> {
    let near = u64::from(u.arbitrary::<u16>()?);
    Ok(match u.int_in_range(0..=9)? {
        0 => u.arbitrary()?,
        1 => END.wrapping_sub(near),
        2 => RAM_BASE.wrapping_sub(near % 64),
        3 => END - near % 64,
        _ => WINDOW + near % WINDOW_BYTES,
    })
}

/// The length of a buffer.
fn length(u: &mut Unstructured<'_>) -> Result<u32> {
    Ok(match u.int_in_range(0..=5)? {
        0 => u.arbitrary()?,
        1 => 16 * u32::from(u.arbitrary::<u8>()?),
        _ => u.arbitrary::<u16>()?.into(),
    })
}

/// A queue that lies where it may, which need not be in RAM.
pub fn layout(u: &mut Unstructured<'_>) -> Result<Option<Layout>> {
    let size = 1 << u.int_in_range(0..=8)?;
    let mut part = |alignment: u64| Ok(Ipa(address(u)? & !(alignment - 1)));
    let (descriptors, available, used) = (part(16)?, part(2)?, part(4)?);
    Ok(Layout::new(size, descriptors, available, used))
}

/// Something that a driver does to memory: a word anywhere, a descriptor, an entry of the available ring.
pub fn act(u: &mut Unstructured<'_>, ram: &Ram, layout: &Layout) -> Result<()> {
    let [descriptors, available, _] = layout.addresses();
    let size = layout.size();
    match u.int_in_range(0..=5)? {
        0 => {
            // Where there is no RAM nothing is stored; so below.
            let _ = ram.store_u16(Ipa(address(u)?), u.arbitrary()?);
        }
        1..=3 => {
            let buffer = (Ipa(address(u)?), length(u)?);
            let table = if u.ratio(1, 4)? {
                address(u)?
            } else {
                descriptors.0
            };
            let index = u16::from(u.arbitrary::<u8>()?) % size;
            let next = u16::from(u.arbitrary::<u8>()?) % (size + 1);
            let flags = u16::from(u.arbitrary::<u8>()? % 8);
            if (RAM_BASE..END - 0x1000).contains(&table) {
                Driver::write_descriptor(ram, Ipa(table), index, buffer, flags, next);
            }
        }
        _ => {
            let head = u16::from(u.arbitrary::<u8>()?) % (size + 1);
            let at = Ipa(available.0.wrapping_add(2));
            let index = ram.load_u16(at).unwrap_or(0);
            let entry = available.0.wrapping_add(4 + 2 * u64::from(index % size));
            let _ = ram.store_u16(Ipa(entry), head);
            let _ = ram.store_u16(at, index.wrapping_add(1));
        }
    }
    Ok(())
}

/// Registers that lead somewhere.
const REGISTERS: [u64; 17] = [
    0x14, 0x20, 0x24, 0x30, 0x38, 0x44, 0x50, 0x64, 0x70, 0x70, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4,
    0x108,
];

/// A register: any, or one that leads somewhere.
pub fn register(u: &mut Unstructured<'_>) -> Result<u64> {
    if u.ratio(1, 4)? {
        u.int_in_range(0..=0x1ff)
    } else {
        u.choose(&REGISTERS).copied()
    }
}

/// The writes by which a driver resets a device, chooses features, and sets queues up.
pub fn set_up(features: u64, queues: &[Layout], mut write: impl FnMut(u64, u32)) {
    let features = features | 1 << 32;
    for (offset, value) in [
        (0x70, 0),
        (0x70, 3),
        (0x24, 0),
        (0x20, features as u32),
        (0x24, 1),
        (0x20, (features >> 32) as u32),
        (0x70, 0xb),
    ] {
        write(offset, value);
    }
    for (index, queue) in queues.iter().enumerate() {
        write(0x30, index as u32);
        write(0x38, queue.size().into());
        for (offset, address) in [0x80, 0x90, 0xa0].into_iter().zip(queue.addresses()) {
            write(offset, address.0 as u32);
            write(offset + 4, (address.0 >> 32) as u32);
        }
        write(0x44, 1);
    }
    write(0x70, 0xf);
}
