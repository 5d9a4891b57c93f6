//! A kernel of any first bytes in a memory of any size: a sound layout or an error, never a panic.
#![no_main]

use el2_hyp::image::Kernel;
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    |input: (Option<(u64, u64, u64)>, &[u8], u64, u64, Option<u64>)| {
        let (header, head, length, memory, initrd) = input;
        let mut head = head.to_vec();
        if let Some((text_offset, image_size, flags)) = header {
            head.resize(head.len().max(64), 0);
            for (at, value) in [(8, text_offset), (16, image_size), (24, flags)] {
                head[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
            head[56..60].copy_from_slice(b"ARM\x64");
        }
        let Ok(kernel) = Kernel::new(&head, length) else {
            return;
        };
        let Ok(layout) = kernel.layout(memory, initrd) else {
            return;
        };
        let mut end = layout.kernel_extent.end();
        for part in layout.initrd.iter().chain([&layout.device_tree]) {
            assert!(part.offset >= end);
            end = part.end();
        }
        assert!(end <= memory);
    }
);
