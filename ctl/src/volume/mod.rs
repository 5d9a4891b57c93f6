//! `hearth volume`: volumes on a board's disk, made on any machine that has the disk or an image of it.
//!
//! The table is read and written by the board's own code, [`el2_hyp::volume::table`]; [`disk`] brings its bytes from and to a file or block
//! device, and [`bytes`] those of volumes. Each verb changes the disk in the order in which a crash does least: bytes first, the table last.

mod answer;
mod bytes;
mod disk;

use std::path::{Path, PathBuf};

use el2_hyp::volume::table::{
    CreateError, MAX_VOLUMES, MIN_DISK_SECTORS, Table, UNIT_SECTORS, Volume,
};
use el2_hyp::volume::{Extent, Label, SECTOR_BYTES};

use crate::pack::Size;
use crate::report::{EXIT_CODES, Failure};
pub use answer::Done;
use answer::{Listed, Shown};
use disk::{Access, Disk};

/// Make and list the volumes on a board's disk.
#[derive(clap::Args)]
#[command(after_long_help = long_help())]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

fn long_help() -> String {
    format!("{ABOUT}\n\n{EXIT_CODES}")
}

const ABOUT: &str = "\
A guest of cluster.toml has a volume as a disk by
  [[guest.disk]]
  volume = \"web-data\"

DISK is a raw image file or a block device. Sizes are bytes, or have one of the letters K, M, G, T behind them
(1024 bytes, and so on). A volume's size is rounded up to whole MiB.";

#[derive(clap::Subcommand)]
enum Verb {
    /// Make a disk ready for volumes: a new image file, or a file or block device that exists.
    Init {
        /// The disk.
        disk: PathBuf,
        /// Make a new image file of this size. It takes space only as it is written.
        #[arg(long, value_parser = parse_size)]
        size: Option<u64>,
        /// Go on even though the disk is not empty. Its volumes, or whatever begins there, are lost.
        #[arg(long)]
        force: bool,
    },
    /// Make a volume. It holds zeros, or what an image holds and zeros behind.
    Create {
        /// The disk.
        disk: PathBuf,
        /// What it is to be called: lower-case letters, digits and hyphens, up to 63.
        #[arg(value_parser = parse_name)]
        name: Label,
        /// Its size; if left out, the image's.
        #[arg(long, value_parser = parse_size, required_unless_present = "from")]
        size: Option<u64>,
        /// A raw image to fill it with.
        #[arg(long, value_name = "IMAGE")]
        from: Option<PathBuf>,
        /// Guests may only read it.
        #[arg(long)]
        read_only: bool,
    },
    /// List the volumes.
    List {
        /// The disk.
        disk: PathBuf,
    },
    /// Remove a volume. Its bytes stay until another volume is made in their place.
    Remove {
        /// The disk.
        disk: PathBuf,
        /// The volume.
        #[arg(value_parser = parse_name)]
        name: Label,
    },
    /// Replace what a volume holds by what an image holds, and zeros behind.
    Import {
        /// The disk.
        disk: PathBuf,
        /// The volume.
        #[arg(value_parser = parse_name)]
        name: Label,
        /// The raw image.
        image: PathBuf,
    },
    /// Copy what a volume holds to a new image file.
    Export {
        /// The disk.
        disk: PathBuf,
        /// The volume.
        #[arg(value_parser = parse_name)]
        name: Label,
        /// The file to make.
        image: PathBuf,
        /// Replace the file if it exists.
        #[arg(long)]
        force: bool,
    },
}

fn parse_name(text: &str) -> Result<Label, String> {
    Label::new(text).ok_or_else(|| {
        "a name has lower-case letters, digits and, within, hyphens, up to 63 of them".into()
    })
}

/// Bytes, with one of the letters K, M, G, T or the unit KiB, MiB, GiB, TiB behind them.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start() {
        "" => Some(0),
        "K" | "KiB" => Some(10),
        "M" | "MiB" => Some(20),
        "G" | "GiB" => Some(30),
        "T" | "TiB" => Some(40),
        _ => None,
    };
    let size = number.parse::<u64>().ok().zip(shift);
    let bytes = size.and_then(|(number, shift)| number.checked_mul(1 << shift));
    bytes
        .filter(|&bytes| bytes > 0)
        .ok_or_else(|| "give a size like 512M or 8G".into())
}

/// Does what was asked.
pub fn run(arguments: &Arguments) -> Result<Done, Failure> {
    match &arguments.verb {
        Verb::Init { disk, size, force } => init(disk, *size, *force),
        Verb::Create {
            disk,
            name,
            size,
            from,
            read_only,
        } => create(disk, name, *size, from.as_deref(), *read_only),
        Verb::List { disk } => list(disk),
        Verb::Remove { disk, name } => remove(disk, name),
        Verb::Import { disk, name, image } => import(disk, name, image),
        Verb::Export {
            disk,
            name,
            image,
            force,
        } => export(disk, name, image, *force),
    }
}

fn init(path: &Path, size: Option<u64>, force: bool) -> Result<Done, Failure> {
    let shown = path.display();
    let disk = match (path.exists(), size) {
        (true, None) => Disk::open(path, Access::Write)?,
        (false, Some(size)) => Disk::make(path, size)?,
        (true, Some(_)) => {
            let what =
                format!("{shown} exists; leave --size out to use it as it is, or remove it first");
            return Err(Failure::Trouble(what));
        }
        (false, None) => {
            let what =
                format!("{shown} does not exist; give --size, for example --size 8G, to make it");
            return Err(Failure::Trouble(what));
        }
    };
    if !force {
        refuse_what_is_there(&disk)?;
    }
    let Some(mut table) = Table::new(disk.sectors()) else {
        let least = Size(MIN_DISK_SECTORS * SECTOR_BYTES);
        let what = format!("{shown} is too small for a volume; a disk has at least {least}");
        return Err(Failure::Trouble(what));
    };
    disk.commit(&mut table)?;
    disk.commit(&mut table)?;
    Ok(Done::Init(Listed::new(path, &table, 2)))
}

