//! CRC-32C (Castagnoli), the checksum of every section.
//!
//! A page is checksummed when it leaves and when it arrives, and a stop waits for the last of them. So the core's own instruction is used where it has
//! one: 32 bytes in ten instructions, where the table of the portable way costs several instructions for each byte.

use crc::{CRC_32_ISCSI, Crc, Table};

/// A small table on boards, whose cores have the instruction.
#[cfg(target_os = "none")]
type Lanes = Table<1>;
#[cfg(not(target_os = "none"))]
type Lanes = Table<16>;

static PORTABLE: Crc<u32, Lanes> = Crc::<u32, Lanes>::new(&CRC_32_ISCSI);

/// The checksum of `parts`, one after another.
pub fn checksum(parts: [&[u8]; 2]) -> u32 {
    #[cfg(all(target_arch = "aarch64", target_os = "none"))]
    if core_has_it() {
        return !parts.into_iter().fold(u32::MAX, by_instruction);
    }
    let mut digest = PORTABLE.digest();
    parts.into_iter().for_each(|part| digest.update(part));
    digest.finalize()
}

/// Whether the core has CRC32C instructions (ID_AA64ISAR0_EL1.CRC32).
#[cfg(all(target_arch = "aarch64", target_os = "none"))]
fn core_has_it() -> bool {
    let isar0: u64;
    // SAFETY: reading an ID register has no effect.
    unsafe {
        core::arch::asm!("mrs {}, id_aa64isar0_el1", out(reg) isar0, options(nomem, nostack, preserves_flags))
    };
    isar0 >> 16 & 15 != 0
}

/// Goes on with `crc`, not inverted at either end, over `bytes`.
#[cfg(all(target_arch = "aarch64", target_os = "none"))]
fn by_instruction(crc: u32, bytes: &[u8]) -> u32 {
    const STEP: usize = 32;
    let mut crc = crc;
    let (steps, rest) = bytes.split_at(bytes.len() / STEP * STEP);
    if !steps.is_empty() {
        // SAFETY: the core has the instruction; 32 bytes at a time are read below the end. At EL2 pairs of registers are loaded at any alignment.
        unsafe {
            core::arch::asm!(
                ".arch_extension crc",
                "2:", "ldp {a}, {b}, [{from}], #16", "ldp {c}, {d}, [{from}], #16",
                "crc32cx {crc:w}, {crc:w}, {a}", "crc32cx {crc:w}, {crc:w}, {b}",
                "crc32cx {crc:w}, {crc:w}, {c}", "crc32cx {crc:w}, {crc:w}, {d}",
                "cmp {from}, {end}", "b.ne 2b",
                from = inout(reg) steps.as_ptr() => _, end = in(reg) steps.as_ptr_range().end, crc = inout(reg) crc,
                a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _, options(nostack, readonly)
            );
        }
    }
    for &byte in rest {
        // SAFETY: as above.
        unsafe {
            core::arch::asm!(".arch_extension crc", "crc32cb {crc:w}, {crc:w}, {byte:w}", crc = inout(reg) crc, byte = in(reg) u32::from(byte),
                             options(pure, nomem, nostack, preserves_flags));
        }
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_crc_32c() {
        assert_eq!(checksum([b"1234", b"56789"]), 0xe306_9283);
        assert_eq!(checksum([b"", b""]), 0);
    }
}
