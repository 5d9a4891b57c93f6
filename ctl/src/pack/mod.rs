//! `hearth pack`: from `cluster.toml` to a board's boot package.
//!
//! [`plan`] reads and checks the text with [`keys`]: [`boards`], each [`guest`] with its [`disks`] and [`network`] cards,
//! their [`images`], and whether there is [`room`] for them, in memory and in the cluster's [`ledger`]. The cluster's key is [`secret`]'s. [`archive`] writes it out, and reads it back the way a board does.
//! What is then said of a guest's [`devices`] is what `hearth show` says, too.

mod archive;
mod boards;
mod devices;
mod disks;
mod guest;
mod images;
mod keys;
mod ledger;
mod network;
mod plan;
mod progress;
mod room;
pub mod secret;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use cluster_proto::manifest::Image;
use el2_hyp::image::KernelKind;
use serde::Serialize;

pub use devices::Devices;
pub use images::{crc32c, digest};
pub use ledger::FullLedger;
pub use plan::{GuestFiles, Outline, one_guest, outline};

use crate::report::{EXIT_CODES, Failure};
use crate::source::Source;
use guest::PlannedGuest;
use plan::Plan;
use progress::Progress;

/// Make a board's boot package from a description of the cluster.
#[derive(clap::Args)]
#[command(after_long_help = concat_help())]
pub struct Arguments {
    /// The description of the cluster.
    pub cluster: PathBuf,
    /// Where to write the package; the board's loader gives it to the image as its initrd.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Which of the cluster's boards or witnesses the package is for; needed where there are several.
    #[arg(long, value_name = "NAME")]
    pub board: Option<String>,
    /// The cluster's key; otherwise what cluster.toml says, or cluster.key beside it. It is made if it is not there.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
}

/// The long help's last part: the file's format by example.
fn concat_help() -> String {
    format!("{FORMAT}\n\n{EXIT_CODES}")
}

const FORMAT: &str = r#"The description, cluster.toml:
  [cluster]
  name = "home"              # a to z, digits, hyphens; up to 63
  console = "focus"          # or "all"; default "focus"
  key = "cluster.key"        # the cluster's key; default cluster.key beside this file

  [[board]]                  # up to 16; none: one board of unknown size
  name = "alpha"
  memory = 2048              # MiB; if given, guests are checked against it
  address = "10.7.0.1/24"    # its own; optional for a single board; then also gateway = "10.7.0.254"
  mac = "02:00:5e:10:20:30"  # optional; otherwise its network card's own

  [[witness]]                # optional: votes from any machine that runs `hearth witness`; two boards need one
  name = "desk"
  address = "10.7.0.9/24"    # optional

  [[guest]]                  # up to 64
  name = "web"
  vcpus = 2                  # 1 to 8; default 1
  memory = 256               # MiB, even
  kernel = "Image"           # arm64 Image or flat binary; paths start from this file's folder
  initrd = "initramfs.gz"    # optional
  command_line = "console=ttyAMA0 quiet"   # optional, up to 1024 bytes
  priority = 100             # 0 to 255, the greater runs first; default 100
  board = "alpha"            # where it starts; default the first board
  allowed = ["alpha", "beta"]  # where it may run; default everywhere
  apart = 1                  # 1 to 255: guests with the same number never share a board; default 0: no matter
  wanted = "running"         # or "stopped"; default "running"
  virtio_console = true      # besides its PL011; default false
  entropy = false            # a source of random numbers; default true

  [[guest.nic]]              # up to 4
  mac = "02:00:5e:10:20:31"  # optional; otherwise made from cluster, guest and place

  [[guest.disk]]             # up to 4
  image = "root.ext4"        # fresh at every start of the guest, or:
  volume = "web-data"        # a volume of the board's disk
  size = 1024                # MiB, for an image; default the image's size
  overlay = 256              # MiB that can be written over an image; default all of it
  read_only = true           # default false
  name = "root"              # default from the file or volume; makes the serial web-root

Every mistake is reported at once, with file, line and column, and nothing is written then."#;

/// What was packed.
#[derive(Debug, Serialize)]
pub struct Packed {
    package: PathBuf,
    bytes: u64,
    cluster: String,
    board: String,
    witness: bool,
    /// The key's file.
    key: PathBuf,
    /// Whether the key was made just now.
    key_made: bool,
    /// Whether others than its owner can read the key's file.
    key_open: bool,
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
    #[serde(flatten)]
    devices: Devices,
    /// Where it starts.
    board: String,
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
            witness,
            key,
            key_made,
            key_open,
            guests,
        } = self;
        let (package, size, key) = (package.display(), Size(*bytes), key.display());
        let role = if *witness { "witness" } else { "board" };
        if *key_made {
            writeln!(
                f,
                "made the cluster's key, {key}: keep it, every board is packed with it, and who has it commands the cluster"
            )?;
        }
        if *key_open {
            writeln!(f, "note: others than you can read {key}: `chmod 600 {key}`")?;
        }
        writeln!(
            f,
            "packed {package} ({size}) for {role} {board} of cluster {cluster}:"
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
            if guest.board != *board {
                write!(f, ", starts on {}", guest.board)?;
            }
            writeln!(f)?;
            for line in guest.devices.to_string().lines() {
                writeln!(f, "  {line}")?;
            }
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
    let progress = Progress::on_terminal();
    let plan = match plan::plan(&source, arguments.board.as_deref(), progress) {
        Ok(plan) => plan,
        Err(problems) => return Err(Failure::Mistakes(source, problems)),
    };
    let key = key_path(path, arguments.key.as_deref(), plan.key.as_deref());
    let secret = secret::read_or_make(&key)?;
    let bytes = archive::write_out(&arguments.output, &plan, &secret.key)?;
    Ok(summary(arguments, bytes, &plan, key, &secret))
}

/// The manifest of the package for `board` of the cluster that `description` describes.
///
/// # Errors
/// All mistakes in the description.
pub fn manifest(description: &Path, board: &str) -> Result<Vec<u8>, Failure> {
    let text = std::fs::read_to_string(description)
        .map_err(|error| Failure::file("read", description, error))?;
    let path = description.to_path_buf();
    let source = Source { path, text };
    match plan::plan(&source, Some(board), Progress::on_terminal()) {
        Ok(plan) => plan.manifest(None).map_err(Failure::Trouble),
        Err(problems) => Err(Failure::Mistakes(source, problems)),
    }
}

/// Where the key of the cluster that `description` describes is: where the command line says, or else the description.
pub fn key_path(description: &Path, given: Option<&Path>, named: Option<&Path>) -> PathBuf {
    match given {
        Some(given) => given.to_path_buf(),
        None => description
            .with_file_name("")
            .join(named.unwrap_or(Path::new(secret::KEY_FILE))),
    }
}

fn summary(
    arguments: &Arguments,
    bytes: u64,
    plan: &Plan,
    key: PathBuf,
    secret: &secret::Secret,
) -> Packed {
    let name = |number: usize| plan.boards.get(number).map(|board| board.name.to_string());
    let guest = |planned: &PlannedGuest| {
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
            devices: Devices::of(guest, |place| planned.disk_image(place, &plan.images)),
            board: name(guest.first_board().0.into()).unwrap_or_default(),
        }
    };
    Packed {
        package: arguments.output.clone(),
        bytes,
        cluster: plan.summary.cluster.to_string(),
        board: name(plan.summary.board.0.into()).unwrap_or_default(),
        witness: plan.is_for_witness(),
        key,
        key_made: secret.made,
        key_open: secret.open,
        guests: plan.guests.iter().map(guest).collect(),
    }
}
