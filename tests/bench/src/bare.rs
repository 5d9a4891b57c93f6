//! Debian without a hypervisor: the same kernel, initramfs and device tree directly on QEMU, at EL1.
//!
//! The device tree is the one that Hearth's guests find, made by the same code. QEMU's loader edits it as it starts a kernel: it
//! writes memory, initrd and PSCI again, to the same values (and one more PSCI call), and puts the kernel 2 MiB up, behind its own
//! first instructions, of which there are six.

use std::fs;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use el2_hyp::fdt::{self, Description, GuestGic, Seeds};
use el2_hyp::image::{HEAD_BYTES, Kernel};
use system::paths;

/// Debian's memory, MiB, here and as a guest.
pub const MEMORY_MIB: u32 = 256;

/// A boot takes seconds; far more is a hang.
const LIMIT: Duration = Duration::from_secs(300);

/// Boots Debian with this command line until it turns itself off, and gives what it said.
///
/// # Panics
/// If something is missing, or QEMU fails or hangs.
pub fn boot(name: &str, command_line: &str) -> String {
    let (kernel, initrd) = (
        paths::material("Image"),
        paths::material("initramfs.cpio.gz"),
    );
    let tree = paths::results().join(name).with_extension("dtb");
    fs::write(&tree, device_tree(&kernel, &initrd, command_line)).expect("the device tree written");
    let mut qemu = Command::new("qemu-system-aarch64")
        .args([
            "-M",
            "virt,gic-version=3",
            "-cpu",
            "cortex-a72",
            "-smp",
            "1",
        ])
        .args([
            "-m",
            &MEMORY_MIB.to_string(),
            "-icount",
            "shift=0,sleep=off",
            "-no-reboot",
        ])
        .args([
            "-display", "none", "-monitor", "none", "-nic", "none", "-serial", "stdio",
        ])
        .args([
            "-kernel".as_ref(),
            kernel.as_os_str(),
            "-initrd".as_ref(),
            initrd.as_os_str(),
        ])
        .args(["-dtb".as_ref(), tree.as_os_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("QEMU started");
    let mut output = qemu.stdout.take().expect("QEMU's output");
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        output
            .read_to_end(&mut text)
            .map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    let mut waited = Duration::ZERO;
    while !reader.is_finished() && waited < LIMIT {
        const LOOK: Duration = Duration::from_millis(20);
        thread::sleep(LOOK);
        waited += LOOK;
    }
    // Fails only for a process that has ended.
    let _ = qemu.kill();
    let _ = qemu.wait();
    assert!(
        waited < LIMIT,
        "Debian does not come to its end on QEMU itself"
    );
    reader.join().expect("the reader").expect("QEMU's output")
}

/// The tree that Hearth makes for such a guest.
fn device_tree(kernel: &std::path::Path, initrd: &std::path::Path, command_line: &str) -> Vec<u8> {
    let kernel = fs::read(kernel).expect("the kernel");
    let initrd = fs::metadata(initrd).expect("the initramfs").len();
    let memory = u64::from(MEMORY_MIB) << 20;
    let layout = Kernel::new(&kernel[..HEAD_BYTES.min(kernel.len())], kernel.len() as u64)
        .and_then(|kernel| kernel.layout(memory, Some(initrd)))
        .expect("a kernel that fits");
    let description = Description {
        memory,
        vcpus: 1,
        gic: GuestGic::V3,
        command_line,
        initrd: layout.initrd,
        virtio: &[],
        // Hearth's guests have seeds, too; they cost a kernel time.
        seeds: Some(Seeds {
            kaslr: 0x9e37_79b9_7f4a_7c15,
            rng: [0x5a; 32],
        }),
    };
    fdt::build(&description).expect("a device tree")
}
