//! `hearth show`: what is in a boot package, and whether it is sound, as a board would find it.

use std::fmt;
use std::path::PathBuf;

use cluster_proto::manifest::ConsoleMode;
use cluster_proto::package::{GuestView, ImageView, Package, crc32c};
use serde::Serialize;

use crate::pack::{Size, digest};
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
    boards: Vec<String>,
    console: &'static str,
    guests: Vec<ShownGuest>,
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
    for view in package.guests() {
        let shown = view.and_then(|view| view.check(crc32c).map(|()| view));
        match shown
            .map_err(|error| error.to_string())
            .and_then(|view| show(&view))
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
        boards: manifest
            .boards()
            .map(|board| board.name.to_string())
            .collect(),
        console: match manifest.summary().console {
            ConsoleMode::Focus => "focus",
            ConsoleMode::All => "all",
        },
        guests,
    })
}

/// A guest whose checksums are right; checks the digests, too, which a board leaves alone.
fn show(view: &GuestView<'_>) -> Result<ShownGuest, String> {
    let image = |image: &ImageView<'_>| {
        let shown = ShownImage {
            entry: image.entry().to_string(),
            bytes: image.image.length,
            crc32c: format!("{:08x}", image.image.crc32c),
        };
        let named_so = digest(image.bytes) == image.image.digest;
        let wrong = || {
            format!(
                "guest {}: {}: has another digest",
                view.guest.name, shown.entry
            )
        };
        if named_so { Ok(shown) } else { Err(wrong()) }
    };
    Ok(ShownGuest {
        name: view.guest.name.to_string(),
        vcpus: view.guest.vcpus.get(),
        memory_mib: view.guest.memory.get(),
        priority: view.guest.priority.0,
        command_line: view.guest.command_line.as_str().to_string(),
        kernel: image(&view.kernel)?,
        initrd: view.initrd.as_ref().map(image).transpose()?,
    })
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "cluster {}, boards: {}",
            self.cluster,
            self.boards.join(", ")
        )?;
        writeln!(f, "for board {}, console {}", self.board, self.console)?;
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
                "guest {name}: vCPUs {vcpus}, memory {memory_mib} MiB, priority {priority}"
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
        }
        Ok(())
    }
}
