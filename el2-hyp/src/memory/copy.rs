//! Copying bytes, fast where the compiler's own routine is not.
//!
//! EL2 is built without vector registers and with strict alignment, where `memcpy` moves a word or a byte a turn. Memory at EL2 is Normal and
//! SCTLR_EL2.A is clear, so pairs of registers move 16 bytes at any alignment (Arm ARM DDI 0487, section B2.5).

/// Copies `from` to `to`.
///
/// # Panics
/// If their lengths differ.
#[inline]
pub fn copy_slice(to: &mut [u8], from: &[u8]) {
    assert!(to.len() == from.len());
    // SAFETY: both are valid for that length by being slices.
    unsafe { copy(to.as_mut_ptr(), from.as_ptr(), from.len()) }
}

/// Copies `length` bytes. If the ranges overlap, or a guest writes to one of them meanwhile, what arrives is unspecified, and nothing
/// else is touched.
///
/// # Safety
/// `from` can be read and `to` written for `length` bytes, and no reference covers any of what a guest can reach.
#[cfg(not(all(target_arch = "aarch64", target_os = "none")))]
#[inline]
pub(super) unsafe fn copy(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: the caller's.
    unsafe { core::ptr::copy(from, to, length) }
}

/// Copies `length` bytes. If the ranges overlap, or a guest writes to one of them meanwhile, what arrives is unspecified, and nothing
/// else is touched.
///
/// # Safety
/// `from` can be read and `to` written for `length` bytes, and no reference covers any of what a guest can reach.
#[cfg(all(target_arch = "aarch64", target_os = "none"))]
#[inline]
pub(super) unsafe fn copy(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: the loop moves 64 bytes while that many are left. What then is left is moved by the bits of its length, in steps of 32, 16,
    // 8, 4, 2 and 1 bytes: together exactly `length`.
    unsafe {
        core::arch::asm!(
            "subs {left}, {left}, #64",
            "b.lo 3f",
            "2:",
            "ldp {a}, {b}, [{from}]",
            "ldp {c}, {d}, [{from}, #16]",
            "stp {a}, {b}, [{to}]",
            "stp {c}, {d}, [{to}, #16]",
            "ldp {a}, {b}, [{from}, #32]",
            "ldp {c}, {d}, [{from}, #48]",
            "add {from}, {from}, #64",
            "subs {left}, {left}, #64",
            "stp {a}, {b}, [{to}, #32]",
            "stp {c}, {d}, [{to}, #48]",
            "add {to}, {to}, #64",
            "b.hs 2b",
            // The six low bits of what is left are unchanged by the 64 that was taken too often.
            "3:",
            "tbz {left}, #5, 4f",
            "ldp {a}, {b}, [{from}], #16",
            "ldp {c}, {d}, [{from}], #16",
            "stp {a}, {b}, [{to}], #16",
            "stp {c}, {d}, [{to}], #16",
            "4:",
            "tbz {left}, #4, 5f",
            "ldp {a}, {b}, [{from}], #16",
            "stp {a}, {b}, [{to}], #16",
            "5:",
            "tbz {left}, #3, 6f",
            "ldr {a}, [{from}], #8",
            "str {a}, [{to}], #8",
            "6:",
            "tbz {left}, #2, 7f",
            "ldr {a:w}, [{from}], #4",
            "str {a:w}, [{to}], #4",
            "7:",
            "tbz {left}, #1, 8f",
            "ldrh {a:w}, [{from}], #2",
            "strh {a:w}, [{to}], #2",
            "8:",
            "tbz {left}, #0, 9f",
            "ldrb {a:w}, [{from}]",
            "strb {a:w}, [{to}]",
            "9:",
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            left = inout(reg) length => _,
            a = out(reg) _,
            b = out(reg) _,
            c = out(reg) _,
            d = out(reg) _,
            options(nostack)
        );
    }
}

/// Whether all of these bytes are zero. `length` is a multiple of 64.
///
/// # Safety
/// `from` can be read for `length` bytes, and no reference covers any of what a guest can reach.
#[cfg(all(target_arch = "aarch64", target_os = "none"))]
#[inline]
pub(super) unsafe fn is_zero(from: *const u8, length: usize) -> bool {
    let any: u64;
    // SAFETY: the loop reads 64 bytes a turn below the end.
    unsafe {
        core::arch::asm!(
            "mov {a}, xzr",
            "cbz {left}, 3f",
            "2:",
            "ldp {a}, {b}, [{from}]",
            "ldp {c}, {d}, [{from}, #16]",
            "orr {a}, {a}, {b}",
            "orr {a}, {a}, {c}",
            "ldp {b}, {c}, [{from}, #32]",
            "orr {a}, {a}, {d}",
            "orr {a}, {a}, {b}",
            "orr {a}, {a}, {c}",
            "ldp {b}, {c}, [{from}, #48]",
            "orr {a}, {a}, {b}",
            "orr {a}, {a}, {c}",
            "cbnz {a}, 3f",
            "add {from}, {from}, #64",
            "subs {left}, {left}, #64",
            "b.hi 2b",
            "3:",
            from = inout(reg) from => _,
            left = inout(reg) length => _,
            a = out(reg) any,
            b = out(reg) _,
            c = out(reg) _,
            d = out(reg) _,
            options(nostack, readonly)
        );
    }
    any == 0
}

/// Whether all of these bytes are zero. `length` is a multiple of 64.
///
/// # Safety
/// `from` can be read for `length` bytes, and no reference covers any of what a guest can reach.
#[cfg(not(all(target_arch = "aarch64", target_os = "none")))]
#[inline]
pub(super) unsafe fn is_zero(from: *const u8, length: usize) -> bool {
    // SAFETY: the caller's.
    unsafe { core::slice::from_raw_parts(from, length) }
        .iter()
        .all(|byte| *byte == 0)
}

/// Whether all of a slice is zero.
pub fn is_slice_zero(bytes: &[u8]) -> bool {
    const LINE: usize = 64;
    let (lines, rest) = bytes.split_at(bytes.len() / LINE * LINE);
    // SAFETY: a slice can be read.
    unsafe { is_zero(lines.as_ptr(), lines.len()) && rest.iter().all(|byte| *byte == 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_is_not_zero() {
        for length in [0, 1, 63, 64, 65, 4096] {
            let mut bytes = std::vec![0; length + 1];
            assert!(is_slice_zero(&bytes[1..]));
            for at in 1..=length {
                bytes[at] = 0x80;
                assert!(!is_slice_zero(&bytes[1..]), "{at} of {length}");
                bytes[at] = 0;
            }
        }
    }

    #[test]
    fn a_slice_arrives_whole_and_nothing_beside_it() {
        for length in (0..200).chain([1500, 4096]) {
            let from: std::vec::Vec<u8> = (0..length).map(|n| n as u8 ^ 0x5a).collect();
            let mut to = std::vec![0xee; length + 2];
            copy_slice(&mut to[1..=length], &from);
            assert_eq!(to[1..=length], from);
            assert_eq!((to[0], to[length + 1]), (0xee, 0xee));
        }
    }
}
