use super::*;
use std::alloc::{Layout, alloc_zeroed};
use std::vec;
use std::vec::Vec;

/// Three blocks, deliberately out of order.
fn memory() -> GuestMemory {
    let layout = Layout::from_size_align(3 * BLOCK_2M as usize, BLOCK_2M as usize).unwrap();
    // SAFETY: the layout is not empty.
    let base = unsafe { alloc_zeroed(layout) } as u64;
    let blocks = [2, 0, 1].map(|n| Pa(base + n * BLOCK_2M));
    // SAFETY: the memory was just allocated for this value and is never freed.
    unsafe { GuestMemory::new(Ipa(0x4000_0000), Box::new(blocks)) }
}

#[test]
fn bytes_cross_blocks() {
    let m = memory();
    let text: Vec<u8> = (0..200u8).collect();
    let at = Ipa(m.base().0 + BLOCK_2M - 100);
    m.write(at, &text).unwrap();
    let mut back = vec![0; 200];
    m.read(at, &mut back).unwrap();
    assert_eq!(back, text);
    let mut first = [0];
    m.read(Ipa(m.base().0 + BLOCK_2M), &mut first).unwrap();
    assert_eq!(first, [100]);
}

#[test]
fn outside_is_refused() {
    let m = memory();
    let end = Ipa(m.base().0 + m.size());
    for (ipa, length) in [
        (Ipa(0), 1),
        (Ipa(m.base().0 - 1), 2),
        (end, 1),
        (Ipa(end.0 - 1), 2),
        (Ipa(u64::MAX), 2),
    ] {
        assert_eq!(m.read(ipa, &mut vec![0; length]), Err(OutOfRange));
        assert_eq!(m.write(ipa, &vec![0; length]), Err(OutOfRange));
        assert_eq!(m.copy_to(ipa, &m, m.base(), length), Err(OutOfRange));
        assert_eq!(m.copy_to(m.base(), &m, ipa, length), Err(OutOfRange));
        assert!(!m.contains(ipa, length as u64));
    }
    assert_eq!(m.write(end, &[]), Ok(()));
    assert!(!m.contains(m.base(), u64::MAX));
}

#[test]
fn words_are_little_endian_aligned_and_inside() {
    let m = memory();
    let at = Ipa(m.base().0 + BLOCK_2M - 8);
    m.store_u64(at, 0x0807_0605_0403_0201).unwrap();
    let mut bytes = [0; 8];
    m.read(at, &mut bytes).unwrap();
    assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(m.load_u16(Ipa(at.0 + 6)), Ok(0x0807));
    assert_eq!(m.load_u16_acquire(Ipa(at.0 + 4)), Ok(0x0605));
    assert_eq!(m.load_u32(Ipa(at.0 + 4)), Ok(0x0807_0605));
    m.store_u16_release(Ipa(at.0 + 8), 0xbeef).unwrap();
    assert_eq!(m.load_u64(Ipa(at.0 + 8)), Ok(0xbeef));
    for outside in [
        at.0 + 1,
        at.0 + 4,
        m.base().0 - 8,
        m.base().0 + m.size(),
        u64::MAX - 7,
        0,
    ] {
        assert_eq!(m.load_u64(Ipa(outside)), Err(OutOfRange));
        assert_eq!(m.store_u64(Ipa(outside), 1), Err(OutOfRange));
    }
}

