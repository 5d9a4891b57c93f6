//! Trees shaped like those of the boards that are supported, and damaged ones.

mod boards;

use std::vec::Vec;

use proptest::prelude::*;
use vm_fdt::{FdtReserveEntry, FdtWriter};

use super::*;
use boards::{Cells, Empty, Texts, leaf, node, pi, tree, virt};

const AT: u64 = 0x4800_0000;

fn read(bytes: &[u8]) -> Tree {
    Tree::read(bytes, AT).expect("a sound tree")
}

fn region(base: u64, size: u64) -> Region {
    Region::new(base, size).unwrap()
}

fn private(number: u32) -> Option<IntId> {
    IntId::new(number)
}

#[test]
fn virt_with_gic_v3() {
    let bytes = virt(true);
    let tree = read(&bytes);
    assert_eq!(tree.model, "a board");
    assert_eq!(tree.bootargs, "quiet");
    assert_eq!(tree.initrd, Some(region(0x4900_0000, 0x100_0000)));
    assert_eq!(tree.memory, [region(0x4000_0000, 0x8000_0000)]);
    let core = |id| Core {
        affinity: Affinity::from_mpidr(id),
        start: StartMethod::Psci,
    };
    assert_eq!(tree.cores, [core(0), core(1)]);
    assert_eq!(
        tree.psci,
        Some(Psci {
            conduit: Conduit::Smc,
            version: PsciVersion::V1_0
        })
    );
    let Some(Gic::V3(gic)) = &tree.gic else {
        panic!("no GICv3")
    };
    assert_eq!(gic.distributor, region(0x800_0000, 0x1_0000));
    assert_eq!(
        gic.redistributors,
        [
            region(0x80a_0000, 0xf6_0000),
            region(0x40_0000_0000, 0x10_0000)
        ]
    );
    assert_eq!(
        (gic.redistributor_stride, gic.maintenance),
        (None, private(25))
    );
    assert_eq!(tree.left_out, LeftOut::default());
}

#[test]
fn virt_with_gic_v2() {
    let tree = read(&virt(false));
    let Some(Gic::V2(gic)) = &tree.gic else {
        panic!("no GICv2")
    };
    assert_eq!(gic.cpu_interface, region(0x801_0000, 0x1_0000));
    assert_eq!(gic.hypervisor_interface, Some(region(0x803_0000, 0x1_0000)));
    assert_eq!(
        gic.virtual_cpu_interface,
        Some(region(0x804_0000, 0x1_0000))
    );
    assert_eq!(gic.maintenance, private(25));
}

#[test]
fn virt_devices() {
    let tree = read(&virt(true));
    let timer = tree.timer.expect("a timer");
    assert_eq!(
        [timer.secure, timer.physical, timer.virt, timer.hyp],
        [29, 30, 27, 26].map(private)
    );
    assert_eq!(timer.hyp_virtual, None);
    let level = |id| {
        Some(Interrupt {
            id: IntId::new(id).unwrap(),
            trigger: Trigger::Level,
        })
    };
    let edge = |id| {
        Some(Interrupt {
            id: IntId::new(id).unwrap(),
            trigger: Trigger::Edge,
        })
    };
    let uart = Uart {
        region: region(0x900_0000, 0x1000),
        interrupt: level(33),
        clock: Some(24_000_000),
    };
    assert_eq!(tree.uarts, [uart]);
    assert_eq!(
        tree.console,
        Some(Console {
            uart: 0,
            baud: None
        })
    );
    // Sorted by address, whichever way the tree lists them.
    let slot = |base, id, coherent| VirtioSlot {
        region: region(base, 0x200),
        interrupt: edge(id),
        coherent,
    };
    assert_eq!(
        tree.virtio,
        [slot(0xa00_0000, 48, true), slot(0xa00_0200, 49, false)]
    );
}

