use std::alloc::{Layout, alloc, dealloc};
use std::boxed::Box;
use std::vec::Vec;
use std::{format, vec};

use proptest::prelude::*;

use super::*;
use crate::addr::{BLOCK_2M, Pa};

const BLOCK: usize = BLOCK_BYTES as usize;

/// Memory with another's bytes in it, its blocks out of order, freed in the end.
struct Memory(*mut u8, Layout);

impl Memory {
    fn new(blocks: usize) -> (Self, OverlayMemory) {
        let layout =
            Layout::from_size_align(blocks * BLOCK_2M as usize, BLOCK_2M as usize).unwrap();
        // SAFETY: the layout is not empty.
        let base = unsafe { alloc(layout) };
        assert!(!base.is_null());
        // SAFETY: it was just allocated, that long.
        unsafe { base.write_bytes(0xa5, layout.size()) };
        let places: Vec<Pa> = (0..blocks as u64)
            .rev()
            .map(|n| Pa(base as u64 + n * BLOCK_2M))
            .collect();
        // SAFETY: the memory is initialised, and outlives the overlay in every test, since `Memory` is bound first and dropped last.
        (Self(base, layout), unsafe {
            OverlayMemory::new(places.into_boxed_slice())
        })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout; the overlay is gone.
        unsafe { dealloc(self.0, self.1) }
    }
}

fn read(overlay: &Overlay<'_>, offset: usize, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let taken = overlay.read(offset as u64, length as u64, |part| {
        assert!(!part.is_empty());
        bytes.extend_from_slice(part);
        Ok::<(), ()>(())
    });
    taken.unwrap();
    bytes
}

fn write(overlay: &mut Overlay<'_>, offset: usize, bytes: &[u8]) -> Result<(), WriteError<()>> {
    let mut rest = bytes;
    overlay.write(offset as u64, bytes.len() as u64, |part| {
        let (now, later) = rest.split_at(part.len());
        part.copy_from_slice(now);
        rest = later;
        Ok(())
    })
}

fn image(bytes: usize) -> Vec<u8> {
    (1..=251_u8).cycle().take(bytes).collect()
}

#[test]
fn an_image_is_read_and_zeros_behind_it() {
    let image = image(BLOCK + 1000);
    let (_memory, frames) = Memory::new(1);
    let overlay = Overlay::new(&image, 24, frames).unwrap();
    let mut whole = image.clone();
    whole.resize(24 * 512, 0);
    assert_eq!(read(&overlay, 0, 24 * 512), whole);
    assert_eq!(read(&overlay, 5000, 200), whole[5000..5200]);
    assert_eq!(overlay.usage(), (0, 511));
}

#[test]
fn a_write_keeps_the_rest_of_its_block() {
    let image = image(BLOCK + 1000);
    let (_memory, frames) = Memory::new(1);
    let mut overlay = Overlay::new(&image, 32, frames).unwrap();
    let mut whole = image.clone();
    whole.resize(32 * 512, 0);
    for offset in [512, BLOCK + 512, 2 * BLOCK + 512, 4 * BLOCK - 512] {
        write(&mut overlay, offset, &[7; 512]).unwrap();
        whole[offset..offset + 512].fill(7);
        assert_eq!(read(&overlay, 0, 32 * 512), whole);
    }
    assert_eq!(overlay.usage().0, 4);
    overlay.reset();
    assert_eq!(read(&overlay, 0, image.len()), image);
    assert_eq!(overlay.usage().0, 0);
}

#[test]
fn a_source_that_fails_leaves_the_block_as_it_was() {
    let image = image(2 * BLOCK);
    let (_memory, frames) = Memory::new(1);
    let mut overlay = Overlay::new(&image, 16, frames).unwrap();
    let mut calls = 0;
    let failed = overlay.write(0, 2 * BLOCK_BYTES, |part| {
        calls += 1;
        part.fill(9);
        if calls == 2 { Err("gone") } else { Ok(()) }
    });
    assert_eq!(failed, Err(WriteError::Source("gone")));
    assert_eq!(read(&overlay, 0, BLOCK), vec![9; BLOCK]);
    assert_eq!(read(&overlay, BLOCK, BLOCK), image[BLOCK..]);
    assert_eq!(overlay.usage().0, 1);
}

