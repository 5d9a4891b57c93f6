//! The images of a package: read, named by digest, held once however many guests use them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use cluster_proto::manifest::{Digest, Image, ImageNumber, MAX_IMAGES};
use cluster_proto::package::crc32c;
use sha2::{Digest as _, Sha256};

use super::keys::{Keys, Placed};

/// An image and its bytes.
#[derive(Debug)]
pub struct LoadedImage {
    /// What the manifest says of it.
    pub image: Image,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// All images of a package.
#[derive(Debug, Default)]
pub struct Images {
    list: Vec<LoadedImage>,
    /// Files that have been read.
    by_path: HashMap<PathBuf, ImageNumber>,
}

/// SHA-256 of `bytes`.
pub fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

impl Images {
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
        let (message, help) = match std::fs::read(&file) {
            Ok(bytes) if bytes.is_empty() => (
                format!("{} is empty", file.display()),
                "give the file that you meant",
            ),
            Ok(bytes) if u32::try_from(bytes.len()).is_err() => (
                format!("{} has {} bytes", file.display(), bytes.len()),
                "an image in a package is less than 4 GiB",
            ),
            Ok(_) if self.list.len() == MAX_IMAGES => (
                format!("{} is one image too many", file.display()),
                "a package has at most 128 images",
            ),
            Ok(bytes) => {
                let number = self.insert(bytes)?;
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

    fn insert(&mut self, bytes: Vec<u8>) -> Option<ImageNumber> {
        let digest = digest(&bytes);
        let known = self
            .list
            .iter()
            .position(|loaded| loaded.image.digest == digest);
        let index = known.unwrap_or(self.list.len());
        if known.is_none() {
            let length = u32::try_from(bytes.len()).ok()?;
            let image = Image {
                digest,
                length,
                crc32c: crc32c(&bytes),
            };
            self.list.push(LoadedImage { image, bytes });
        }
        u8::try_from(index).ok().map(ImageNumber)
    }

    /// The bytes of an image that [`Self::add`] gave.
    pub fn bytes(&self, number: ImageNumber) -> &[u8] {
        &self.list[usize::from(number.0)].bytes
    }

    /// What the manifest says of it.
    pub fn image(&self, number: ImageNumber) -> &Image {
        &self.list[usize::from(number.0)].image
    }

    /// All images, in the manifest's order.
    pub fn iter(&self) -> impl Iterator<Item = &LoadedImage> {
        self.list.iter()
    }

    /// The bytes of all of them.
    pub fn total_bytes(&self) -> u64 {
        self.list
            .iter()
            .map(|loaded| u64::from(loaded.image.length))
            .sum()
    }
}
