//! The plan as an archive: written piece by piece beside its place, read back as a board does, and only then put there.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use cluster_proto::manifest::{Guest, Image, MAX_MANIFEST_BYTES, encode};
use cluster_proto::package::{EntryName, MANIFEST_ENTRY, Package};

use super::images::crc32c;
use super::plan::Plan;
use crate::report::Failure;

/// The mode of an archive's entries: a file that all may read.
const ENTRY_MODE: u32 = 0o100_444;
/// How much is collected before it is written.
const BUFFER_BYTES: usize = 1 << 20;

/// Writes beside the output first, so that there is never half a package under its name. Gives the package's length.
///
/// # Errors
/// [`Failure::Trouble`] where a file cannot be read or written, or what was written is not a package.
pub fn write_out(output: &Path, plan: &Plan) -> Result<u64, Failure> {
    let mut beside = output.as_os_str().to_owned();
    beside.push(format!(".{}.part", std::process::id()));
    let beside = PathBuf::from(beside);
    let finished = write_beside(&beside, plan)
        .map_err(|error| Failure::file("write", output, error))
        .and_then(|()| check(&beside, plan))
        .and_then(|bytes| {
            fs::rename(&beside, output).map_err(|error| Failure::file("write", output, error))?;
            Ok(bytes)
        });
    if finished.is_err() {
        let _ = fs::remove_file(&beside); // It may not even be there.
    }
    finished
}

/// The manifest first, then the images in its order, with nothing in it that differs from run to run.
fn write_beside(path: &Path, plan: &Plan) -> io::Result<()> {
    let guests: Vec<Guest> = plan
        .guests
        .iter()
        .map(|planned| planned.guest.clone())
        .collect();
    let images: Vec<Image> = plan.images.iter().map(|found| found.image).collect();
    let mut buffer = vec![0; MAX_MANIFEST_BYTES];
    let summary = plan.summary.clone();
    let manifest =
        encode(summary, &plan.boards, &images, &guests, &mut buffer).map_err(io::Error::other)?;

    let mut out = BufWriter::with_capacity(BUFFER_BYTES, File::create(path)?);
    let entry = |name: &str, number: u32| {
        cpio::newc::Builder::new(name)
            .ino(number)
            .mode(ENTRY_MODE)
            .nlink(1)
    };
    let length = u32::try_from(manifest.len()).map_err(io::Error::other)?;
    let mut writer = entry(MANIFEST_ENTRY, 0).write(&mut out, length);
    writer.write_all(manifest)?;
    writer.finish()?;
    for (found, number) in plan.images.iter().zip(1..) {
        let name = EntryName::Image(found.image.digest).to_string();
        let mut writer = entry(&name, number).write(&mut out, found.image.length);
        plan.images.copy(found, &mut writer)?;
        writer.finish()?;
    }
    cpio::newc::trailer(&mut out)?;
    out.flush()
}

/// Reads the package as a board will, each image once. Gives its length.
fn check(path: &Path, plan: &Plan) -> Result<u64, Failure> {
    let archive = fs::read(path).map_err(|error| Failure::file("read", path, error))?;
    sound(&archive, plan).map_err(Failure::Trouble)?;
    Ok(archive.len() as u64)
}

fn sound(archive: &[u8], plan: &Plan) -> Result<(), String> {
    let package = Package::parse(archive).map_err(|error| error.to_string())?;
    let mut checked = HashSet::new();
    for (guest, planned) in package.guests().zip(&plan.guests) {
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
