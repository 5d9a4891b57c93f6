//! `hearth pack`: from `cluster.toml` to a board's boot package.
//!
//! [`plan`] reads and checks the text with [`keys`] and loads the [`images`]; here the plan becomes an archive, which is
//! read back the way a board does before it is written out.

mod images;
mod keys;
mod plan;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use cluster_proto::manifest::{Guest, Image, MAX_MANIFEST_BYTES, encode};
use cluster_proto::package::{EntryName, MANIFEST_ENTRY, Package, crc32c};
use el2_hyp::image::KernelKind;
use serde::Serialize;

pub use images::digest;

use crate::report::{EXIT_CODES, Failure};
use crate::source::Source;
use plan::Plan;

/// The mode of an archive's entries: a file that all may read.
const ENTRY_MODE: u32 = 0o100_444;

/// Make a board's boot package from a description of the cluster.
#[derive(clap::Args)]
#[command(after_long_help = concat_help())]
pub struct Arguments {
    /// The description of the cluster.
    cluster: PathBuf,
    /// Where to write the package; the board's loader gives it to the image as its initrd.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Which of the cluster's boards the package is for; needed where there are several.
    #[arg(long, value_name = "NAME")]
    board: Option<String>,
}

/// The long help's last part: the file's format by example.
fn concat_help() -> String {
    format!("{FORMAT}\n\n{EXIT_CODES}")
}

const FORMAT: &str = r#"The description, cluster.toml:
  [cluster]
  name = "home"              # a to z, digits, hyphens; up to 63
  console = "focus"          # or "all"; default "focus"

  [[board]]                  # up to 16; none: one board of unknown size
  name = "alpha"
  memory = 2048              # MiB; if given, guests are checked against it

  [[guest]]                  # up to 64
  name = "web"
  vcpus = 2                  # 1 to 8; default 1
  memory = 256               # MiB, even
  kernel = "Image"           # arm64 Image or flat binary; paths start from this file's folder
  initrd = "initramfs.gz"    # optional
  command_line = "console=ttyAMA0 quiet"   # optional, up to 1024 bytes
  priority = 100             # 0 to 255, the greater runs first; default 100

Every mistake is reported at once, with file, line and column, and nothing is written then."#;

/// What was packed.
#[derive(Debug, Serialize)]
pub struct Packed {
    package: PathBuf,
    bytes: u64,
    cluster: String,
    board: String,
    guests: Vec<PackedGuest>,
}

/// A guest that was packed.
#[derive(Debug, Serialize)]
struct PackedGuest {
    name: String,
    vcpus: u8,
    memory_mib: u32,
    priority: u8,
    command_line: String,
    kernel_kind: &'static str,
    kernel: PackedImage,
    initrd: Option<PackedImage>,
}

/// An image that was packed.
#[derive(Debug, Serialize)]
struct PackedImage {
    path: PathBuf,
    bytes: u32,
    sha256: String,
    crc32c: String,
}

impl PackedImage {
    fn new(path: &Path, image: &Image) -> Self {
        Self {
            path: path.to_path_buf(),
            bytes: image.length,
            sha256: image.digest.to_string(),
            crc32c: format!("{:08x}", image.crc32c),
        }
    }
}

impl fmt::Display for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            package,
            bytes,
            cluster,
            board,
            guests,
        } = self;
        let (package, size) = (package.display(), Size(*bytes));
        writeln!(
            f,
            "packed {package} ({size}) for board {board} of cluster {cluster}:"
        )?;
        for guest in guests {
            let vcpus = if guest.vcpus == 1 { "vCPU" } else { "vCPUs" };
            write!(
                f,
                "  guest {}: {} {vcpus}, {} MiB",
                guest.name, guest.vcpus, guest.memory_mib
            )?;
            let (path, size) = (guest.kernel.path.display(), Size(guest.kernel.bytes.into()));
            write!(f, ", kernel {path} ({}, {size})", guest.kernel_kind)?;
            if let Some(initrd) = &guest.initrd {
                write!(
                    f,
                    ", initrd {} ({})",
                    initrd.path.display(),
                    Size(initrd.bytes.into())
                )?;
            }
            writeln!(f)?;
        }
        if guests.is_empty() {
            writeln!(f, "  no guests")?;
        }
        Ok(())
    }
}

/// A number of bytes, for people.
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes @ 0..10_000 => write!(f, "{bytes} bytes"),
            bytes @ 10_000..10_000_000 => write!(f, "{:.1} KiB", bytes as f64 / 1024.0),
            bytes => write!(f, "{:.1} MiB", bytes as f64 / 1_048_576.0),
        }
    }
}

