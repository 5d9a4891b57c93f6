//! What a board runs: guests' descriptions, packed by the operator's own tool.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::paths;

/// A guest's description.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Its name, unique in its package.
    pub name: String,
    /// vCPUs, 1 to 8.
    pub vcpus: u8,
    /// Memory, MiB.
    pub memory: u32,
    kernel: PathBuf,
    initrd: Option<PathBuf>,
    command_line: String,
    devices: String,
}

impl Guest {
    /// A bare-metal guest, called as its program, with 64 MiB.
    pub fn bare_metal(program: &str, vcpus: u8) -> Self {
        Self {
            name: program.into(),
            vcpus,
            memory: 64,
            kernel: paths::bare_metal(program),
            initrd: None,
            command_line: String::new(),
            devices: String::new(),
        }
    }

    /// Debian with 256 MiB, which does what `run` says (see `scripts/lib/guest-init`).
    pub fn debian(name: &str, vcpus: u8, run: &str) -> Self {
        Self {
            name: name.into(),
            vcpus,
            memory: 256,
            kernel: paths::material("Image"),
            initrd: Some(paths::material("initramfs.cpio.gz")),
            command_line: format!("console=ttyAMA0 quiet hearth.run={run}"),
            devices: String::new(),
        }
    }

    /// Debian with 256 MiB and its root on an image of `.guests` as its first disk, which does what `run` says (see
    /// `scripts/lib/root-init`).
    pub fn debian_on(image: &str, name: &str, run: &str) -> Self {
        let mut guest = Self::debian(name, 1, run);
        guest.initrd = Some(paths::material("initramfs-disk.cpio.gz"));
        guest.image(&paths::material(image))
    }

    /// Debian with a network card, which serves HTTP on it (see `scripts/lib/web-init`).
    pub fn debian_web(name: &str) -> Self {
        let mut guest = Self::debian(name, 1, "");
        guest.initrd = Some(paths::material("initramfs-web.cpio.gz"));
        guest.command_line = "console=ttyAMA0 quiet hearth.ip=10.7.0.11/24".into();
        guest.card()
    }

    /// Under this name instead.
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// With so many vCPUs.
    pub fn vcpus(mut self, vcpus: u8) -> Self {
        self.vcpus = vcpus;
        self
    }

    /// With so much memory, MiB.
    pub fn memory(mut self, mib: u32) -> Self {
        self.memory = mib;
        self
    }

    /// With more words on its command line.
    pub fn with(mut self, words: &str) -> Self {
        let gap = if self.command_line.is_empty() {
            ""
        } else {
            " "
        };
        self.command_line = format!("{}{gap}{words}", self.command_line);
        self
    }

    /// With a network card.
    pub fn card(self) -> Self {
        self.device("nic", "")
    }

    /// With a network card of this address, as `cluster.toml` writes it.
    pub fn card_of(self, mac: &str) -> Self {
        self.device("nic", &format!("mac = {mac:?}"))
    }

    /// With a disk on this volume of the board's disk.
    pub fn volume(self, name: &str) -> Self {
        self.device("disk", &format!("volume = {name:?}"))
    }

    /// With a disk over this image, as it is packed at every start.
    pub fn image(self, image: &Path) -> Self {
        self.device(
            "disk",
            &format!("image = {:?}", image.display().to_string()),
        )
    }

    /// With a virtio console, besides its PL011.
    pub fn virtio_console(mut self) -> Self {
        // Before its tables of devices.
        self.devices.insert_str(0, "virtio_console = true\n");
        self
    }

    fn device(mut self, kind: &str, keys: &str) -> Self {
        // Writing to a string does not fail.
        let _ = writeln!(self.devices, "\n[[guest.{kind}]]\n{keys}");
        self
    }

    /// From this file instead of its kernel.
    pub fn kernel(mut self, kernel: PathBuf) -> Self {
        self.kernel = kernel;
        self
    }
}

/// A board's guests, or a cluster's with its boards.
#[derive(Clone, Debug, Default)]
pub struct Package {
    guests: Vec<Guest>,
    boards: &'static [&'static str],
}

impl Package {
    /// Of these guests.
    pub fn of(guests: impl IntoIterator<Item = Guest>) -> Self {
        Self {
            guests: guests.into_iter().collect(),
            boards: &[],
        }
    }

    /// In a cluster of the boards of these names, which have the addresses from 10.7.0.1 on.
    pub fn on(mut self, boards: &'static [&'static str]) -> Self {
        self.boards = boards;
        self
    }

    /// The cluster's file. All guests' lines come behind their names.
    pub fn description(&self) -> String {
        let mut text = String::from("[cluster]\nname = \"tests\"\nconsole = \"all\"\n");
        for (name, at) in self.boards.iter().zip(1..) {
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "\n[[board]]\nname = {name:?}\naddress = \"10.7.0.{at}/24\"\n"
            );
        }
        for guest in &self.guests {
            let initrd = guest.initrd.as_ref().map_or_else(String::new, |initrd| {
                format!("initrd = {:?}\n", initrd.display().to_string())
            });
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "\n[[guest]]\nname = {:?}\nvcpus = {}\nmemory = {}\nkernel = {:?}\n{initrd}command_line = {:?}\n{}",
                guest.name,
                guest.vcpus,
                guest.memory,
                guest.kernel.display().to_string(),
                guest.command_line,
                guest.devices,
            );
        }
        text
    }

    /// Packs for the test of that name.
    ///
    /// # Panics
    /// If `hearth pack` refuses.
    pub fn pack(&self, test: &str) -> PathBuf {
        let stem = paths::results().join(test);
        let description = stem.with_extension("toml");
        let package = stem.with_extension("cpio");
        fs::write(&description, self.description()).expect("the description written");
        let output = Command::new(paths::tool())
            .arg("pack")
            .arg(&description)
            .arg("-o")
            .arg(&package)
            .output()
            .expect("hearth pack started");
        assert!(
            output.status.success(),
            "hearth pack refuses: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        package
    }
}
