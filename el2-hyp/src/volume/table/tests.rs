use std::collections::BTreeMap;
use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, vec};

use proptest::prelude::*;

use super::*;

const DISK: u64 = 64 * UNIT_SECTORS;

fn label(name: &str) -> Label {
    Label::new(name).unwrap()
}

/// What lies at the start of a disk.
struct Disk(Copies, u64);

impl Disk {
    fn ready(sectors: u64) -> Self {
        let mut disk = Self(Copies::default(), sectors);
        let mut table = Table::new(sectors).unwrap();
        disk.write(&table.commit());
        disk.write(&table.commit());
        disk
    }

    fn write(&mut self, write: &CopyWrite) {
        self.place(write.start).copy_from_slice(&*write.bytes);
    }

    fn place(&mut self, start: Sector) -> &mut CopyBytes {
        self.0.each_mut().find(|(at, _)| *at == start).unwrap().1
    }

    fn read(&self) -> Result<Table, TableError> {
        Table::read(&self.0, self.1)
    }

    /// Changes bytes of the newest copy, and makes its checksum right again.
    fn forge(&mut self, change: impl FnOnce(&mut CopyBytes)) -> Result<Table, TableError> {
        let newest = COPY_START[codec::place_of(self.read().unwrap().sequence())];
        let copy = self.place(newest);
        change(copy);
        codec::seal(copy);
        self.read()
    }
}

/// A disk with the volumes `a` of 4 units and `b` of 2.
fn two_volumes() -> Disk {
    let mut disk = Disk::ready(DISK);
    let mut table = disk.read().unwrap();
    table.create(label("a"), 4 * UNIT_SECTORS, false).unwrap();
    table.create(label("b"), 2 * UNIT_SECTORS, true).unwrap();
    disk.write(&table.commit());
    disk
}