#[test]
fn a_reader_that_fails_is_heard() {
    let (_memory, frames) = Memory::new(1);
    let overlay = Overlay::new(&[], 16, frames).unwrap();
    assert_eq!(overlay.read(0, 8192, |_| Err("gone")), Err("gone"));
}

#[test]
fn a_full_overlay_says_so_until_a_block_is_discarded() {
    let (_memory, frames) = Memory::new(1);
    // 511 frames for blocks, and 600 blocks.
    let mut overlay = Overlay::new(&[], 600 * 8, frames).unwrap();
    for block in 0..511 {
        write(&mut overlay, block * BLOCK, &[1; BLOCK]).unwrap();
    }
    let end = 550 * BLOCK;
    assert_eq!(write(&mut overlay, end, &[2; BLOCK]), Err(WriteError::Full));
    assert_eq!(overlay.clear(end as u64 + 512, 512), Err(Full));
    // What is there can still be written.
    write(&mut overlay, 3 * BLOCK, &[3; BLOCK]).unwrap();
    overlay.discard(5 * BLOCK_BYTES, BLOCK_BYTES);
    assert_eq!(read(&overlay, 5 * BLOCK, BLOCK), vec![0; BLOCK]);
    write(&mut overlay, end, &[2; BLOCK]).unwrap();
    assert_eq!(overlay.usage(), (511, 511));
    assert_eq!(
        write(&mut overlay, 5 * BLOCK, &[2; 512]),
        Err(WriteError::Full)
    );
    assert_eq!(read(&overlay, 5 * BLOCK, BLOCK), vec![0; BLOCK]);
}

