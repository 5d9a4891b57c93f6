//! Flattened trees in the shape of the supported boards'.

use std::vec::Vec;

use vm_fdt::{FdtReserveEntry, FdtWriter};

/// The handle of a tree's interrupt controller.
const GIC: u32 = 0x8009;
/// The handle of a tree's fixed clock.
const CLOCK: u32 = 0x8000;

/// Writes one node: cells as `u32` arrays, texts as lists of strings.
pub(super) enum Value<'a> {
    Cells(&'a [u32]),
    Texts(&'a [&'a str]),
    Empty,
}
pub(super) use Value::{Cells, Empty, Texts};

/// Writes a node with `properties`, and its children by `inside`.
pub(super) fn node(
    fdt: &mut FdtWriter,
    name: &str,
    properties: &[(&str, Value<'_>)],
    inside: impl FnOnce(&mut FdtWriter),
) {
    let open = fdt.begin_node(name).unwrap();
    for (name, value) in properties {
        match value {
            Cells(cells) => fdt.property_array_u32(name, cells).unwrap(),
            Texts(texts) => {
                let list = texts.iter().map(ToString::to_string).collect();
                fdt.property_string_list(name, list).unwrap();
            }
            Empty => fdt.property_null(name).unwrap(),
        }
    }
    inside(fdt);
    fdt.end_node(open).unwrap();
}

/// A leaf.
pub(super) fn leaf(fdt: &mut FdtWriter, name: &str, properties: &[(&str, Value<'_>)]) {
    node(fdt, name, properties, |_| {});
}

/// A tree whose root has 2 + `size_cells` cells and the GIC as everyone's interrupt controller.
pub(super) fn tree(size_cells: u32, inside: impl FnOnce(&mut FdtWriter)) -> Vec<u8> {
    let mut fdt =
        FdtWriter::new_with_mem_reserv(&[FdtReserveEntry::new(0, 0x1000).unwrap()]).unwrap();
    let root = [
        ("interrupt-parent", Cells(&[GIC])),
        ("model", Texts(&["a board"])),
        ("#address-cells", Cells(&[2])),
        ("#size-cells", Cells(&[size_cells])),
    ];
    node(&mut fdt, "", &root, inside);
    fdt.finish().unwrap()
}

/// QEMU's `virt` with two cores and a GICv3 or GICv2.
pub(super) fn virt(gic_v3: bool) -> Vec<u8> {
    tree(2, |fdt| {
        leaf(
            fdt,
            "psci",
            &[
                ("method", Texts(&["smc"])),
                (
                    "compatible",
                    Texts(&["arm,psci-1.0", "arm,psci-0.2", "arm,psci"]),
                ),
            ],
        );
        leaf(
            fdt,
            "memory@40000000",
            &[
                ("reg", Cells(&[0, 0x4000_0000, 0, 0x8000_0000])),
                ("device_type", Texts(&["memory"])),
            ],
        );
        for slot in [1u32, 0] {
            leaf(
                fdt,
                &format!("virtio_mmio@{:x}", 0xa00_0000 + slot * 0x200),
                &[
                    ("interrupts", Cells(&[0, 16 + slot, 1])),
                    ("reg", Cells(&[0, 0xa00_0000 + slot * 0x200, 0, 0x200])),
                    ("compatible", Texts(&["virtio,mmio"])),
                    // A board of ours has both kinds, to tell them apart.
                    (
                        if slot == 0 {
                            "dma-coherent"
                        } else {
                            "dma-noncoherent"
                        },
                        Empty,
                    ),
                ],
            );
        }
        leaf(
            fdt,
            "pl011@9000000",
            &[
                ("clocks", Cells(&[CLOCK, CLOCK])),
                ("interrupts", Cells(&[0, 1, 4])),
                ("reg", Cells(&[0, 0x900_0000, 0, 0x1000])),
                ("compatible", Texts(&["arm,pl011", "arm,primecell"])),
            ],
        );
        let compatible = if gic_v3 {
            "arm,gic-v3"
        } else {
            "arm,cortex-a15-gic"
        };
        let v2 = [
            0, 0x800_0000, 0, 0x1_0000, 0, 0x801_0000, 0, 0x1_0000, 0, 0x803_0000, 0, 0x1_0000, 0,
            0x804_0000, 0, 0x1_0000,
        ];
        let v3 = [
            0, 0x800_0000, 0, 0x1_0000, 0, 0x80a_0000, 0, 0xf6_0000, 0x40, 0, 0, 0x10_0000,
        ];
        leaf(
            fdt,
            "intc@8000000",
            &[
                ("phandle", Cells(&[GIC])),
                ("interrupts", Cells(&[1, 9, 4])),
                ("reg", Cells(if gic_v3 { &v3 } else { &v2 })),
                ("#redistributor-regions", Cells(&[2])),
                ("compatible", Texts(&[compatible])),
            ],
        );
        node(
            fdt,
            "cpus",
            &[
                ("#address-cells", Cells(&[1])),
                ("#size-cells", Cells(&[0])),
            ],
            |fdt| {
                leaf(fdt, "cpu-map", &[]);
                for core in 0..2 {
                    leaf(
                        fdt,
                        &format!("cpu@{core}"),
                        &[
                            ("device_type", Texts(&["cpu"])),
                            ("enable-method", Texts(&["psci"])),
                            ("reg", Cells(&[core])),
                        ],
                    );
                }
            },
        );
        leaf(
            fdt,
            "timer",
            &[
                (
                    "interrupts",
                    Cells(&[1, 13, 0x104, 1, 14, 0x104, 1, 11, 0x104, 1, 10, 0x104]),
                ),
                ("compatible", Texts(&["arm,armv8-timer", "arm,armv7-timer"])),
            ],
        );
        leaf(
            fdt,
            "apb-pclk",
            &[
                ("phandle", Cells(&[CLOCK])),
                ("clock-frequency", Cells(&[24_000_000])),
                ("compatible", Texts(&["fixed-clock"])),
            ],
        );
        leaf(
            fdt,
            "chosen",
            &[
                ("stdout-path", Texts(&["/pl011@9000000"])),
                ("linux,initrd-start", Cells(&[0, 0x4900_0000])),
                ("linux,initrd-end", Cells(&[0, 0x4a00_0000])),
                ("bootargs", Texts(&["quiet"])),
            ],
        );
    })
}

/// A Raspberry Pi 4: everything behind `ranges`, cores on a spin table, the first UART not a PL011.
pub(super) fn pi(stdout: &str, disabled: &str) -> Vec<u8> {
    let uart = |fdt: &mut FdtWriter, name: &str, base: u32| {
        let status = if name == disabled { "disabled" } else { "okay" };
        leaf(
            fdt,
            name,
            &[
                ("compatible", Texts(&["arm,pl011", "arm,primecell"])),
                ("reg", Cells(&[base, 0x200])),
                ("interrupts", Cells(&[0, 0x79, 4])),
                ("status", Texts(&[status])),
            ],
        );
    };
    tree(1, |fdt| {
        leaf(
            fdt,
            "aliases",
            &[
                ("serial0", Texts(&["/soc/serial@7e201000"])),
                ("serial1", Texts(&["/soc/serial@7e215040"])),
                ("serial2", Texts(&["/soc/serial@7e201400"])),
            ],
        );
        leaf(
            fdt,
            "chosen",
            &[
                ("stdout-path", Texts(&[stdout])),
                ("linux,initrd-start", Cells(&[0x800_0000])),
                ("linux,initrd-end", Cells(&[0x800_1000])),
            ],
        );
        leaf(
            fdt,
            "memory@0",
            &[
                ("device_type", Texts(&["memory"])),
                (
                    "reg",
                    Cells(&[0, 0, 0, 0, 0, 0x3c00_0000, 1, 0, 0x8000_0000]),
                ),
            ],
        );
        node(
            fdt,
            "reserved-memory",
            &[
                ("#address-cells", Cells(&[2])),
                ("#size-cells", Cells(&[1])),
                ("ranges", Empty),
            ],
            |fdt| {
                leaf(
                    fdt,
                    "linux,cma",
                    &[("size", Cells(&[0x400_0000])), ("reusable", Empty)],
                );
                leaf(
                    fdt,
                    "nvram@1",
                    &[("reg", Cells(&[0, 0x10_0000, 0x1000])), ("no-map", Empty)],
                );
                leaf(
                    fdt,
                    "off@2",
                    &[
                        ("reg", Cells(&[0, 0x20_0000, 0x1000])),
                        ("status", Texts(&["disabled"])),
                    ],
                );
            },
        );
        node(
            fdt,
            "cpus",
            &[
                ("#address-cells", Cells(&[1])),
                ("#size-cells", Cells(&[0])),
                ("enable-method", Texts(&["brcm,bcm2836-smp"])),
            ],
            |fdt| {
                for core in 0..4 {
                    leaf(
                        fdt,
                        &format!("cpu@{core}"),
                        &[
                            ("device_type", Texts(&["cpu"])),
                            ("reg", Cells(&[core])),
                            ("enable-method", Texts(&["spin-table"])),
                            ("cpu-release-addr", Cells(&[0, 0xd8 + core * 8])),
                        ],
                    );
                }
            },
        );
        leaf(
            fdt,
            "timer",
            &[
                ("compatible", Texts(&["arm,armv8-timer"])),
                ("interrupt-names", Texts(&["phys", "virt", "hyp-phys"])),
                ("interrupts", Cells(&[1, 14, 8, 1, 11, 8, 1, 10, 8])),
            ],
        );
        node(
            fdt,
            "soc",
            &[
                ("compatible", Texts(&["simple-bus"])),
                ("#address-cells", Cells(&[1])),
                ("#size-cells", Cells(&[1])),
                (
                    "ranges",
                    Cells(&[
                        0x7e00_0000,
                        0,
                        0xfe00_0000,
                        0x180_0000,
                        0x4000_0000,
                        0,
                        0xff80_0000,
                        0x80_0000,
                    ]),
                ),
            ],
            |fdt| {
                leaf(
                    fdt,
                    "interrupt-controller@40041000",
                    &[
                        ("compatible", Texts(&["arm,gic-400"])),
                        ("phandle", Cells(&[GIC])),
                        (
                            "reg",
                            Cells(&[
                                0x4004_1000,
                                0x1000,
                                0x4004_2000,
                                0x2000,
                                0x4004_4000,
                                0x2000,
                                0x4004_6000,
                                0x2000,
                            ]),
                        ),
                        ("interrupts", Cells(&[1, 9, 0xf04])),
                    ],
                );
                leaf(
                    fdt,
                    "serial@7e215040",
                    &[
                        ("compatible", Texts(&["brcm,bcm2835-aux-uart"])),
                        ("reg", Cells(&[0x7e21_5040, 0x40])),
                    ],
                );
                uart(fdt, "serial@7e201000", 0x7e20_1000);
                uart(fdt, "serial@7e201400", 0x7e20_1400);
                leaf(
                    fdt,
                    "watchdog@7e100000",
                    &[
                        (
                            "compatible",
                            Texts(&["brcm,bcm2711-pm", "brcm,bcm2835-pm-wdt"]),
                        ),
                        ("reg", Cells(&[0x7e10_0000, 0x114, 0x7e00_a000, 0x24])),
                    ],
                );
            },
        );
    })
}
