//! The bytes of volumes, to and from image files.

use std::fs::File;
use std::io::{IsTerminal as _, Read as _, Write as _, stderr};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use el2_hyp::volume::{Extent, SECTOR_BYTES};
use rustix::fs::{FallocateFlags, fallocate};

use super::disk::Disk;
use super::length;
use crate::pack::Size;
use crate::report::Failure;

/// How much is copied at a time.
const CHUNK: usize = 1 << 20;
/// What of a disk's start is looked at before it is overwritten.
const START: usize = 1 << 20;

static ZEROS: [u8; CHUNK] = [0; CHUNK];

/// A raw image.
pub struct Image {
    file: File,
    path: PathBuf,
    length: u64,
}

impl Image {
    /// The image at `path`.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let trouble = |error| Failure::file("read", path, error);
        let file = File::open(path).map_err(trouble)?;
        let length = file.metadata().map_err(trouble)?.len();
        if length == 0 {
            let what = format!("{} is empty; give the image that you meant", path.display());
            return Err(Failure::Trouble(what));
        }
        Ok(Self {
            file,
            path: path.to_path_buf(),
            length,
        })
    }

    /// Bytes.
    pub fn length(&self) -> u64 {
        self.length
    }
}

/// Whether the start of the disk is zeros.
pub fn starts_with_zeros(disk: &Disk) -> Result<bool, Failure> {
    let there = (disk.sectors() * SECTOR_BYTES).min(START as u64);
    let mut start = vec![0; there as usize];
    disk.read(0, &mut start)?;
    Ok(is_zero(&start))
}

/// Fills `extent` with `image`, and zeros behind.
pub fn fill(disk: &Disk, extent: Extent, image: Option<&Image>) -> Result<(), Failure> {
    let start = extent.first().0 * SECTOR_BYTES;
    let copied = image.map_or(0, Image::length);
    let cleared = clear_at_once(disk, start, length(extent));
    let mut progress = Progress::new("writing", if cleared { copied } else { length(extent) });
    let mut buffer = vec![0; CHUNK];
    if let Some(image) = image {
        for (at, chunk) in chunks(copied) {
            let bytes = &mut buffer[..chunk];
            (&image.file)
                .read_exact(bytes)
                .map_err(|error| Failure::file("read", &image.path, error))?;
            if !(cleared && is_zero(bytes)) {
                disk.write(start + at, bytes)?;
            }
            progress.add(chunk);
        }
    }
    if !cleared {
        for (at, chunk) in chunks(length(extent) - copied) {
            disk.write(start + copied + at, &ZEROS[..chunk])?;
            progress.add(chunk);
        }
    }
    disk.sync()
}

/// Makes a range of the disk zeros without writing them, where the system can: a hole in a file, a discard that zeros on a device.
fn clear_at_once(disk: &Disk, offset: u64, length: u64) -> bool {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(disk.file(), flags, offset, length).is_ok()
}

/// Copies `extent` to a new file at `path`, in place of one that may be there. It has holes where there are zeros.
pub fn export(disk: &Disk, extent: Extent, path: &Path) -> Result<(), Failure> {
    // Beside it first, so that there is never half an image under its name.
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.part", std::process::id()));
    let beside = PathBuf::from(beside);
    let exported = write_export(disk, extent, &beside).and_then(|()| {
        std::fs::rename(&beside, path).map_err(|error| Failure::file("write", path, error))
    });
    if exported.is_err() {
        let _ = std::fs::remove_file(&beside); // It may not even be there.
    }
    exported
}

fn write_export(disk: &Disk, extent: Extent, path: &Path) -> Result<(), Failure> {
    let trouble = |error| Failure::file("write", path, error);
    let file = File::create_new(path).map_err(trouble)?;
    file.set_len(length(extent)).map_err(trouble)?;
    let start = extent.first().0 * SECTOR_BYTES;
    let mut progress = Progress::new("reading", length(extent));
    let mut buffer = vec![0; CHUNK];
    for (at, chunk) in chunks(length(extent)) {
        let bytes = &mut buffer[..chunk];
        disk.read(start + at, bytes)?;
        if !is_zero(bytes) {
            file.write_all_at(bytes, at).map_err(trouble)?;
        }
        progress.add(chunk);
    }
    file.sync_data().map_err(trouble)
}

/// Where each chunk of `length` bytes begins, and its length.
fn chunks(length: u64) -> impl Iterator<Item = (u64, usize)> {
    (0..length)
        .step_by(CHUNK)
        .map(move |at| (at, (length - at).min(CHUNK as u64) as usize))
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes
        .chunks(CHUNK)
        .all(|chunk| chunk == &ZEROS[..chunk.len()])
}

/// How far a copy is, on the operator's terminal.
struct Progress {
    doing: &'static str,
    total: u64,
    done: u64,
    shown: Option<u64>,
}

impl Progress {
    fn new(doing: &'static str, total: u64) -> Self {
        // A short copy, or one that nobody watches, is not worth a word.
        let watched = stderr().is_terminal() && total > 64 * CHUNK as u64;
        Self {
            doing,
            total,
            done: 0,
            shown: watched.then_some(u64::MAX),
        }
    }

    fn add(&mut self, bytes: usize) {
        self.done += bytes as u64;
        let percent = self.done * 100 / self.total.max(1);
        if self.shown.is_some_and(|shown| shown != percent) {
            self.shown = Some(percent);
            let (done, total) = (Size(self.done), Size(self.total));
            let _ = write!(
                stderr(),
                "\r{} {percent} % ({done} of {total})  ",
                self.doing
            );
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(stderr(), "\r{:60}\r", "");
        }
    }
}
