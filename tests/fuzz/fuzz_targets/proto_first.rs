//! Records with a right head and sum, as a manifest: what is one makes a cluster's first ledger or says why not.
#![no_main]

use std::cell::RefCell;

use cluster_proto::first::first_ledger;
use cluster_proto::ledger::Ledger;
use cluster_proto::manifest::ManifestView;
use cluster_proto::package::crc32c;
use libfuzzer_sys::fuzz_target;

const VERSION: u32 = 3;

thread_local! {
    static LEDGER: RefCell<Box<Ledger<16, 64, 128>>> = RefCell::new(Box::new(Ledger::new()));
}

fuzz_target!(|data: &[u8]| {
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let head = [VERSION, length, crc32c(data)].map(u32::to_le_bytes).concat();
    let bytes = [b"HEARTHPK", head.as_slice(), data].concat();
    if let Ok(manifest) = ManifestView::parse(&bytes) {
        LEDGER.with_borrow_mut(|ledger| {
            ledger.clear();
            let _ = first_ledger(&manifest, ledger);
        });
    }
});
