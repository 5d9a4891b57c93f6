//! The tree says what the machine is, as another reader of trees understands it.

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node as _, Property as _};

use super::*;

fn guest(gic: GuestGic) -> Description<'static> {
    Description {
        memory: 256 << 20,
        vcpus: 3,
        gic,
        command_line: "console=ttyAMA0 quiet",
        initrd: None,
        virtio: &[],
        seeds: None,
    }
}

/// The words of a property.
fn words(node: &FdtNode<'_>, name: &str) -> Vec<u32> {
    let property = node.property(name).unwrap_or_else(|| panic!("no {name}"));
    let word = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    property.value().chunks_exact(4).map(word).collect()
}

fn text(node: &FdtNode<'_>, name: &str) -> String {
    node.property(name)
        .unwrap()
        .value_as::<&str>()
        .unwrap()
        .to_string()
}

#[test]
fn a_guest_with_gic_v3() {
    let bytes = build(&guest(GuestGic::V3)).unwrap();
    let fdt = Fdt::new(&bytes).unwrap();
    let node = |path| fdt.find_node(path).unwrap_or_else(|| panic!("no {path}"));
    assert_eq!(
        words(&node("/memory@40000000"), "reg"),
        [0, 0x4000_0000, 0, 0x1000_0000]
    );
    let intc = node("/intc@8000000");
    assert_eq!(text(&intc, "compatible"), "arm,gic-v3");
    assert_eq!(
        words(&intc, "reg"),
        [0, 0x800_0000, 0, 0x1_0000, 0, 0x80a_0000, 0, 0x6_0000]
    );
    assert_eq!(
        words(&node("/"), "interrupt-parent"),
        words(&intc, "phandle")
    );
    let timer = [1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4];
    assert_eq!(words(&node("/timer"), "interrupts"), timer);
    assert_eq!(text(&node("/psci"), "method"), "hvc");
    let cpus: Vec<_> = node("/cpus")
        .children()
        .map(|cpu| words(&cpu, "reg"))
        .collect();
    assert_eq!(cpus, [[0], [1], [2]]);
}

#[test]
fn a_guest_with_gic_v2() {
    let bytes = build(&guest(GuestGic::V2)).unwrap();
    let fdt = Fdt::new(&bytes).unwrap();
    let intc = fdt.find_node("/intc@8000000").unwrap();
    assert_eq!(text(&intc, "compatible"), "arm,cortex-a15-gic");
    assert_eq!(
        words(&intc, "reg"),
        [0, 0x800_0000, 0, 0x1_0000, 0, 0x801_0000, 0, 0x1_0000]
    );
    let timer = fdt.find_node("/timer").unwrap();
    assert_eq!(words(&timer, "interrupts")[..3], [1, 13, 0x704]);
}

#[test]
fn the_console_is_where_chosen_says() {
    let bytes = build(&guest(GuestGic::V3)).unwrap();
    let fdt = Fdt::new(&bytes).unwrap();
    let chosen = fdt.find_node("/chosen").unwrap();
    assert_eq!(text(&chosen, "bootargs"), "console=ttyAMA0 quiet");
    assert!(chosen.property("linux,initrd-start").is_none());
    assert!(chosen.property("kaslr-seed").is_none());
    let uart = fdt.find_node(&text(&chosen, "stdout-path")).unwrap();
    assert_eq!(words(&uart, "reg"), [0, 0x900_0000, 0, 0x1000]);
    assert_eq!(words(&uart, "interrupts"), [0, 1, 4]);
    let clock = fdt.find_node("/apb-pclk").unwrap();
    assert_eq!(words(&uart, "clocks")[..1], words(&clock, "phandle"));
}

#[test]
fn signs_of_life_have_their_places() {
    let bytes = build(&guest(GuestGic::V3)).unwrap();
    let fdt = Fdt::new(&bytes).unwrap();
    let watchdog = fdt.find_node("/watchdog@9051000").unwrap();
    assert_eq!(text(&watchdog, "compatible"), "arm,sbsa-gwdt");
    // The control frame is the first.
    let frames = [0, 0x905_1000, 0, 0x1000, 0, 0x905_0000, 0, 0x1000];
    assert_eq!(words(&watchdog, "reg"), frames);
    assert_eq!(words(&watchdog, "interrupts"), [0, 2, 4]);
    let notice = fdt.find_node("/pvpanic@9060000").unwrap();
    assert_eq!(words(&notice, "reg"), [0, 0x906_0000, 0, 2]);
}

#[test]
fn initrd_seeds_and_devices_appear_where_given() {
    let seeds = Some(Seeds {
        kaslr: 0x1122_3344_5566_7788,
        rng: [9; 32],
    });
    let initrd = Some(Place {
        offset: 128 << 20,
        size: 0x1001,
    });
    let full = Description {
        virtio: &[31, 0],
        seeds,
        initrd,
        ..guest(GuestGic::V3)
    };
    let bytes = build(&full).unwrap();
    let fdt = Fdt::new(&bytes).unwrap();
    let chosen = fdt.find_node("/chosen").unwrap();
    assert_eq!(words(&chosen, "linux,initrd-start"), [0, 0x4800_0000]);
    assert_eq!(words(&chosen, "linux,initrd-end"), [0, 0x4800_1001]);
    assert_eq!(words(&chosen, "kaslr-seed"), [0x1122_3344, 0x5566_7788]);
    assert_eq!(chosen.property("rng-seed").unwrap().value(), [9; 32]);
    let slot = fdt.find_node("/virtio_mmio@a003e00").unwrap();
    assert_eq!(words(&slot, "interrupts"), [0, 47, 1]);
    assert!(fdt.find_node("/virtio_mmio@a000000").is_some());
    assert!(fdt.find_node("/virtio_mmio@a000200").is_none());
    assert_eq!(format!("{:?}", full.seeds), "Some(Seeds(..))");
}

#[test]
fn what_cannot_be_is_refused() {
    let sound = guest(GuestGic::V2);
    let refused = |guest| build(&guest).unwrap_err();
    assert_eq!(
        refused(Description { vcpus: 0, ..sound }),
        FdtError::Description
    );
    assert_eq!(
        refused(Description { vcpus: 9, ..sound }),
        FdtError::Description
    );
    assert_eq!(
        refused(Description {
            virtio: &[32],
            ..sound
        }),
        FdtError::Description
    );
    assert_eq!(
        refused(Description {
            virtio: &[1, 1],
            ..sound
        }),
        FdtError::Description
    );
    let error = refused(Description {
        command_line: "a\0b",
        ..sound
    });
    assert_eq!(error, FdtError::Unwritable(vm_fdt::Error::InvalidString));
    let long = "x".repeat(DEVICE_TREE_BYTES as usize);
    let error = refused(Description {
        command_line: &long,
        ..sound
    });
    assert!(matches!(error, FdtError::TooLarge { .. }));
}
