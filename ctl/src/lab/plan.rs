//! What a lab is made of: boards as QEMU's arguments, and witnesses, from a file and the command line.

use std::net::Ipv4Addr;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::switch::Mac;

/// Boards that a lab may have, as many as a cluster.
pub const MAX_BOARDS: usize = 16;
/// The forwarder's link, which no board can have.
pub const LAB_LINK: &str = "lab";

/// A board, or a witness, which is to the lab a board that needs no QEMU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoardPlan {
    /// Its name.
    pub name: String,
    /// Its network card's address.
    pub mac: [u8; 6],
    /// What it is.
    pub what: What,
}

/// What runs as a board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// QEMU.
    Emulated(Emulated),
    /// This program, as a witness.
    Witness(Witness),
}

/// A witness: a process of this program, whose network is a station in the lab's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// Its address on the lab's network.
    pub address: Ipv4Addr,
    /// This program's arguments.
    pub arguments: Vec<String>,
}

/// A board under QEMU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emulated {
    /// The machine and its parameters.
    pub machine: Machine,
    /// What is started on it.
    pub kernel: PathBuf,
    /// The boot package, or another kernel's initrd.
    pub initrd: Option<PathBuf>,
    /// Another kernel's command line.
    pub append: Option<String>,
    /// The disk's file.
    pub disk: Option<PathBuf>,
    /// More for QEMU.
    pub extra: Vec<String>,
}

/// A guest of the boards' package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestPlan {
    /// Its name.
    pub name: String,
    /// The board on which it starts.
    pub board: String,
    /// Its network cards' addresses.
    pub macs: Vec<[u8; 6]>,
}

/// QEMU's `virt` with its parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The version of the GIC, 2 or 3.
    pub gic: u8,
    /// The core, by QEMU's name.
    pub cpu: String,
    /// Cores.
    pub smp: u8,
    /// Memory, MiB.
    pub memory: u32,
    /// What becomes of the disk's writes, by QEMU's name.
    pub cache: String,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            gic: 3,
            cpu: "cortex-a72".into(),
            smp: 2,
            memory: 1024,
            cache: "writeback".into(),
        }
    }
}

/// A lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Where its logs are.
    pub folder: PathBuf,
    /// What its dice begin with.
    pub seed: u64,
    /// The forwarder's address with the length of its network's prefix.
    pub address: Option<(std::net::Ipv4Addr, u8)>,
    /// QEMU.
    pub qemu: PathBuf,
    /// Boards.
    pub boards: Vec<BoardPlan>,
    /// Guests, in the order of their consoles.
    pub guests: Vec<GuestPlan>,
}

impl BoardPlan {
    /// The witness, if it is one.
    pub fn witness(&self) -> Option<&Witness> {
        match &self.what {
            What::Emulated(_) => None,
            What::Witness(witness) => Some(witness),
        }
    }
}

impl Emulated {
    /// QEMU's arguments for the board of this name and address, with these descriptors for network, console and control.
    pub fn arguments(
        &self,
        name: &str,
        mac: [u8; 6],
        [network, console, control]: [RawFd; 3],
    ) -> Vec<String> {
        let machine = &self.machine;
        let mac = Mac(mac);
        let text = |path: &Path| path.display().to_string();
        let mut words: Vec<String> = vec![
            "-name".into(),
            name.into(),
            "-M".into(),
            format!("virt,virtualization=on,gic-version={}", machine.gic),
            "-accel".into(),
            "tcg".into(),
            "-cpu".into(),
            machine.cpu.clone(),
            "-smp".into(),
            machine.smp.to_string(),
            "-m".into(),
            machine.memory.to_string(),
            "-display".into(),
            "none".into(),
            "-global".into(),
            "virtio-mmio.force-legacy=false".into(),
            "-chardev".into(),
            format!("socket,id=console,fd={console}"),
            "-serial".into(),
            "chardev:console".into(),
            "-chardev".into(),
            format!("socket,id=control,fd={control}"),
            "-mon".into(),
            "chardev=control,mode=control".into(),
            "-netdev".into(),
            format!("dgram,id=net,local.type=fd,local.str={network}"),
            "-device".into(),
            format!("virtio-net-device,netdev=net,mac={mac}"),
            "-kernel".into(),
            text(&self.kernel),
        ];
        if let Some(initrd) = &self.initrd {
            words.extend(["-initrd".into(), text(initrd)]);
        }
        if let Some(append) = &self.append {
            words.extend(["-append".into(), append.clone()]);
        }
        if let Some(disk) = &self.disk {
            // A comma ends a value of QEMU's; two are one in it.
            let file = text(disk).replace(',', ",,");
            let cache = &machine.cache;
            words.extend([
                "-drive".into(),
                format!("file={file},if=none,id=disk,format=raw,cache={cache}"),
                "-device".into(),
                format!("virtio-blk-device,drive=disk,serial={}", serial(name)),
            ]);
        }
        words.extend(self.extra.iter().cloned());
        words
    }
}

/// A disk's serial number, from its board's name (Virtual I/O Device (VIRTIO) Version 1.2, section 5.2.6: up to 20 bytes).
fn serial(name: &str) -> &str {
    &name[..name.len().min(20)]
}

/// The address of the board with this place, a local one (IEEE 802, second bit of the first byte).
pub fn mac(place: usize) -> [u8; 6] {
    let [high, low] = (place as u16 + 1).to_be_bytes();
    [0x02, 0x68, 0x6c, 0x00, high, low]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Emulated {
        Emulated {
            machine: Machine::default(),
            kernel: "hearth.img".into(),
            initrd: None,
            append: None,
            disk: Some("a,b.img".into()),
            extra: vec!["-snapshot".into()],
        }
    }

    #[test]
    fn commas_in_file_names_reach_qemu() {
        let words = board().arguments("alpha", mac(0), [7, 8, 9]).join(" ");
        assert!(words.contains("file=a,,b.img,if=none"), "{words}");
        assert!(words.contains("local.str=7") && words.contains("fd=8") && words.contains("fd=9"));
        assert!(words.ends_with("serial=alpha -snapshot"));
        assert!(!words.contains("-initrd"));
    }

    #[test]
    fn boards_have_addresses_of_their_own() {
        assert_eq!(Mac(mac(0)).to_string(), "02:68:6c:00:00:01");
        assert_ne!(mac(0), mac(1));
        assert_ne!(mac(MAX_BOARDS), super::super::forward::MAC);
    }
}
