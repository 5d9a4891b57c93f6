//! A guest's disks: over an image of the package, or a volume of the board.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use cluster_proto::manifest::{
    Backing, BoardNumber, Disk, DiskSize, MAX_DISKS, MemoryMib, Name, Serial,
};
use sha2::{Digest as _, Sha256};
use toml::de::DeTable;

use super::images::Images;
use super::keys::{Keys, Placed};
use super::plan::{limit, read_memory};
use crate::source::Problem;

const EXAMPLE_DISK: &str = "[[guest.disk]]";
const EXAMPLE_IMAGE: &str = "image = \"root.ext4\"";
const EXAMPLE_VOLUME: &str = "volume = \"web-data\"";
const EXAMPLE_SIZE: &str = "size = 1024, in MiB";
const EXAMPLE_OVERLAY: &str = "overlay = 256, in MiB";
/// The largest `size`, MiB: below 2 TiB.
const MAX_SIZE_MIB: u32 = (1 << 21) - 1;
/// How much of a serial that is too long stays readable before a part of its digest.
const SERIAL_KEPT_BYTES: usize = Serial::MAX_BYTES - 1 - 2 * SERIAL_DIGEST_BYTES;
const SERIAL_DIGEST_BYTES: usize = 4;

/// A disk that can be packed, and the file that its image came from.
#[derive(Debug)]
pub struct PlannedDisk {
    /// As the board will know it.
    pub disk: Disk,
    /// Its image's file.
    pub path: Option<PathBuf>,
}

/// The volumes that guests have: on which board, called what, and whether one may write to it.
pub type Volumes = HashMap<(BoardNumber, Name), bool>;

/// What the disks of a guest have in common.
pub struct Owner<'o> {
    /// Whose they are.
    pub guest: &'o Name,
    /// Where it starts.
    pub board: BoardNumber,
    /// Where paths start.
    pub folder: &'o Path,
}

/// The tables of a guest's disks.
pub fn disk_tables<'a, 'i>(keys: &mut Keys<'_, 'a, 'i>) -> Vec<Placed<&'a DeTable<'i>>> {
    let tables = keys.tables("disk", EXAMPLE_DISK);
    limit(keys, &tables, MAX_DISKS, ("a guest", "disks"));
    tables
}

