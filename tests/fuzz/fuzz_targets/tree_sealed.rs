//! A device tree whose header is right and whose tokens are well formed, with any names, nesting and
//! values: what hides behind the format's own checks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use platform::tree::Tree;

/// Names and texts that the reader knows; picked by the input, since it would seldom guess them.
const WORDS: &[&str] = &[
    "reg",
    "ranges",
    "#address-cells",
    "#size-cells",
    "compatible",
    "status",
    "phandle",
    "interrupts",
    "interrupts-extended",
    "interrupt-parent",
    "interrupt-names",
    "device_type",
    "enable-method",
    "cpu-release-addr",
    "method",
    "#redistributor-regions",
    "redistributor-stride",
    "clocks",
    "clock-frequency",
    "stdout-path",
    "bootargs",
    "linux,initrd-start",
    "linux,initrd-end",
    "model",
    "no-map",
    "serial0",
    "chosen",
    "aliases",
    "cpus",
    "cpu@0",
    "memory@0",
    "reserved-memory",
    "soc",
    "serial@1000",
    "intc@8000000",
    "arm,pl011",
    "arm,gic-400",
    "arm,gic-v3",
    "arm,armv8-timer",
    "arm,psci-1.0",
    "virtio,mmio",
    "fixed-clock",
    "brcm,bcm2835-pm-wdt",
    "memory",
    "cpu",
    "psci",
    "spin-table",
    "smc",
    "okay",
    "disabled",
    "/soc/serial@1000:9600",
    "virt",
];

/// The structure block that `input` describes, a step a byte, with its strings.
fn build(input: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut strings = Vec::new();
    let offsets: Vec<u32> = WORDS
        .iter()
        .map(|word| {
            let at = strings.len() as u32;
            strings.extend(word.bytes().chain([0]));
            at
        })
        .collect();
    let mut block = vec![0, 0, 0, 1, 0, 0, 0, 0];
    let mut depth = 1;
    let mut input = input.iter().copied();
    while let Some(step) = input.next() {
        let index = usize::from(input.next().unwrap_or(0)) % WORDS.len();
        match step % 8 {
            0 | 1 => {
                block.extend([0, 0, 0, 1]);
                block.extend(WORDS[index].bytes().chain([0]));
                depth += 1;
            }
            2 if depth > 1 => {
                block.extend([0, 0, 0, 2]);
                depth -= 1;
            }
            3 => block.extend([0, 0, 0, 4]),
            4 => {
                let text = WORDS[usize::from(input.next().unwrap_or(0)) % WORDS.len()];
                let value: Vec<u8> = text.bytes().chain([0]).collect();
                property(&mut block, offsets[index], &value);
            }
            _ => {
                let length = usize::from(step >> 3);
                let value: Vec<u8> = input.by_ref().take(length).collect();
                property(&mut block, offsets[index], &value);
            }
        }
        block.resize(block.len().next_multiple_of(4), 0);
    }
    block.extend([0, 0, 0, 2].repeat(depth));
    block.extend([0, 0, 0, 9]);
    (block, strings)
}

fn property(block: &mut Vec<u8>, name: u32, value: &[u8]) {
    block.extend([0, 0, 0, 3]);
    block.extend((value.len() as u32).to_be_bytes());
    block.extend(name.to_be_bytes());
    block.extend(value);
}

fuzz_target!(|input: &[u8]| {
    let (block, strings) = build(input);
    let reservations = [0; 16];
    let structure_at = 40 + reservations.len();
    let strings_at = structure_at + block.len();
    let total = strings_at + strings.len();
    let sizes = [strings.len(), block.len()];
    let fields = [
        0xd00d_feed,
        total,
        structure_at,
        strings_at,
        40,
        17,
        16,
        0,
        sizes[0],
        sizes[1],
    ];
    let mut tree: Vec<u8> = fields
        .iter()
        .flat_map(|&field| (field as u32).to_be_bytes())
        .collect();
    tree.extend(reservations);
    tree.extend(block);
    tree.extend(strings);
    if let Ok(tree) = Tree::read(&tree, 0x4000_0000) {
        if let Some(console) = tree.console {
            assert!(console.uart < tree.uarts.len());
        }
        assert!(tree.memory.iter().all(|region| region.size() > 0));
    }
});
