//! A package whose manifest's length and checksum are right, however senseless its records: checksums
//! would keep a fuzzer from ever reaching the code behind them.
#![no_main]

use cluster_proto::package::{MANIFEST_ENTRY, Package, crc32c};
use libfuzzer_sys::fuzz_target;

/// Appends an entry of a newc archive.
fn add(archive: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    archive.extend(b"070701");
    for field in 0..13 {
        let value = match field {
            6 => bytes.len(),
            11 => name.len() + 1,
            _ => 0,
        };
        archive.extend(format!("{value:08x}").bytes());
    }
    archive.extend(name.bytes().chain([0]));
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(bytes);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

fuzz_target!(|input: (&[u8], &[u8])| {
    let (records, rest) = input;
    let mut manifest = Vec::from(*b"HEARTHPK\x03\0\0\0");
    manifest.extend((records.len() as u32).to_le_bytes());
    manifest.extend(crc32c(records).to_le_bytes());
    manifest.extend(records);
    let mut archive = Vec::new();
    add(&mut archive, MANIFEST_ENTRY, &manifest);
    archive.extend(rest);

    let Ok(package) = Package::parse(&archive) else {
        return;
    };
    let said = usize::from(package.manifest().summary().guests);
    assert_eq!(package.guests().count(), said);
    for view in package.guests().flatten() {
        assert_eq!(view.disks.len(), view.guest.disks.len());
        for image in view.images() {
            assert_eq!(image.bytes.len(), image.image.length as usize);
        }
        drop(view.check(crc32c));
    }
    let _ = package.damage();
});