#[test]
fn pairs_and_windows_lie_in_one_block() {
    let m = memory();
    let border = m.base().0 + BLOCK_2M;
    m.write(Ipa(border), &[1; 24]).unwrap();
    let pairs = m.window::<16>(Ipa(border), 24).unwrap();
    for (offset, good) in [
        (0, true),
        (8, true),
        (12, false),
        (16, false),
        (u64::MAX - 7, false),
    ] {
        let expected = if good {
            Ok([0x0101_0101_0101_0101; 2])
        } else {
            Err(OutOfRange)
        };
        assert_eq!(pairs.load_u64_pair(offset), expected);
    }
    assert!(m.window::<16>(Ipa(border + 8), 16).is_none());
    for (at, length) in [
        (border - 4, 5),
        (border - 2, 2),
        (m.base().0 - 4, 4),
        (m.base().0 + m.size(), 4),
        (border, u64::MAX),
        (u64::MAX - 3, 4),
    ] {
        assert!(m.window::<4>(Ipa(at), length).is_none(), "{at:x}");
    }
    let window = m.window(Ipa(border - 12), 12).unwrap();
    window.store_u32_pair(0, [1, 2]).unwrap();
    window.store_u32_pair(4, [3, 4]).unwrap();
    window.store_u16_release(2, 5).unwrap();
    for (offset, good) in [(8, false), (5, false), (u64::MAX, false), (4, true)] {
        assert_eq!(window.store_u32_pair(offset, [3, 4]).is_ok(), good);
    }
    for (offset, good) in [(12, false), (1, false), (u64::MAX - 1, false), (10, true)] {
        assert_eq!(window.store_u16_release(offset, 0).is_ok(), good);
    }
    let words = [0, 4, 8].map(|n| m.load_u32(Ipa(border - 12 + n)).unwrap());
    assert_eq!(words, [0x5_0001, 3, 4]);
    assert!(
        m.window(Ipa(border), 2)
            .unwrap()
            .store_u32_pair(0, [0; 2])
            .is_err()
    );
}

#[test]
fn guests_copy_to_one_another_across_blocks() {
    let (a, b) = (memory(), memory());
    let text: Vec<u8> = (0..1500).map(|n| n as u8).collect();
    // The borders of blocks lie at different places of source and target.
    let from = Ipa(a.base().0 + BLOCK_2M - 700);
    let to = Ipa(b.base().0 + 2 * BLOCK_2M - 300);
    a.write(from, &text).unwrap();
    a.copy_to(from, &b, to, text.len()).unwrap();
    let mut back = vec![0; text.len()];
    b.read(to, &mut back).unwrap();
    assert_eq!(back, text);
}

fn dirty_pages(m: &GuestMemory) -> Vec<u64> {
    m.dirty()
        .take(0..m.dirty().words())
        .flat_map(|(word, bits)| {
            (0..64)
                .filter(move |bit| bits >> bit & 1 != 0)
                .map(move |bit| word as u64 * 64 + bit)
        })
        .collect()
}

#[test]
fn the_log_has_what_was_written_while_it_was_on() {
    let m = memory();
    let page = |n: u64| Ipa(m.base().0 + n * 4096);
    m.write(page(1), &[1]).unwrap();
    assert_eq!(dirty_pages(&m), []);
    m.dirty().set_on(true);
    m.write(Ipa(page(6).0 - 1), &[1; 2]).unwrap();
    m.write(page(9), &[]).unwrap();
    m.store_u16(page(64), 1).unwrap();
    m.copy_to(page(1), &m, page(600), 1).unwrap();
    m.mark_written(page(1535), 4096).unwrap();
    let window = m.window(Ipa(page(9).0 - 16), 4096).unwrap();
    window.store_u32_pair(12, [1, 1]).unwrap();
    window.store_u16_release(48, 1).unwrap();
    m.read(page(20), &mut [0; 4096]).unwrap();
    assert_eq!(m.load_u16(page(21)), Ok(0));
    assert_eq!(m.store_u16(Ipa(page(1536).0), 0), Err(OutOfRange));
    assert_eq!(dirty_pages(&m), [5, 6, 8, 9, 64, 600, 1535]);
    assert_eq!(dirty_pages(&m), []);
    m.store_u64(page(70), 1).unwrap();
    m.dirty().set_on(false);
    m.store_u64(page(71), 1).unwrap();
    // What was logged stays when logging ends; a part can be taken alone.
    assert_eq!(m.dirty().take(0..1).count(), 0);
    assert_eq!(m.dirty().take(1..2).collect::<Vec<_>>(), [(1, 1 << 6)]);
    m.dirty().set_on(true);
    m.store_u64(page(70), 1).unwrap();
    m.dirty().clear();
    assert_eq!(dirty_pages(&m), []);
}
