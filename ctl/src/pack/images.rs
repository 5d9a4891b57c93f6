//! The images of a package: named by digest, packed once however many guests use them.
//!
//! Disks may be larger than one likes to hold in memory, so an image is read twice in pieces: first for its digest, checksum and
//! length, which the manifest in front of all images needs, and then into the archive, where it must still be the same.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use cluster_proto::manifest::{Digest, Image, ImageNumber, MAX_IMAGES};
use el2_hyp::image::HEAD_BYTES;
use sha2::{Digest as _, Sha256};

use super::keys::{Keys, Placed};
use super::progress::Progress;

/// How much of a file is read at once.
const PIECE_BYTES: usize = 1 << 20;

/// CRC-32C by sixteen tables: several times as quick as what a board carries for want of an instruction.
const CRC: crc::Crc<u32, crc::Table<16>> = crc::Crc::<u32, crc::Table<16>>::new(&crc::CRC_32_ISCSI);

/// SHA-256 of `bytes`.
pub fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// CRC-32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes)
}

/// An image, and where its bytes are.
#[derive(Debug)]
pub struct FoundImage {
    /// What the manifest says of it.
    pub image: Image,
    /// A file that holds it.
    pub path: PathBuf,
    /// Its first bytes, up to [`HEAD_BYTES`]: what a kernel is known by.
    head: Vec<u8>,
}

/// All images of a package.
#[derive(Debug, Default)]
pub struct Images {
    list: Vec<FoundImage>,
    /// Files that have been read.
    by_path: HashMap<PathBuf, ImageNumber>,
    progress: Progress,
}

impl Images {
    /// None yet; `progress` hears of what is read.
    pub fn new(progress: Progress) -> Self {
        Self {
            progress,
            ..Self::default()
        }
    }

    /// Reads the file at `path`, which is relative to `folder`, unless it has been read. Notes why not.
    pub fn add(
        &mut self,
        keys: &mut Keys<'_, '_, '_>,
        folder: &Path,
        path: &Placed<&str>,
    ) -> Option<ImageNumber> {
        let file = folder.join(path.value);
        if let Some(&number) = self.by_path.get(&file) {
            return Some(number);
        }
        let (message, help) = match self.measure(&file) {
            Ok(Measured { length: 0, .. }) => (
                format!("{} is empty", file.display()),
                "give the file that you meant",
            ),
            Ok(Measured { length, .. }) if u32::try_from(length).is_err() => (
                format!("{} has {length} bytes or more", file.display()),
                "an image in a package is less than 4 GiB",
            ),
            Ok(_) if self.list.len() == MAX_IMAGES => (
                format!("{} is one image too many", file.display()),
                "use the same file for several guests; a package does not hold as many images",
            ),
            Ok(measured) => {
                let number = self.insert(measured, &file)?;
                self.by_path.insert(file, number);
                return Some(number);
            }
            Err(error) => (
                format!("cannot read {}: {error}", file.display()),
                "paths start from the folder of the file that names them",
            ),
        };
        keys.problem(path.span.clone(), message, help);
        None
    }

    /// Reads a file once.
    fn measure(&self, path: &Path) -> io::Result<Measured> {
        let mut head = Vec::new();
        let measured = pass(path, |piece| {
            let missing = HEAD_BYTES.saturating_sub(head.len()).min(piece.len());
            head.extend_from_slice(&piece[..missing]);
            self.progress.more("reading", path, piece.len());
            Ok(())
        })?;
        Ok(Measured { head, ..measured })
    }

    fn insert(&mut self, measured: Measured, path: &Path) -> Option<ImageNumber> {
        let known = self
            .list
            .iter()
            .position(|found| found.image.digest == measured.digest);
        let index = known.unwrap_or(self.list.len());
        if known.is_none() {
            self.list.push(FoundImage {
                image: measured.image()?,
                path: path.to_path_buf(),
                head: measured.head,
            });
        }
        u16::try_from(index).ok().map(ImageNumber)
    }

    /// The first bytes of an image that [`Self::add`] gave.
    pub fn head(&self, number: ImageNumber) -> &[u8] {
        &self.list[usize::from(number.0)].head
    }

    /// What the manifest says of it.
    pub fn image(&self, number: ImageNumber) -> &Image {
        &self.list[usize::from(number.0)].image
    }

    /// All images, in the manifest's order.
    pub fn iter(&self) -> impl Iterator<Item = &FoundImage> {
        self.list.iter()
    }

    /// The bytes of all of them.
    pub fn total_bytes(&self) -> u64 {
        self.list
            .iter()
            .map(|found| u64::from(found.image.length))
            .sum()
    }

    /// Writes the bytes of `found` to `out`.
    ///
    /// # Errors
    /// Where the file cannot be read, is no longer what it was, or `out` refuses.
    pub fn copy(&self, found: &FoundImage, out: &mut impl Write) -> io::Result<()> {
        let written = pass(&found.path, |piece| {
            self.progress.more("writing", &found.path, piece.len());
            out.write_all(piece)
        })?;
        if written.image() == Some(found.image) {
            return Ok(());
        }
        let message = format!("{} changed while it was packed", found.path.display());
        Err(io::Error::other(message))
    }
}

/// What one pass over a file finds.
struct Measured {
    digest: Digest,
    length: u64,
    crc32c: u32,
    head: Vec<u8>,
}

impl Measured {
    /// What a manifest says of such a file, if it is below 4 GiB.
    fn image(&self) -> Option<Image> {
        Some(Image {
            digest: self.digest,
            length: u32::try_from(self.length).ok()?,
            crc32c: self.crc32c,
        })
    }
}

/// Reads the file at `path` and gives its pieces to `each`, one after another; stops at the first that makes it too long for a package.
fn pass(path: &Path, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<Measured> {
    let mut file = File::open(path)?;
    let mut piece = vec![0; PIECE_BYTES];
    let (mut sha, mut crc, mut length) = (Sha256::new(), CRC.digest(), 0);
    while length <= u64::from(u32::MAX) {
        let count = match file.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let bytes = &piece[..count];
        sha.update(bytes);
        crc.update(bytes);
        length += count as u64;
        each(bytes)?;
    }
    Ok(Measured {
        digest: Digest(sha.finalize().into()),
        length,
        crc32c: crc.finalize(),
        head: Vec::new(),
    })
}