/// The disks of a guest, if all are sound.
pub fn read_disks(
    tables: &[Placed<&DeTable<'_>>],
    owner: &Owner<'_>,
    (images, volumes): (&mut Images, &mut Volumes),
    problems: &mut Vec<Problem>,
) -> Option<Vec<PlannedDisk>> {
    let mut names = HashSet::new();
    let mut disks = Vec::new();
    for table in tables.iter().take(MAX_DISKS) {
        let mut keys = Keys::new(table.value, table.span.clone(), "[[guest.disk]]", problems);
        let disk = read_disk(&mut keys, owner, images, volumes, &mut names);
        keys.finish();
        disks.extend(disk);
    }
    (disks.len() == tables.len()).then_some(disks)
}

fn read_disk(
    keys: &mut Keys<'_, '_, '_>,
    owner: &Owner<'_>,
    images: &mut Images,
    volumes: &mut Volumes,
    names: &mut HashSet<String>,
) -> Option<PlannedDisk> {
    let given = keys.text("name", "name = \"root\"");
    let (image, volume) = (
        keys.text("image", EXAMPLE_IMAGE),
        keys.text("volume", EXAMPLE_VOLUME),
    );
    let read_only = keys.truth("read_only", false);
    let path = image.as_ref().map(|path| owner.folder.join(path.value));
    let size = keys.number("size", 1..=MAX_SIZE_MIB, EXAMPLE_SIZE);
    let overlay = read_memory(keys, "overlay", EXAMPLE_OVERLAY);
    let name = disk_name(keys, given, image.as_ref().or(volume.as_ref()), names);
    let read_only = read_only?.value;
    let backing = match (keys.has("image"), keys.has("volume")) {
        (true, false) => read_image(keys, owner, images, &image?, (size, overlay, read_only)),
        (false, true) => {
            for key in ["size", "overlay"] {
                if !keys.has(key) {
                    continue;
                }
                let message = format!("`{key}` is for a disk over an image");
                let help = "remove it; a volume is as large as `hearth volume` has made it";
                keys.problem(keys.span.clone(), message, help);
            }
            read_volume(keys, owner, volumes, &volume?, read_only)
        }
        (both, _) => {
            let message = match both {
                true => "a disk has an `image` or a `volume`, not both",
                false => "[[guest.disk]] has no `image` and no `volume`",
            };
            let help = format!(
                "add one of: {EXAMPLE_IMAGE}, fresh at every start; {EXAMPLE_VOLUME}, which keeps what is written"
            );
            keys.problem(keys.span.clone(), message, help);
            None
        }
    };
    let disk = Disk {
        backing: backing?,
        read_only,
        serial: serial(owner.guest, &name?)?,
    };
    Some(PlannedDisk { disk, path })
}

/// What the disk is called in its guest: as given, else as its file or volume, made a label.
fn disk_name(
    keys: &mut Keys<'_, '_, '_>,
    given: Option<Placed<&str>>,
    source: Option<&Placed<&str>>,
    names: &mut HashSet<String>,
) -> Option<String> {
    let name = match &given {
        Some(given) => Name::new(given.value)
            .map_err(|rule| {
                let message = format!("\"{}\" cannot be a name", given.value);
                keys.problem(given.span.clone(), message, rule.to_string());
            })
            .ok()?
            .to_string(),
        None if keys.has("name") => return None,
        None => label(source?.value),
    };
    let span = given.map_or(keys.span.clone(), |given| given.span);
    if names.insert(name.clone()) {
        return Some(name);
    }
    let message = format!("this guest has another disk called \"{name}\"");
    keys.problem(span, message, "give each of its disks a `name` of its own");
    None
}

/// A path's last part up to its first dot, in letters, digits and hyphens.
fn label(path: &str) -> String {
    let file = Path::new(path).file_name().unwrap_or_default();
    let file = file.to_string_lossy().to_lowercase();
    let stem = file.split('.').find(|part| !part.is_empty());
    let plain = |letter: char| {
        if letter.is_ascii_alphanumeric() {
            letter
        } else {
            '-'
        }
    };
    stem.unwrap_or("disk").chars().map(plain).collect()
}

/// `GUEST-DISK`, or as much of it as leaves room for a hyphen and eight digits of its SHA-256.
fn serial(guest: &Name, disk: &str) -> Option<Serial> {
    let whole = format!("{guest}-{disk}");
    if whole.len() <= Serial::MAX_BYTES {
        return Serial::new(&whole).ok();
    }
    let hash = Sha256::digest(&whole);
    let digits: String = hash[..SERIAL_DIGEST_BYTES]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    // All of it is ASCII: the guest's name is, and the disk's was made so.
    let kept = whole.get(..SERIAL_KEPT_BYTES)?;
    Serial::new(&format!("{kept}-{digits}")).ok()
}

fn read_image(
    keys: &mut Keys<'_, '_, '_>,
    owner: &Owner<'_>,
    images: &mut Images,
    path: &Placed<&str>,
    (size, overlay, read_only): (Option<Placed<u32>>, Option<Placed<MemoryMib>>, bool),
) -> Option<Backing> {
    let image = images.add(keys, owner.folder, path)?;
    let length = u64::from(images.image(image).length);
    let size = match size {
        Some(size) => {
            let bytes = u64::from(size.value) << 20;
            if bytes < length {
                let message = format!("the image is larger, {} MiB", length.div_ceil(1 << 20));
                let help = "give the disk the image's size or more, or leave `size` out";
                keys.problem(size.span, message, help);
                return None;
            }
            bytes
        }
        None if keys.has("size") => return None,
        None => length,
    };
    let whole = || {
        let mib = size.div_ceil(1 << 20).next_multiple_of(2);
        u32::try_from(mib)
            .ok()
            .and_then(|mib| MemoryMib::new(mib).ok())
    };
    let overlay = match overlay {
        Some(overlay) if read_only => {
            let help = "remove one of them: what nobody writes needs no memory";
            keys.problem(
                overlay.span,
                "an `overlay` for a disk that is `read_only`",
                help,
            );
            return None;
        }
        Some(overlay) => Some(overlay.value),
        None if keys.has("overlay") => return None,
        None if read_only => None,
        None => Some(whole().or_else(|| {
            let message = "the disk is too large to be held in memory as a whole";
            let help = format!("say how much may be written: {EXAMPLE_OVERLAY}");
            keys.problem(keys.span.clone(), message, help);
            None
        })?),
    };
    let size = DiskSize::holding(size).ok()?;
    Some(Backing::Ephemeral {
        image,
        size,
        overlay,
    })
}

fn read_volume(
    keys: &mut Keys<'_, '_, '_>,
    owner: &Owner<'_>,
    volumes: &mut Volumes,
    text: &Placed<&str>,
    read_only: bool,
) -> Option<Backing> {
    let volume = match Name::new(text.value) {
        Ok(volume) => volume,
        Err(rule) => {
            let message = format!("\"{}\" cannot be a volume's name", text.value);
            keys.problem(text.span.clone(), message, rule.to_string());
            return None;
        }
    };
    // Two who only read agree; one who writes is alone.
    let before = volumes.insert((owner.board, volume.clone()), !read_only);
    if before.is_some_and(|written| written || !read_only) {
        let message = format!("another disk of the same board is the volume \"{volume}\"");
        let help = "give each disk a volume of its own, or make all that share one `read_only`";
        keys.problem(text.span.clone(), message, help);
    }
    Some(Backing::Local { volume })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_are_short_and_tell_disks_apart() {
        let of = |guest, disk| {
            let guest = Name::new(guest).unwrap();
            serial(&guest, disk).unwrap().as_str().to_string()
        };
        assert_eq!(of("web", "root"), "web-root");
        let long = [
            of("a-rather-long-name", "root"),
            of("a-rather-long-name", "data"),
        ];
        assert!(
            long.iter()
                .all(|serial| serial.len() == 20 && serial.starts_with("a-rather-lo-"))
        );
        assert_ne!(long[0], long[1]);
        assert_eq!(label("../images/Root FS.ext4.img"), "root-fs");
        assert_eq!(label("web-data"), "web-data");
        assert_eq!(label(".."), "disk");
    }
}