/// Whether overwriting the disk's start could be a pity.
fn refuse_what_is_there(disk: &Disk) -> Result<(), Failure> {
    let shown = disk.path().display();
    if Table::is_present(&disk.copies()?) {
        return Err(Failure::Trouble(format!(
            "{shown} has a table of volumes already; `hearth volume list {shown}` shows them, and --force forgets them all"
        )));
    }
    if !bytes::starts_with_zeros(disk)? {
        return Err(Failure::Trouble(format!(
            "{shown} is not empty: it may have a file system or partitions; --force overwrites its start, and all of it is lost then"
        )));
    }
    Ok(())
}

fn create(
    path: &Path,
    name: &Label,
    size: Option<u64>,
    from: Option<&Path>,
    read_only: bool,
) -> Result<Done, Failure> {
    let disk = Disk::open(path, Access::Write)?;
    let mut table = disk.table()?;
    let image = from.map(bytes::Image::open).transpose()?;
    let length = image.as_ref().map_or(0, bytes::Image::length);
    let size = size.unwrap_or(length);
    if size < length {
        let (size, length) = (Size(size), Size(length));
        let what = format!(
            "the image has {length}, more than {size}; give a greater --size, or leave it out"
        );
        return Err(Failure::Trouble(what));
    }
    let sectors = size.div_ceil(SECTOR_BYTES);
    let made = table.create(name.clone(), sectors, read_only);
    let volume = made
        .map_err(|error| cannot_create(path, name, error))?
        .clone();
    bytes::fill(&disk, volume.extent(), image.as_ref())?;
    disk.commit(&mut table)?;
    Ok(Done::Created(Shown::new(path, &volume)))
}

fn cannot_create(path: &Path, name: &Label, error: CreateError) -> Failure {
    let disk = path.display();
    Failure::Trouble(match error {
        CreateError::NameTaken => format!(
            "{disk} has a volume {name} already; choose another name, or remove it with `hearth volume remove {disk} {name}`"
        ),
        CreateError::TableFull => {
            format!("{disk} has {MAX_VOLUMES} volumes, and no more fit; remove one first")
        }
        CreateError::Empty => "a volume is not empty; give --size, for example --size 512M".into(),
        CreateError::NoRoom(0) => format!("{disk} has no room left; remove a volume first"),
        CreateError::NoRoom(sectors) => format!(
            "{disk} has no room for it; the longest free run is {} MiB",
            sectors / UNIT_SECTORS
        ),
    })
}

fn list(path: &Path) -> Result<Done, Failure> {
    let disk = Disk::open(path, Access::Read)?;
    let table = disk.table()?;
    let whole = Table::whole_copies(&disk.copies()?);
    Ok(Done::List(Listed::new(path, &table, whole)))
}

fn remove(path: &Path, name: &Label) -> Result<Done, Failure> {
    let disk = Disk::open(path, Access::Write)?;
    let mut table = disk.table()?;
    let volume = find(path, &table, name)?.clone();
    table.remove(name);
    disk.commit(&mut table)?;
    Ok(Done::Removed(Shown::new(path, &volume)))
}

fn import(path: &Path, name: &Label, image: &Path) -> Result<Done, Failure> {
    let disk = Disk::open(path, Access::Write)?;
    let table = disk.table()?;
    let volume = find(path, &table, name)?;
    let image = bytes::Image::open(image)?;
    let room = length(volume.extent());
    if image.length() > room {
        let (image, room) = (Size(image.length()), Size(room));
        let what =
            format!("the image has {image}, and volume {name} {room}; make a greater volume");
        return Err(Failure::Trouble(what));
    }
    bytes::fill(&disk, volume.extent(), Some(&image))?;
    Ok(Done::Imported(Shown::new(path, volume)))
}

fn export(path: &Path, name: &Label, image: &Path, force: bool) -> Result<Done, Failure> {
    let disk = Disk::open(path, Access::Read)?;
    let table = disk.table()?;
    let volume = find(path, &table, name)?;
    if image.exists() && !force {
        let what = format!("{} exists; --force replaces it", image.display());
        return Err(Failure::Trouble(what));
    }
    bytes::export(&disk, volume.extent(), image)?;
    Ok(Done::Exported(Shown::new(path, volume)))
}

fn find<'a>(path: &Path, table: &'a Table, name: &Label) -> Result<&'a Volume, Failure> {
    table.find(name).ok_or_else(|| {
        let disk = path.display();
        let names: Vec<_> = table
            .volumes()
            .iter()
            .map(|it| it.name().as_str())
            .collect();
        Failure::Trouble(match names.is_empty() {
            true => format!("{disk} has no volume {name}; it has none at all"),
            false => format!("{disk} has no volume {name}; it has: {}", names.join(", ")),
        })
    })
}

/// Bytes of an extent.
fn length(extent: Extent) -> u64 {
    extent.sectors() * SECTOR_BYTES
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("1", 1),
            ("512M", 512 << 20),
            ("8G", 8 << 30),
            ("3 KiB", 3072),
            ("1T", 1 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "0",
            "M",
            "-1",
            "1.5G",
            "8g",
            "1X",
            "99999999999999999999",
            "99999999T",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
