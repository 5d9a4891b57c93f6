//! Sections of pages and blocks: written from a guest's memory or disk, and put into another's.

use core::cell::RefCell;
use core::ops::Range;

use super::codec::{Malformed, NoRoom, require};
use super::section::{Kind, Writer};
use super::units::{Batch, Content, Packer, Tally, UNIT_BYTES, Units};
use crate::addr::{Ipa, PAGE_SIZE};
use crate::memory::GuestMemory;
use crate::memory::copy::copy_slice;
use crate::volume::overlay::{Now, Overlay};

/// What a section of units had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Its bytes, head and all; none if there was no unit.
    pub bytes: usize,
    /// Its units.
    pub tally: Tally,
}

/// Writes one section of pages of `memory`, counted from its start: those that `next` names, in ascending order, until there are no more or no room for
/// another. Pages are packed if there is a packer. `next` is not called for a page that would not fit.
///
/// # Errors
/// If there is no room for a section of one page.
pub fn write_pages(
    writer: &mut Writer,
    buffer: &mut [u8],
    memory: &GuestMemory,
    next: impl FnMut() -> Option<u32>,
    packer: Option<&mut Packer>,
) -> Result<Written, NoRoom> {
    write_units(
        writer,
        buffer,
        Kind::Pages,
        0,
        next,
        packer,
        |batch, page| {
            let at = Ipa(memory.base().0 + u64::from(page) * PAGE_SIZE);
            batch.put(page, |to| {
                // A page beyond RAM is nobody's; it is sent as zeros, which the reader refuses.
                let _ = memory.read(at, to);
            });
        },
    )
}

/// Writes one section of blocks of the disk in `slot`: those in `blocks` that were changed and not taken since, until there are no more or no room; and from which block on it is
/// to go on, or nothing if all are done.
///
/// # Errors
/// If there is no room for a section of one block.
pub fn write_blocks(
    writer: &mut Writer,
    buffer: &mut [u8],
    (slot, overlay): (u8, &mut Overlay<'_>),
    blocks: Range<u32>,
    packer: Option<&mut Packer>,
) -> Result<(Written, Option<u32>), NoRoom> {
    let overlay = RefCell::new(overlay);
    let mut scan = blocks;
    let next = || {
        let found = overlay.borrow_mut().take_changed(scan.clone());
        scan.start = found.map_or(scan.end, |block| block + 1);
        found
    };
    let put = |batch: &mut Batch<'_, '_>, block| match overlay.borrow().now(block) {
        Now::Bytes(bytes) => batch.put(block, |to| copy_slice(to, bytes)),
        Now::Zeros => batch.put_zeros(block, 1),
        // Nothing returns a block to its image while its guest lives.
        Now::Image => {}
    };
    let written = write_units(writer, buffer, Kind::Blocks, slot.into(), next, packer, put)?;
    Ok((written, (!scan.is_empty()).then_some(scan.start)))
}

fn write_units(
    writer: &mut Writer,
    buffer: &mut [u8],
    kind: Kind,
    index: u16,
    mut next: impl FnMut() -> Option<u32>,
    packer: Option<&mut Packer>,
    mut put: impl FnMut(&mut Batch<'_, '_>, u32),
) -> Result<Written, NoRoom> {
    let mut tally = Tally::default();
    let before = writer.count();
    let bytes = writer.section(buffer, kind, index, |to| {
        let mut batch = Batch::new(to, packer);
        if !batch.has_room() {
            batch.overflow();
        }
        while batch.has_room() {
            match next() {
                Some(unit) => put(&mut batch, unit),
                None => break,
            }
        }
        tally = batch.finish();
    })?;
    if tally == Tally::default() {
        // A section of nothing is not sent, and so has no number.
        writer.resume_at(before);
        return Ok(Written::default());
    }
    Ok(Written { bytes, tally })
}

/// Puts pages into `memory`. What is zero already is not written: fresh memory is.
///
/// # Errors
/// If packed bytes are none. Pages before them have been put.
pub fn put_pages(units: Units<'_>, memory: &GuestMemory) -> Result<(), Malformed> {
    let mut scratch = [0; UNIT_BYTES];
    for (first, content) in units {
        let ipa = |page: u32| Ipa(memory.base().0 + u64::from(page) * PAGE_SIZE);
        let beyond = |_| Malformed::Value("the number of a unit");
        if let Content::Zeros(count) = content {
            for page in first..first + u32::from(count) {
                clear(memory, ipa(page)).map_err(beyond)?;
            }
            continue;
        }
        let unit = content.unpack(&mut scratch)?;
        memory.write(ipa(first), unit).map_err(beyond)?;
    }
    Ok(())
}

/// Makes a page zeros, unless it is.
fn clear(memory: &GuestMemory, page: Ipa) -> Result<(), crate::memory::OutOfRange> {
    if !memory.is_zero(page, UNIT_BYTES)? {
        memory.write(page, &[0; UNIT_BYTES])?;
    }
    Ok(())
}

/// Puts blocks into a disk.
///
/// # Errors
/// If packed bytes are none, the disk has no such block, or no memory for it. Blocks before them have been put.
pub fn put_blocks(units: Units<'_>, overlay: &mut Overlay<'_>) -> Result<(), Malformed> {
    let mut scratch = [0; UNIT_BYTES];
    for (first, content) in units {
        let count = match content {
            Content::Zeros(count) => u32::from(count),
            _ => 1,
        };
        let end = first.checked_add(count);
        let within = end.is_some_and(|end| end <= overlay.blocks());
        require(within, "the number of a block")?;
        if let Content::Zeros(_) = content {
            (first..first + count).for_each(|block| overlay.put_zeros(block));
            continue;
        }
        let unit = content.unpack(&mut scratch)?;
        let full = |_| Malformed::Value("the memory of a disk");
        overlay.put_bytes(first, unit).map_err(full)?;
    }
    Ok(())
}
