//! A board's device tree of any bytes: an error or a tree, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use platform::tree::Tree;

fuzz_target!(|input: (u64, &[u8])| {
    let (at, bytes) = input;
    let _ = Tree::read(bytes, at);
});
