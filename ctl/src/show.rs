//! `hearth show`: what is in a boot package, and whether it is sound, as a board would find it.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use cluster_proto::manifest::{Board, ConsoleMode, Digest};
use cluster_proto::package::{Fault, GuestView, ImageView, Package};
use serde::Serialize;

use crate::pack::{Devices, Size, crc32c, digest};
use crate::report::{EXIT_CODES, Failure};

/// Look into a boot package and check it.
#[derive(clap::Args)]
#[command(after_long_help = EXIT_CODES)]
pub struct Arguments {
    /// The package that `hearth pack` wrote.
    package: PathBuf,
}

/// What is in a package.
#[derive(Debug, Serialize)]
pub struct Contents {
    package: PathBuf,
    cluster: String,
    board: String,
    /// Whether it is for a witness, and carries no images.
    witness: bool,
    /// Whether it has the cluster's key.
    key: bool,
    boards: Vec<ShownBoard>,
    console: &'static str,
    guests: Vec<ShownGuest>,
}

/// A board of the cluster.
#[derive(Debug, Serialize)]
struct ShownBoard {
    name: String,
    memory_mib: Option<u32>,
    address: Option<String>,
    gateway: Option<String>,
    mac: Option<String>,
    witness: bool,
}

/// A guest in a package.
#[derive(Debug, Serialize)]
struct ShownGuest {
    name: String,
    vcpus: u8,
    memory_mib: u32,
    priority: u8,
    command_line: String,
    kernel: ShownImage,
    initrd: Option<ShownImage>,
    /// Where it starts.
    board: String,
    #[serde(flatten)]
    devices: Devices,
}

/// An image in a package.
#[derive(Debug, Serialize)]
struct ShownImage {
    entry: String,
    bytes: u32,
    crc32c: String,
}

/// Reads the package and checks every checksum and digest.
pub fn run(arguments: &Arguments) -> Result<Contents, Failure> {
    let path = &arguments.package;
    let archive = std::fs::read(path).map_err(|error| Failure::file("read", path, error))?;
    contents(path.clone(), &archive).map_err(|wrong| {
        Failure::Trouble(format!(
            "{} is damaged:\n  {}",
            path.display(),
            wrong.join("\n  ")
        ))
    })
}

/// The contents, or everything that is wrong with them.
fn contents(path: PathBuf, archive: &[u8]) -> Result<Contents, Vec<String>> {
    let package = Package::parse(archive).map_err(|error| vec![error.to_string()])?;
    let mut wrong: Vec<_> = package.damage().iter().map(ToString::to_string).collect();
    let mut guests = Vec::new();
    let mut checked = Checked::default();
    // A witness runs no guests and is given no images.
    let witness = package.board().witness;
    for view in package.guests().filter(|_| !witness) {
        match view
            .map_err(|error| error.to_string())
            .and_then(|view| show(&view, &package, &mut checked))
        {
            Ok(guest) => guests.push(guest),
            Err(error) => wrong.push(error),
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let manifest = package.manifest();
    Ok(Contents {
        package: path,
        cluster: package.cluster().to_string(),
        board: package.board().name.to_string(),
        witness,
        key: package.key().is_some(),
        boards: manifest.boards().map(show_board).collect(),
        console: match manifest.summary().console {
            ConsoleMode::Focus => "focus",
            ConsoleMode::All => "all",
        },
        guests,
    })
}

fn show_board(board: Board) -> ShownBoard {
    let gateway = board.address.and_then(|place| place.gateway());
    ShownBoard {
        name: board.name.to_string(),
        memory_mib: board.memory.map(|memory| memory.get()),
        address: board.address.map(|place| place.to_string()),
        gateway: gateway.map(|gateway| gateway.to_string()),
        mac: board.mac.map(|mac| mac.to_string()),
        witness: board.witness,
    }
}

/// What has been found of images: guests share them, and large ones take their time.
#[derive(Default)]
struct Checked(HashMap<Digest, Result<(), String>>);

impl Checked {
    /// Checks an image's checksum, and its digest, too, which a board leaves alone.
    fn check(&mut self, image: &ImageView<'_>) -> Result<(), String> {
        let wrong = |fault: Fault| fault.to_string();
        let check = || {
            image.check(crc32c).map_err(wrong)?;
            if digest(image.bytes) == image.image.digest {
                Ok(())
            } else {
                Err("has another digest".to_string())
            }
        };
        let found = self.0.entry(image.image.digest).or_insert_with(check);
        found.clone()
    }
}

/// A guest whose images are sound.
fn show(
    view: &GuestView<'_>,
    package: &Package<'_>,
    checked: &mut Checked,
) -> Result<ShownGuest, String> {
    let guest = &view.guest;
    for image in view.images() {
        let entry = image.entry();
        let sound = checked.check(image);
        sound.map_err(|wrong| format!("guest {}: {entry}: {wrong}", guest.name))?;
    }
    let image = |image: &ImageView<'_>| ShownImage {
        entry: image.entry().to_string(),
        bytes: image.image.length,
        crc32c: format!("{:08x}", image.image.crc32c),
    };
    let disk_image = |place: usize| {
        let image = view.disks.get(place)?.as_ref()?;
        Some((image.entry().to_string(), image.image))
    };
    let number = usize::from(guest.first_board().0);
    let board = package.manifest().boards().nth(number);
    Ok(ShownGuest {
        name: guest.name.to_string(),
        vcpus: guest.vcpus.get(),
        memory_mib: guest.memory.get(),
        priority: guest.priority.0,
        command_line: guest.command_line.as_str().to_string(),
        kernel: image(&view.kernel),
        initrd: view.initrd.as_ref().map(image),
        board: board
            .map(|board| board.name.to_string())
            .unwrap_or_default(),
        devices: Devices::of(guest, disk_image),
    })
}

impl fmt::Display for ShownBoard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = if self.witness { "witness" } else { "board" };
        write!(f, "{role} {}", self.name)?;
        if let Some(memory) = self.memory_mib {
            write!(f, ", {memory} MiB")?;
        }
        if let Some(address) = &self.address {
            write!(f, ", address {address}")?;
        }
        if let Some(gateway) = &self.gateway {
            write!(f, ", gateway {gateway}")?;
        }
        match &self.mac {
            Some(mac) => write!(f, ", network card {mac}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "cluster {}, for {} {}, console {}, {}",
            self.cluster,
            if self.witness { "witness" } else { "board" },
            self.board,
            self.console,
            if self.key {
                "with the cluster's key"
            } else {
                "without a key"
            }
        )?;
        for board in &self.boards {
            writeln!(f, "{board}")?;
        }
        for guest in &self.guests {
            let ShownGuest {
                name,
                vcpus,
                memory_mib,
                priority,
                ..
            } = guest;
            writeln!(
                f,
                "guest {name}: vCPUs {vcpus}, memory {memory_mib} MiB, priority {priority}, starts on {}",
                guest.board
            )?;
            writeln!(f, "  command line: {}", guest.command_line)?;
            let image = |f: &mut fmt::Formatter<'_>, what, image: &ShownImage| {
                let ShownImage {
                    entry,
                    bytes,
                    crc32c,
                } = image;
                writeln!(
                    f,
                    "  {what}: {entry} ({}, CRC-32C {crc32c})",
                    Size(u64::from(*bytes))
                )
            };
            image(f, "kernel", &guest.kernel)?;
            if let Some(initrd) = &guest.initrd {
                image(f, "initrd", initrd)?;
            }
            write!(f, "{}", guest.devices)?;
        }
        Ok(())
    }
}