/// Packs.
pub fn run(arguments: &Arguments) -> Result<Packed, Failure> {
    let path = &arguments.cluster;
    let text = std::fs::read_to_string(path).map_err(|error| Failure::file("read", path, error))?;
    let source = Source {
        path: path.clone(),
        text,
    };
    let plan = match plan::plan(&source, arguments.board.as_deref()) {
        Ok(plan) => plan,
        Err(problems) => return Err(Failure::Mistakes(source, problems)),
    };
    let archive = archive(&plan).map_err(Failure::Trouble)?;
    check(&archive, &plan).map_err(Failure::Trouble)?;
    write_out(&arguments.output, &archive)?;
    Ok(summary(&arguments.output, archive.len() as u64, &plan))
}

/// The archive of `plan`: the manifest first, then the images in its order, with nothing in it that
/// differs from run to run.
fn archive(plan: &Plan) -> Result<Vec<u8>, String> {
    let guests: Vec<Guest> = plan
        .guests
        .iter()
        .map(|planned| planned.guest.clone())
        .collect();
    let images: Vec<Image> = plan.images.iter().map(|loaded| loaded.image).collect();
    let mut buffer = vec![0; MAX_MANIFEST_BYTES];
    let manifest = encode(
        plan.summary.clone(),
        &plan.boards,
        &images,
        &guests,
        &mut buffer,
    )
    .map_err(|error| format!("cannot write the manifest: {error}"))?;

    let mut archive = Vec::new();
    let mut add = |name: &str, bytes: &[u8], number: u32| -> std::io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(std::io::Error::other)?;
        let entry = cpio::newc::Builder::new(name)
            .ino(number)
            .mode(ENTRY_MODE)
            .nlink(1);
        let mut writer = entry.write(&mut archive, length);
        writer.write_all(bytes)?;
        writer.finish().map(drop)
    };
    let mut written = add(MANIFEST_ENTRY, manifest, 0);
    for (loaded, number) in plan.images.iter().zip(1..) {
        let name = EntryName::Image(loaded.image.digest).to_string();
        written = written.and_then(|()| add(&name, &loaded.bytes, number));
    }
    written
        .and_then(|()| cpio::newc::trailer(&mut archive).map(drop))
        .map_err(|error| format!("cannot write the archive: {error}"))?;
    Ok(archive)
}

/// Reads the archive as a board will.
fn check(archive: &[u8], plan: &Plan) -> Result<(), String> {
    let package = Package::parse(archive).map_err(|error| error.to_string())?;
    for (guest, planned) in package.guests().zip(&plan.guests) {
        let view = guest.map_err(|error| error.to_string())?;
        view.check(crc32c).map_err(|error| error.to_string())?;
        if view.guest != planned.guest {
            return Err(format!("guest {} changed in packing", planned.guest.name));
        }
    }
    match package.damage() {
        Some(damage) => Err(damage.to_string()),
        None => Ok(()),
    }
}

/// Writes beside the output first, so that there is never half a package under its name.
fn write_out(output: &Path, archive: &[u8]) -> Result<(), Failure> {
    let mut beside = output.as_os_str().to_owned();
    beside.push(format!(".{}.part", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = std::fs::write(&beside, archive).and_then(|()| std::fs::rename(&beside, output));
    written.map_err(|error| {
        let _ = std::fs::remove_file(&beside); // It may not even be there.
        Failure::file("write", output, error)
    })
}

fn summary(output: &Path, bytes: u64, plan: &Plan) -> Packed {
    let guest = |planned: &plan::PlannedGuest| {
        let guest = &planned.guest;
        let initrd = guest.initrd.zip(planned.initrd_path.as_ref());
        PackedGuest {
            name: guest.name.to_string(),
            vcpus: guest.vcpus.get(),
            memory_mib: guest.memory.get(),
            priority: guest.priority.0,
            command_line: guest.command_line.as_str().to_string(),
            kernel_kind: match planned.kind {
                KernelKind::Image => "arm64 Image",
                KernelKind::Flat => "flat binary",
            },
            kernel: PackedImage::new(&planned.kernel_path, plan.images.image(guest.kernel)),
            initrd: initrd.map(|(number, path)| PackedImage::new(path, plan.images.image(number))),
        }
    };
    let board = plan.boards.get(usize::from(plan.summary.board.0));
    Packed {
        package: output.to_path_buf(),
        bytes,
        cluster: plan.summary.cluster.to_string(),
        board: board
            .map(|board| board.name.to_string())
            .unwrap_or_default(),
        guests: plan.guests.iter().map(guest).collect(),
    }
}
