//! Kernels are told apart and laid out within memory.

use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

/// The head of an arm64 `Image`.
fn head(text_offset: u64, image_size: u64, flags: u64) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..4].copy_from_slice(b"MZ\x40\xfa");
    head[8..16].copy_from_slice(&text_offset.to_le_bytes());
    head[16..24].copy_from_slice(&image_size.to_le_bytes());
    head[24..32].copy_from_slice(&flags.to_le_bytes());
    head[56..60].copy_from_slice(b"ARM\x64");
    head
}

fn place(offset: u64, size: u64) -> Place {
    Place { offset, size }
}

#[test]
fn debian_lies_as_under_qemu() {
    let kernel = Kernel::new(&head(0, 27_918_336, 0b1010), 27_236_288).unwrap();
    assert_eq!(kernel.kind(), KernelKind::Image);
    let layout = kernel.layout(256 * MIB, Some(5 * MIB + 1)).unwrap();
    assert_eq!(layout.kernel, place(0, 27_236_288));
    assert_eq!(layout.kernel_extent, place(0, 27_918_336));
    assert_eq!(layout.initrd, Some(place(128 * MIB, 5 * MIB + 1)));
    assert_eq!(layout.device_tree, place(134 * MIB, DEVICE_TREE_BYTES));
}

#[test]
fn flat_binaries_lie_as_under_qemu() {
    let kernel = Kernel::new(&[0x1f, 0x20, 0x03, 0xd5], 4).unwrap();
    assert_eq!(kernel.kind(), KernelKind::Flat);
    let layout = kernel.layout(1024 * MIB, None).unwrap();
    assert_eq!(layout.kernel, place(0x8_0000, 4));
    assert_eq!(layout.device_tree.offset, 128 * MIB);
    assert_eq!(
        kernel.layout(16 * MIB, None).unwrap().device_tree.offset,
        8 * MIB
    );
    // The least memory that holds both.
    assert_eq!(
        kernel.layout(4 * MIB, None).unwrap().device_tree.offset,
        2 * MIB
    );
    let needs = 2 * MIB + DEVICE_TREE_BYTES;
    let error = ImageError::DoesNotFit {
        part: Part::DeviceTree,
        needs,
        has: 2 * MIB,
    };
    assert_eq!(kernel.layout(2 * MIB, None), Err(error));
}

#[test]
fn tight_memory_moves_an_images_initrd_down_but_no_flat_binarys() {
    let image = Kernel::new(&head(0, 20 * MIB, 0), 18 * MIB).unwrap();
    let layout = image.layout(64 * MIB, Some(40 * MIB)).unwrap();
    assert_eq!(layout.initrd, Some(place(20 * MIB, 40 * MIB)));
    assert_eq!(layout.device_tree.offset, 60 * MIB);
    let flat = Kernel::new(&[1; 64], 18 * MIB).unwrap();
    let error = flat.layout(64 * MIB, Some(40 * MIB)).unwrap_err();
    assert_eq!(
        error,
        ImageError::DoesNotFit {
            part: Part::Initrd,
            needs: 72 * MIB,
            has: 64 * MIB
        }
    );
}

#[test]
fn a_large_image_pushes_the_rest_up() {
    let kernel = Kernel::new(&head(0x8_0000, 200 * MIB, 0), 190 * MIB).unwrap();
    let layout = kernel.layout(512 * MIB, Some(MIB)).unwrap();
    assert_eq!(layout.initrd, Some(place(200 * MIB + 0x8_0000, MIB)));
    assert_eq!(layout.device_tree.offset, 202 * MIB);
    let error = kernel.layout(200 * MIB, None).unwrap_err();
    assert!(matches!(
        error,
        ImageError::DoesNotFit {
            part: Part::Kernel,
            ..
        }
    ));
}

#[test]
fn old_images_without_a_size_have_their_own_place() {
    let kernel = Kernel::new(&head(0, 0, 0), MIB).unwrap();
    assert_eq!(
        kernel.layout(64 * MIB, None).unwrap().kernel,
        place(0x8_0000, MIB)
    );
}

#[test]
fn strangers_are_refused_by_name() {
    let refused = |start: &[u8]| Kernel::new(start, 4096).unwrap_err();
    assert_eq!(
        refused(b"\x1f\x8b\x08\0"),
        ImageError::Foreign(Foreign::Gzip)
    );
    assert_eq!(refused(b"\x7fELF\x02"), ImageError::Foreign(Foreign::Elf));
    assert_eq!(
        refused(b"MZ\0\0zimg"),
        ImageError::Foreign(Foreign::EfiZboot)
    );
    assert_eq!(refused(b"070701"), ImageError::Foreign(Foreign::Cpio));
    assert_eq!(refused(&head(0, MIB, 1)), ImageError::BigEndian);
    assert_eq!(Kernel::new(&[], 0), Err(ImageError::Empty));
    let message = ImageError::Foreign(Foreign::Gzip).to_string();
    assert_eq!(
        message,
        "the kernel is compressed with gzip; unpack it first: zcat vmlinuz > Image"
    );
}

#[test]
fn a_memory_up_to_the_last_address_is_no_trap() {
    let image = Kernel::new(&head(0, u64::MAX, 0), MIB).unwrap();
    let error = image.layout(u64::MAX, None).unwrap_err();
    assert!(matches!(
        error,
        ImageError::DoesNotFit {
            part: Part::Initrd,
            ..
        }
    ));
}

proptest! {
    /// Whatever a kernel says of itself, its layout is sound or refused.
    #[test]
    fn layouts_are_sound(
        text_offset in prop_oneof![0..=4 * MIB, any::<u64>()],
        image_size in prop_oneof![0..=300 * MIB, any::<u64>()],
        length in 1..=300 * MIB,
        memory in 1..=512u64,
        initrd in prop::option::of(prop_oneof![0..=100 * MIB, any::<u64>()]),
        flat: bool,
    ) {
        let head = if flat { [0; HEAD_BYTES] } else { head(text_offset, image_size, 0) };
        let kernel = Kernel::new(&head, length).unwrap();
        let memory = memory * 2 * MIB;
        if let Ok(layout) = kernel.layout(memory, initrd) {
            prop_assert!(layout.kernel_extent.size >= layout.kernel.size);
            prop_assert_eq!(layout.kernel.offset, layout.kernel_extent.offset);
            let mut end = layout.kernel_extent.end();
            for part in layout.initrd.iter().chain([&layout.device_tree]) {
                prop_assert!(part.offset >= end);
                end = part.end();
            }
            prop_assert!(end <= memory);
            prop_assert!(layout.device_tree.offset.is_multiple_of(DEVICE_TREE_ALIGN));
            prop_assert_eq!(layout.initrd.map(|place| place.size), initrd);
        }
    }

    #[test]
    fn any_head_is_survived(head in prop::collection::vec(any::<u8>(), 0..80), length: u64, memory: u64, initrd: Option<u64>) {
        if let Ok(kernel) = Kernel::new(&head, length) {
            let _ = kernel.layout(memory, initrd);
            let _ = kernel.layout(u64::MAX - memory % (4 * MIB), initrd);
        }
    }
}
