//! A guest's devices as `hearth pack` and `hearth show` tell of them.

use std::fmt;

use cluster_proto::manifest::{Backing, Guest, Image};
use serde::Serialize;

use super::Size;

/// The devices of a guest.
#[derive(Debug, Serialize)]
pub struct Devices {
    disks: Vec<Disk>,
    nics: Vec<String>,
    virtio_console: bool,
    entropy: bool,
}

/// A disk: over an image, or a volume.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Disk {
    Ephemeral {
        serial: String,
        read_only: bool,
        image: String,
        image_bytes: u32,
        size_bytes: u64,
        overlay_mib: u32,
    },
    Local {
        serial: String,
        read_only: bool,
        volume: String,
    },
}

impl Devices {
    /// Those of `guest`; `image` tells of its disk of that place what is known of the image, and what to call it.
    pub fn of(guest: &Guest, image: impl Fn(usize) -> Option<(String, Image)>) -> Self {
        let disk = |(place, disk): (usize, &cluster_proto::manifest::Disk)| {
            let (serial, read_only) = (disk.serial.as_str().to_string(), disk.read_only);
            match &disk.backing {
                Backing::Ephemeral { size, overlay, .. } => {
                    let (name, image_bytes) = image(place)
                        .map(|(name, image)| (name, image.length))
                        .unwrap_or_default();
                    Disk::Ephemeral {
                        serial,
                        read_only,
                        image: name,
                        image_bytes,
                        size_bytes: size.bytes(),
                        overlay_mib: overlay.map_or(0, |overlay| overlay.get()),
                    }
                }
                Backing::Local { volume } => Disk::Local {
                    serial,
                    read_only,
                    volume: volume.to_string(),
                },
            }
        };
        Self {
            disks: guest.disks.iter().enumerate().map(disk).collect(),
            nics: guest.nics.iter().map(|nic| nic.mac.to_string()).collect(),
            virtio_console: guest.virtio_console,
            entropy: guest.entropy,
        }
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (serial, read_only) = match self {
            Self::Ephemeral {
                serial,
                read_only,
                image,
                image_bytes,
                size_bytes,
                overlay_mib,
            } => {
                let (size, image_size) = (Size(*size_bytes), Size(u64::from(*image_bytes)));
                write!(f, "{size} over image {image} ({image_size})")?;
                if *overlay_mib > 0 {
                    write!(f, ", up to {overlay_mib} MiB written")?;
                }
                (serial, read_only)
            }
            Self::Local {
                serial,
                read_only,
                volume,
            } => {
                write!(f, "volume {volume}")?;
                (serial, read_only)
            }
        };
        let only = if *read_only { ", read-only" } else { "" };
        write!(f, ", serial {serial}{only}")
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for disk in &self.disks {
            writeln!(f, "  disk: {disk}")?;
        }
        for nic in &self.nics {
            writeln!(f, "  network card: {nic}")?;
        }
        let others = [
            (self.virtio_console, "virtio console"),
            (self.entropy, "random numbers"),
        ];
        let others: Vec<_> = others.iter().filter(|(has, _)| *has).collect();
        if !others.is_empty() {
            let names: Vec<_> = others.iter().map(|(_, name)| *name).collect();
            writeln!(f, "  also: {}", names.join(", "))?;
        }
        Ok(())
    }
}
