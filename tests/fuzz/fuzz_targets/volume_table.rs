//! The start of a disk with anything on it: an error, or a table that keeps its rules, that is written back the same, and in which volumes can be
//! made and removed.
#![no_main]

use cluster_proto::package::crc32c;
use el2_hyp::volume::table::{COPY_BYTES, Copies, DATA_START, MAX_VOLUMES, Table, UNIT_SECTORS};
use el2_hyp::volume::{Extent, Label, Sector};
use libfuzzer_sys::fuzz_target;

/// Bytes of the input that describe an entry, and the smallest disk.
const ENTRY: usize = 13;
const UNITS: u64 = 64;

/// Fills both copies. An even first byte: as the input says, byte for byte, but for the checksum of the first. An odd one: from a description, so that the
/// fuzzer need not find magic and names.
fn fill(copies: &mut Copies, input: &[u8]) {
    let Some((&kind, input)) = input.split_first() else {
        return;
    };
    let parts = input.split_at(input.len() / 2);
    for ((_, copy), part) in copies.each_mut().zip([parts.0, parts.1]) {
        if kind & 1 == 0 {
            let length = part.len().min(COPY_BYTES);
            copy[..length].copy_from_slice(&part[..length]);
        } else {
            describe(copy, part);
        }
        if kind & 2 == 0 {
            copy[..8].copy_from_slice(b"HEARTHVT");
        }
        if kind & 4 == 0 {
            copy[12..16].fill(0);
            let crc = crc32c(&copy[..]);
            copy[12..16].copy_from_slice(&crc.to_le_bytes());
        }
    }
}

/// A copy with an entry for every [`ENTRY`] bytes, most of them nearly right.
fn describe(copy: &mut [u8; COPY_BYTES], part: &[u8]) {
    let Some((head, entries)) = part.split_first_chunk::<4>() else {
        return;
    };
    copy[8] = 1 + (head[0] & 1);
    copy[16..18].copy_from_slice(&head[1..3]);
    let disk = UNITS * UNIT_SECTORS - u64::from(head[0] >> 1);
    copy[24..32].copy_from_slice(&disk.to_le_bytes());
    let count = (entries.len() / ENTRY).min(MAX_VOLUMES) as u8;
    copy[32] = count.wrapping_add(head[3] & 1);
    let places = copy[128..].as_chunks_mut::<128>().0;
    for (entry, place) in entries.chunks_exact(ENTRY).zip(places) {
        place[..4].copy_from_slice(&entry[..4]);
        let number = |low: usize| u64::from(entry[low]) | u64::from(entry[low + 1]) << 8;
        place[64..72].copy_from_slice(&(number(4) * 8).to_le_bytes());
        place[72..80].copy_from_slice(&(number(6) * 8).to_le_bytes());
        place[80] = entry[8] & 3;
        // A byte anywhere.
        place[usize::from(entry[9] & 127)] ^= entry[10] & entry[11] & entry[12];
    }
}

/// The rules of a table.
fn check(table: &Table) {
    assert!(table.volumes().len() <= MAX_VOLUMES);
    for (index, volume) in table.volumes().iter().enumerate() {
        let extent = volume.extent();
        assert!(Label::new(volume.name().as_str()).is_some());
        assert!(extent.first() >= DATA_START && extent.end().0 <= table.disk_sectors());
        for other in &table.volumes()[..index] {
            assert!(!other.extent().overlaps(&extent) && other.name() != volume.name());
        }
    }
    for run in table.free() {
        assert!(run.end().0 <= table.disk_sectors());
        assert!(
            table
                .volumes()
                .iter()
                .all(|volume| !volume.extent().overlaps(&run))
        );
    }
}

fuzz_target!(|input: &[u8]| {
    let mut copies = Copies::default();
    fill(&mut copies, input);
    let sectors = UNITS * UNIT_SECTORS;
    let mut table = match Table::read(&copies, sectors) {
        Ok(table) => table,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!(Table::is_present(&copies));
    check(&table);
    // A change: read back, it is the same.
    let name = Label::new("new-one").expect("a label");
    let wanted = u64::from(input[0]) * UNIT_SECTORS / 8;
    if let Ok(volume) = table.create(name.clone(), wanted, true) {
        assert!(volume.extent().sectors() >= wanted);
        assert!(
            Extent::new(Sector(0), DATA_START.0).is_some_and(|own| !own.overlaps(&volume.extent()))
        );
    }
    check(&table);
    if let Some(first) = table.volumes().first().cloned()
        && input[0] & 8 != 0
    {
        assert!(table.remove(first.name()).is_some());
    }
    let before = table.sequence();
    let write = table.commit();
    for (start, copy) in copies.each_mut() {
        if start == write.start {
            *copy = *write.bytes;
        }
    }
    // A number that is the last of all is read by nobody.
    if before < u64::MAX - 2 {
        assert_eq!(Table::read(&copies, sectors), Ok(table));
    }
});