#[test]
fn pi_addresses_go_through_ranges() {
    let tree = read(&pi("serial1:115200n8", ""));
    assert_eq!(
        tree.memory,
        [region(0, 0x3c00_0000), region(0x1_0000_0000, 0x8000_0000)]
    );
    let Some(Gic::V2(gic)) = &tree.gic else {
        panic!("no GICv2")
    };
    assert_eq!(gic.distributor, region(0xff84_1000, 0x1000));
    assert_eq!(gic.virtual_cpu_interface, Some(region(0xff84_6000, 0x2000)));
    assert_eq!(tree.watchdog, Some(region(0xfe10_0000, 0x114)));
    assert_eq!(tree.psci, None);
    assert_eq!(
        tree.cores[3].start,
        StartMethod::SpinTable {
            release_address: 0xf0
        }
    );
    let timer = tree.timer.expect("a timer");
    assert_eq!(
        [timer.physical, timer.virt, timer.hyp],
        [30, 27, 26].map(private)
    );
    assert_eq!((timer.secure, timer.hyp_virtual), (None, None));
    assert_eq!(tree.left_out, LeftOut::default());
}

#[test]
fn pi_reservations() {
    let bytes = pi("serial0", "");
    let held = |base, size, kind| Reserved {
        region: region(base, size),
        kind,
    };
    // The release words lie in the firmware's page, which is listed once.
    assert_eq!(
        read(&bytes).reserved,
        [
            held(AT, bytes.len() as u64, ReservedKind::DeviceTree),
            held(0, 0x1000, ReservedKind::Firmware),
            held(0x10_0000, 0x1000, ReservedKind::Static { no_map: true }),
            held(0x800_0000, 0x1000, ReservedKind::Initrd),
        ]
    );
}

#[test]
fn console_is_the_wished_pl011_or_the_first() {
    let console = |stdout, disabled| {
        let tree = read(&pi(stdout, disabled));
        tree.console
            .map(|console| (tree.uarts[console.uart].region.base(), console.baud))
    };
    assert_eq!(
        console("serial2:115200n8", ""),
        Some((0xfe20_1400, Some(115_200)))
    );
    assert_eq!(
        console("/soc/serial@7e201400", ""),
        Some((0xfe20_1400, None))
    );
    // A mini UART, an unknown alias, a disabled UART: the first PL011 that is in order.
    assert_eq!(console("serial1:115200n8", ""), Some((0xfe20_1000, None)));
    assert_eq!(console("serial9", ""), Some((0xfe20_1000, None)));
    assert_eq!(
        console("serial0", "serial@7e201000"),
        Some((0xfe20_1400, None))
    );
}

#[test]
fn one_broken_node_costs_itself_only() {
    let bytes = tree(2, |fdt| {
        node(
            fdt,
            "bus",
            &[
                ("#address-cells", Cells(&[1])),
                ("#size-cells", Cells(&[1])),
            ],
            |fdt| {
                let pl011 = Texts(&["arm,pl011"]);
                leaf(
                    fdt,
                    "serial@1000",
                    &[("compatible", pl011), ("reg", Cells(&[0x1000, 0x1000]))],
                );
            },
        );
        node(
            fdt,
            "soc",
            &[
                ("#address-cells", Cells(&[1])),
                ("#size-cells", Cells(&[1])),
                ("ranges", Cells(&[0, 1, 0, 0x1000])),
            ],
            |fdt| {
                for (name, base) in [("serial@2000", 0x2000), ("serial@0", 0)] {
                    leaf(
                        fdt,
                        name,
                        &[
                            ("compatible", Texts(&["arm,pl011"])),
                            ("reg", Cells(&[base, 0x1000])),
                        ],
                    );
                }
            },
        );
        leaf(
            fdt,
            "memory@0",
            &[
                ("device_type", Texts(&["memory"])),
                ("reg", Cells(&[0, 0, 0])),
            ],
        );
    });
    let tree = read(&bytes);
    assert_eq!(tree.uarts.len(), 1);
    assert_eq!(tree.uarts[0].region, region(0x1_0000_0000, 0x1000));
    assert_eq!(tree.left_out.count, 3);
    let (name, fault) = tree.left_out.first.expect("a first");
    assert_eq!((name.as_str(), fault), ("serial@1000", Fault::NoRanges));
}

