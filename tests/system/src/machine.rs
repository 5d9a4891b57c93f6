//! The emulated boards that a test can boot.

use std::ffi::OsString;
use std::path::Path;

use crate::paths;

/// Which of QEMU's machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `virt`, with this version of the GIC (2 or 3).
    Virt {
        /// The GIC's version.
        gic: u8,
        /// The core, by QEMU's name.
        cpu: &'static str,
        /// Cores, 1 to 8.
        cores: u8,
        /// Memory, MiB.
        memory: u32,
    },
    /// `raspi4b`: four Cortex-A72, GIC-400, 2 GiB, no PSCI.
    Raspi4b,
}

/// An emulated board, and how it is run.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// What it is.
    pub kind: Kind,
    /// Count instructions: one is a nanosecond of the board's time. All cores then share one thread of the host.
    pub counted: bool,
}

impl Machine {
    /// `virt` with a GICv3, Cortex-A72 cores and 1 GiB.
    pub fn virt(cores: u8) -> Self {
        let kind = Kind::Virt {
            gic: 3,
            cpu: "cortex-a72",
            cores,
            memory: 1024,
        };
        Self {
            kind,
            counted: false,
        }
    }

    /// The Raspberry Pi 4, as far as QEMU has it.
    pub fn raspi4b() -> Self {
        Self {
            kind: Kind::Raspi4b,
            counted: false,
        }
    }

    /// With this version of the GIC. The Pi stays as it is.
    pub fn gic(mut self, version: u8) -> Self {
        if let Kind::Virt { gic, .. } = &mut self.kind {
            *gic = version;
        }
        self
    }

    /// With these cores. The Pi stays as it is.
    pub fn cpu(mut self, name: &'static str) -> Self {
        if let Kind::Virt { cpu, .. } = &mut self.kind {
            *cpu = name;
        }
        self
    }

    /// With so much memory, MiB. The Pi stays as it is.
    pub fn memory(mut self, mib: u32) -> Self {
        if let Kind::Virt { memory, .. } = &mut self.kind {
            *memory = mib;
        }
        self
    }

    /// With its instructions counted: see [`Machine::counted`].
    pub fn counted(mut self) -> Self {
        self.counted = true;
        self
    }

    /// How many cores it has.
    pub fn cores(&self) -> u8 {
        match self.kind {
            Kind::Virt { cores, .. } => cores,
            Kind::Raspi4b => 4,
        }
    }

    /// Threads that QEMU keeps busy at most.
    pub fn host_threads(&self) -> usize {
        if self.counted { 1 } else { self.cores().into() }
    }

    /// QEMU's arguments, but for its devices' ends; `package` is the initrd, if there is one.
    pub fn arguments(&self, package: Option<&Path>) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
        match self.kind {
            Kind::Virt {
                gic,
                cpu,
                cores,
                memory,
            } => {
                add(&["-M", &format!("virt,virtualization=on,gic-version={gic}")]);
                add(&[
                    "-cpu",
                    cpu,
                    "-smp",
                    &cores.to_string(),
                    "-m",
                    &memory.to_string(),
                ]);
            }
            Kind::Raspi4b => add(&["-M", "raspi4b"]),
        }
        if self.counted {
            // The loader's random seed is a fixed one, so that a count can be repeated.
            add(&["-icount", "shift=0,sleep=off", "-seed", "1"]);
        }
        add(&[
            "-display", "none", "-monitor", "none", "-nic", "none", "-serial", "stdio",
        ]);
        if self.kind == Kind::Raspi4b {
            arguments.extend([
                "-dtb".into(),
                paths::material("bcm2711-rpi-4-b.dtb").into_os_string(),
            ]);
        }
        arguments.extend(["-kernel".into(), paths::image().into_os_string()]);
        if let Some(package) = package {
            arguments.extend(["-initrd".into(), package.as_os_str().to_owned()]);
        }
        arguments
    }
}
