//! The first translation tables: the image with the permissions that it keeps, page by page, and the device tree.
//!
//! This runs with translation and caches off. It must not use an atomic, and it does not: plain aligned stores into tables that the
//! walker will read from memory.

use core::cell::UnsafeCell;
use core::ptr;

use super::{PAGE_SIZE, image};

/// Tables for the first map: a root, one path each for image and device tree (three tables, one more where they cross a boundary), and
/// some to spare for an image of several times 2 MiB.
const TABLES: usize = 16;
const ENTRIES: usize = 512;

#[repr(C, align(4096))]
struct Pool(UnsafeCell<[[u64; ENTRIES]; TABLES]>);

// SAFETY: written by the boot core alone, before any other runs.
unsafe impl Sync for Pool {}

#[unsafe(link_section = ".noinit.tables")]
static POOL: Pool = Pool(UnsafeCell::new([[0; ENTRIES]; TABLES]));

const VALID_TABLE: u64 = 0b11;
/// Page, attribute 1 (normal memory), RES1 of AP\[1\], inner shareable, accessed.
const NORMAL: u64 = 0b11 | 1 << 2 | 1 << 6 | 3 << 8 | 1 << 10;
const READ_ONLY: u64 = 1 << 7;
const EXECUTE_NEVER: u64 = 1 << 54;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// FDT magic and the largest tree that the boot protocol allows.
const TREE_MAGIC: u32 = 0xd00d_feed;
const TREE_LIMIT: usize = 2 << 20;

struct Tables {
    pool: *mut [u64; ENTRIES],
    used: usize,
}

impl Tables {
    /// The next table, cleared.
    fn next(&mut self) -> Option<*mut u64> {
        if self.used == TABLES {
            return None;
        }
        // SAFETY: below TABLES.
        let table = unsafe { self.pool.add(self.used) }.cast::<u64>();
        self.used += 1;
        for index in 0..ENTRIES {
            // SAFETY: within the table. Volatile, so that no call of memset comes of it.
            unsafe { ptr::write_volatile(table.add(index), 0) };
        }
        Some(table)
    }

    /// Maps a page to itself, unless it is mapped or the tables are used up.
    fn map(&mut self, root: *mut u64, page: usize, attributes: u64) {
        let mut table = root;
        for shift in [39, 30, 21] {
            // SAFETY: the index is below 512.
            let entry = unsafe { table.add(page >> shift & (ENTRIES - 1)) };
            // SAFETY: a live table of the pool.
            let descriptor = unsafe { ptr::read_volatile(entry) };
            table = if descriptor == 0 {
                let Some(next) = self.next() else { return };
                // SAFETY: as above.
                unsafe { ptr::write_volatile(entry, next as u64 | VALID_TABLE) };
                next
            } else {
                (descriptor & ADDRESS) as *mut u64
            };
        }
        // SAFETY: the index is below 512, the table live.
        unsafe {
            let entry = table.add(page >> 12 & (ENTRIES - 1));
            if ptr::read_volatile(entry) == 0 {
                ptr::write_volatile(entry, page as u64 | attributes);
            }
        }
    }
}

/// Builds the tables and gives the root's address. Called by `start.S` with the device tree's address.
#[unsafe(no_mangle)]
extern "C" fn early_tables(tree: usize) -> usize {
    let mut tables = Tables {
        pool: POOL.0.get().cast(),
        used: 0,
    };
    let Some(root) = tables.next() else { return 0 };
    let mut page = image::start();
    while page < image::end() {
        let attributes = if page < image::text_end() {
            READ_ONLY
        } else if page < image::rodata_end() {
            READ_ONLY | EXECUTE_NEVER
        } else {
            EXECUTE_NEVER
        };
        if !image::guards().any(|guard| guard == page) {
            tables.map(root, page, NORMAL | attributes);
        }
        page += PAGE_SIZE;
    }
    let end = tree + tree_size(tree);
    let mut page = tree & !(PAGE_SIZE - 1);
    while page < end {
        tables.map(root, page, NORMAL | READ_ONLY | EXECUTE_NEVER);
        page += PAGE_SIZE;
    }
    root as usize
}

/// The size that a device tree claims, if there is one at that address.
pub fn tree_size(tree: usize) -> usize {
    if tree == 0 || !tree.is_multiple_of(8) {
        return 0;
    }
    // SAFETY: the boot protocol puts a device tree there; a wrong address can only make this core fault, which without a tree is all that
    // could be done.
    let (magic, size) = unsafe {
        let header = tree as *const u32;
        (
            ptr::read_volatile(header),
            ptr::read_volatile(header.add(1)),
        )
    };
    let size = u32::from_be(size) as usize;
    if u32::from_be(magic) == TREE_MAGIC && size <= TREE_LIMIT {
        size
    } else {
        0
    }
}
