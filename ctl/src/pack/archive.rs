//! The plan as an archive: written piece by piece beside its place, read back as a board does, and only then put there.

use std::collections::HashSet;
use std::fs;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use cluster_proto::package::{EntryName, KEY_BYTES, KEY_ENTRY, MANIFEST_ENTRY, Package};

use super::images::crc32c;
use super::plan::Plan;
use super::secret::owner_only;
use crate::report::Failure;

/// The mode of an archive's entries: a file that all may read.
const ENTRY_MODE: u32 = 0o100_444;
/// How much is collected before it is written.
const BUFFER_BYTES: usize = 1 << 20;

/// Writes beside the output first, so that there is never half a package under its name. Gives the package's length.
///
/// # Errors
/// [`Failure::Trouble`] where a file cannot be read or written, or what was written is not a package.
pub fn write_out(output: &Path, plan: &Plan, key: &[u8; KEY_BYTES]) -> Result<u64, Failure> {
    let mut beside = output.as_os_str().to_owned();
    beside.push(format!(".{}.part", std::process::id()));
    let beside = PathBuf::from(beside);
    let finished = write_beside(&beside, plan, key)
        .map_err(|error| Failure::file("write", output, error))
        .and_then(|()| check(&beside, plan, key))
        .and_then(|bytes| {
            fs::rename(&beside, output).map_err(|error| Failure::file("write", output, error))?;
            Ok(bytes)
        });
    if finished.is_err() {
        let _ = fs::remove_file(&beside); // It may not even be there.
    }
    finished
}

/// The manifest first, then the key, then the images in the manifest's order, with nothing in it that differs from run to run. A witness runs no guests and is
/// given no images. Who can read the package has the key, so only its owner can.
fn write_beside(path: &Path, plan: &Plan, key: &[u8; KEY_BYTES]) -> io::Result<()> {
    let manifest = plan.manifest(Some(crc32c(key))).map_err(io::Error::other)?;
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, owner_only(path, false)?);
    let entry = |name: &str, number: u32| {
        cpio::newc::Builder::new(name)
            .ino(number)
            .mode(ENTRY_MODE)
            .nlink(1)
    };
    let length = u32::try_from(manifest.len()).map_err(io::Error::other)?;
    let mut writer = entry(MANIFEST_ENTRY, 0).write(&mut out, length);
    writer.write_all(&manifest)?;
    writer.finish()?;
    // 32 bytes.
    let mut writer = entry(KEY_ENTRY, 1).write(&mut out, KEY_BYTES as u32);
    writer.write_all(key)?;
    writer.finish()?;
    let images = plan.images.iter().filter(|_| !plan.is_for_witness());
    for (found, number) in images.zip(2..) {
        let name = EntryName::Image(found.image.digest).to_string();
        let mut writer = entry(&name, number).write(&mut out, found.image.length);
        plan.images.copy(found, &mut writer)?;
        writer.finish()?;
    }
    cpio::newc::trailer(&mut out)?;
    out.flush()
}

/// Reads the package as a board will, each image once. Gives its length.
fn check(path: &Path, plan: &Plan, key: &[u8; KEY_BYTES]) -> Result<u64, Failure> {
    let archive = fs::read(path).map_err(|error| Failure::file("read", path, error))?;
    sound(&archive, plan, key).map_err(Failure::Trouble)?;
    Ok(archive.len() as u64)
}

fn sound(archive: &[u8], plan: &Plan, key: &[u8; KEY_BYTES]) -> Result<(), String> {
    let package = Package::parse(archive).map_err(|error| error.to_string())?;
    if package.key().as_ref() != Some(key) {
        return Err("the key changed in packing".to_string());
    }
    let mut checked = HashSet::new();
    let guests = package.guests().filter(|_| !plan.is_for_witness());
    for (guest, planned) in guests.zip(&plan.guests) {
        let view = guest.map_err(|error| error.to_string())?;
        if view.guest != planned.guest {
            return Err(format!("guest {} changed in packing", planned.guest.name));
        }
        for image in view.images() {
            if checked.insert(image.image.digest) {
                let sound = image.check(crc32c);
                sound.map_err(|fault| format!("{}: {fault}", image.entry()))?;
            }
        }
    }
    match package.damage() {
        Some(damage) => Err(damage.to_string()),
        None => Ok(()),
    }
}