#[test]
fn the_documented_memory_is_enough_for_every_block() {
    for sectors in [1, 8, 9, 8 * 510, 8 * 511, 8 * 512, 8 * 1024, 8 * 1025] {
        let bytes = Overlay::memory_for(sectors).unwrap();
        let (_memory, frames) = Memory::new(bytes.div_ceil(BLOCK_2M) as usize);
        let mut overlay = Overlay::new(&[], sectors, frames).unwrap();
        for sector in 0..sectors as usize {
            write(&mut overlay, sector * 512, &[sector as u8; 512]).unwrap();
        }
        for sector in 0..sectors as usize {
            assert_eq!(read(&overlay, sector * 512, 512), [sector as u8; 512]);
        }
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let (_memory, frames) = Memory::new(1);
    let none = Overlay::new(&[], 0, frames);
    assert_eq!(none.err(), Some(OverlayError::Size));
    let (_memory, frames) = Memory::new(1);
    let long = Overlay::new(&[0; 513], 1, frames);
    assert_eq!(long.err(), Some(OverlayError::ImageTooLong));
    // 2 MiB of map for 2 GiB, and nothing left.
    let (_memory, frames) = Memory::new(1);
    let small = Overlay::new(&[], 1 << 22, frames);
    assert_eq!(small.err(), Some(OverlayError::MemoryTooSmall(513 * 4096)));
    for sectors in [0, u64::MAX, 1 << 34] {
        assert_eq!(Overlay::memory_for(sectors), None);
    }
    assert!(Overlay::memory_for(1 << 33).is_some());
}

/// What a guest does to its disk, in sectors.
#[derive(Clone, Debug)]
enum Act {
    Write(u64, u64, u8),
    Clear(u64, u64),
    Discard(u64, u64),
    Reset,
}

/// More blocks than the 511 frames that there are, so that it also gets full.
const SECTORS: u64 = 520 * 8 + 3;

fn act() -> impl Strategy<Value = Act> {
    let range = || (0..SECTORS, prop_oneof![1..20_u64, 1..300_u64, 1..3000_u64]);
    let part = |(from, count): (u64, u64)| (from, count.min(SECTORS - from));
    prop_oneof![
        8 => (range(), 1..=255_u8).prop_map(move |(r, b)| { let (f, c) = part(r); Act::Write(f, c, b) }),
        2 => range().prop_map(move |r| { let (f, c) = part(r); Act::Clear(f, c) }),
        3 => range().prop_map(move |r| { let (f, c) = part(r); Act::Discard(f, c) }),
        1 => Just(Act::Reset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// The disk is an array of bytes, of which a discard may clear whole blocks; frames are neither lost nor had twice.
    #[test]
    fn a_disk_is_an_array(acts in prop::collection::vec(act(), 1..40), image_bytes in 0..SECTORS as usize * 512) {
        let image = image(image_bytes);
        let mut fresh = image.clone();
        fresh.resize(SECTORS as usize * 512, 0);
        let mut model = fresh.clone();
        let (_memory, frames) = Memory::new(1);
        let mut overlay = Overlay::new(&image, SECTORS, frames).unwrap();
        let range = |from: u64, count: u64| (from * 512) as usize..((from + count) * 512) as usize;
        for act in acts {
            match act {
                Act::Write(from, count, byte) => {
                    let bytes: Vec<u8> = (from..from + count).flat_map(|sector| [byte ^ sector as u8; 512]).collect();
                    let written = write(&mut overlay, (from * 512) as usize, &bytes);
                    let range = range(from, count);
                    match written {
                        Ok(()) => model[range].copy_from_slice(&bytes),
                        Err(error) => {
                            prop_assert_eq!(error, WriteError::Full);
                            prop_assert_eq!(overlay.usage(), (511, 511));
                            // What came before the block that found no frame is written.
                            let now = read(&overlay, range.start, range.len());
                            let done = now.iter().zip(&bytes).take_while(|(a, b)| a == b).count();
                            model[range.start..range.start + done].copy_from_slice(&bytes[..done]);
                        }
                    }
                }
                Act::Clear(from, count) => match overlay.clear(from * 512, count * 512) {
                    Ok(()) => model[range(from, count)].fill(0),
                    Err(Full) => {
                        // Parts of two blocks at most were not cleared; all else of the range is zeros or as it was.
                        let now = read(&overlay, range(from, count).start, range(from, count).len());
                        let then = &mut model[range(from, count)];
                        for (now, then) in now.chunks(512).zip(then.chunks_mut(512)) {
                            prop_assert!(now == [0; 512] || now == then);
                            then.copy_from_slice(now);
                        }
                    }
                },
                Act::Discard(from, count) => {
                    overlay.discard(from * 512, count * 512);
                    let whole = from.next_multiple_of(8)..(from + count) / 8 * 8;
                    if !whole.is_empty() {
                        model[range(whole.start, whole.end - whole.start)].fill(0);
                    }
                }
                Act::Reset => {
                    overlay.reset();
                    model.copy_from_slice(&fresh);
                }
            }
            let all = read(&overlay, 0, model.len());
            // As slices first: byte by byte is slow, and seldom needed.
            if all != model {
                let wrong = all.iter().zip(&model).position(|(a, b)| a != b);
                prop_assert!(false, "{}", format!("differs at {wrong:?}"));
            }
        }
    }
}

#[test]
fn boxes_of_no_blocks_are_memory_for_nothing() {
    // SAFETY: there is no block.
    let none = unsafe { OverlayMemory::new(Box::new([])) };
    let refused = Overlay::new(&[], 8, none);
    assert_eq!(refused.err(), Some(OverlayError::MemoryTooSmall(2 * 4096)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What was changed is taken once, by whatever passes, and nothing else is.
    #[test]
    fn what_was_changed_is_found(steps in prop::collection::vec((0..4_u8, 0..5000_u32, 1..3000_u32), 1..200)) {
        const BLOCKS: u32 = 5000;
        let (_memory, blocks) = Memory::new(2);
        let sectors = u64::from(BLOCKS) * BLOCK_BYTES / SECTOR_BYTES;
        let mut overlay = Overlay::new(&[], sectors, blocks).unwrap();
        let mut changed = std::collections::BTreeSet::new();
        for (kind, block, length) in steps {
            let at = u64::from(block) * BLOCK_BYTES;
            match kind {
                0 => {
                    write(&mut overlay, at as usize, b"here").unwrap();
                    changed.insert(block);
                }
                1 => {
                    overlay.discard(at, BLOCK_BYTES);
                    changed.insert(block);
                }
                _ => {
                    let range = block..(block + length).min(BLOCKS);
                    let expected = changed.range(range.clone()).next().copied();
                    prop_assert_eq!(overlay.take_changed(range), expected);
                    expected.map(|block| changed.remove(&block));
                }
            }
        }
        let mut from = 0;
        while let Some(block) = overlay.take_changed(from..BLOCKS) {
            prop_assert!(changed.remove(&block));
            from = block + 1;
        }
        prop_assert!(changed.is_empty());
        // A pass that finds nothing leaves nothing to look at.
        overlay.take_changed(0..BLOCKS);
        prop_assert!(overlay.changed.is_empty());
    }
}