fn put(copy: &mut CopyBytes, at: usize, bytes: &[u8]) {
    copy[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Where a field of an entry lies.
fn entry(index: usize, field: usize) -> usize {
    128 + index * 128 + field
}

#[test]
fn a_new_disk_has_no_table() {
    let disk = Disk(Copies::default(), DISK);
    assert_eq!(disk.read(), Err(TableError::None));
    assert!(!Table::is_present(&disk.0));
    assert!(Table::new(MIN_DISK_SECTORS - 1).is_none());
}

#[test]
fn volumes_come_back() {
    let disk = two_volumes();
    let table = disk.read().unwrap();
    assert_eq!((table.sequence(), Table::whole_copies(&disk.0)), (3, 2));
    let a = table.find(&label("a")).unwrap();
    assert_eq!(
        (a.extent(), a.is_read_only()),
        (Extent::new(DATA_START, 4 * UNIT_SECTORS).unwrap(), false)
    );
    let b = table.find(&label("b")).unwrap();
    assert_eq!(
        (b.extent().first(), b.is_read_only()),
        (a.extent().end(), true)
    );
    assert!(table.find(&label("c")).is_none());
}

#[test]
fn the_format_is_the_documented_one() {
    let mut disk = two_volumes();
    let copy = disk.place(COPY_START[1]);
    assert_eq!(&copy[..8], b"HEARTHVT");
    assert_eq!(copy[8..12], [1, 0, 0, 0]);
    assert_eq!(copy[16..24], [3, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(copy[24..32], DISK.to_le_bytes());
    assert_eq!(copy[32..36], [2, 0, 0, 0]);
    assert_eq!(&copy[256..259], b"b\0\0");
    assert_eq!(copy[320..328], (5 * UNIT_SECTORS).to_le_bytes());
    assert_eq!(copy[328..336], (2 * UNIT_SECTORS).to_le_bytes());
    assert_eq!(copy[336..340], [1, 0, 0, 0]);
}

/// A write that stops behind any byte leaves the old table or the new one, and never anything else.
#[test]
fn a_torn_write_loses_nothing() {
    let mut disk = two_volumes();
    let old = disk.read().unwrap();
    let mut new = old.clone();
    new.remove(&label("a")).unwrap();
    new.create(label("c"), 1, false).unwrap();
    let write = new.commit();
    let before = *disk.place(write.start);
    let mut seen_old = 0;
    for torn in 0..=COPY_BYTES {
        let target = disk.place(write.start);
        *target = before;
        target[..torn].copy_from_slice(&write.bytes[..torn]);
        let found = disk.read().unwrap();
        assert!(found == old || found == new, "torn at {torn}");
        seen_old += usize::from(found == old);
    }
    // The new copy counts once the last entry's last byte that differs is there, and not before.
    assert!((256..COPY_BYTES).contains(&seen_old), "{seen_old}");
    assert_eq!(disk.read().unwrap(), new);
}

/// Sectors of one write may reach the medium in any order.
#[test]
fn a_write_torn_between_sectors_in_any_order_loses_nothing() {
    let mut disk = two_volumes();
    let old = disk.read().unwrap();
    let mut new = old.clone();
    for index in 0..50 {
        new.create(label(&format!("v{index}")), 1, false).unwrap();
    }
    let write = new.commit();
    let before = *disk.place(write.start);
    for mask in 0..1_u32 << COPY_SECTORS {
        // All masks with few sectors or all but few, since every sum costs 8 KiB.
        if (3..COPY_SECTORS as u32 - 2).contains(&mask.count_ones()) {
            continue;
        }
        let target = disk.place(write.start);
        *target = before;
        let sectors = target.as_chunks_mut::<512>().0.iter_mut();
        for (index, (sector, new)) in sectors.zip(write.bytes.as_chunks::<512>().0).enumerate() {
            if mask & 1 << index != 0 {
                *sector = *new;
            }
        }
        let found = disk.read().unwrap();
        assert!(found == old || found == new, "{mask:#x}");
    }
}

#[test]
fn either_copy_is_enough_and_the_next_change_mends_the_other() {
    for lost in COPY_START {
        let mut disk = Disk::ready(DISK);
        disk.place(lost).fill(0xff);
        assert_eq!(Table::whole_copies(&disk.0), 1);
        let mut table = disk.read().unwrap();
        for name in ["x", "y"] {
            table.create(label(name), 1, false).unwrap();
            disk.write(&table.commit());
        }
        assert_eq!(Table::whole_copies(&disk.0), 2);
        assert_eq!(disk.read().unwrap().volumes().len(), 2);
    }
    let mut disk = two_volumes();
    for start in COPY_START {
        disk.place(start)[4000] ^= 1;
    }
    assert_eq!(disk.read(), Err(TableError::Damaged));
    assert!(Table::is_present(&disk.0));
}

/// The other copy's place is no place for a copy: of two with one number neither could be told to be newer.
#[test]
fn a_copy_counts_in_its_own_place() {
    let mut disk = two_volumes();
    let odd = *disk.place(COPY_START[1]);
    *disk.place(COPY_START[0]) = odd;
    assert_eq!(Table::whole_copies(&disk.0), 1);
    assert_eq!(disk.read().unwrap().sequence(), 3);
    disk.place(COPY_START[1]).fill(0);
    assert_eq!(disk.read(), Err(TableError::Damaged));
}

#[test]
fn a_last_number_is_no_number() {
    let mut disk = two_volumes();
    let last = disk.forge(|copy| put(copy, 16, &u64::MAX.to_le_bytes()));
    assert_eq!(last.unwrap().sequence(), 2);
}

#[test]
fn every_rule_is_kept() {
    use EntryError::*;
    let sectors = |n: u64| n.to_le_bytes();
    let cases: Vec<(usize, Vec<u8>, TableError)> = vec![
        (8, vec![2, 0, 0, 0], TableError::Version(2)),
        (24, sectors(DISK + 1).to_vec(), TableError::Disk(DISK + 1)),
        (24, sectors(u64::MAX).to_vec(), TableError::Disk(u64::MAX)),
        (24, sectors(0).to_vec(), TableError::Entry(0, Outside)),
        (32, vec![64, 0, 0, 0], TableError::TooMany(64)),
        (32, vec![0xff; 4], TableError::TooMany(u32::MAX)),
        (32, vec![1, 0, 0, 0], TableError::NotZero),
        (32, vec![3, 0, 0, 0], TableError::Entry(2, Name)),
        (127, vec![1], TableError::NotZero),
        (entry(0, 127), vec![1], TableError::NotZero),
        (entry(2, 0), vec![1], TableError::NotZero),
        (COPY_BYTES - 1, vec![1], TableError::NotZero),
        (entry(0, 0), vec![b'A'], TableError::Entry(0, Name)),
        (entry(0, 0), vec![b'a'; 64], TableError::Entry(0, Name)),
        (entry(0, 2), vec![b'x'], TableError::Entry(0, Name)),
        (entry(1, 0), vec![b'a'], TableError::Entry(1, NameTwice(0))),
        (
            entry(0, 64),
            sectors(0).to_vec(),
            TableError::Entry(0, Extent),
        ),
        (
            entry(0, 64),
            sectors(2049).to_vec(),
            TableError::Entry(0, Extent),
        ),
        (
            entry(0, 72),
            sectors(0).to_vec(),
            TableError::Entry(0, Extent),
        ),
        (
            entry(0, 72),
            sectors(1).to_vec(),
            TableError::Entry(0, Extent),
        ),
        (
            entry(0, 72),
            sectors(u64::MAX - 7).to_vec(),
            TableError::Entry(0, Extent),
        ),
        (
            entry(1, 72),
            sectors(DISK).to_vec(),
            TableError::Entry(1, Outside),
        ),
        (
            entry(0, 72),
            sectors(4 * UNIT_SECTORS + 8).to_vec(),
            TableError::Entry(1, Overlap(0)),
        ),
        (
            entry(1, 64),
            sectors(UNIT_SECTORS).to_vec(),
            TableError::Entry(1, Overlap(0)),
        ),
        (entry(1, 80), vec![3], TableError::Entry(1, Flags(3))),
    ];
    for (at, bytes, error) in cases {
        let found = two_volumes().forge(|copy| put(copy, at, &bytes));
        assert_eq!(found, Err(error), "{at} {bytes:?}");
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn a_rule_that_the_newest_breaks_is_no_reason_to_take_the_older() {
    let mut disk = two_volumes();
    assert_eq!(Table::whole_copies(&disk.0), 2);
    let found = disk.forge(|copy| put(copy, entry(0, 64), &[0; 8]));
    assert_eq!(found, Err(TableError::Entry(0, EntryError::Extent)));
}

#[test]
fn a_disk_may_have_grown() {
    let mut disk = two_volumes();
    disk.1 = 2 * DISK;
    assert_eq!(disk.read().unwrap().disk_sectors(), DISK);
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut table = Table::new(DISK).unwrap();
    let all = DISK - DATA_START.0;
    let create = |table: &mut Table, name: &str, sectors| {
        table.create(label(name), sectors, false).map(|_| ())
    };
    assert_eq!(create(&mut table, "a", 0), Err(CreateError::Empty));
    for sectors in [all + 1, u64::MAX] {
        assert_eq!(
            create(&mut table, "a", sectors),
            Err(CreateError::NoRoom(all))
        );
    }
    assert_eq!(create(&mut table, "a", all), Ok(()));
    assert_eq!(create(&mut table, "a", 1), Err(CreateError::NameTaken));
    assert_eq!(create(&mut table, "b", 1), Err(CreateError::NoRoom(0)));
    let mut table = Table::new((MAX_VOLUMES as u64 + 2) * UNIT_SECTORS).unwrap();
    for index in 0..MAX_VOLUMES {
        create(&mut table, &format!("v{index}"), 1).unwrap();
    }
    assert_eq!(
        create(&mut table, "one-more", 1),
        Err(CreateError::TableFull)
    );
}

/// One thing that an operator does.
#[derive(Clone, Debug)]
enum Act {
    Create(u8, u64, bool),
    Remove(u8),
}

fn act() -> impl Strategy<Value = Act> {
    let name = 0..12_u8;
    prop_oneof![
        (name.clone(), 1..20 * UNIT_SECTORS, any::<bool>())
            .prop_map(|(name, sectors, ro)| Act::Create(name, sectors, ro)),
        name.prop_map(Act::Remove),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever is done, the disk's table is the model, and keeps its own rules, since it is read back.
    #[test]
    fn tables_go_round(acts in prop::collection::vec(act(), 0..40)) {
        let mut disk = Disk::ready(DISK);
        let mut model: BTreeMap<String, (u64, bool)> = BTreeMap::new();
        for act in acts {
            let mut table = disk.read().unwrap();
            match act {
                Act::Create(name, sectors, read_only) => {
                    let name = format!("v{name}");
                    let made = table.create(label(&name), sectors, read_only);
                    let expected = !model.contains_key(&name);
                    match made {
                        Ok(volume) => {
                            prop_assert!(expected && volume.extent().sectors() >= sectors);
                            model.insert(name, (volume.extent().sectors(), read_only));
                        }
                        Err(CreateError::NoRoom(longest)) => prop_assert!(expected && longest < sectors),
                        Err(CreateError::NameTaken) => prop_assert!(!expected),
                        Err(other) => prop_assert!(false, "{other:?}"),
                    }
                }
                Act::Remove(name) => {
                    let name = format!("v{name}");
                    let removed = table.remove(&label(&name));
                    prop_assert_eq!(removed.is_some(), model.remove(&name).is_some());
                }
            }
            disk.write(&table.commit());
            let back = disk.read().unwrap();
            prop_assert_eq!(&back, &table);
            let volumes: BTreeMap<_, _> = back.volumes().iter()
                .map(|v| (v.name().to_string(), (v.extent().sectors(), v.is_read_only()))).collect();
            prop_assert_eq!(&volumes, &model);
            let used: u64 = model.values().map(|(sectors, _)| sectors).sum();
            let free: u64 = back.free().iter().map(Extent::sectors).sum();
            prop_assert_eq!(used + free, DISK - DATA_START.0);
        }
    }

    /// Any change of bytes behind a right checksum gives an error, or a table that is written back the same.
    #[test]
    fn forgeries_are_refused_or_harmless(changes in prop::collection::vec((0..600_usize, any::<u8>()), 0..6)) {
        let mut disk = two_volumes();
        let found = disk.forge(|copy| changes.iter().for_each(|&(at, byte)| copy[at] = byte));
        if let Ok(table) = found {
            let mut copy = codec::encode(&table);
            codec::seal(&mut copy);
            let place = COPY_START[codec::place_of(table.sequence())];
            prop_assert_eq!(&*copy, disk.place(place));
        }
    }
}