#[test]
fn ranges_of_no_length_end() {
    let none = || Cells(&[0]);
    let bytes = tree(2, |fdt| {
        node(
            fdt,
            "a",
            &[
                ("#address-cells", none()),
                ("#size-cells", none()),
                ("ranges", Empty),
            ],
            |fdt| {
                node(
                    fdt,
                    "b",
                    &[
                        ("#address-cells", none()),
                        ("#size-cells", none()),
                        ("ranges", Cells(&[1])),
                    ],
                    |fdt| {
                        leaf(
                            fdt,
                            "c",
                            &[
                                ("compatible", Texts(&["virtio,mmio"])),
                                ("reg", Cells(&[1])),
                            ],
                        );
                    },
                );
            },
        );
    });
    assert_eq!(read(&bytes).virtio.len(), 0);
}

#[test]
fn no_operations_are_skipped_wherever_they_stand() {
    // QEMU writes no-operations over nodes that it removes: here over all of PSCI and the clock.
    let mut bytes = virt(true);
    let whole = read(&bytes);
    for name in [b"psci\0\0\0\0".as_slice(), b"apb-pclk\0\0\0\0"] {
        let start = bytes
            .windows(name.len())
            .position(|window| window == name)
            .unwrap()
            - 4;
        let end = start
            + bytes[start..]
                .windows(8)
                .position(|window| window == [0, 0, 0, 2, 0, 0, 0, 1])
                .unwrap()
            + 4;
        for token in bytes[start..end].chunks_exact_mut(4) {
            token.copy_from_slice(&[0, 0, 0, 4]);
        }
    }
    let mut expected = whole.clone();
    expected.psci = None;
    expected.uarts[0].clock = None;
    assert_eq!(read(&bytes), expected);
}

#[test]
fn damaged_wholes_are_refused() {
    let sound = virt(true);
    let with = |offset: usize, value: u32| {
        let mut bytes = sound.clone();
        bytes[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
        Tree::read(&bytes, AT)
    };
    assert_eq!(Tree::read(&[], AT), Err(TreeError::Truncated));
    assert_eq!(with(0, 0), Err(TreeError::NotATree));
    assert_eq!(
        with(4, u32::MAX),
        Err(TreeError::TooLarge {
            bytes: u32::MAX as usize
        })
    );
    assert_eq!(with(8, u32::MAX), Err(TreeError::Truncated));
    assert_eq!(with(20, 16), Err(TreeError::Version { version: 16 }));
    assert_eq!(with(36, 8), Err(TreeError::Structure { offset: 8 }));
    assert_eq!(
        Tree::read(&sound[..sound.len() - 1], AT),
        Err(TreeError::Truncated)
    );
}

#[test]
fn deep_trees_are_refused() {
    let mut fdt = FdtWriter::new().unwrap();
    let open: Vec<_> = (0..=blob::MAX_DEPTH)
        .map(|depth| fdt.begin_node(if depth == 0 { "" } else { "n" }).unwrap())
        .collect();
    for node in open.into_iter().rev() {
        fdt.end_node(node).unwrap();
    }
    assert_eq!(
        Tree::read(&fdt.finish().unwrap(), AT),
        Err(TreeError::TooDeep)
    );
}

#[test]
fn forgetting_a_reservation_is_refused() {
    let entries: Vec<_> = (1..=MAX_RESERVED as u64)
        .map(|at| FdtReserveEntry::new(at << 16, 1).unwrap())
        .collect();
    let mut fdt = FdtWriter::new_with_mem_reserv(&entries).unwrap();
    leaf(&mut fdt, "", &[]);
    assert_eq!(
        Tree::read(&fdt.finish().unwrap(), AT),
        Err(TreeError::TooManyReservations)
    );
}

proptest! {
    /// Whatever bytes change, reading ends with a value.
    #[test]
    fn damage_never_panics(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..24), v3: bool) {
        let mut bytes = if v3 { virt(true) } else { pi("serial0:9600", "") };
        for (place, value) in flips {
            let at = place.index(bytes.len());
            bytes[at] = value;
        }
        let _ = Tree::read(&bytes, u64::MAX);
    }

    /// The whole is read or nothing: no prefix passes.
    #[test]
    fn prefixes_are_refused(end: prop::sample::Index) {
        let bytes = virt(false);
        prop_assert!(Tree::read(&bytes[..end.index(bytes.len())], AT).is_err());
    }
}
