//! A boot package of any bytes: an error or guests, never a panic.
#![no_main]

use cluster_proto::package::{Package, crc32c};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|archive: &[u8]| {
    let Ok(package) = Package::parse(archive) else {
        return;
    };
    if let Some(damage) = package.damage() {
        assert!(!damage.to_string().is_empty());
    }
    for guest in package.guests() {
        match guest {
            Ok(view) => drop(view.check(crc32c)),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
});
